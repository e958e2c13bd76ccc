"""Runs that are spoiled at chosen writes, by a kill, a lost or wrong answer, a stale view or another leader.

Each has to end like the undisturbed one, and on the way nothing may exist on the member that the hub does not know
of (trust.md 2, classes 1, 2, 5 and 7).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tests.faults.rules import Action, CutAfter, CutBefore, refusal
from tests.stories.scenario import Object

CRASHES: dict[str, Callable[[Any], Action]] = {
    "killed before": lambda run: CutBefore(then=run.kill),
    "killed after": lambda run: CutAfter(then=run.kill),
    "cut after send": lambda run: CutAfter(),
}
REFUSALS: dict[str, Callable[[Any], Action]] = {
    "answered 409": lambda run: refusal(409),
    "answered 500": lambda run: refusal(500),
}
RESTARTS: dict[str, Callable[[Any], Action]] = {
    "stale restart": lambda run: CutAfter(then=run.kill_to_stale),
}
# The process is stopped with the write on the wire, another leads, and the first goes on (class 5).
SUSPENSIONS: dict[str, Callable[[Any], Action]] = {
    "leader suspended": lambda run: run.suspension(),
}
FAULTS = CRASHES | REFUSALS | RESTARTS | SUSPENSIONS
RESTARTING = frozenset({"killed before", "killed after", "stale restart"})


async def undisturbed(run: Any) -> Any:
    async with run.running():
        await run.play(None)
    run.check()
    return run


async def spoiled(run: Any, fault: str, points: Sequence[Any], wanted: list[Object]) -> str | None:
    """What went wrong in a run with `fault` at each of `points`, or None."""
    rules = [run.faults.when(run.is_write(point), FAULTS[fault](run), nth=run.nth(point)) for point in points]
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
    except AssertionError as error:
        return f"{fault} {points}: {error}"
    return None
