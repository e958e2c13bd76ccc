"""A member that cannot be reached: before, during and after an apply; hanging; given up on; and when it returns."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import yaml

from fleet_rollout.control.deletions import Deletions
from fleet_rollout.decide.names import APP_LABEL
from fleet_rollout.lab.cluster import kubeconfig
from fleet_rollout.lab.lab import LabCluster
from tests.stories.conftest import kustomization

LOST = "web-0-attachedcluster-spare"
HEALTHY = ("web-0-attachedcluster-m1", "web-0-attachedcluster-m2")


def config_map(name: str, **data: str) -> str:
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


@pytest.fixture
async def fleet(story: Any, spare: LabCluster) -> LabCluster:
    """m1, m2 and the spare cluster, which the story may stop; the Application is not there yet."""
    await story.join(spare)
    await story.fleet("m1", "spare", "m2")
    return spare


async def started(story: Any, fields: dict[str, Any] | None = None, **settings: Any) -> Any:
    """A repository, the service, and the Application."""
    repository = await story.git_repo({"a.yaml": config_map("a", version="1")})
    await story.start(member_breaker_min=0.5, member_breaker_max=2.0, **settings)
    await story.application(repository, {"targetNamespace": story.namespace, **(fields or {})})
    return repository


async def pushed(story: Any, repository: Any, version: str) -> str:
    commit: str = await repository.commit({"a.yaml": config_map("a", version=version)})
    await story.request(version)
    return commit


async def cluster_is(story: Any, ready: bool, reason: str) -> None:
    """Wait until AttachedCluster/spare says so."""

    async def says() -> bool:
        status = (await story.hub.api.get(story.path("attachedclusters", "spare"))).get("status") or {}
        reasons = [c["reason"] for c in status.get("conditions", []) if c["type"] == "Ready"]
        return (status.get("ready"), reasons) == (ready, [reason])

    await story.until(says)


async def test_a_member_that_is_down_from_the_start(story: Any, fleet: LabCluster) -> None:
    """G33, before: the others are Ready, status is fresh, the row names the fact; it is caught up when it comes."""
    await fleet.stop()
    repository = await started(story)
    first = await repository.commit_of()
    await story.applied(first, *HEALTHY)
    row = await story.row(LOST, ready="False", message="AttachedCluster/spare: ")
    assert "connect" in row["message"].lower()
    await cluster_is(story, False, "ClusterUnreachable")
    for name in HEALTHY:
        await story.row(name, ready="True")
    ready = await story.condition("Ready", "False", "ClusterUnreachable")
    assert "AttachedCluster/spare" in ready["message"]
    assert "AttachedCluster/m1" not in ready["message"]

    second = await pushed(story, repository, "2")
    await story.applied(second, *HEALTHY)
    await fleet.start()
    await story.applied(second, LOST)
    await cluster_is(story, True, "Reachable")
    await story.condition("Ready", "True")


async def test_a_member_that_dies_is_caught_up_although_its_interval_is_zero(story: Any, fleet: LabCluster) -> None:
    """G33, after; Intervals: a member that returns is caught up also with 0s (Flux would leave it)."""
    repository = await started(story, {"interval": "0s"})
    await story.applied(await repository.commit_of(), LOST, *HEALTHY)
    await fleet.kill()
    second = await pushed(story, repository, "2")
    await story.applied(second, *HEALTHY)
    row = await story.row(LOST, ready="False", message="AttachedCluster/spare: ")
    assert row["kustomizationStatus"]["lastAppliedRevision"] != f"main@sha1:{second}"
    await fleet.start()
    await story.applied(second, LOST)
    assert (await story.config_map("spare", "a"))["data"] == {"version": "2"}


async def test_a_member_that_dies_while_it_is_applied_to(story: Any, fleet: LabCluster) -> None:
    """G33, during: what was half done is finished when it returns, and the inventory knew of all of it."""
    names = [f"c{number:03}" for number in range(150)]
    repository = await story.git_repo({"all.yaml": "---\n".join(config_map(name) for name in names)})
    await story.start(member_breaker_min=0.5, member_breaker_max=2.0, member_in_flight=2)
    path = f"/api/v1/namespaces/{story.namespace}/configmaps"
    version = (await fleet.api.get(path))["metadata"]["resourceVersion"]
    first_write = asyncio.create_task(anext(fleet.api.watch(path, version)))
    await story.application(repository, {"targetNamespace": story.namespace})
    assert (await first_write)["type"] == "ADDED"
    await fleet.kill()
    commit = await repository.commit_of()
    await story.applied(commit, *HEALTHY)
    row = await story.row(LOST, ready="False", message="AttachedCluster/spare: ")
    assert len(row["kustomizationStatus"]["inventory"]["entries"]) == len(names)
    await fleet.start()
    await story.applied(commit, LOST)
    found = {obj["metadata"]["name"] for obj in await fleet.api.items(path)}
    assert found.issuperset(names)


async def test_a_member_that_hangs_holds_up_nobody(story: Any, fleet: LabCluster) -> None:
    """Rule 3: with a member that accepts connections and never answers, the others are as fast as without."""
    repository = await started(story, member_connect_timeout=2.0, member_request_timeout=4.0)
    await story.applied(await repository.commit_of(), LOST, *HEALTHY)

    async def seconds(version: str) -> float:
        commit = await repository.commit({"a.yaml": config_map("a", version=version)})
        began = time.monotonic()
        await story.request(version)
        await story.applied(commit, *HEALTHY)
        return time.monotonic() - began

    usual = min([await seconds("2"), await seconds("3")])
    await fleet.pause()
    beside = min([await seconds("4"), await seconds("5")])
    assert beside < usual * 1.5 + 1.0  # the promise is < 1 s more; the rest is for a busy machine
    await story.row(LOST, ready="False", message="AttachedCluster/spare: ")
    await fleet.resume()
    await story.applied(await repository.commit_of(), LOST)


async def test_deleting_waits_for_a_lost_member_alone(story: Any, fleet: LabCluster) -> None:
    """G33: the others are pruned at once; the lost one is waited for, which the status says, until it returns."""
    repository = await started(story)
    await story.applied(await repository.commit_of(), LOST, *HEALTHY)
    await fleet.stop()
    await story.delete("applications", "web")
    await story.gone("clustersyncs", *HEALTHY)
    for member in ("m1", "m2"):
        assert await story.config_map(member, "a") is None
    deleting = await story.condition("Ready", "Unknown", "Deleting")
    assert "AttachedCluster/spare" in deleting["message"]
    await fleet.start()
    await story.gone("applications", "web")
    assert await story.config_map("spare", "a") is None
    assert await story.orphans() == []


async def test_giving_up_on_a_lost_member(story: Any, fleet: LabCluster) -> None:
    """Giving up: after `member_give_up` the deletion finishes, what is left is on record, and pruned at its return."""
    repository = await started(story, member_give_up=1.0)
    await story.applied(await repository.commit_of(), LOST, *HEALTHY)
    await fleet.stop()
    await cluster_is(story, False, "ClusterUnreachable")
    await story.delete("applications", "web")
    await story.gone("applications", "web")
    (record,) = await story.orphans()
    assert (record["namespace"], record["name"]) == (story.namespace, LOST)
    assert [entry["id"] for entry in record["entries"]] == [f"{story.namespace}_a__ConfigMap"]

    await fleet.start()
    await story.no_orphans()
    assert await story.config_map("spare", "a") is None


async def test_what_was_left_goes_before_another_application_of_the_same_names_comes(
    story: Any, fleet: LabCluster
) -> None:
    """A renamed Application, whose policy keeps its name: the ClusterSyncs are called as before, too."""
    policy = {"name": "backend", "kustomization": kustomization(targetNamespace=story.namespace)}
    lost = "backend-attachedcluster-spare"
    repository = await story.git_repo({"a.yaml": config_map("a", version="1")})
    await story.start(member_breaker_min=0.5, member_breaker_max=2.0, member_give_up=1.0)
    await story.application(repository, policy)
    await story.applied(await repository.commit_of(), lost)
    await fleet.stop()
    await cluster_is(story, False, "ClusterUnreachable")
    await story.delete("applications", "web")
    await story.gone("applications", "web")
    await story.application(repository, policy, name="shop")
    await story.condition("Ready", "Unknown", name="shop")
    await fleet.start()
    await story.applied(await repository.commit_of(), lost)
    found = await story.config_map("spare", "a")
    assert found["metadata"]["labels"][APP_LABEL] == "shop"
    await story.no_orphans()


@pytest.mark.parametrize("hours", [1, -1])
async def test_class_6_a_clock_that_is_set_gives_up_no_member(
    story: Any, fleet: LabCluster, set_clock: Any, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """Trust 2, class 6: an hour that nobody has waited through is no quarter of an hour's wait."""
    looks, look = [0], Deletions._is_lost

    def counted(self: Deletions, *given: Any) -> bool:
        looks[0] += 1
        return look(self, *given)

    monkeypatch.setattr(Deletions, "_is_lost", counted)
    repository = await started(story, member_give_up=900.0)
    await story.applied(await repository.commit_of(), LOST, *HEALTHY)
    await fleet.stop()
    await cluster_is(story, False, "ClusterUnreachable")
    await story.delete("applications", "web")
    await story.gone("clustersyncs", *HEALTHY)
    set_clock(hours)
    before = looks[0]

    async def is_looked_at_again() -> bool:
        return looks[0] >= before + 2

    await story.until(is_looked_at_again)
    assert await story.sync(LOST)
    assert await story.orphans() == []
    await fleet.start()
    await story.gone("applications", "web")
    assert await story.config_map("spare", "a") is None


