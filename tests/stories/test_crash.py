"""The controller is killed before and after every write of a sync, and loses the answer of every write.

One undisturbed run says which writes there are and how everything ends. Then each write in turn is spoiled, in a
run of its own, with a fresh namespace, repository and process. The run has to end like the undisturbed one, and on the
way nothing may exist on the member that the hub does not know of (trust.md 2, classes 1 and 7).
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.faults.rules import Asked, CutAfter, CutBefore
from tests.stories.replicas import Launcher
from tests.stories.scenario import Object, Point, Run, proxied

AT_ONCE = 3
FAULTS = {
    "killed before": lambda run: CutBefore(then=run.kill),
    "killed after": lambda run: CutAfter(then=run.kill),
    "cut after send": lambda run: CutAfter(),
}
# How often these are written depends on timing, so that the later ones need not come in every run.
TIMED = ("hub patch applications/status", "hub patch attachedclusters/status")


@pytest.fixture
async def launcher(tmp_path: Path) -> Any:
    made = Launcher(tmp_path)
    yield made
    await made.close()


@pytest.fixture
def new_run(
    crds: None, hub: Any, member: Any, namespace: Any, git_repo: Any, launcher: Launcher, tmp_path: Path
) -> Any:
    async def make() -> Run:
        name = await namespace("crash", on=[hub])
        return Run(hub, member, name, tmp_path / name, launcher, git_repo)

    return make


async def undisturbed(run: Run) -> Run:
    async with proxied(run):
        await run.play(None)
    run.check()
    return run


async def spoiled(run: Run, fault: str, point: Point, wanted: list[Object]) -> str | None:
    """What went wrong in a run with `fault` at `point`, or None."""

    def is_point(asked: Asked) -> bool:
        return bool(asked.number) and run.key(asked) == point.key

    rule = run.faults.when(is_point, FAULTS[fault](run), nth=point.nth)
    try:
        async with proxied(run):
            await guarded(run.play(wanted), run.revive())
        run.check()
        assert rule.done or point.key.startswith(TIMED), "this write did not come"
        assert run.restarts == (rule.done if "killed" in fault else 0), "the controller ended by itself"
    except AssertionError as error:
        return f"{fault} {point}: {error}"
    return None


async def guarded(work: Any, watch: Any) -> None:
    """Do `work`; what `watch` raises meanwhile ends it."""
    tasks = [asyncio.create_task(work), asyncio.create_task(watch)]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in done:
        task.result()


@pytest.mark.timeout(1800)  # some thirty runs: on a machine that is busy with other things they take minutes
@pytest.mark.parametrize("fault", FAULTS)
async def test_after_a_crash_at_any_write_everything_ends_as_without(new_run: Any, fault: str) -> None:
    """Part 13; "killed before and after every write of a sync, and cut after send, ends as an undisturbed run"."""
    model = await undisturbed(await new_run())
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(point: Point) -> str | None:
        async with turn:
            return await spoiled(await new_run(), fault, point, model.pictures)

    failures = await asyncio.gather(*map(one, model.points()))
    assert not any(failures), "\n\n".join(filter(None, failures))
