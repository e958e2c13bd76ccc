"""The controller is killed before and after every write of a sync, and loses the answer of every write.

One undisturbed run says which writes there are and how everything ends. Then each write in turn is spoiled, in a
run of its own, with a fresh namespace, repository and process, which has to end like the undisturbed one.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.stories.crashes import CRASHES, spoiled, undisturbed
from tests.stories.replicas import Launcher
from tests.stories.scenario import Point, Run

AT_ONCE = 3


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


@pytest.mark.timeout(1800)  # some thirty runs: on a machine that is busy with other things they take minutes
@pytest.mark.parametrize("fault", CRASHES)
async def test_after_a_crash_at_any_write_everything_ends_as_without(new_run: Any, fault: str) -> None:
    """Part 13; "killed before and after every write of a sync, and cut after send, ends as an undisturbed run"."""
    model = await undisturbed(await new_run())
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(point: Point) -> str | None:
        async with turn:
            return await spoiled(await new_run(), fault, [point], model.pictures)

    failures = await asyncio.gather(*map(one, model.points()))
    assert not any(failures), "\n\n".join(filter(None, failures))
