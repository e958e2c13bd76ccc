"""The hub's engine with exactly the rights of config/member: no 403, no right that nothing needs, no foreign config.

The member's audit log says what was asked, by whom, and what was refused (trust.md section 3).
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet_rollout.lab import mesh
from fleet_rollout.lab.api import ApiAnswer
from fleet_rollout.lab.lab import Lab, LabCluster
from tests.control.engine.test_engine import Place, canary, deployment
from tests.stories import answering
from tests.stories.guarded import (
    CONFIG,
    Use,
    application,
    apply,
    attach,
    audited,
    curtailed,
    enforced,
    ensure_namespace,
    granted,
    path,
    refusals,
    uses,
)
from tests.stories.replicas import Launcher
from tests.stories.test_engine_agent import start

__all__ = ["start"]  # a fixture

CONTROLLER = "fleet-rollout-system:fleet-rollout-controller"
SYNC = "fleet-rollout-system:fleet-rollout-sync"
AGENT = "fleet-rollout-system:fleet-rollout-agent"
TENANT = "tenant"
LONG = 180.0
NAME = f"engine-rights-{os.environ.get('PYTEST_XDIST_TESTRUNUID', secrets.token_hex(8))[:12]}"
ROLLOUT = {
    "trafficRoutingProvider": "istio",
    "workload": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "backend", "namespace": TENANT},
    "serviceName": "backend",
    "port": 9898,
    "rolloutPolicy": {
        "trafficRouting": {"timeoutSeconds": 60, "canaryStrategy": {"maxWeight": 50, "stepWeight": 50}},
        "trafficAnalysis": {
            "checkIntervalSeconds": 1,
            "checkFailedTimes": 5,
            "metrics": [{"name": "request-success-rate", "intervalSeconds": 10, "thresholdRange": {"min": 99}}],
        },
    },
}
CHANGES = ("get", "list", "watch", "create", "update")
# By resource, rights that other rollouts need and this one does not use, with the reason why they are there.
NOT_USED_HERE = {
    ("flagger.app", "canaries", ("get", "list", "watch")): "granted to the translation as well, and used by it",
    ("flagger.app", "canaries", ("update",)): "the finalizer of revertOnDeletion, which a plain Canary may ask for",
    ("flagger.app", "canaries/finalizers", ("update",)): "only some clusters ask for it",
    ("flagger.app", "metrictemplates", ("get",)): "for a custom metric",
    ("flagger.app", "alertproviders", ("get",)): "for alerts of the Canary's own",
    ("apps", "daemonsets", CHANGES): "another kind of workload",
    ("autoscaling", "horizontalpodautoscalers", ("list", "watch")): "watched where few other kinds are",
    ("", "services", ("list", "watch")): "watched where few other kinds are",
    ("", "configmaps", ("delete",)): "a copy of an immutable one is made anew",
    ("", "secrets", ("delete",)): "a copy of an immutable one is made anew",
    ("keda.sh", "scaledobjects", CHANGES): "another autoscaler",
    ("networking.istio.io", "virtualservices", ("list", "watch")): "watched where few other kinds are",
    ("networking.istio.io", "destinationrules", ("list", "watch", "update")): "watched; its policy may be edited",
    ("split.smi-spec.io", "trafficsplits", CHANGES): "another provider",
    ("gateway.networking.k8s.io", "httproutes", CHANGES): "another provider",
    ("networking.k8s.io", "ingresses", (*CHANGES, "delete")): "another provider",
    ("projectcontour.io", "httpproxies", CHANGES): "another provider",
    ("traefik.io", "traefikservices", CHANGES): "another provider",
    ("apisix.apache.org", "apisixroutes", CHANGES): "another provider",
    ("gateway.solo.io", "routetables", CHANGES): "another provider",
    ("gloo.solo.io", "upstreams", CHANGES): "another provider",
    ("kuma.io", "trafficroutes", ("get", "create", "update")): "another provider",
    ("serving.knative.dev", "services", ("get", "list", "watch", "update")): "another provider",
    ("serving.knative.dev", "revisions", ("get", "list", "watch")): "another provider",
}


@pytest.fixture(scope="module")
async def guarded() -> AsyncIterator[Lab]:
    """Hub and a member with everything of config/ applied; the member has Istio's kinds, and answers for metrics."""
    async with Lab(["m1"], name=NAME, audit=True) as lab:
        member = lab.clusters["m1"]
        for folder in ("crd", "default"):
            await apply(lab.hub, folder)
        await lab.hub.crds_established()
        await ensure_namespace(lab.hub, TENANT)
        await mesh.bring(member, mesh.crds("istio-crds"))
        for folder in ("crd/member", "member/base", "member/tenant"):
            await apply(member, folder)
        await member.crds_established()
        await answers(member, "istio-system", "prometheus", 9090)
        await answers(member, TENANT, "flagger-loadtester", 80)
        yield lab


