"""A commit that takes every manifest away prunes nothing, unless the policy says so."""

from __future__ import annotations

from typing import Any

import yaml

SYNC = "web-0-attachedcluster-m1"
NAMES = ("a", "b", "c")


def config_map(name: str) -> str:
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})


async def test_an_empty_build_prunes_nothing_until_the_policy_allows_it(story: Any) -> None:
    """G13, ruling "An empty build"."""
    repository = await story.git_repo({f"app/{name}.yaml": config_map(name) for name in NAMES} | {"app/README": "x"})
    await story.fleet("m1")
    await story.start()
    policy = {"path": "./app", "targetNamespace": story.namespace}
    await story.application(repository, policy)
    first = await repository.commit_of()
    await story.applied(first, SYNC)

    empty = await repository.commit({f"app/{name}.yaml": None for name in NAMES})
    await story.request("1")
    stalled = await story.sync_condition(SYNC, "Stalled", "True", "EmptyBuild")
    sync = await story.sync(SYNC)
    assert "allowEmpty: true" in stalled["message"]
    assert len(sync["status"]["inventory"]["entries"]) == 3
    assert sync["status"]["lastAppliedRevision"].endswith(first)
    assert [await story.config_map("m1", name) is not None for name in NAMES] == [True] * 3

    await story.application(repository, policy | {"allowEmpty": True})
    await story.applied(empty, SYNC)
    assert [await story.config_map("m1", name) for name in NAMES] == [None] * 3
    assert (await story.sync(SYNC))["status"]["inventory"] == {"entries": []}


async def test_a_policy_that_never_held_anything_is_applied(story: Any) -> None:
    """G13: a new repository with nothing but a README is no accident."""
    repository = await story.git_repo({"app/README.md": "soon"})
    await story.fleet("m1")
    await story.start()
    await story.application(repository, {"path": "./app"})
    await story.applied(await repository.commit_of(), SYNC)
