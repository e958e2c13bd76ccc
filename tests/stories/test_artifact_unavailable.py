"""Pinned content that nobody has any more: the members stay on it, and say what is missing."""

from __future__ import annotations

import shutil
from typing import Any

import yaml

ONE, TWO = "web-0-attachedcluster-m1", "web-0-attachedcluster-m2"


def config_map(name: str, **data: str) -> str:
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


async def rewrite_history(repository: Any, files: dict[str, str]) -> str:
    """A branch of the same name with one commit; what was there before is not to be had any more."""
    await repository.delete("refs/heads/main")
    commit: str = await repository.commit(files)
    await repository.git("gc", "--quiet", "--prune=now")
    return commit


async def test_content_that_is_gone_everywhere_changes_nothing(story: Any) -> None:
    """Artifacts: an empty disk and a server without the commit: nothing applied, nothing pruned, and said so."""
    repository = await story.git_repo({"a.yaml": config_map("a", version="1"), "b.yaml": config_map("b")})
    await story.fleet("m1", "m2")
    await story.set_fleet(["m1"])
    policy = {"targetNamespace": story.namespace}
    await story.start()
    await story.application(repository, policy)
    first = await repository.commit_of()
    await story.applied(first, ONE)
    await story.application(repository, policy, source={"suspend": True})
    await story.condition("Ready", "True")
    held = (await story.sync(ONE))["status"]["inventory"]

    await story.stop()
    shutil.rmtree(story.folder / "data")
    second = await rewrite_history(repository, {"a.yaml": config_map("a", version="2")})
    await story.members["m1"].api.merge(
        f"/api/v1/namespaces/{story.namespace}/configmaps/a", {"data": {"version": "by hand"}}
    )
    await story.start()
    await story.set_fleet(["m1", "m2"])
    await story.request("1")
    for name in (ONE, TWO):
        failed = await story.sync_condition(name, "Ready", "False", "ArtifactUnavailable")
        assert failed["message"].startswith(f"content of revision 'main@sha1:{first}' is not available: ")
    await story.condition("Ready", "False", "ArtifactUnavailable")
    sync = await story.sync(ONE)
    assert sync["status"]["inventory"] == held
    assert sync["status"]["lastAppliedRevision"].endswith(first)
    assert (await story.config_map("m1", "a"))["data"] == {"version": "by hand"}
    assert await story.config_map("m1", "b") is not None
    assert await story.config_map("m2", "a") is None

    await story.application(repository, policy)
    await story.applied(second, ONE, TWO)
    assert (await story.config_map("m1", "a"))["data"] == {"version": "2"}
    assert await story.config_map("m1", "b") is None
    await story.condition("Ready", "True")