async def test_giving_up_at_once_where_the_kubeconfig_is_gone(story: Any) -> None:
    """Giving up: nothing can bring the way back but a new Secret; when that comes, what is left is pruned."""
    repository = await story.git_repo({"a.yaml": config_map("a")})
    await story.fleet("m1", "m2")
    await story.start(member_check_interval=0.5)
    await story.application(repository, {"targetNamespace": story.namespace})
    await story.applied(await repository.commit_of(), *HEALTHY)
    await story.delete("secrets", "m2-kubeconfig")

    async def is_refused() -> bool:
        status = (await story.hub.api.get(story.path("attachedclusters", "m2")))["status"]
        return status["conditions"][0]["reason"] == "KubeconfigMissing"

    await story.until(is_refused)
    await story.delete("applications", "web")
    await story.gone("applications", "web")
    assert await story.config_map("m1", "a") is None
    assert await story.config_map("m2", "a") is not None
    assert [record["name"] for record in await story.orphans()] == [HEALTHY[1]]

    await story.kubeconfig("m2", story.members["m2"].kubeconfig.read_bytes())

    async def is_pruned() -> bool:
        return await story.config_map("m2", "a") is None

    await story.until(is_pruned)


async def test_an_open_breaker_spares_a_dead_member(story: Any) -> None:
    """Rule 3: ten policies that retry five times a second do not become fifty connections a second."""
    connections = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        address = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await story.join(story.members["m1"], "dead")
        repository = await story.git_repo({"a.yaml": config_map("a", version="1")})
        await story.fleet("dead", "m2")
        await story.kubeconfig("dead", kubeconfig("dead", address, story.hub.ca, token="t"))
        await story.start(retry_min=0.1, retry_max=0.2, member_breaker_min=60.0, member_breaker_max=60.0)
        shared = {"interval": "1h", "path": "./", "prune": True, "targetNamespace": story.namespace}
        policies = [
            {"name": f"p{number}", "kustomization": shared | {"nameSuffix": f"-{number}"}} for number in range(10)
        ]
        await story.application(repository, *policies)
        names = [f"p{number}-attachedcluster-dead" for number in range(10)]
        for name in names:
            await story.row(name, ready="False", message="AttachedCluster/dead: ")
        before = connections
        second = await repository.commit({"a.yaml": config_map("a", version="2")})
        await story.request("2")
        await story.applied(second, *(f"p{number}-attachedcluster-m2" for number in range(10)))

        async def have_tried() -> bool:
            rows = (await story.read())["status"]["syncStatus"]
            tried = {row["name"]: row["kustomizationStatus"].get("lastAttemptedRevision", "") for row in rows}
            return all(tried[name].endswith(second) for name in names)

        await story.until(have_tried)
        # The periodic check alone looks past an open breaker.
        assert connections - before <= 3
        for name in names:
            await story.row(name, ready="False", message="AttachedCluster/dead: ")
