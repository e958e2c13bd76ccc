"""The canary engine is killed before and after every write of a rollout, and loses the answer of every write.

One undisturbed run says which writes there are and how everything ends. Then each write is spoiled, a few that are far
apart in one run, and everything has to end as in the undisturbed run (trust.md 2, classes 1 and 7).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from fleet_rollout.control.engine import sight
from fleet_rollout.lab.lab import LabCluster
from tests.rooms.traffic.conftest import crds as meshes
from tests.rooms.traffic.conftest import member
from tests.stories.crashes import CRASHES, spoiled, undisturbed
from tests.stories.engine_run import PROMOTION, ROLLBACK, Act, Run

__all__ = ["member", "meshes"]

AT_ONCE = 8
NewRun = Callable[[Sequence[Act]], Awaitable[Run]]


@pytest.fixture
async def new_run(meshes: Any, namespace: Any, monkeypatch: pytest.MonkeyPatch) -> NewRun:
    monkeypatch.setattr(sight, "REWATCH_DELAY", 0.05)
    cluster: LabCluster = await meshes("istio")
    await cluster.kubectl("apply", "--server-side", "--force-conflicts", "-k", "config/crd/member")
    await cluster.crds_established()

    async def make(acts: Sequence[Act]) -> Run:
        return Run(cluster, await namespace("crash", on=[cluster]), acts)

    return make


async def all_spoiled(new_run: NewRun, model: Run, points: Sequence[str], apart: int) -> None:
    """Each write once with each fault; in one run are those that lie `apart` writes from each other."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(fault: str, chosen: Sequence[str]) -> str | None:
        async with turn:
            return await spoiled(await new_run(model.acts), fault, chosen, model.pictures)

    runs = [one(fault, points[first::apart]) for first in range(apart) for fault in CRASHES]
    failures = await asyncio.gather(*runs)
    assert not any(failures), "\n\n".join(filter(None, failures))


@pytest.mark.timeout(1800)  # on a machine that is busy with other things
async def test_after_a_crash_at_any_write_a_promotion_ends_as_without(new_run: NewRun) -> None:
    model = await undisturbed(await new_run(PROMOTION))
    await all_spoiled(new_run, model, model.points(), apart=8)


@pytest.mark.timeout(1800)
async def test_after_a_crash_at_any_write_a_rollback_ends_as_without(new_run: NewRun) -> None:
    """The first act is the promotion's, and was spoiled there."""
    model = await undisturbed(await new_run(ROLLBACK))
    (begun,) = (number for number, write in enumerate(model.points()) if "Initialized" in write)
    await all_spoiled(new_run, model, model.points()[begun + 1 :], apart=3)
