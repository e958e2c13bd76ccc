"""A commit with thousands of objects: the inventory outgrows the status, and nothing of it is lost."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

SYNC = "web-0-attachedcluster-m1"
OBJECTS = 5_000


def config_maps(namespace: str, first: int, last: int) -> str:
    """Manifests with their namespace: kustomize needs more than a minute to set it in 5,000 objects."""
    manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c{}, namespace: {}}}\n"
    return "---\n".join(manifest.format(number, namespace) for number in range(first, last))


@pytest.mark.conformance  # minutes of requests: beside the other tests it would only measure the machine
@pytest.mark.timeout(900)
async def test_five_thousand_objects_are_applied_and_pruned(story: Any) -> None:
    """Bad input: a 5,000-object commit. What does not fit into the status is in ConfigMaps beside it."""
    space = story.namespace
    files = {f"{start}.yaml": config_maps(space, start, start + 500) for start in range(0, OBJECTS, 500)}
    repository = await story.git_repo(files | {"keep.yaml": config_maps(space, OBJECTS, OBJECTS + 1)})
    await story.fleet("m1")
    await story.start()
    await story.application(repository)
    await story.applied(await repository.commit_of(), SYNC, timeout=240)

    sync = await story.sync(SYNC)
    assert len(sync["status"]["inventory"]["entries"]) == 1_000
    assert len(sync["status"]["inventoryParts"]) == 1
    name = sync["status"]["inventoryParts"][0]
    part = await story.config_map("hub", name)
    assert len(yaml.safe_load(part["data"]["entries.json"])) == OBJECTS + 1 - 1_000
    assert await story.config_map("m1", f"c{OBJECTS - 1}")

    second = await repository.commit(dict.fromkeys(files))
    await story.request("1")
    await story.applied(second, SYNC, timeout=240)
    sync = await story.sync(SYNC)
    assert sync["status"]["inventory"]["entries"] == [{"id": f"{space}_c{OBJECTS}__ConfigMap", "v": "v1"}]
    assert not sync["status"].get("inventoryParts")
    await story.gone("configmaps", name)
    left = await story.members["m1"].api.items(f"/api/v1/namespaces/{story.namespace}/configmaps", limit="10")
    assert {each["metadata"]["name"] for each in left} - {"kube-root-ca.crt"} == {f"c{OBJECTS}"}
