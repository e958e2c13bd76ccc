"""The admission policies of config/policies, each with what it lets pass and what it denies (trust.md section 3)."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fleet_rollout.lab.api import ApiAnswer
from fleet_rollout.lab.lab import LabCluster
from tests.stories.guarded import Object, application, apply, cluster_sync, enforced, ensure_namespace, installed, path
from tests.stories.test_rbac import CONTROLLER

OURS = "fleet-rollout-system"
MERGE = {"content_type": "application/merge-patch+json"}
MASTERS = "system:masters"
AS_CONTROLLER = {"headers": {"Impersonate-User": f"system:serviceaccount:{CONTROLLER}"}}
AS_COLLECTOR = {"headers": {"Impersonate-User": "system:serviceaccount:kube-system:generic-garbage-collector"}}
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{OURS}/leases"
EARLIER = path("locked", "applications", "web")
LEASE: Object = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "fleet-rollout"}}


def config_map(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": OURS}, "data": data}


def part(namespace: str, uid: str) -> Object:
    """Of the inventory of the ClusterSync `mine`."""
    made = config_map("mine-inventory-1", **{"entries.json": "[]"})
    owner = {"apiVersion": "apps.kurator.dev/v1alpha1", "kind": "ClusterSync", "name": "mine", "uid": uid}
    made["metadata"] |= {"namespace": namespace, "ownerReferences": [owner]}
    return made


RECORD = config_map("fleet-rollout-orphans-m1", one="1", two="2")
PART = part(OURS, "0")


@pytest.fixture(scope="module")
async def guarded() -> AsyncIterator[LabCluster]:
    async with installed("policies") as (_, hub):
        for where, obj in ((LEASES, LEASE), (path(OURS, "configmaps"), RECORD), (path(OURS, "configmaps"), PART)):
            await enforced(hub, "POST", where, obj)
        yield hub


async def denied(hub: LabCluster, said: str, method: str, where: str, body: Any = None, **more: Any) -> None:
    """The request is answered with 403 and these words."""
    with pytest.raises(ApiAnswer) as caught:
        await hub.api.request(method, where, body, **more)
    assert caught.value.status == 403
    assert said in str(caught.value)


async def test_records_of_orphans_are_the_controllers(guarded: LabCluster) -> None:
    """What a record names is deleted when the member returns: others strike from it, and add nothing."""
    hub, said = guarded, "only the fleet-rollout controller writes records of orphans"
    maps, where = path(OURS, "configmaps"), path(OURS, "configmaps", "fleet-rollout-orphans-m1")
    await denied(hub, said, "POST", maps, RECORD)
    await hub.api.request("POST", maps, RECORD, **AS_CONTROLLER)
    for data in ({"one": "other"}, {"three": "3"}, {"three": ""}):
        await denied(hub, said, "PATCH", where, {"data": data}, **MERGE)
    for other in ({"binaryData": {"four": "NA=="}}, {"immutable": True}):
        await denied(hub, said, "PATCH", where, other, **MERGE)
    await hub.api.request("PATCH", where, {"data": {"one": "other"}}, **MERGE, **AS_CONTROLLER)
    await hub.api.request("PATCH", where, {"data": {"one": None}}, **MERGE)
    assert (await hub.api.get(where))["data"] == {"two": "2"}
    await hub.api.request("DELETE", where)
    await hub.api.request("POST", maps, config_map("settings", one="1"))
    await hub.api.request("DELETE", path(OURS, "configmaps", "settings"))


async def test_the_lease_is_the_controllers(guarded: LabCluster) -> None:
    hub, said = guarded, "only the fleet-rollout controller writes its Lease"
    other = {**LEASE, "metadata": {"name": "other"}, "spec": {"holderIdentity": "them"}}
    await denied(hub, said, "POST", LEASES, LEASE)
    await hub.api.request("POST", LEASES, LEASE, **AS_CONTROLLER)
    where = f"{LEASES}/fleet-rollout"
    await denied(hub, said, "PATCH", where, {"spec": {"holderIdentity": "them"}}, **MERGE)
    await denied(hub, said, "DELETE", where)
    await hub.api.request("PUT", where, {**await hub.api.get(where), "spec": {}}, **AS_CONTROLLER)
    await hub.api.request("POST", LEASES, other)
    await hub.api.request("DELETE", f"{LEASES}/other")


async def test_long_inventories_are_the_controllers(guarded: LabCluster) -> None:
    """What a part names is deleted from a member when Git no longer holds it."""
    hub, home, said = guarded, "inventories", "only the fleet-rollout controller writes the inventory"
    await ensure_namespace(hub, home)
    sync = await hub.api.request("POST", path(home, "clustersyncs"), cluster_sync(home), **AS_CONTROLLER)
    mine = part(home, sync["metadata"]["uid"])
    maps, where = path(home, "configmaps"), path(home, "configmaps", "mine-inventory-1")
    as_manager = {"headers": {"Impersonate-User": "system:kube-controller-manager", "Impersonate-Group": MASTERS}}
    await denied(hub, said, "POST", maps, mine)
    await hub.api.request("POST", maps, mine, **AS_CONTROLLER)
    await denied(hub, said, "PATCH", where, {"data": {"entries.json": "[1]"}}, **MERGE)
    await denied(hub, said, "PATCH", where, {"metadata": {"ownerReferences": None}}, **MERGE)
    await denied(hub, said, "DELETE", where)
    await hub.api.request("PATCH", where, {"metadata": {"labels": {"a": "b"}}}, **MERGE, **as_manager)
    await denied(hub, said, "PATCH", where, {"data": {"entries.json": "[1]"}}, **MERGE, **as_manager)
    await hub.api.request("DELETE", where, **AS_COLLECTOR)
    theirs = copy.deepcopy(mine)
    del theirs["metadata"]["ownerReferences"]
    await hub.api.request("POST", maps, theirs)
    await hub.api.request("DELETE", where)
    await hub.api.request("DELETE", path(home, "clustersyncs", "mine"), **AS_COLLECTOR)


@pytest.fixture(scope="module")
async def lockdown(guarded: LabCluster) -> LabCluster:
    """A hub with the policies of lockdown in force, and an Application from before, which somebody holds."""
    await ensure_namespace(guarded, "locked")
    earlier = application("locked", "http://git.example/x")
    earlier["metadata"]["finalizers"] = ["example.com/held"]
    await guarded.api.apply(EARLIER, earlier, manager="story")
    await apply(guarded, "policies/lockdown")
    other = application("locked", "http://git.example/x")
    other["metadata"]["name"] = "other"
    await enforced(guarded, "POST", path("locked", "applications"), other)
    return guarded


async def written(hub: LabCluster, app: Object) -> None:
    """As if it were."""
    await hub.api.request("POST", path("locked", "applications"), app, params={"dryRun": "All"})


def rolled_out(named: str | None, target: str = "") -> Object:
    """In lockdown, with a rollout in the namespace that it names, or that of the kustomization."""
    app = locked(**({"targetNamespace": target} if target else {}))
    rollout = {
        "workload": {"name": "shop", **({} if named is None else {"namespace": named})},
        "trafficRoutingProvider": "kubernetes",
        "serviceName": "shop",
        "port": 80,
        "rolloutPolicy": {
            "trafficRouting": {"analysisTimes": 3},
            "trafficAnalysis": {"checkIntervalSeconds": 10, "checkFailedTimes": 2, "metrics": []},
        },
    }
    app["spec"]["syncPolicies"][0]["rollout"] = rollout
    return app


def locked(url: str = "https://git.example/x", **kustomization: Any) -> Object:
    app = application("locked", url, kustomization={"serviceAccountName": "deployer", **kustomization})
    app["metadata"]["name"] = "other"
    return app


async def test_lockdown_denies_what_tenants_must_not_write(lockdown: LabCluster) -> None:
    """Rows of section 3: scheme, `..`, accounts and other namespaces, each with its neighbour that passes."""
    for url in ("https://git.example/x", "ssh://git@git.example/x"):
        await written(lockdown, locked(url))
    for fine in ({"path": "./a..b/c"}, {"dependsOn": [{"name": "base", "namespace": home} for home in ("", "locked")]}):
        await written(lockdown, locked(**fine))
    for fine_rollout in (rolled_out("locked"), rolled_out(None, "locked"), rolled_out("locked", "elsewhere")):
        await written(lockdown, fine_rollout)
    for app, said in (
        (rolled_out("kube-system"), "own namespace only"),
        (rolled_out(None, "kube-system"), "own namespace only"),
        (rolled_out("kube-system", "locked"), "own namespace only"),
        (locked("http://git.example/x"), "http://git.example/x is read without protection"),
        (locked(path="./a/../../b"), "a path must not hold '..'"),
        (locked(serviceAccountName=""), "needs a serviceAccountName"),
        (locked(dependsOn=[{"name": "base", "namespace": "other"}]), "of the same namespace only"),
    ):
        with pytest.raises(ApiAnswer) as caught:
            await written(lockdown, app)
        assert (caught.value.status, said in str(caught.value)) == (403, True), str(caught.value)


async def test_lockdown_lets_go_what_was_there_before(lockdown: LabCluster) -> None:
    """What would be denied now can be annotated, and let go, all the same; it may not be changed for another such."""
    spec = {"spec": {"source": {"gitRepository": {"url": "http://git.example/y"}}}}
    await denied(lockdown, "without protection", "PATCH", EARLIER, spec, **MERGE)
    await lockdown.api.request("PATCH", EARLIER, {"metadata": {"annotations": {"a": "b"}}}, **MERGE)
    await lockdown.api.request("PATCH", EARLIER, {"metadata": {"finalizers": []}}, **MERGE)
    await lockdown.api.request("DELETE", EARLIER)
    assert await lockdown.api.find(EARLIER) is None
