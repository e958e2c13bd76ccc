"""A commit reaches every cluster of the fleet, stays there, and goes away with its Application."""

from __future__ import annotations

from typing import Any

import yaml


def config_map(name: str, **data: str) -> str:
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


async def test_a_commit_reaches_every_cluster_and_the_next_one_too(story: Any) -> None:
    repository = await story.git_repo({"app/a.yaml": config_map("a", version="1")})
    await story.fleet("m1", "m2", "m3")
    await story.start()
    await story.application(repository, {"path": "./app", "targetNamespace": story.namespace})
    first = await repository.commit_of()
    await story.applied(first, "web-0-attachedcluster-m1", "web-0-attachedcluster-m2", "web-0-attachedcluster-m3")
    for member in ("m1", "m2", "m3"):
        assert (await story.config_map(member, "a"))["data"] == {"version": "1"}

    second = await repository.commit({"app/a.yaml": config_map("a", version="2")}, message="Second")
    await story.request("2")
    await story.applied(second)
    for member in ("m1", "m2", "m3"):
        assert (await story.config_map(member, "a"))["data"] == {"version": "2"}

    async def shows_the_second() -> bool:
        status = (await story.read()).get("status") or {}
        source = (status.get("sourceStatus") or {}).get("gitRepoStatus") or {}
        return second in (source.get("artifact") or {}).get("revision", "")

    await story.until(shows_the_second)
    await story.condition("Ready", "True")


async def test_deleting_the_application_prunes_every_cluster(story: Any) -> None:
    repository = await story.git_repo({"a.yaml": config_map("a", version="1")})
    await story.fleet("m1", "m2")
    await story.start()
    await story.application(repository, {"targetNamespace": story.namespace})
    await story.applied(await repository.commit_of(), "web-0-attachedcluster-m1", "web-0-attachedcluster-m2")

    await story.delete("applications", "web")

    async def is_gone() -> bool:
        return await story.hub.api.find(story.path("applications", "web")) is None

    await story.until(is_gone)
    for member in ("m1", "m2"):
        assert await story.config_map(member, "a") is None
    assert await story.hub.api.items(story.path("clustersyncs")) == []
