"""One commit is applied in an order that works, and where any object is refused nothing of its stage is written."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
import yaml

SYNC = "web-0-attachedcluster-m1"


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def deployment(name: str, app: str, namespace: str | None = None) -> dict[str, Any]:
    pod = {"metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "web", "image": "example/web:1"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name} | ({"namespace": namespace} if namespace else {}),
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": app}}, "template": pod},
    }


def ids(sync: dict[str, Any]) -> list[str]:
    return [entry["id"] for entry in sync["status"]["inventory"]["entries"]]


async def gone(story: Any) -> None:
    """Delete the Application and wait until it has pruned everything."""
    await story.delete("applications", "web")

    async def is_gone() -> bool:
        return await story.hub.api.find(story.path("applications", "web")) is None

    await story.until(is_gone)


async def test_a_crd_its_object_a_namespace_and_its_deployment_come_in_one_commit(story: Any) -> None:
    """G15"""
    group = f"g{secrets.token_hex(4)}.example"
    apps = f"{story.namespace}-apps"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }
    widget = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "one", "namespace": apps}}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": apps}}
    manifests = [widget, deployment("web", "web", apps), namespace, crd]
    repository = await story.git_repo({"all.yaml": yaml.safe_dump_all(manifests)})
    await story.fleet("m1")
    await story.start()
    await story.application(repository)
    await story.applied(await repository.commit_of(), SYNC)
    assert ids(await story.sync(SYNC)) == [
        f"_widgets.{group}_apiextensions.k8s.io_CustomResourceDefinition",
        f"_{apps}__Namespace",
        f"{apps}_web_apps_Deployment",
        f"{apps}_one_{group}_Widget",
    ]
    await gone(story)
    found = await story.members["m1"].api.find(
        f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.{group}"
    )
    assert found is None or found["metadata"]["deletionTimestamp"]


async def test_one_refused_object_keeps_its_whole_stage_from_being_written(story: Any) -> None:
    """G16, and with force. Bad input: immutable field."""
    names = ("a", "b", "c")
    files = {f"{name}.yaml": yaml.safe_dump(config_map(name, version="1")) for name in names}
    repository = await story.git_repo(files | {"x.yaml": yaml.safe_dump(deployment("x", "one"))})
    await story.fleet("m1", "m2")
    await story.start()
    policy = {"targetNamespace": story.namespace}
    await story.application(repository, policy)
    first = await repository.commit_of()
    await story.applied(first, SYNC, "web-0-attachedcluster-m2")
    before = await story.sync(SYNC)
    path = f"/apis/apps/v1/namespaces/{story.namespace}/deployments/x"
    uid = (await story.members["m1"].api.get(path))["metadata"]["uid"]

    files = {f"{name}.yaml": yaml.safe_dump(config_map(name, version="2")) for name in names}
    second = await repository.commit(files | {"x.yaml": yaml.safe_dump(deployment("x", "two"))})
    await story.request("1")
    failed = await story.sync_condition(SYNC, "Ready", "False", "ReconciliationFailed")
    assert failed["message"].startswith(f"Deployment/{story.namespace}/x dry-run failed (Invalid): ")
    assert "field is immutable" in failed["message"]
    assert [(await story.config_map("m1", name))["data"]["version"] for name in names] == ["1"] * 3
    sync = await story.sync(SYNC)
    assert sync["status"]["inventory"] == before["status"]["inventory"]
    assert sync["status"]["lastAppliedRevision"].endswith(first)
    assert sync["status"]["lastAttemptedRevision"].endswith(second)

    await story.application(repository, policy | {"force": True})
    await story.applied(second, SYNC, "web-0-attachedcluster-m2")
    assert [(await story.config_map("m1", name))["data"]["version"] for name in names] == ["2"] * 3
    recreated = await story.members["m1"].api.get(path)
    assert recreated["metadata"]["uid"] != uid
    assert recreated["spec"]["selector"] == {"matchLabels": {"app": "two"}}


async def test_the_inventory_names_objects_as_flux_does_and_a_rename_prunes_the_old_name(story: Any) -> None:
    """G19"""
    apps, role = f"{story.namespace}-apps", f"system:{story.namespace}"
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": apps}}
    service["spec"] = {"ports": [{"port": 80}], "selector": {"app": "web"}}
    cluster_role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": role}}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": apps}}
    fixed = [cluster_role | {"rules": []}, namespace, service]
    repository = await story.git_repo({"all.yaml": yaml.safe_dump_all([*fixed, deployment("web", "web", apps)])})
    await story.fleet("m1")
    await story.start()
    await story.application(repository)
    await story.applied(await repository.commit_of(), SYNC)
    prefix = [
        f"_{apps}__Namespace",
        f"_{role.replace(':', '__')}_rbac.authorization.k8s.io_ClusterRole",
        f"{apps}_web__Service",
    ]
    assert (await story.sync(SYNC))["status"]["inventory"]["entries"] == [
        {"id": name, "v": "v1"} for name in [*prefix, f"{apps}_web_apps_Deployment"]
    ]

    renamed = await repository.commit({"all.yaml": yaml.safe_dump_all([*fixed, deployment("site", "web", apps)])})
    await story.request("1")
    await story.applied(renamed, SYNC)
    assert ids(await story.sync(SYNC)) == [*prefix, f"{apps}_site_apps_Deployment"]
    deployments = await story.members["m1"].api.items(f"/apis/apps/v1/namespaces/{apps}/deployments")
    assert [each["metadata"]["name"] for each in deployments if "deletionTimestamp" not in each["metadata"]] == ["site"]
    await gone(story)


CONTROL = [
    ("disabled", "kustomize.toolkit.fluxcd.io/reconcile", "disabled"),
    ("once", "kustomize.toolkit.fluxcd.io/ssa", "IfNotPresent"),
    ("kept", "kustomize.toolkit.fluxcd.io/prune", "disabled"),
    ("merged", "kustomize.toolkit.fluxcd.io/ssa", "Merge"),
    ("plain", "example.com/nothing", "here"),
]


def controlled(version: str, *names: str) -> str:
    manifests = []
    for name, key, value in CONTROL:
        if name in names:
            manifests.append(config_map(name, version=version))
            manifests[-1]["metadata"]["annotations"] = {key: value}
    return yaml.safe_dump_all(manifests)


async def test_annotations_on_manifests_say_how_they_are_treated(story: Any) -> None:
    """G18"""
    everything = [name for name, _, _ in CONTROL]
    repository = await story.git_repo({"all.yaml": controlled("1", *everything)})
    await story.fleet("m1")
    await story.start()
    await story.application(repository, {"targetNamespace": story.namespace})
    await story.applied(await repository.commit_of(), SYNC)
    assert await story.config_map("m1", "disabled") is None
    assert len(ids(await story.sync(SYNC))) == len(CONTROL)
    for name in ("merged", "plain"):
        patch = '{"data":{"by":"hand"}}'
        await story.members["m1"].kubectl(
            "-n", story.namespace, "patch", "configmap", name, "--type=merge", "-p", patch
        )

    second = await repository.commit({"all.yaml": controlled("2", *everything)})
    await story.request("1")
    await story.applied(second, SYNC)
    assert (await story.config_map("m1", "once"))["data"] == {"version": "1"}
    assert (await story.config_map("m1", "merged"))["data"] == {"version": "2", "by": "hand"}
    assert (await story.config_map("m1", "plain"))["data"] == {"version": "2"}

    third = await repository.commit({"all.yaml": controlled("3", "plain")})
    await story.request("2")
    await story.applied(third, SYNC)
    assert (await story.config_map("m1", "kept"))["data"] == {"version": "2"}
    assert await story.config_map("m1", "once") is None
    assert ids(await story.sync(SYNC)) == [f"{story.namespace}_plain__ConfigMap"]


@pytest.mark.parametrize("policy", [{"wait": True}, {}], ids=["wait", "no wait"])
async def test_an_object_that_is_not_reconciled_is_not_waited_for(story: Any, policy: dict[str, Any]) -> None:
    """G18, G.1 point 9: a skipped object stays in the inventory, and `wait` does not miss it."""
    repository = await story.git_repo({"all.yaml": controlled("1", "disabled", "plain")})
    await story.fleet("m1")
    await story.start()
    await story.application(repository, {"targetNamespace": story.namespace, "timeout": "30s", **policy})
    await story.applied(await repository.commit_of(), SYNC)
    assert len(ids(await story.sync(SYNC))) == 2
