"""The admission policies for ClusterSyncs and Applications, on a hub where no controller acts (trust.md section 3)."""

from __future__ import annotations

from typing import Any

import pytest

from fleet_rollout.lab.api import ApiAnswer
from fleet_rollout.lab.lab import LabCluster
from tests.stories.guarded import application, cluster_sync, enforced, ensure_namespace, path
from tests.stories.test_policies import guarded
from tests.stories.test_rbac import CONTROLLER, RECEIVER

__all__ = ["guarded"]


async def test_only_the_controller_writes_cluster_syncs(guarded: LabCluster) -> None:
    """The admission policy: administrators are refused like everybody else, status included; collectors may delete."""
    hub, home = guarded, "written"
    await ensure_namespace(hub, home)
    policy = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/fleet-rollout-clustersyncs"
    assert await hub.api.find(policy)
    where = path(home, "clustersyncs", "mine")
    as_controller = {"Impersonate-User": f"system:serviceaccount:{CONTROLLER}"}

    async def refused(method: str, path_: str, body: Any = None, **more: Any) -> None:
        with pytest.raises(ApiAnswer) as caught:
            await hub.api.request(method, path_, body, **more)
        assert caught.value.status == 403
        assert "only the fleet-rollout controller writes ClusterSyncs" in str(caught.value)

    merge = {"content_type": "application/merge-patch+json"}
    await enforced(hub, "POST", path(home, "clustersyncs"), cluster_sync(home))
    await refused("POST", path(home, "clustersyncs"), cluster_sync(home))
    await hub.api.request("POST", path(home, "clustersyncs"), cluster_sync(home), headers=as_controller)
    await refused("PATCH", where, {"spec": {"kustomization": {"path": "./other"}}}, **merge)
    await refused("PATCH", f"{where}/status", {"status": {"lastAppliedRevision": "x"}}, **merge)
    await refused("PATCH", where, {"metadata": {"finalizers": []}}, **merge)
    await refused("DELETE", where)
    await hub.api.request(
        "PATCH", f"{where}/status", {"status": {"lastAppliedRevision": "x"}}, headers=as_controller, **merge
    )
    assert (await hub.api.get(where))["status"]["lastAppliedRevision"] == "x"
    collector = {"Impersonate-User": "system:serviceaccount:kube-system:generic-garbage-collector"}
    await refused(
        "PATCH",
        where,
        {"spec": {"kustomization": {"path": "./other"}}},
        headers=collector | {"Impersonate-Group": "system:masters"},
        **merge,
    )
    as_master = collector | {"Impersonate-Group": "system:masters"}
    await hub.api.request("PATCH", where, {"metadata": {"ownerReferences": []}}, headers=as_master, **merge)
    await hub.api.request("DELETE", where, headers=collector)
    assert await hub.api.find(where) is None


async def test_of_an_application_controller_and_receiver_change_only_what_is_theirs(guarded: LabCluster) -> None:
    """Section 3: applications patch, of one finalizer and of one annotation. Authors are not held back."""
    hub, home = guarded, "authored"
    await ensure_namespace(hub, home)
    where = path(home, "applications", "web")
    account = {"serviceAccountName": "deployer"}  # the neighbours' lockdown asks for one
    app = application(home, "https://127.0.0.1:9/x", kustomization=account)
    app["metadata"] |= {"annotations": {"theirs": "1"}, "labels": {"theirs": "1"}, "finalizers": ["example.com/theirs"]}
    await hub.api.apply(where, app, manager="story")
    as_controller = {"Impersonate-User": f"system:serviceaccount:{CONTROLLER}"}
    as_receiver = {"Impersonate-User": f"system:serviceaccount:fleet-rollout-system:{RECEIVER}"}
    finalizer = {"metadata": {"finalizers": ["example.com/theirs", "apps.kurator.dev"]}}
    announced = {"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "2"}}}
    merge = "application/merge-patch+json"

    async def patch(body: Any, **who: str) -> None:
        await hub.api.request("PATCH", where, body, headers=who, content_type=merge)

    async def refused(body: Any, who: dict[str, str]) -> None:
        with pytest.raises(ApiAnswer, match="of an Application the fleet-rollout controller changes only") as caught:
            await patch(body, **who)
        assert caught.value.status == 403

    await enforced(hub, "PATCH", where, {"metadata": {"finalizers": []}}, headers=as_receiver, content_type=merge)
    for body in (
        {"spec": {"syncPolicies": [{"kustomization": {"interval": "2h", "path": "./", "prune": False, **account}}]}},
        {"metadata": {"labels": {"theirs": "2"}}},
        {"metadata": {"annotations": {"theirs": "2"}}},
        {"metadata": {"annotations": {"theirs": None}}},
        {"metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}}},
        {"metadata": {"finalizers": []}},
        {"metadata": {"finalizers": ["example.com/theirs", "example.com/other"]}},
        {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "u"}]}},
    ):
        for who in (as_controller, as_receiver):
            await refused(body, who)
    await refused(finalizer, as_receiver)
    await refused(announced, as_controller)
    await patch(finalizer, **as_controller)
    await refused({"metadata": {"finalizers": ["example.com/theirs"]}}, as_receiver)
    await patch(announced, **as_receiver)
    await patch({"metadata": {"finalizers": ["example.com/theirs"]}}, **as_controller)
    await patch({"metadata": {"labels": {"theirs": "2"}, "finalizers": []}})
    await hub.api.delete(where)


async def test_namespaces_with_cluster_syncs_can_be_deleted(guarded: LabCluster, eventually: Any) -> None:
    """The namespace controller is let through by the policy, or no namespace would ever end."""
    hub = guarded
    await ensure_namespace(hub, "short-lived")
    as_controller = {"Impersonate-User": f"system:serviceaccount:{CONTROLLER}"}
    await hub.api.request(
        "POST", path("short-lived", "clustersyncs"), cluster_sync("short-lived"), headers=as_controller
    )
    await hub.api.delete("/api/v1/namespaces/short-lived")

    async def is_gone() -> bool:
        return await hub.api.find("/api/v1/namespaces/short-lived") is None

    await eventually(is_gone)
