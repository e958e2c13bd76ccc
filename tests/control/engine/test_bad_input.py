"""What users write wrongly about objects: each ends in an event that names the object, the fact and the fix.

All on a real API server, by ticks that know nothing but what it says. Metrics and hooks: test_bad_input_outside.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from fleet_rollout.control.engine.driven import Driven
from fleet_rollout.control.engine.sight import Sight
from fleet_rollout.decide.canary.objects import Ref
from fleet_rollout.lab.api import ApiAnswer
from fleet_rollout.lab.lab import CRDS, LabCluster
from fleet_rollout.settings import Settings
from tests.control.engine.scene import ISTIO, Said, Scene
from tests.control.engine.test_engine import canary, deployment
from tests.rooms.traffic import crd_files
from tests.rooms.traffic.conftest import crds as meshes

__all__ = ["meshes"]


@pytest.fixture
async def scene(place: Callable[[], Awaitable[str]], member: LabCluster) -> AsyncIterator[Scene]:
    made = Scene(member, await place())
    yield made
    await made.close()


async def told(scene: Scene, name: str = "web") -> list[str]:
    """What one tick says, without the name of the namespace."""
    return [text.replace(scene.namespace, "NS") for text in await scene.tick(name)]


async def told_of(scene: Scene, word: str) -> str:
    """Tick until something is said of it."""
    async with asyncio.timeout(60):
        while True:
            if found := [text for text in await told(scene) if word in text]:
                return found[-1]


async def recovers(scene: Scene) -> None:
    await scene.until("Initialized")


# The target


async def test_a_missing_target_is_named_and_others_go_on(scene: Scene) -> None:
    await scene.apply(canary(scene.namespace), "canaries")
    await scene.bring(name="other")
    missing = "Warning deployment web.NS does not exist; create it, or correct spec.targetRef of Canary web.NS"
    assert await told(scene) == [missing]
    await scene.until("Initialized", "other")
    assert await told(scene) == [missing]
    await scene.apply(deployment(scene.namespace), "deployments")
    await recovers(scene)


async def test_a_target_that_goes_away_in_the_analysis_changes_nothing_until_it_is_back(scene: Scene) -> None:
    await scene.bring(iterations=9)
    await scene.until("Initialized")
    await scene.release()
    await scene.until("Progressing")
    before = await scene.status_of()
    await scene.api.delete(f"/apis/apps/v1/namespaces/{scene.namespace}/deployments/web")
    assert (await told(scene))[0].startswith("Warning deployment web.NS does not exist; create it")
    assert await scene.status_of() == before


async def test_a_target_without_a_known_label_is_told_which_it_needs(scene: Scene) -> None:
    labels = {"tier": "web"}
    odd = deployment(scene.namespace)
    odd["spec"] |= {"selector": {"matchLabels": labels}}
    odd["spec"]["template"]["metadata"] = {"labels": labels}
    await scene.apply(odd, "deployments")
    await scene.apply(canary(scene.namespace), "canaries")
    assert await told(scene) == [
        "Warning deployment web.NS spec.selector.matchLabels must contain one of [app name app.kubernetes.io/name]"
    ]


async def test_a_config_that_the_target_needs_is_named_with_the_target(scene: Scene) -> None:
    needy = deployment(scene.namespace)
    needy["spec"]["template"]["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "settings"}}]
    await scene.apply(needy, "deployments")
    await scene.apply(canary(scene.namespace), "canaries")
    assert (await told(scene))[-1] == "Warning configmap settings.NS does not exist, and deployment web.NS needs it"
    await scene.api.create(f"/api/v1/namespaces/{scene.namespace}/configmaps", {"metadata": {"name": "settings"}})
    await recovers(scene)


async def test_a_config_that_a_revision_needs_in_the_analysis_holds_up_nothing(scene: Scene) -> None:
    await scene.bring(iterations=9)
    await scene.until("Initialized")
    await scene.release()
    before = await scene.until("Progressing")
    needy = deployment(scene.namespace, "example.com/web:3")
    needy["spec"]["template"]["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "settings"}}]
    await scene.apply(needy, "deployments")
    assert await told(scene) == [
        "Warning configmap settings.NS does not exist, and deployment web.NS needs it",
        "Normal New revision detected! Restarting analysis for web.NS",
    ]
    after = await scene.status_of()
    assert (after["phase"], after["trackedConfigs"]) == ("Progressing", {})
    assert after["lastAppliedSpec"] != before["lastAppliedSpec"]


async def test_a_missing_autoscaler_is_named(scene: Scene) -> None:
    scaler = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "name": "web"}
    await scene.bring(spec={"autoscalerRef": scaler})
    assert await told_of(scene, "autoscaler") == (
        "Warning horizontalpodautoscaler web.NS does not exist; "
        "create it, or take spec.autoscalerRef out of Canary web.NS"
    )
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    await scene.apply(
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "web"},
            "spec": {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 2},
        },
        "horizontalpodautoscalers",
    )
    await recovers(scene)


async def test_a_service_with_an_autoscaler_is_taken_up_and_let_go(scene: Scene) -> None:
    """A Service has nothing to scale, but whoever names an autoscaler beside it gets a copy, as with Flagger."""
    service = {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}
    await scene.api.create(f"/api/v1/namespaces/{scene.namespace}/services", service)
    scaler = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"}}
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    await scene.apply({**scaler, "spec": {"scaleTargetRef": target, "maxReplicas": 2}}, "horizontalpodautoscalers")
    made = canary(scene.namespace)
    made["spec"] |= {
        "targetRef": {"apiVersion": "v1", "kind": "Service", "name": "web"},
        "autoscalerRef": {"apiVersion": scaler["apiVersion"], "kind": scaler["kind"], "name": "web"},
        "revertOnDeletion": True,
    }
    await scene.apply(made, "canaries")
    await recovers(scene)
    scalers = f"/apis/autoscaling/v2/namespaces/{scene.namespace}/horizontalpodautoscalers"
    assert (await scene.api.get(f"{scalers}/web-primary"))["spec"]["maxReplicas"] == 2
    await scene.api.delete(scene.path())
    assert (await told(scene))[-1] == "Normal Terminated canary web.NS"


async def test_a_target_that_its_provider_cannot_route_is_told_and_let_go(scene: Scene) -> None:
    await scene.bring(spec={"provider": "knative", "revertOnDeletion": True})
    assert (await told(scene))[-1] == (
        "Warning Canary web.NS has provider knative, which routes Services of serving.knative.dev/v1 alone, and not "
        "deployment web.NS; write another spec.provider, or name a Knative Service in spec.targetRef"
    )
    await scene.api.delete(scene.path())
    assert (await told(scene))[-1] == "Normal Terminated canary web.NS"


# Ports


async def test_a_service_without_a_port_is_refused_by_the_api_server(scene: Scene) -> None:
    made = canary(scene.namespace)
    made["spec"]["service"] = {"portDiscovery": True}
    with pytest.raises(ApiAnswer, match=r"spec\.service\.port: Required value"):
        await scene.apply(made, "canaries")


async def test_a_canary_without_a_service_is_told_to_name_its_port(scene: Scene) -> None:
    """The schema lets it through, as Flagger's does."""
    await scene.apply(deployment(scene.namespace), "deployments")
    made = canary(scene.namespace)
    del made["spec"]["service"]
    await scene.apply(made, "canaries")
    assert await told(scene) == ["Warning Canary web.NS has no spec.service.port; write the port that users call"]
    await scene.apply(canary(scene.namespace), "canaries")
    await recovers(scene)


