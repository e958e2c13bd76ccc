"""What stays on a member when its policy or Application goes."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

SYNC = "web-0-attachedcluster-m1"
KEPT = {"kustomize.toolkit.fluxcd.io/prune": "disabled"}


def config_map(name: str, **annotations: str) -> str:
    metadata = {"name": name, "annotations": annotations}
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})


async def delete_application(story: Any) -> None:
    await story.delete("applications", "web")

    async def is_gone() -> bool:
        return await story.hub.api.find(story.path("applications", "web")) is None

    await story.until(is_gone)


CASES = [
    ({"prune": True}, False),
    ({"prune": False}, True),
    ({"prune": True, "deletionPolicy": "Orphan"}, True),
    ({"prune": True, "suspend": True}, True),
    ({"prune": False, "deletionPolicy": "Delete"}, False),
    ({"prune": True, "deletionPolicy": "MirrorPrune"}, False),
    ({"prune": False, "deletionPolicy": "WaitForTermination"}, False),
]


@pytest.mark.parametrize(("fields", "stays"), CASES, ids=[str(fields) for fields, _ in CASES])
async def test_deleting_an_application_keeps_or_deletes_as_its_policy_says(
    story: Any, fields: dict[str, Any], stays: bool
) -> None:
    """G23"""
    repository = await story.git_repo({"a.yaml": config_map("a"), "kept.yaml": config_map("kept", **KEPT)})
    await story.fleet("m1")
    await story.start()
    policy = {"targetNamespace": story.namespace}
    await story.application(repository, policy)
    await story.applied(await repository.commit_of(), SYNC)
    await story.application(repository, policy | fields)

    async def is_planned() -> bool:
        spec = (await story.sync(SYNC))["spec"]["kustomization"]
        return all(spec.get(field) == value for field, value in fields.items())

    await story.until(is_planned)
    await delete_application(story)
    assert (await story.config_map("m1", "a") is not None) == stays
    assert await story.config_map("m1", "kept") is not None
    assert await story.hub.api.items(story.path("clustersyncs")) == []


async def test_termination_is_waited_for_where_the_policy_says_so(story: Any) -> None:
    """G23, deletionPolicy WaitForTermination: the ClusterSync goes after the object, not before."""
    manifest = yaml.safe_load(config_map("a"))
    manifest["metadata"]["finalizers"] = ["story.example/hold"]
    repository = await story.git_repo({"a.yaml": yaml.safe_dump(manifest)})
    await story.fleet("m1")
    await story.start()
    policy = {"targetNamespace": story.namespace, "deletionPolicy": "WaitForTermination", "timeout": "10m"}
    await story.application(repository, policy)
    await story.applied(await repository.commit_of(), SYNC)
    await story.delete("applications", "web")

    async def is_leaving() -> bool:
        found = await story.config_map("m1", "a")
        return bool(found and found["metadata"].get("deletionTimestamp"))

    await story.until(is_leaving)
    assert (await story.sync(SYNC))["metadata"]["finalizers"]
    path = f"/api/v1/namespaces/{story.namespace}/configmaps/a"
    await story.members["m1"].api.merge(path, {"metadata": {"finalizers": None}})

    async def is_gone() -> bool:
        return await story.hub.api.find(story.path("applications", "web")) is None

    await story.until(is_gone)


async def test_a_wait_for_termination_ends_with_the_timeout(story: Any) -> None:
    """G23: a finalizer that nobody removes must not keep the Application for ever."""
    manifest = yaml.safe_load(config_map("a"))
    manifest["metadata"]["finalizers"] = ["story.example/hold"]
    repository = await story.git_repo({"a.yaml": yaml.safe_dump(manifest)})
    await story.fleet("m1")
    await story.start()
    policy = {"targetNamespace": story.namespace, "deletionPolicy": "WaitForTermination", "timeout": "1s"}
    await story.application(repository, policy)
    await story.applied(await repository.commit_of(), SYNC)
    await delete_application(story)
    assert (await story.config_map("m1", "a"))["metadata"]["deletionTimestamp"]
    path = f"/api/v1/namespaces/{story.namespace}/configmaps/a"
    await story.members["m1"].api.merge(path, {"metadata": {"finalizers": None}})
