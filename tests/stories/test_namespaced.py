"""A namespaced install: Roles only, one namespace served, nothing outside of it seen (design.md section 7, Tenancy)."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet_rollout.lab.lab import Lab, LabCluster
from tests.stories.guarded import (
    CONFIG,
    NAME,
    application,
    apply,
    attach,
    audited,
    ensure_namespace,
    granted,
    path,
    refusals,
    uses,
)
from tests.stories.replicas import Launcher

HOME = "fleet-rollout"
ACCOUNT = f"{HOME}:fleet-rollout-controller"


@pytest.fixture
async def own_hub() -> AsyncIterator[tuple[LabCluster, Lab]]:
    """A hub without the admission policy of the other install, in the lab that has audit logs."""
    async with Lab(["m1"], name=NAME, audit=True) as lab:
        hub = await lab.add("namespaced")
        await apply(hub, "crd")
        await hub.crds_established()
        await apply(hub, "namespaced")
        yield hub, lab


@pytest.fixture
async def launcher(tmp_path: Path) -> AsyncIterator[Launcher]:
    made = Launcher(tmp_path)
    yield made
    await made.close()


async def test_a_namespaced_install_works_with_roles_alone(
    own_hub: tuple[LabCluster, Lab], launcher: Launcher, tmp_path: Path, eventually: Any
) -> None:
    """It syncs its own namespace to the end, and no request of its account leaves that namespace or is refused."""
    hub, lab = own_hub
    member = lab.clusters["m1"]
    kinds = {obj["kind"] for obj in yaml.safe_load_all(await hub.kubectl("kustomize", str(CONFIG / "namespaced")))}
    assert not kinds & {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_bytes(await hub.service_account_kubeconfig(*ACCOUNT.split(":")))
    repository = await lab.git.create("namespaced")
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}}
    await repository.commit({"a.yaml": yaml.safe_dump(config_map)})
    await ensure_namespace(hub, "another")
    for namespace in (HOME, "another"):
        await attach(hub, namespace, "m1", member.kubeconfig.read_bytes())
        app = application(namespace, repository.url)
        await hub.api.apply(path(namespace, "applications", "web"), app, manager="story")
    settings = {"kubeconfig": kubeconfig, "data_dir": tmp_path / "data", "namespace": HOME, "own_namespace": HOME}
    async with launcher.program(**settings) as (replica, process):

        async def is_ready() -> bool:
            status = (await hub.api.get(path(HOME, "applications", "web"))).get("status") or {}
            return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))

        await eventually(is_ready)
        assert await member.api.find("/api/v1/namespaces/default/configmaps/a")
        await hub.api.delete(path(HOME, "applications", "web"))

        async def is_gone() -> bool:
            return await hub.api.find(path(HOME, "applications", "web")) is None

        await eventually(is_gone)
        assert await member.api.find("/api/v1/namespaces/default/configmaps/a") is None
        replica.signal(signal.SIGTERM)
        assert await process.wait() == 0

    foreign = await hub.api.get(path("another", "applications", "web"))
    assert "status" not in foreign
    assert "finalizers" not in foreign["metadata"]
    events = list(audited(hub, ACCOUNT))
    assert refusals(events) == []
    asked = {
        (e["objectRef"].get("namespace"), e["objectRef"]["resource"])
        for e in events
        if "resource" in e.get("objectRef", {})
    }
    assert {namespace for namespace, _ in asked} == {HOME, "kube-system"}
    assert {resource for namespace, resource in asked if namespace == "kube-system"} == {"namespaces"}
    documents = yaml.safe_load_all(await hub.kubectl("kustomize", str(CONFIG / "namespaced")))
    assert uses(events) <= granted(*(obj for obj in documents if obj["kind"] == "Role"))


async def test_both_installs_give_the_controller_the_same_rights(own_hub: tuple[LabCluster, Lab]) -> None:
    hub, _ = own_hub
    rights = []
    for folder in ("rbac", "namespaced"):
        documents = yaml.safe_load_all(await hub.kubectl("kustomize", str(CONFIG / folder)))
        rights.append(granted(*(obj for obj in documents if obj["kind"] in ("Role", "ClusterRole"))))
    # Admission policies are of the whole cluster: an install for one namespace has none to look at.
    of_policies = {right for right in rights[0] if right.group == "admissionregistration.k8s.io"}
    assert {right.verb for right in of_policies} == {"get"}
    assert rights[0] - of_policies == rights[1]
