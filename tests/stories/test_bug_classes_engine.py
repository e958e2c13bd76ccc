"""Classes 3 and 4 of trust.md 2 for the engine: what its watches tell comes late, or is lost with its connection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import groupby

import pytest

from tests.faults.rules import Action, Lag, lost_once
from tests.stories.crashes import undisturbed
from tests.stories.engine_run import PROMOTION, Run, point
from tests.stories.test_engine_crash import NewRun, member, meshes, new_run

__all__ = ["member", "meshes", "new_run"]

LATE = 3.0  # fifteen ticks of the engine


def course(run: Run) -> list[str]:
    """What the routes said, one after the other."""
    said = (point(asked) for asked in run.faults.writes if asked.key.resource.startswith("virtualservices"))
    return [each for each, _ in groupby(said)]


@pytest.mark.parametrize("told", [lambda: Lag(LATE), lost_once], ids=["class_3_late", "class_4_lost_once"])
async def test_watches_that_tell_late_or_break_change_nothing(new_run: NewRun, told: Callable[[], Action]) -> None:
    """It ends as without, nothing is made twice, and no weight goes back."""
    model, run = await undisturbed(await new_run(PROMOTION)), await new_run(PROMOTION)
    run.faults.on(told(), times=None, verb="watch")
    async with run.running():
        await run.play(model.pictures)
    run.check()
    created = Counter(asked.key for asked in run.faults.writes if asked.key.verb == "create" and asked.status == 201)
    assert set(created.values()) == {1}
    assert course(run) == course(model)
