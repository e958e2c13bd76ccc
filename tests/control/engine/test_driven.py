"""What one Canary's ticks do when the engine ends, and when another engine is at work on the Canary."""

from __future__ import annotations

import asyncio
from typing import Any

from fleet_rollout.control.engine.driven import Driven
from fleet_rollout.control.engine.engine import Engine
from fleet_rollout.control.engine.sight import Sight
from fleet_rollout.decide.canary.subject import EngineOptions, Subject
from fleet_rollout.kube.client import Cluster, Event
from fleet_rollout.lab.lab import LabCluster
from fleet_rollout.settings import Settings
from tests.control.engine.scripted import Script
from tests.control.engine.test_engine import FAST, Place, canary, deployment


def seen(version: int, phase: str, manager: str) -> dict[str, Any]:
    """A Canary as a watch shows it after `manager` has written its status."""
    raw = canary("test")
    writer = {"manager": manager, "subresource": "status", "time": f"2026-01-01T00:00:0{version}Z"}
    raw["metadata"] |= {
        "uid": "1",
        "resourceVersion": str(version),
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [writer],
    }
    return raw | {"status": {"phase": phase}}


def test_another_engine_is_told_once_where_people_look(script: Script) -> None:
    """A hub also shows it in the ClusterSync; of an agent there would be nothing but silence."""
    driven = Driven(None, None, script, EngineOptions, seen(1, "Initialized", "fleet-rollout-canary"))  # type: ignore[arg-type]
    for version, phase in enumerate(("Progressing", "Promoting", "Succeeded"), start=2):
        driven.show(seen(version, phase, "flagger"))
    assert script.events == [
        "flagger writes the status of Canary test/web, too; "
        "stop it, or annotate the Canary with apps.kurator.dev/engine: flagger"
    ]


def test_a_write_of_ours_whose_answer_was_lost_is_not_the_engine_s_before_us(script: Script) -> None:
    """A Canary that was taken over keeps Flagger's entry, and the watch is the first to tell what we have written."""
    before, after = seen(1, "Initialized", "flagger"), seen(2, "Progressing", "fleet-rollout-canary")
    after["metadata"]["managedFields"] += before["metadata"]["managedFields"]
    driven = Driven(None, None, script, EngineOptions, before)  # type: ignore[arg-type]
    driven.show(after)
    assert driven.rival is None
    assert script.events == []


def test_in_the_second_of_a_write_of_ours_another_engine_is_noticed(script: Script) -> None:
    before, after = seen(1, "Progressing", "fleet-rollout-canary"), seen(2, "Failed", "flagger")
    ours = before["metadata"]["managedFields"][0]
    after["metadata"]["managedFields"] = [ours, {**ours, "manager": "flagger"}]
    driven = Driven(None, None, script, EngineOptions, before)  # type: ignore[arg-type]
    driven.show(after)
    assert driven.rival == "flagger"


def test_of_a_canary_at_rest_no_managed_fields_are_kept(script: Script) -> None:
    driven = Driven(None, None, script, EngineOptions, seen(1, "Initialized", "flagger"))  # type: ignore[arg-type]
    assert "managedFields" not in driven.raw["metadata"]
    driven.show(seen(2, "Initialized", "flagger"))
    assert "managedFields" not in driven.raw["metadata"]


class Counted(Driven):
    """Tells of its ticks, and does nothing in them."""

    async def tick(self) -> None:
        self.ticks.put_nowait(self._clock())

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.ticks: asyncio.Queue[float] = asyncio.Queue()


async def test_an_edited_interval_does_not_wait_for_the_end_of_the_old_one(script: Script) -> None:
    """An hour until the next tick becomes a moment, and the ticks that follow lie on the new grid."""
    before, after = (seen(version, "Progressing", "fleet-rollout-canary") for version in (1, 2))
    before["spec"] = {**before["spec"], "analysis": {"interval": "1h"}}
    after["spec"] = {**after["spec"], "analysis": {"interval": "1s"}}
    after["metadata"]["generation"] = 2
    driven = Counted(None, None, script, lambda: EngineOptions(shortest_interval=0.1), before)
    running = asyncio.create_task(driven.run())
    await asyncio.sleep(0)
    driven.show(after)
    try:
        async with asyncio.timeout(30):
            first, second = await driven.ticks.get(), await driven.ticks.get()
    finally:
        running.cancel()
    assert 0.9 <= second - first <= 5


