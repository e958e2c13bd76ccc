"""Suspending, requesting and resuming a policy; and the policy that corrects no drift."""

from __future__ import annotations

from typing import Any

import yaml

SYNC = "web-0-attachedcluster-m1"


def config_map(name: str, **data: str) -> str:
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


async def handled(story: Any, value: str) -> None:
    async def is_handled() -> bool:
        return (await story.sync(SYNC))["status"].get("lastHandledReconcileAt") == value

    await story.until(is_handled)


async def edit(story: Any, name: str, **data: str) -> None:
    path = f"/api/v1/namespaces/{story.namespace}/configmaps/{name}"
    await story.members["m1"].api.merge(path, {"data": data})


async def test_a_suspended_policy_applies_nothing_and_resumes_with_the_newest_commit(story: Any) -> None:
    """G24"""
    repository = await story.git_repo({"a.yaml": config_map("a", version="1")})
    await story.fleet("m1")
    await story.start()
    policy = {"targetNamespace": story.namespace}
    await story.application(repository, policy)
    await story.applied(await repository.commit_of(), SYNC)

    await story.application(repository, policy | {"suspend": True})
    second = await repository.commit({"a.yaml": config_map("a", version="2")})
    await story.request("while-suspended")
    await handled(story, "while-suspended")
    sync = await story.sync(SYNC)
    assert sync["spec"]["artifact"]["revision"].endswith(second)
    assert (await story.config_map("m1", "a"))["data"] == {"version": "1"}

    await story.application(repository, policy)
    await story.applied(second, SYNC)
    assert (await story.config_map("m1", "a"))["data"] == {"version": "2"}


async def test_resuming_undoes_what_was_changed_in_the_member_meanwhile(story: Any) -> None:
    """G24: on resume it applies, also where Git has nothing new."""
    repository = await story.git_repo({"a.yaml": config_map("a", version="1")})
    await story.fleet("m1")
    await story.start()
    policy = {"targetNamespace": story.namespace}
    await story.application(repository, policy)
    await story.applied(await repository.commit_of(), SYNC)
    await story.application(repository, policy | {"suspend": True})
    await edit(story, "a", version="by hand")
    await story.request("1")
    await handled(story, "1")
    assert (await story.config_map("m1", "a"))["data"] == {"version": "by hand"}

    await story.application(repository, policy)

    async def is_back() -> bool:
        return (await story.config_map("m1", "a"))["data"] == {"version": "1"}

    await story.until(is_back)


async def test_a_suspended_source_records_the_request_and_keeps_its_artifact(story: Any) -> None:
    """G24: a GitRepository's lastHandledReconcileAt too."""
    repository = await story.git_repo({"a.yaml": config_map("a", version="1")})
    await story.fleet("m1")
    await story.start()
    policy = {"targetNamespace": story.namespace}
    await story.application(repository, policy)
    first = await repository.commit_of()
    await story.applied(first, SYNC)
    await story.application(repository, policy, source={"suspend": True})
    second = await repository.commit({"a.yaml": config_map("a", version="2")})
    await story.request("1")

    async def source_status() -> dict[str, Any] | None:
        status = (await story.read()).get("status", {}).get("sourceStatus", {}).get("gitRepoStatus", {})
        return status if status.get("lastHandledReconcileAt") == "1" else None

    assert (await story.until(source_status))["artifact"]["revision"].endswith(first)
    await handled(story, "1")
    assert (await story.config_map("m1", "a"))["data"] == {"version": "1"}
    await story.application(repository, policy)
    await story.applied(second, SYNC)


async def test_without_an_interval_a_change_in_the_member_survives_a_restart(story: Any) -> None:
    """G24, ruling "Intervals": `0s` corrects no drift; the restart of the hub is no reason either."""
    repository = await story.git_repo({"a.yaml": config_map("a", version="1")})
    await story.fleet("m1")
    await story.start()
    await story.application(repository, {"targetNamespace": story.namespace, "interval": "0s"})
    first = await repository.commit_of()
    await story.applied(first, SYNC)
    await edit(story, "a", version="by hand")
    before = await story.sync(SYNC)

    await story.stop()
    await story.attach("m2")
    await story.set_fleet(["m1", "m2"])
    await story.start()
    # When the new member is done, the old one has long been looked at.
    await story.applied(first, "web-0-attachedcluster-m2")
    assert (await story.config_map("m1", "a"))["data"] == {"version": "by hand"}
    assert (await story.sync(SYNC))["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_without_an_interval_failures_are_tried_again(story: Any) -> None:
    """G24, ruling "Intervals": unlike Flux, `0s` does not switch retries off."""
    namespace = f"{story.namespace}-late"
    repository = await story.git_repo({"a.yaml": config_map("a")})
    await story.fleet("m1")
    await story.start()
    await story.application(repository, {"targetNamespace": namespace, "interval": "0s"})
    failed = await story.sync_condition(SYNC, "Ready", "False", "ReconciliationFailed")
    assert f'namespaces "{namespace}" not found' in failed["message"]

    member = story.members["m1"].api
    await member.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
    await story.applied(await repository.commit_of(), SYNC)
    await member.delete(f"/api/v1/namespaces/{namespace}")
