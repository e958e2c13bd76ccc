"""The service is stopped and started again with everything synced: it reads, and writes nothing."""

from __future__ import annotations

import shutil
from typing import Any

import yaml

MEMBERS = ("m1", "m2", "m3")
PLURALS = ("applications", "clustersyncs", "fleets", "attachedclusters", "configmaps", "secrets")


def config_map(name: str, **data: str) -> str:
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


async def versions(story: Any) -> dict[str, str]:
    """The resourceVersions of everything in the story's namespaces, but for the Lease."""
    found = {}
    for plural in PLURALS:
        for obj in await story.hub.api.items(story.path(plural)):
            found[f"{plural}/{obj['metadata']['name']}"] = obj["metadata"]["resourceVersion"]
    for name in MEMBERS:
        path = f"/api/v1/namespaces/{story.namespace}/configmaps"
        for obj in await story.members[name].api.items(path):
            found[f"{name}/{obj['metadata']['name']}"] = obj["metadata"]["resourceVersion"]
    return found


async def idle(story: Any) -> None:
    """Wait until nothing is due and nothing is being worked on; all that was read at the start was due at once."""

    async def is_idle() -> bool:
        return all(queue.overdue() == 0 for queue in vars(story.health.queues).values())

    await story.until(is_idle)


async def synced(story: Any, **fields: Any) -> Any:
    repository = await story.git_repo({"a.yaml": config_map("a", version="1"), "b.yaml": config_map("b")})
    await story.fleet(*MEMBERS)
    await story.start(artifact_url="http://artifacts.test")
    await story.application(repository, {"targetNamespace": story.namespace, **fields})
    await story.condition("Ready", "True")
    await idle(story)
    return repository


async def test_a_restart_writes_nothing(story: Any) -> None:
    """Rule 10, rule 1: what is synced is recognised from the objects alone."""
    await synced(story)
    before = await versions(story)
    await story.stop()
    await story.start(artifact_url="http://artifacts.test")
    await idle(story)
    assert await versions(story) == before


async def test_a_restart_with_an_empty_disk_writes_nothing_and_can_go_on(story: Any) -> None:
    """Artifacts: what is pinned is made again from its commit, under the same digest, when it is needed."""
    repository = await synced(story)
    await story.set_fleet(("m1", "m2"))
    await story.gone("clustersyncs", "web-0-attachedcluster-m3")

    async def is_over() -> bool:
        """The row of the cluster that left stays until the service, too, has seen its ClusterSync go."""
        status = (await story.read())["status"]
        return status["summary"]["clusters"] == "2/2" and len(status["syncStatus"]) == 2

    await story.until(is_over)
    await idle(story)
    digest = (await story.sync("web-0-attachedcluster-m1"))["spec"]["artifact"]["digest"]
    before = await versions(story)
    await story.stop()
    shutil.rmtree(story.folder / "data")
    await story.start(artifact_url="http://artifacts.test")
    await idle(story)
    assert await versions(story) == before

    await story.set_fleet(MEMBERS)
    await story.applied(await repository.commit_of(), "web-0-attachedcluster-m3")
    assert (await story.sync("web-0-attachedcluster-m3"))["spec"]["artifact"]["digest"] == digest
    await story.condition("Ready", "True")


async def test_a_change_in_a_member_survives_where_the_interval_is_zero(story: Any) -> None:
    """Intervals: 0s means no drift correction, also after a restart; the next commit brings Git's content back."""
    repository = await synced(story, interval="0s")
    path = f"/api/v1/namespaces/{story.namespace}/configmaps/a"
    await story.stop()
    await story.members["m1"].api.merge(path, {"data": {"version": "by hand"}})
    before = await versions(story)
    await story.start(artifact_url="http://artifacts.test")
    await idle(story)
    assert await versions(story) == before
    assert (await story.config_map("m1", "a"))["data"] == {"version": "by hand"}

    second = await repository.commit({"b.yaml": config_map("b", version="2")})
    await story.request("1")
    await story.applied(second)
    assert (await story.config_map("m1", "a"))["data"] == {"version": "1"}


async def test_what_happened_while_it_was_down_is_noticed(story: Any) -> None:
    """Rule 1: a commit, a lost cluster of the Fleet and a deleted Application are found at the next start."""
    repository = await synced(story)
    await story.stop()
    second = await repository.commit({"a.yaml": config_map("a", version="2")})
    await story.set_fleet(("m1", "m2"))
    await story.start(artifact_url="http://artifacts.test")
    await story.gone("clustersyncs", "web-0-attachedcluster-m3")
    await story.request("1")
    await story.applied(second, "web-0-attachedcluster-m1", "web-0-attachedcluster-m2")
    assert await story.config_map("m3", "a") is None

    await story.stop()
    await story.delete("applications", "web")
    await story.start(artifact_url="http://artifacts.test")
    await story.gone("applications", "web")
    for name in MEMBERS:
        assert await story.config_map(name, "a") is None