class Begun(Driven):
    """Tells of its ticks, and does nothing in them."""

    begun = 0

    async def _tick(self) -> Any:
        self.begun += 1


async def test_no_canary_is_judged_by_defaults_that_nobody_means(script: Script) -> None:
    """After a restart without the Fleet. What is being deleted is let go all the same."""
    are_known = False
    raw = seen(1, "Progressing", "fleet-rollout-canary")
    driven = Begun(None, None, script, lambda: EngineOptions(are_known=are_known), raw)  # type: ignore[arg-type]
    await driven.tick()
    assert driven.begun == 0
    raw["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    await driven.tick()
    assert driven.begun == 1
    del raw["metadata"]["deletionTimestamp"]
    are_known = True
    await driven.tick()
    assert driven.begun == 2


class Slow(Script):
    """Its gate takes as long as the test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.answered = asyncio.Event(), asyncio.Event()

    async def call(self, *_: Any) -> str | None:
        self.asked.set()
        await self.answered.wait()
        return "closed"


class Measured(Slow):
    """Its metric takes as long; it knows whom there are series of."""

    def __init__(self) -> None:
        super().__init__()
        self.series: set[str] = set()

    async def measure(self, *_: Any) -> str | None:
        return await self.call()

    def spent(self, subject: Subject, seconds: float) -> None:
        self.series.add(subject.full_name)

    def forget(self, subject: Subject) -> None:
        self.series.discard(subject.full_name)


async def test_nothing_is_kept_of_a_canary_that_goes_while_its_tick_is_under_way(
    member: LabCluster, member_client: Cluster, place: Any, eventually: Any
) -> None:
    there, script, sight = Place(member, await place()), Measured(), Sight(member_client, Settings())
    await there.apply(deployment(there.namespace), "deployments")
    wanted = canary(there.namespace, metrics=[{"name": "errors", "query": "1"}])
    wanted["spec"]["revertOnDeletion"] = True  # the Canary itself is written, too
    await there.apply(wanted, "canaries")
    path = f"/apis/flagger.app/v1beta1/namespaces/{there.namespace}/canaries/web"
    engine = Engine("hub", member_client, sight, script, lambda: FAST, lambda: True)

    async def is_initialized() -> bool:
        return (await there.status()).get("phase") == "Initialized"

    try:
        engine.told(Event("ADDED", await member.api.get(path)))
        await eventually(is_initialized)
        await there.apply(deployment(there.namespace, "example.com/web:2"), "deployments")
        async with asyncio.timeout(60):
            await script.asked.wait()
        ((running,), (driven,)) = (engine._tasks.values(), engine._driven.values())
        assert "managedFields" not in driven.raw["metadata"]
        engine.told(Event("DELETED", await member.api.get(path)))
        await asyncio.wait([running])
        assert script.series == set()
        assert sight._used == {}
        assert sight._seen == {}
    finally:
        await engine.close()
        await there.api.merge(path, {"metadata": {"finalizers": None}})


async def test_another_engine_that_writes_during_a_tick_is_noticed(
    member: LabCluster, member_client: Cluster, place: Any, eventually: Any
) -> None:
    """The tick itself finds what has been written, before the watch has told of it."""
    there, script = Place(member, await place()), Slow()
    gates = [{"name": "gate", "type": "confirm-rollout", "url": "http://gate/"}]
    await there.apply(deployment(there.namespace), "deployments")
    await there.apply(canary(there.namespace, webhooks=gates), "canaries")
    path = f"/apis/flagger.app/v1beta1/namespaces/{there.namespace}/canaries/web"
    engine = Engine("hub", member_client, Sight(member_client, Settings()), script, lambda: FAST, lambda: True)

    async def is_initialized() -> bool:
        return (await there.status()).get("phase") == "Initialized"

    async def is_told() -> bool:
        return any("flagger writes the status of Canary" in message for message in script.events)

    try:
        engine.told(Event("ADDED", await member.api.get(path)))
        await eventually(is_initialized)
        await there.apply(deployment(there.namespace, "example.com/web:2"), "deployments")
        async with asyncio.timeout(60):
            await script.asked.wait()
        await member.api.request(
            "PATCH",
            f"{path}/status",
            {"status": {**(await there.status()), "phase": "Progressing", "canaryWeight": 10}},
            params={"fieldManager": "flagger"},
            content_type="application/merge-patch+json",
        )
        script.answered.set()
        await eventually(is_told)
        assert (await there.status())["canaryWeight"] == 10
    finally:
        await engine.close()


async def test_a_rollout_that_is_just_beginning_is_not_let_go(
    member: LabCluster, member_client: Cluster, place: Any, eventually: Any
) -> None:
    """The Fleet leaves plain Canaries to others while a tick is at the first gate of a new version."""
    there, script, adopts = Place(member, await place()), Slow(), [True]
    gates = [{"name": "gate", "type": "confirm-rollout", "url": "http://gate/"}]
    await there.apply(deployment(there.namespace), "deployments")
    await there.apply(canary(there.namespace, webhooks=gates), "canaries")
    path = f"/apis/flagger.app/v1beta1/namespaces/{there.namespace}/canaries/web"
    engine = Engine("hub", member_client, Sight(member_client, Settings()), script, lambda: FAST, lambda: adopts[0])

    async def is_initialized() -> bool:
        return (await there.status()).get("phase") == "Initialized"

    async def is_waiting() -> bool:
        return (await there.status()).get("phase") == "Waiting"

    try:
        engine.told(Event("ADDED", await member.api.get(path)))
        await eventually(is_initialized)
        await there.apply(deployment(there.namespace, "example.com/web:2"), "deployments")
        async with asyncio.timeout(60):
            await script.asked.wait()
        adopts[0] = False
        engine.let_go(None)
        assert engine.is_finishing
        script.answered.set()
        await eventually(is_waiting)
        engine.let_go(None)
        assert engine.namespaces == {there.namespace}
    finally:
        await engine.close()


async def test_an_engine_that_ends_finishes_the_tick_under_way_and_begins_no_other(
    member: LabCluster, member_client: Cluster, place: Any, eventually: Any
) -> None:
    there, script = Place(member, await place()), Slow()
    gates = [{"name": "gate", "type": "confirm-rollout", "url": "http://gate/"}]
    await there.apply(deployment(there.namespace), "deployments")
    await there.apply(canary(there.namespace, webhooks=gates), "canaries")
    path = f"/apis/flagger.app/v1beta1/namespaces/{there.namespace}/canaries/web"
    engine = Engine("hub", member_client, Sight(member_client, Settings()), script, lambda: FAST, lambda: True)

    async def phase_is(phase: str) -> None:
        async def check() -> bool:
            return (await there.status()).get("phase") == phase

        await eventually(check)

    try:
        engine.told(Event("ADDED", await member.api.get(path)))
        await phase_is("Initialized")
        await there.apply(deployment(there.namespace, "example.com/web:2"), "deployments")
        async with asyncio.timeout(60):
            await script.asked.wait()
        finishing = asyncio.create_task(engine.finish())
        await asyncio.sleep(0)
        assert not finishing.done()
        script.asked.clear()
        script.answered.set()
        async with asyncio.timeout(60):
            await finishing
        assert (await there.status())["phase"] == "Waiting"
        engine.told(Event("ADDED", await member.api.get(path)))
        engine.reconsider()
        await asyncio.sleep(2 * FAST.shortest_interval)
        assert not script.asked.is_set()
    finally:
        await engine.close()