async def test_where_no_port_can_be_discovered_the_service_has_its_own(scene: Scene) -> None:
    """As with Flagger, that is nothing to complain about."""
    await scene.bring(spec={"service": {"port": 80, "portDiscovery": True}})
    await recovers(scene)
    made = await scene.api.get(f"/api/v1/namespaces/{scene.namespace}/services/web-primary")
    assert [port["port"] for port in made["spec"]["ports"]] == [80]


# Objects of others


async def test_a_stranger_in_the_place_of_the_primary_takes_nobody_s_traffic(scene: Scene) -> None:
    """The users' Service stays as it is until somebody has looked at it."""
    apex = f"/api/v1/namespaces/{scene.namespace}/services/web"
    ports = [{"port": 80}]
    await scene.api.create(
        f"/api/v1/namespaces/{scene.namespace}/services",
        {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": ports}},
    )
    stranger = deployment(scene.namespace)
    stranger["metadata"]["name"] = "web-primary"
    stranger["spec"]["selector"]["matchLabels"] = {"app": "stranger"}
    stranger["spec"]["template"]["metadata"]["labels"] = {"app": "stranger"}
    await scene.apply(stranger, "deployments")
    await scene.bring()
    assert (await told(scene))[-1] == (
        "Warning deployment web-primary.NS was made by somebody else, and its Pods have no label app: web-primary; "
        "delete it, or give another name to deployment web.NS"
    )
    assert (await scene.api.get(apex))["spec"]["selector"] == {"app": "web"}
    target = await scene.api.get(f"/apis/apps/v1/namespaces/{scene.namespace}/deployments/web")
    assert target["spec"]["replicas"] == 1
    await scene.api.delete(f"/apis/apps/v1/namespaces/{scene.namespace}/deployments/web-primary")
    await recovers(scene)


async def test_services_of_others_are_taken_over_as_by_flagger(scene: Scene) -> None:
    """Selector and ports become the engine's; metadata and owner stay the user's."""
    services = f"/api/v1/namespaces/{scene.namespace}/services"
    for name in ("web", "web-primary", "web-canary"):
        spec = {"selector": {"app": "elsewhere"}, "ports": [{"port": 8080}]}
        await scene.api.create(services, {"metadata": {"name": name, "labels": {"team": "blue"}}, "spec": spec})
    await scene.bring()
    await recovers(scene)
    for name, selected in (("web", "web-primary"), ("web-primary", "web-primary"), ("web-canary", "web")):
        found = await scene.api.get(f"{services}/{name}")
        assert found["spec"]["selector"] == {"app": selected}
        assert [port["port"] for port in found["spec"]["ports"]] == [80]
        assert found["metadata"]["labels"] == {"team": "blue"}
        assert "ownerReferences" not in found["metadata"]


async def test_a_virtual_service_of_others_is_taken_over_and_given_back(
    scene: Scene, member: LabCluster, meshes: Any
) -> None:
    await meshes("istio")
    path = ISTIO.format(scene.namespace)
    spec = {"hosts": ["web.example.com"], "http": [{"route": [{"destination": {"host": "elsewhere"}}]}]}
    kind = {"apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService"}
    await scene.api.create(path.removesuffix("/web"), {**kind, "metadata": {"name": "web"}, "spec": spec})
    await scene.bring(
        spec={"provider": "istio", "revertOnDeletion": True, "service": {"port": 80, "hosts": ["web.example.com"]}},
        stepWeight=50,
    )
    await recovers(scene)
    (route,) = (await scene.api.get(path))["spec"]["http"]
    assert [(each["destination"]["host"], each["weight"]) for each in route["route"]] == [
        ("web-primary", 100),
        ("web-canary", 0),
    ]
    await scene.api.delete(scene.path())
    async with asyncio.timeout(60):
        while await scene.api.find(scene.path()):
            await scene.tick()
    assert (await scene.api.get(path))["spec"] == spec


async def test_what_is_given_back_is_looked_at_first(scene: Scene) -> None:
    """No watch tells of the target yet, and it is known as it was before the rollout took its replicas."""
    sight = Sight(scene.cluster, Settings())
    target = Ref("apps/v1", "Deployment", scene.namespace, "web")
    await scene.bring(spec={"revertOnDeletion": True})
    assert ((await sight.reread(target)) or {})["spec"]["replicas"] == 1
    await scene.until("Initialized")
    path = f"/apis/apps/v1/namespaces/{scene.namespace}/deployments/web"
    assert (await scene.api.get(path))["spec"]["replicas"] == 0
    await scene.api.delete(scene.path())
    async with asyncio.timeout(60):
        while await scene.api.find(scene.path()):
            await scene.tick(sight=sight)
    assert (await scene.api.get(path))["spec"]["replicas"] == 1


async def test_who_sees_an_old_canary_takes_nothing_back(scene: Scene, meshes: Any) -> None:
    """Its routes were written since, which it would find out and overrule; its status, too."""
    await meshes("istio")
    await scene.bring(spec={"provider": "istio"}, stepWeight=20, maxWeight=40, stepWeightPromotion=50)
    await scene.until("Initialized")
    await scene.release()
    path = ISTIO.format(scene.namespace)
    olds = []
    async with asyncio.timeout(120):
        while (await scene.status_of()).get("phase") != "Succeeded":
            sight = Sight(scene.cluster, Settings())
            for kind, name in (("VirtualService", "web"), ("Deployment", "web"), ("Deployment", "web-primary")):
                api = "apps/v1" if kind == "Deployment" else "networking.istio.io/v1beta1"
                await sight.reread(Ref(api, kind, scene.namespace, name))
            olds.append((await scene.api.get(scene.path()), sight))
            await scene.tick()
    await scene.tick()
    routes, status = (await scene.api.get(path))["spec"], without_times(await scene.status_of())
    assert {old["status"]["phase"] for old, _ in olds} >= {"Progressing", "Promoting", "Finalising"}
    for old, sight in (*olds, *((old, None) for old, _ in olds)):  # the Canary alone may be old, too
        await scene.tick(raw=old, sight=sight)
        assert (await scene.api.get(path))["spec"] == routes, old["status"]
        assert without_times(await scene.status_of()) == status, old["status"]


def without_times(status: dict[str, Any]) -> dict[str, Any]:
    """Who saw it one step before the end may say once more that it is at its end."""
    return {name: value for name, value in status.items() if name not in ("lastTransitionTime", "conditions")}


async def test_who_sees_a_canary_that_is_gone_brings_nothing_back(scene: Scene) -> None:
    await scene.bring()
    await scene.until("Initialized")
    old = await scene.api.get(scene.path())
    await scene.api.delete(scene.path())
    services, deployments = (f"{prefix}/namespaces/{scene.namespace}" for prefix in ("/api/v1", "/apis/apps/v1"))
    for path in (f"{services}/services/web-primary", f"{deployments}/deployments/web-primary"):
        if await scene.api.find(path) is not None:
            await scene.api.delete(path)
    assert await scene.tick(raw=old) == []
    assert await scene.api.find(f"{services}/services/web-primary") is None
    assert await scene.api.find(f"{deployments}/deployments/web-primary") is None


async def test_who_sees_a_canary_before_it_was_suspended_writes_nothing(scene: Scene, meshes: Any) -> None:
    """As its rollout is removed: the routes lead to the Service again, and another would have them led back."""
    await meshes("istio")
    await scene.bring(spec={"provider": "istio"})
    await scene.until("Initialized")
    old, path = await scene.api.get(scene.path()), ISTIO.format(scene.namespace)
    await scene.api.merge(scene.path(), {"spec": {"suspend": True}})
    led_back = [{"route": [{"destination": {"host": "web"}}]}]
    await scene.api.merge(path, {"spec": {"http": led_back}})
    assert await scene.tick(raw=old) == []
    assert (await scene.api.get(path))["spec"]["http"] == led_back


async def test_who_finds_a_canary_deleted_does_not_rest(scene: Scene) -> None:
    """The watch's word of it is no news any more."""
    await scene.bring(spec={"revertOnDeletion": True})
    await scene.until("Initialized")
    old = await scene.api.get(scene.path())
    await scene.api.delete(scene.path())
    await scene.api.delete(f"/api/v1/namespaces/{scene.namespace}/services/web-primary")
    async with Said(scene).spoken() as outside:
        sight = Sight(scene.cluster, Settings())
        driven = Driven(scene.cluster, sight, outside, lambda: scene.options, old)
        last = await driven.tick()
        await sight.close()
    assert last is not None
    assert not last.is_quiet
    assert driven.raw["metadata"]["deletionTimestamp"]


# The mesh


@pytest.fixture
async def without_gloo(members: dict[str, LabCluster], namespace: Any, flagger_crds: None) -> AsyncIterator[Scene]:
    """A member in which no other test has use for Gloo, with a namespace."""
    elsewhere = members["m3"]
    await elsewhere.kubectl("apply", "--server-side", "--force-conflicts", "-k", "config/crd/member")
    await elsewhere.crds_established()
    await elsewhere.delete_crds(*(item["metadata"]["name"] for item in crd_files.definitions("gloo")))
    made = Scene(elsewhere, await namespace("engine", on=[elsewhere]))
    yield made
    await made.close()


async def test_a_mesh_that_is_not_installed_is_named_and_found_once_it_is(without_gloo: Scene) -> None:
    scene = without_gloo
    await scene.bring(spec={"provider": "gloo"}, stepWeight=50)
    missing = (
        'Warning no matches for kind "RouteTable" in version "gateway.solo.io/v1", which provider gloo routes by; '
        "install the CRDs of Gloo, or choose another provider (spec.provider of the Canary)"
    )
    assert await told(scene) == [missing]
    for item in crd_files.definitions("gloo"):
        await scene.api.apply(f"{CRDS}/{item['metadata']['name']}", item)
    upstreams = f"/apis/gloo.solo.io/v1/namespaces/{scene.namespace}/upstreams"
    async with asyncio.timeout(60):
        while await _status(scene, upstreams) != 200:
            await asyncio.sleep(0.1)
    await recovers(scene)


async def _status(scene: Scene, path: str) -> int:
    try:
        await scene.api.get(path)
    except ApiAnswer as answer:
        return answer.status
    return 200


async def test_a_mesh_that_was_uninstalled_holds_up_no_deletion(without_gloo: Scene) -> None:
    """There is nothing of it to give back; the target has its replicas again before the Canary goes."""
    scene = without_gloo
    await scene.bring(spec={"revertOnDeletion": True})
    await recovers(scene)
    await scene.api.merge(scene.path(), {"spec": {"provider": "gloo"}})
    await scene.api.delete(scene.path())
    async with asyncio.timeout(60):
        while await scene.api.find(scene.path()):
            await scene.tick()
    target = await scene.api.get(f"/apis/apps/v1/namespaces/{scene.namespace}/deployments/web")
    assert target["spec"]["replicas"] == 1


# The analysis


async def test_weights_that_do_not_rise_hold_the_revision_and_say_how_to_mend_them(scene: Scene, meshes: Any) -> None:
    await meshes("istio")
    await scene.bring(spec={"provider": "istio"}, stepWeights=[10, 60, 30])
    await recovers(scene)
    await scene.release()
    assert await told(scene) == [
        "Warning web.NS analysis.stepWeights [10, 60, 30] must rise from step to step within 1 to 100: "
        "for example [5, 20, 50]"
    ]
    assert (await scene.status_of())["phase"] == "Initialized"
    await scene.api.merge(scene.path(), {"spec": {"analysis": {"stepWeights": [10, 30, 60]}}})
    await scene.until("Progressing")


async def test_a_mirror_where_there_is_none_is_passed_over_with_a_warning(scene: Scene) -> None:
    ingress = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "web"},
        "spec": {
            "rules": [
                {
                    "host": "web.example.com",
                    "http": {
                        "paths": [
                            {
                                "path": "/",
                                "pathType": "Prefix",
                                "backend": {"service": {"name": "web", "port": {"number": 80}}},
                            }
                        ]
                    },
                }
            ]
        },
    }
    await scene.apply(ingress, "ingresses")
    await scene.bring(
        spec={"provider": "nginx", "ingressRef": {**{k: ingress[k] for k in ("apiVersion", "kind")}, "name": "web"}},
        stepWeight=50,
        mirror=True,
    )
    await recovers(scene)
    await scene.release()
    await scene.until("Progressing")
    said: list[str] = []
    async with asyncio.timeout(60):
        while not (await scene.status_of()).get("canaryWeight"):
            said += await told(scene)
    assert [text for text in said if "irror" in text] != []
    assert "Normal Advance web.NS canary weight 50" in said