async def answers(cluster: LabCluster, namespace: str, name: str, port: int) -> None:
    """A Service that is content with everything."""
    await ensure_namespace(cluster, namespace)
    labels = {"app": name}
    container = {
        "name": "server",
        "image": "lab.local/run:1",
        "command": [sys.executable, answering.__file__, "$(PORT)"],
        "ports": [{"name": "http", "containerPort": 8080}],
    }
    spec = {"selector": labels, "ports": [{"name": "http", "port": port, "targetPort": "http"}]}
    metadata = {"name": name, "labels": labels}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}
    await cluster.api.apply(path(namespace, "pods", name), pod)
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
    await cluster.api.apply(path(namespace, "services", name), service)


@pytest.fixture
async def launcher(tmp_path: Path) -> AsyncIterator[Launcher]:
    made = Launcher(tmp_path)
    yield made
    await made.close()


def content(tag: str) -> dict[str, str]:
    """A workload with everything that its primary gets a copy of."""
    labels = {"app": "backend"}
    container = {
        "name": "web",
        "image": f"example.com/web:{tag}",
        "envFrom": [{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "keys"}}],
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "backend"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "backend"},
        "spec": {"selector": labels, "ports": [{"name": "http", "port": 9898}]},
    }
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "backend"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "backend"},
            "minReplicas": int(tag),
            "maxReplicas": 4,
        },
    }
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"tag": tag}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"key": tag}}
    found = (deployment, service, scaler, config_map, secret)
    for obj in found:
        obj["metadata"]["namespace"] = TENANT
    return {f"{obj['kind']}.yaml": yaml.safe_dump(obj) for obj in found}


