"""Runs whose controller is killed, or loses answers, at chosen writes: each has to end like the undisturbed one.

On the way nothing may exist on the member that the hub does not know of (trust.md 2, classes 1 and 7).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from tests.faults.rules import Asked, CutAfter, CutBefore
from tests.stories.scenario import Object, Point, Run, proxied

FAULTS = {
    "killed before": lambda run: CutBefore(then=run.kill),
    "killed after": lambda run: CutAfter(then=run.kill),
    "cut after send": lambda run: CutAfter(),
}
# How often these are written depends on timing, so that the later ones need not come in every run.
TIMED = ("hub patch applications/status", "hub patch attachedclusters/status")


async def undisturbed(run: Run) -> Run:
    async with proxied(run):
        await run.play(None)
    run.check()
    return run


async def spoiled(run: Run, fault: str, points: Sequence[Point], wanted: list[Object]) -> str | None:
    """What went wrong in a run with `fault` at each of `points`, or None."""
    rules = [run.faults.when(is_write(run, point), FAULTS[fault](run), nth=point.nth) for point in points]
    try:
        async with proxied(run):
            await guarded(run.play(wanted), run.revive())
        run.check()
        missed = [point for point, rule in zip(points, rules, strict=True) if not rule.done]
        assert all(point.key.startswith(TIMED) for point in missed), f"these writes did not come: {missed}"
        done = sum(rule.done for rule in rules)
        # Two writes may be under way when the controller is killed at one of them.
        expected = range(min(done, 1), done + 1) if "killed" in fault else range(1)
        assert run.restarts in expected, "the controller ended by itself"
    except AssertionError as error:
        return f"{fault} {points}: {error}"
    return None


def is_write(run: Run, point: Point) -> Callable[[Asked], bool]:
    return lambda asked: bool(asked.number) and run.act == point.act and run.key(asked) == point.key


async def guarded(work: Coroutine[Any, Any, None], watch: Coroutine[Any, Any, None]) -> None:
    """Do `work`; what `watch` raises meanwhile ends it."""
    tasks = [asyncio.create_task(work), asyncio.create_task(watch)]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in done:
        task.result()
