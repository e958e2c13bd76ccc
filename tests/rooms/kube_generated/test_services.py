"""Services on a real API server, which gives out addresses and ports and fills in much of the rest."""

from __future__ import annotations

import pytest

from fleet_rollout.decide.canary import services, targets
from tests.rooms.kube_generated.manifests import configs, deployment, service

FLAGGER_ID = "11111111-1111-4111-8111-111111111111"
VERBS = (services.reconcile_versions, services.reconcile_apex)


def create(about, live):
    return targets.create_primary(about, live, FLAGGER_ID)


def promote(about, live):
    return targets.promote(about, live, FLAGGER_ID)


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"targetPort": "http", "portName": "web", "appProtocol": "kubernetes.io/h2c"},
        {"port": 80, "targetPort": 9797, "portName": "web", "portDiscovery": True},
        {"headless": True},
        {"trafficDistribution": "PreferClose"},
        {"apex": {"labels": {"tier": "web"}, "annotations": {"a": "b"}}},
    ],
)
async def test_generated_services_are_accepted_and_left_alone(stage, wanted):
    made = await stage(deployment(), *configs(), service=wanted)
    done = [name for verb in VERBS for name in await made.do(verb)]
    assert done == ["Put Service podinfo-canary", "Put Service podinfo-primary", "Put Service podinfo"]


async def test_an_edit_by_hand_is_undone(stage):
    made = await stage(deployment(), *configs())
    await made.do(services.reconcile_apex)
    apex = services.apex_ref(await made.about())
    await made.merge(apex, {"spec": {"selector": {"app": "x"}}, "metadata": {"labels": {"foreign": "x"}}})
    assert await made.do(services.reconcile_apex) == ["Put Service podinfo"]
    live = await made.find(apex)
    assert live["spec"]["selector"] == {"app": "podinfo-primary"}
    assert live["metadata"]["labels"] == {"app": "podinfo"}


async def test_a_users_node_port_service_keeps_its_address_and_ports(stage):
    given = service(type="NodePort", externalTrafficPolicy="Local")
    made = await stage(deployment(), given, *configs(), service={"port": 8080, "targetPort": "http"})
    before = await made.get("v1", "Service", "podinfo")
    assert await made.do(services.reconcile_apex) == ["Put Service podinfo"]
    after = await made.get("v1", "Service", "podinfo")
    assert after["spec"]["clusterIP"] == before["spec"]["clusterIP"]
    assert after["spec"]["ports"][0]["nodePort"] == before["spec"]["ports"][0]["nodePort"]
    assert after["spec"]["ports"][0]["port"] == 8080
    assert after["spec"]["externalTrafficPolicy"] == "Local"
    assert "ownerReferences" not in after["metadata"]


TARGETS = {
    "plain": {},
    "two ports": {"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 53, "protocol": "UDP"}]},
    "NodePort": {"type": "NodePort"},
    "LoadBalancer": {"type": "LoadBalancer", "externalTrafficPolicy": "Local"},
    "headless": {"clusterIP": "None"},
    "ExternalName": {"type": "ExternalName", "externalName": "example.org", "selector": None, "ports": None},
}


@pytest.mark.parametrize("spec", TARGETS.values(), ids=TARGETS)
async def test_a_target_that_is_a_service(stage, spec):
    """S57 and Q17."""
    made = await stage(service(**spec), provider="istio")
    assert await made.do(create) == ["Put Service podinfo-canary", "Put Service podinfo-primary"]
    assert await made.do(promote) == []
    target = targets.target_ref(await made.about())
    patch = {"metadata": {"labels": {"v": "2"}}, "spec": {"sessionAffinity": "ClientIP"}}
    if spec.get("type") == "ExternalName":
        patch["spec"] = {"externalName": "example.com"}
    await made.merge(target, patch)
    assert await made.do(create) == ["Put Service podinfo-canary"]
    assert await made.do(promote) == ["Put Service podinfo-primary"]
    primary = await made.get("v1", "Service", "podinfo-primary")
    assert primary["metadata"]["labels"] == {"v": "2"}
    assert primary["metadata"]["ownerReferences"][0]["kind"] == "Canary"
    assert primary["spec"].items() >= patch["spec"].items()
