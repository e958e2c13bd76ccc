"""A write to a member is lost, or its answer: what happened is read, and nothing is carried out twice (class 7)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fleet_rollout.errors import Transient
from fleet_rollout.kube.access import connection_from_kubeconfig
from fleet_rollout.kube.apply import Applier, ReplicaRule
from fleet_rollout.kube.client import Cluster
from tests.faults.proxy import FaultProxy
from tests.faults.rules import Asked, CutAfter, CutBefore, CutInside, Faults, Hold, refusal

LOSSES = {"cut before": CutBefore(), "cut after": CutAfter(), "cut inside": CutInside(), "503": refusal(503)}


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
async def cluster(member: Any, settings: Any, faults: Faults) -> AsyncIterator[Cluster]:
    """The member through a fault proxy."""
    proxy = FaultProxy(member.name, member.server, member.ca, faults)
    await asyncio.to_thread(proxy.__enter__)
    kubeconfig = proxy.kubeconfig(member.kubeconfig.read_bytes())
    cluster = Cluster(connection_from_kubeconfig(member.name, kubeconfig, allow_insecure=False), settings)
    yield cluster
    await cluster.close()
    await asyncio.to_thread(proxy.__exit__, None, None, None)


def is_write(asked: Asked) -> bool:
    return bool(asked.number) and asked.key.name == "lost"


def carried_out(faults: Faults) -> list[int]:
    return [asked.status for asked in faults.writes if is_write(asked) and asked.status in (200, 201)]


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
async def test_a_write_that_is_lost_is_carried_out_once_in_the_same_pass(
    applier: Applier, make: Any, faults: Faults, apply: Any, live: Any, loss: Any
) -> None:
    for value, what in (("1", "created"), ("2", "configured")):
        before = len(carried_out(faults))
        rule = faults.when(is_write, loss)
        assert await apply(make.config_map("lost", {"a": value})) == [f"ConfigMap/{make.namespace}/lost {what}"]
        assert rule.done == 1
        assert len(carried_out(faults)) == before + 1
        assert (await live("configmaps", "lost"))["data"] == {"a": value}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
async def test_a_workload_under_a_rollout_begins_with_its_replicas(
    make: Any, faults: Faults, apply: Any, live: Any, settled: Any, loss: Any
) -> None:
    """What Git says of replicas counts once, at the beginning, whatever became of the answer."""
    faults.when(is_write, loss)
    rule = ReplicaRule("Deployment", make.namespace, "lost")
    lines = await apply(make.deployment("lost", replicas=3), replicas=rule)
    assert lines == [f"Deployment/{make.namespace}/lost created"]
    assert (await live("deployments", "lost", "apps"))["spec"]["replicas"] == 3
    await settled("lost")
    assert await apply(make.deployment("lost", replicas=3), replicas=rule) == [
        f"Deployment/{make.namespace}/lost unchanged"
    ]
    assert (await live("deployments", "lost", "apps"))["spec"]["replicas"] == 3


async def test_a_write_that_is_lost_twice_fails_the_pass(make: Any, faults: Faults, apply: Any, live: Any) -> None:
    rule = faults.when(is_write, CutBefore(), times=2)
    with pytest.raises(Transient, match="the connection was cut"):
        await apply(make.config_map("lost"))
    assert rule.done == 2
    assert await live("configmaps", "lost") is None


async def test_what_somebody_else_made_of_it_meanwhile_is_not_overwritten(
    make: Any, faults: Faults, apply: Any, member: Any, live: Any
) -> None:
    """A stranger takes the name while the write is lost: the plan that is made anew finds whose it is."""
    labels = {f"kustomize.toolkit.fluxcd.io/{part}": "theirs" for part in ("name", "namespace")}
    theirs = make.config_map("lost", {"a": "theirs"}, labels=labels)
    where = f"/api/v1/namespaces/{make.namespace}/configmaps/lost"
    loop = asyncio.get_running_loop()

    def take_the_name() -> None:
        applying = member.api.apply(where, theirs, manager="kustomize-controller")
        asyncio.run_coroutine_threadsafe(applying, loop).result(30)

    faults.when(is_write, CutBefore(then=take_the_name))
    with pytest.raises(Transient, match="belongs to Kustomization 'theirs/theirs' of Flux"):
        await apply(make.config_map("lost"))
    assert (await live("configmaps", "lost"))["data"] == {"a": "theirs"}


@pytest.mark.parametrize(("is_remade", "statuses"), [(False, [201, 409, 201]), (True, [201, 422, 200])])
async def test_a_write_that_comes_late_makes_nothing_anew(
    make: Any, faults: Faults, apply: Any, member: Any, live: Any, is_remade: bool, statuses: list[int]
) -> None:
    """What was there when it was planned, and has gone since, is made anew by a fresh look alone (class 5)."""
    await apply(make.config_map("lost", {"a": "1"}))
    hold = Hold()
    faults.when(is_write, hold)
    applying = asyncio.create_task(apply(make.config_map("lost", {"a": "2"})))
    while not hold.arrived.is_set():
        await asyncio.sleep(0.05)
    where = f"/api/v1/namespaces/{make.namespace}/configmaps"
    await member.api.delete(f"{where}/lost")
    if is_remade:
        await member.api.create(where, {"metadata": {"name": "lost"}})
    hold.release()
    what = "configured" if is_remade else "created"
    assert await applying == [f"ConfigMap/{make.namespace}/lost {what}"]
    assert [asked.status for asked in faults.writes if is_write(asked)] == statuses
    assert (await live("configmaps", "lost"))["data"] == {"a": "2"}
