"""dependsOn: a policy waits for another one on the same cluster, and for the same revision of it."""

from __future__ import annotations

from typing import Any

import yaml

# Longer than any story: whoever waits is woken by what he waits for, not by the clock.
PATIENCE = 600.0


def config_map(name: str, **data: str) -> str:
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


def policy(story: Any, name: str, *depends_on: str, **fields: Any) -> dict[str, Any]:
    spec = {"interval": "1h", "path": f"./{name}", "prune": True, "targetNamespace": story.namespace}
    spec["dependsOn"] = [{"name": dependency} for dependency in depends_on]
    return {"name": name, "kustomization": spec | fields}


async def test_a_policy_waits_until_the_other_has_the_same_revision(story: Any) -> None:
    """G22"""
    repository = await story.git_repo({"one/a.yaml": config_map("a"), "two/b.yaml": config_map("b", version="1")})
    await story.fleet("m1")
    await story.start(dependency_retry=PATIENCE)
    await story.application(repository, policy(story, "two", "one"), policy(story, "one"))
    syncs = ("one-attachedcluster-m1", "two-attachedcluster-m1")
    await story.applied(await repository.commit_of(), *syncs)

    broken = {"one/a.yaml": config_map("a") + "immutable: maybe\n", "two/b.yaml": config_map("b", version="2")}
    await repository.commit(broken)
    await story.request("1")
    waiting = await story.sync_condition(syncs[1], "Ready", "False", "DependencyNotReady")
    assert waiting["message"].startswith(f"dependency '{story.namespace}/{syncs[0]}' ")
    assert (await story.config_map("m1", "b"))["data"] == {"version": "1"}
    await story.sync_condition(syncs[0], "Ready", "False")
    assert (await story.config_map("m1", "b"))["data"] == {"version": "1"}

    mended = await repository.commit({"one/a.yaml": config_map("a", version="3")})
    await story.request("2")
    await story.applied(mended, *syncs)
    assert (await story.config_map("m1", "b"))["data"] == {"version": "2"}


async def test_a_policy_says_that_the_other_is_ready_with_an_older_revision(story: Any) -> None:
    """G22: in Flux's words; the other stays where it is because it is suspended."""
    repository = await story.git_repo({"one/a.yaml": config_map("a"), "two/b.yaml": config_map("b", version="1")})
    await story.fleet("m1")
    await story.start(dependency_retry=PATIENCE)
    one, two = "one-attachedcluster-m1", "two-attachedcluster-m1"
    await story.application(repository, policy(story, "two", "one"), policy(story, "one"))
    await story.applied(await repository.commit_of(), one, two)
    await story.application(repository, policy(story, "two", "one"), policy(story, "one", suspend=True))
    await story.condition("Ready", "True")
    second = await repository.commit({"two/b.yaml": config_map("b", version="2")})
    await story.request("1")
    expected = f"dependency '{story.namespace}/{one}' revision is not up to date"

    async def is_said() -> bool:
        """Not ready at first: the other has not yet seen that it is to have a newer revision."""
        waiting = await story.sync_condition(two, "Ready", "False", "DependencyNotReady")
        return bool(waiting["message"] == expected)

    await story.until(is_said)
    assert (await story.config_map("m1", "b"))["data"] == {"version": "1"}
    await story.application(repository, policy(story, "two", "one"), policy(story, "one"))
    await story.applied(second, one, two)
    assert (await story.config_map("m1", "b"))["data"] == {"version": "2"}


async def test_an_unknown_dependency_is_named_and_waited_for(story: Any) -> None:
    """G22: `not found`, and it runs as soon as the policy exists."""
    repository = await story.git_repo({"one/a.yaml": config_map("a"), "two/b.yaml": config_map("b")})
    await story.fleet("m1")
    await story.start(dependency_retry=PATIENCE)
    await story.application(repository, policy(story, "two", "one"))
    waiting = await story.sync_condition("two-attachedcluster-m1", "Ready", "False", "DependencyNotReady")
    assert f"dependency '{story.namespace}/one' not found" in waiting["message"]
    assert await story.config_map("m1", "b") is None

    await story.application(repository, policy(story, "two", "one"), policy(story, "one"))
    await story.applied(await repository.commit_of(), "one-attachedcluster-m1", "two-attachedcluster-m1")


async def test_one_cluster_that_waits_does_not_hold_up_the_other(story: Any) -> None:
    """G22: dependencies are a matter of one cluster."""
    repository = await story.git_repo({"one/a.yaml": config_map("a"), "two/b.yaml": config_map("b")})
    await story.fleet("m1", "m2")
    user = "story-without-rights"
    await story.kubeconfig("m2", story.members["m2"].kubeconfig_for(user))
    await story.start(dependency_retry=PATIENCE)
    await story.application(repository, policy(story, "two", "one"), policy(story, "one"))
    await story.applied(await repository.commit_of(), "one-attachedcluster-m1", "two-attachedcluster-m1")
    assert await story.config_map("m2", "b") is None
