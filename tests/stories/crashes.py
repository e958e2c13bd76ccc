"""Runs that are spoiled at chosen writes, by a kill, a lost or wrong answer, a stale view or another leader.

Each has to end like the undisturbed one, and on the way nothing may exist on the member that the hub does not know
of (trust.md 2, classes 1, 2, 5 and 7).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from zlib import crc32

from tests.faults.rules import Action, CutAfter, CutBefore, CutInside, refusal
from tests.stories.scenario import Object

Fault = Callable[[Any, Any], Action]  # of a run, at a write

CRASHES: dict[str, Fault] = {
    "killed before": lambda run, _: CutBefore(then=run.kill),
    "killed after": lambda run, _: CutAfter(then=run.kill),
    "cut after send": lambda run, _: CutAfter(),
}
REFUSALS: dict[str, Fault] = {
    "answered 409": lambda run, _: refusal(409),
    "refused or cut": lambda run, point: refused_or_cut(point),
}
RESTARTS: dict[str, Fault] = {
    "stale restart": lambda run, _: CutAfter(then=run.kill_to_stale),
}
# The process is stopped with the write on the wire, another leads, and the first goes on (class 5).
SUSPENSIONS: dict[str, Fault] = {
    "leader suspended": lambda run, _: run.suspension(),
}
FAULTS = CRASHES | REFUSALS | RESTARTS | SUSPENSIONS
RESTARTING = frozenset({"killed before", "killed after", "stale restart"})


def refused_or_cut(point: object) -> Action:
    """With 410, 429, 500 or 503, before it is sent on or inside its answer; at each write with another."""
    refusals = (refusal(410), refusal(429, retry_after=1), refusal(500), refusal(503, retry_after=1))
    answers: tuple[Action, ...] = (*refusals, CutBefore(), CutInside())
    return answers[crc32(str(point).encode()) % len(answers)]


async def undisturbed(run: Any) -> Any:
    async with run.running():
        await run.play(None)
    run.check()
    return run


async def spoiled(run: Any, fault: str, points: Sequence[Any], wanted: list[Object]) -> str | None:
    """What went wrong in a run with `fault` at each of `points`, or None."""
    rules = [run.faults.when(run.is_write(point), FAULTS[fault](run, point), nth=run.nth(point)) for point in points]
    try:
        async with run.running():
            await run.endure(wanted)
        run.check()
        missed = [point for point, rule in zip(points, rules, strict=True) if not rule.done]
        assert all(run.is_timed(point) for point in missed), f"these writes did not come: {missed}"
        done = sum(rule.done for rule in rules)
        # Two writes may be under way when the controller is killed at one of them.
        expected = range(min(done, 1), done + 1) if fault in RESTARTING else range(1)
        assert run.restarts in expected, "the controller ended by itself"
        is_stale = any(asked.is_of_the_past for asked in run.faults.log)
        assert is_stale == bool(fault in RESTARTS and done), "the new process saw the present"
    except AssertionError as error:
        return f"{fault} {points}: {error}"
    return None
