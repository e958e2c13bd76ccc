"""Ticks lie on a grid: a restart adds none, missed ones collapse into one."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_rollout.decide.canary.grid import Grid, moment
from fleet_rollout.decide.canary.subject import Subject

TIMES = st.floats(0, 1e6)


@pytest.mark.parametrize(
    ("now", "due"),
    [(100.0, 100.0), (100.1, 110.0), (110.0, 110.0), (119.9, 120.0), (90.0, 100.0)],
)
def test_the_next_tick_is_the_next_point_of_the_grid(now: float, due: float) -> None:
    assert Grid(100.0, 10.0).due_from(now) == due


@pytest.mark.parametrize(
    ("now", "due"),
    [(100.5, 110.0), (109.9, 110.0), (110.0, 110.0), (134.0, 140.0)],
    ids=["in time", "just in time", "late by one", "three missed"],
)
def test_missed_ticks_are_one(now: float, due: float) -> None:
    assert Grid(100.0, 10.0).after(100.0, now) == due


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1m30s", 90.0), ("9000000000s", 9e9), ("10000000000s", 60.0), ("9" * 400 + "m", 60.0)],
)
def test_an_interval_that_go_cannot_count_is_the_default(text: str, seconds: float) -> None:
    """The schema lets it through, and a grid without end is ticked all the time."""
    raw = {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"analysis": {"interval": text}}}
    assert Subject(raw).interval == seconds


def test_an_edited_interval_begins_a_grid_of_its_own() -> None:
    grid = Grid(100.0, 10.0)
    assert grid.edited(10.0, 123.0) is grid
    assert grid.edited(5.0, 123.0) == Grid(123.0, 5.0)


@given(TIMES, TIMES, st.floats(0.1, 3600))
def test_a_restart_finds_the_same_points(anchor: float, now: float, interval: float) -> None:
    grid = Grid(anchor, interval)
    due = grid.due_from(now)
    assert due >= min(now, anchor) - 1e-6
    assert due - max(now, anchor) <= interval + 1e-6
    assert abs(round((due - anchor) / interval) - (due - anchor) / interval) < 1e-6


def test_what_a_second_has_created_is_spread_over_it() -> None:
    moments = sorted(moment(f"uid-{number}") for number in range(1000))
    assert 0 <= moments[0] < 0.01 < 0.99 < moments[-1] < 1
    assert max(after - before for before, after in pairwise(moments)) < 0.02
    assert moment("uid-1") == moment("uid-1")