async def test_the_rights_of_config_member_are_enough_for_the_hubs_engine_and_no_more(
    guarded: Lab, launcher: Launcher, tmp_path: Path, eventually: Any
) -> None:
    """A rollout with metrics, webhooks, configs and an autoscaler, promoted and then removed."""
    hub, member = guarded.hub, guarded.clusters["m1"]
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_bytes(await hub.service_account_kubeconfig(*CONTROLLER.split(":")))
    event_webhook = f"http://flagger-loadtester.{TENANT}/events"
    account = await member.service_account_kubeconfig(*SYNC.split(":"))
    await attach(hub, TENANT, "m1", account, mode="Hub", eventWebhook=event_webhook)
    repository = await guarded.git.create("tenant")
    await repository.commit(content("1"))
    app = application(
        TENANT, repository.url, kustomization={"serviceAccountName": "deployer", "force": False}, rollout=ROLLOUT
    )
    canary = f"/apis/flagger.app/v1beta1/namespaces/{TENANT}/canaries/backend"
    events = f"/api/v1/namespaces/{TENANT}/events"
    settings = {"kubeconfig": kubeconfig, "data_dir": tmp_path / "data", "retry_max": 1.0, "shortest_interval": 1.0}
    async with launcher.program(**settings) as (replica, process):

        async def phase_is(phase: str) -> None:
            async def check() -> Any:
                status = (await member.api.find(canary) or {}).get("status") or {}
                said = [event["message"] for event in await member.api.items(events)][-5:]
                return status.get("phase") == phase or print(status.get("phase"), said)

            await eventually(check, LONG)

        await hub.api.apply(path(TENANT, "applications", "web"), app, manager="story")
        await phase_is("Initialized")
        await repository.commit(content("2"))
        await hub.api.merge(
            path(TENANT, "applications", "web"), {"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "2"}}}
        )
        await phase_is("Succeeded")
        copied = await member.api.get(f"/api/v1/namespaces/{TENANT}/configmaps/settings-primary")
        assert copied["data"] == {"tag": "2"}
        await hub.api.delete(path(TENANT, "applications", "web"))

        async def is_gone() -> bool:
            return await hub.api.find(path(TENANT, "applications", "web")) is None

        await eventually(is_gone, LONG)
        replica.signal(signal.SIGTERM)
        assert await process.wait() == 0

    asked = list(audited(member, SYNC))
    assert refusals(asked) == []
    documents = yaml.safe_load_all(await member.kubectl("kustomize", str(CONFIG / "member/engine")))
    rights = granted(*(obj for obj in documents if obj["kind"] == "ClusterRole"))
    unused = {Use(group, resource, verb) for group, resource, verbs in NOT_USED_HERE for verb in verbs}
    assert rights - uses(asked) - unused == set(), "nobody needs these"
    assert unused - rights == set(), "these are no longer granted"


async def test_the_rights_of_config_agent_are_enough_for_its_process(
    guarded: Lab, start: Any, tmp_path: Path, eventually: Any
) -> None:
    """Two versions, with the account that its Pod has; its other rights are those of the hub's engine, tested above."""
    member, home = guarded.clusters["m1"], "agented"
    await apply(member, "agent")
    await ensure_namespace(member, home)
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_bytes(await member.service_account_kubeconfig(*AGENT.split(":")))
    there = Place(member, home)
    await there.apply(deployment(home), "deployments")
    await there.apply(canary(home), "canaries")
    replica, process = await start(
        **{"kubeconfig": kubeconfig, "namespace": home, "own-namespace": AGENT.split(":")[0]},
        **{"mesh-provider": "kubernetes", "metrics-server": "http://prometheus.istio-system:9090"},
    )

    async def phase_is(phase: str) -> None:
        async def check() -> Any:
            return (await there.status()).get("phase") == phase or print(replica.log.read_text()[-500:])

        await eventually(check, LONG)

    await phase_is("Initialized")
    await there.apply(deployment(home, "example.com/web:2"), "deployments")
    await phase_is("Succeeded")
    replica.signal(signal.SIGTERM)
    assert await process.wait() == 0
    asked = list(audited(member, AGENT))
    # Only with a kubeconfig, as here, it looks for the Lease's namespace: in a Pod that is its own.
    assert [
        each for each in refusals(asked) if not each.startswith("get /api/v1/namespaces/fleet-rollout-system:")
    ] == []
    documents = yaml.safe_load_all(await member.kubectl("kustomize", str(CONFIG / "agent")))
    assert granted(*(obj for obj in documents if obj["kind"] == "Role")) - uses(asked) == set()


async def test_a_right_that_the_hubs_engine_lacks_is_missed(
    guarded: Lab, launcher: Launcher, tmp_path: Path, eventually: Any
) -> None:
    """Without the right to make routes no Canary is initialised: an event says so, and the audit log why."""
    hub, member, home = guarded.hub, guarded.clusters["m1"], "no-routes"
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_bytes(await hub.service_account_kubeconfig(*CONTROLLER.split(":")))
    taken, account = Use("networking.istio.io", "virtualservices", "create"), SYNC.partition(":")[2]
    await ensure_namespace(hub, home)
    await attach(
        hub, home, "m1", await curtailed(member, home, taken, account, "member/base", "member/tenant"), mode="Hub"
    )
    repository = await guarded.git.create(home)
    await repository.commit({file: text.replace(TENANT, home) for file, text in content("1").items()})
    rollout = {**ROLLOUT, "workload": {**ROLLOUT["workload"], "namespace": home}}
    policy = {"serviceAccountName": "deployer", "force": False}
    where = path(home, "applications", "web")
    settings = {"data_dir": tmp_path / "data", "retry_max": 1.0, "shortest_interval": 1.0}
    async with launcher.program(kubeconfig=kubeconfig, **settings):
        app = application(home, repository.url, kustomization=policy, rollout=rollout)
        await hub.api.apply(where, app, manager="story")

        async def is_said() -> bool:
            told = await member.api.items(f"/api/v1/namespaces/{home}/events")
            return any("cannot create" in event["message"] for event in told)

        await eventually(is_said, LONG)
        found = refusals(list(audited(member, f"{home}:{account}")))
        assert [line for line in found if "cannot create" in line and "networking.istio.io" in line], found
        await attach(hub, home, "m1", member.kubeconfig.read_bytes(), mode="Hub")
        await hub.api.delete(where)

        async def is_gone() -> bool:
            return await hub.api.find(where) is None

        await eventually(is_gone, LONG)
        await member.api.delete(f"/api/v1/namespaces/{home}")


async def test_a_right_that_the_agent_lacks_is_missed(
    guarded: Lab, start: Any, tmp_path: Path, eventually: Any
) -> None:
    """Without the right to make Deployments there is no primary: an event says so, and the audit log why."""
    member, home = guarded.clusters["m1"], "no-primary"
    kubeconfig = tmp_path / "kubeconfig"
    await ensure_namespace(member, home)
    taken, account = Use("apps", "deployments", "create"), AGENT.partition(":")[2]
    kubeconfig.write_bytes(await curtailed(member, home, taken, account, "agent"))
    there = Place(member, home)
    await there.apply(deployment(home), "deployments")
    await there.apply(canary(home), "canaries")
    flags = {"mesh-provider": "kubernetes", "metrics-server": "http://prometheus.istio-system:9090"}
    await start(kubeconfig=kubeconfig, namespace=home, **{"own-namespace": home}, **flags)

    async def is_said() -> bool:
        told = await member.api.items(f"/api/v1/namespaces/{home}/events")
        return any("cannot create" in event["message"] for event in told)

    await eventually(is_said, LONG)
    found = refusals(list(audited(member, f"{home}:{account}")))
    assert [line for line in found if "cannot create" in line and 'resource "deployments"' in line], found


@pytest.mark.parametrize("plural", ["configmaps", "secrets"])
@pytest.mark.parametrize("account", ["fleet-rollout-sync", "fleet-rollout-agent"])
async def test_of_configs_an_engine_writes_copies_alone(guarded: Lab, plural: str, account: str) -> None:
    """config/member/engine/copies.yaml: what a Canary does not own is refused, however it is asked for."""
    member = guarded.clusters["m1"]
    await apply(member, "agent")
    user = {"Impersonate-User": f"system:serviceaccount:fleet-rollout-system:{account}"}
    group = f"/api/v1/namespaces/{TENANT}/{plural}"
    name = f"{account}-{plural}"
    # It has to be there, or the garbage collector takes the copies away.
    spec = {
        "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "none"},
        "service": {"port": 80},
        "analysis": {"interval": "1m", "threshold": 1, "iterations": 1},
    }
    found = await member.api.create(
        f"/apis/flagger.app/v1beta1/namespaces/{TENANT}/canaries",
        {"apiVersion": "flagger.app/v1beta1", "kind": "Canary", "metadata": {"name": name}, "spec": spec},
    )
    owner = {
        "apiVersion": "flagger.app/v1beta1",
        "kind": "Canary",
        "name": name,
        "uid": found["metadata"]["uid"],
    }

    def obj(name: str, *owners: dict[str, str], **metadata: Any) -> dict[str, Any]:
        return {"metadata": {"name": name, "ownerReferences": list(owners), **metadata}}

    async def refused(method: str, where: str, body: Any = None) -> None:
        with pytest.raises(ApiAnswer, match="writes only copies for primaries") as caught:
            await member.api.request(method, where, body, headers=user)
        assert caught.value.status == 403

    await enforced(member, "POST", group, obj(f"{name}-primary"), headers=user)
    await refused("POST", group, obj(f"{name}-primary"))
    await refused("POST", group, obj(name, owner))
    await refused("POST", group, obj(f"{name}-primary", {**owner, "apiVersion": "apps/v1", "kind": "Deployment"}))
    theirs = await member.api.create(group, obj(f"{name}-theirs-primary"))
    version = {"resourceVersion": theirs["metadata"]["resourceVersion"]}
    await refused("PUT", f"{group}/{name}-theirs-primary", obj(f"{name}-theirs-primary", owner, **version))
    await refused("DELETE", f"{group}/{name}-theirs-primary")
    made = await member.api.request("POST", group, obj(f"{name}-primary", owner), headers=user)
    version = {"resourceVersion": made["metadata"]["resourceVersion"]}
    await refused("PUT", f"{group}/{name}-primary", obj(f"{name}-primary", **version))
    await member.api.request("PUT", f"{group}/{name}-primary", obj(f"{name}-primary", owner, **version), headers=user)
    await member.api.request("DELETE", f"{group}/{name}-primary", headers=user)
