"""A wall clock that is set an hour forward or back: no tick is lost or doubled, no deadline passes before its time.

Trust.md 2, class 6.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleet_rollout.control.engine.driven import Driven
from fleet_rollout.control.engine.sight import Sight
from fleet_rollout.control.engine.steady import SteadyTime
from fleet_rollout.decide.canary.subject import EngineOptions
from fleet_rollout.lab.lab import LabCluster
from fleet_rollout.settings import Settings
from tests.control.engine.scene import BY_ITERATIONS, Scene
from tests.control.engine.scripted import Script
from tests.control.engine.test_driven import seen

HOUR = 3600.0
DEADLINE = 600.0
INTERVAL = 0.2
START = datetime(2026, 1, 1, tzinfo=UTC)


class Clocks:
    """A wall clock that may be set, and one that never goes back."""

    def __init__(self) -> None:
        self.set_by = 0.0
        self.passed = 0.0

    def wall(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.set_by + self.passed)

    def clock(self) -> float:
        return time.monotonic() + self.passed


class Ticking(Driven):
    """Tells of its ticks, and does nothing in them."""

    def __init__(self, clocks: Clocks, script: Script, raw: Any) -> None:
        options = EngineOptions(shortest_interval=INTERVAL)
        super().__init__(None, None, script, lambda: options, raw, wall=clocks.wall, clock=clocks.clock)  # type: ignore[arg-type]
        self.ticks: asyncio.Queue[float] = asyncio.Queue()

    async def tick(self) -> None:
        self.ticks.put_nowait(time.monotonic())


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
async def test_ticks_go_on_as_if_nothing_had_been_set(script: Script, seconds: float) -> None:
    raw = seen(1, "Progressing", "fleet-rollout-canary")
    raw["spec"]["analysis"]["interval"] = "0s"
    clocks = Clocks()
    driven = Ticking(clocks, script, raw)
    running = asyncio.create_task(driven.run())
    try:
        async with asyncio.timeout(30):
            times = [await driven.ticks.get(), await driven.ticks.get()]
            clocks.set_by = seconds
            times += [await driven.ticks.get() for _ in range(3)]
    finally:
        running.cancel()
    gaps = [late - early for early, late in itertools.pairwise(times)]
    assert len(times) <= (times[-1] - times[0]) / INTERVAL + 2, times  # one that was late is no more than late
    assert max(gaps) < HOUR / 100


def test_a_canary_from_the_future_is_looked_at_all_the_same(script: Script) -> None:
    """Created by a clock that was ahead of ours."""
    clocks = Clocks()
    clocks.set_by = -HOUR
    raw = seen(1, "Progressing", "fleet-rollout-canary")
    raw["metadata"]["creationTimestamp"] = datetime.now(UTC).isoformat()
    driven = Ticking(clocks, script, raw)
    assert driven._grid.due_from(clocks.clock()) - clocks.clock() <= 1.0


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([(10, 10), (20, 20)], 20),
        ([(10, 10), (20, 20 + HOUR)], 20),
        ([(10, 10 + HOUR), (10 + DEADLINE, 10 + HOUR + DEADLINE)], 10 + HOUR + DEADLINE),
        ([(10, 10 + HOUR), (DEADLINE, HOUR + DEADLINE)], DEADLINE),
        ([(10, 10 + HOUR), (20, 20), (DEADLINE + 20, DEADLINE + 20 + HOUR)], DEADLINE + 20),
        ([(10, 10 - HOUR)], 10 - HOUR),
        ([(10, 10 - HOUR), (20, 20)], 20 - HOUR),
        ([(10, 14), (20, 28)], 28),
    ],
    ids=["plain", "forward", "believed", "not yet", "taken back", "back", "back and forth", "drift"],
)
def test_the_time_of_deadlines(looks: list[tuple[float, float]], expected: float) -> None:
    """Each look is at what the two clocks say, in seconds since the start."""
    said = iter([(0.0, 0.0), *looks])
    clock, wall = 0.0, 0.0

    def look() -> datetime:
        nonlocal clock, wall
        clock, wall = next(said)
        return START + timedelta(seconds=wall)

    steady = SteadyTime(look, lambda: clock)
    found = [steady.now(DEADLINE) for _ in looks]
    assert (found[-1] - START).total_seconds() == expected


def test_each_is_as_patient_as_it_waits() -> None:
    """Of two that ask the same, one waits for a minute and one for a quarter of an hour."""
    clock, set_by = 0.0, 0.0
    steady = SteadyTime(lambda: START + timedelta(seconds=clock + set_by), lambda: clock)

    def says(patience: float) -> float:
        return (steady.now(patience) - START).total_seconds()

    clock, set_by = 10.0, HOUR
    assert (says(60), says(900)) == (10, 10)
    clock = 100.0
    assert (says(60), says(900)) == (HOUR + 100, 100)
    set_by = 2 * HOUR
    assert (says(60), says(900)) == (HOUR + 100, 100)
    clock = 911.0
    assert (says(60), says(900)) == (2 * HOUR + 911, HOUR + 911)
    clock = 1001.0
    assert (says(60), says(900)) == (2 * HOUR + 1001, 2 * HOUR + 1001)


async def test_a_clock_that_is_set_passes_no_deadline(place: Any, member: LabCluster, script: Script) -> None:
    scene = Scene(member, await place())
    await scene.bring(iterations=9)
    await scene.until("Initialized")
    await scene.release("example.com/web:missing")
    await scene.until("Progressing")
    async with asyncio.timeout(60):
        while not await _is_unavailable(scene):
            await asyncio.sleep(0.1)
    clocks = Clocks()
    sight = Sight(scene.cluster, Settings())
    driven = Driven(
        scene.cluster,
        sight,
        script,
        lambda: BY_ITERATIONS,
        await scene.api.get(scene.path()),
        wall=clocks.wall,
        clock=clocks.clock,
    )

    async def phase_after_a_tick() -> str:
        await driven.tick()
        return str((await scene.status_of())["phase"])

    for clocks.set_by in (0.0, HOUR, 0.0, -HOUR, 0.0):
        assert await phase_after_a_tick() == "Progressing"
        assert "not ready: waiting for rollout to finish" in script.events[-1]
    assert (await scene.status_of())["failedChecks"] == 0
    clocks.passed = 2 * HOUR
    assert await phase_after_a_tick() == "Failed"
    await sight.close()
    await scene.close()


async def _is_unavailable(scene: Scene) -> bool:
    found = await scene.api.get(f"/apis/apps/v1/namespaces/{scene.namespace}/deployments/web")
    conditions = {each["type"]: each for each in (found.get("status") or {}).get("conditions") or []}
    return conditions.get("Available", {}).get("reason") == "MinimumReplicasUnavailable"
