"""Whose a Canary is, and how another engine at work is noticed."""

from __future__ import annotations

from typing import Any

import pytest

from fleet_rollout.decide.canary.claim import (
    conflict,
    engine_named,
    is_kept,
    is_ours,
    is_to_finish,
    is_under_way,
    rival,
    wrote_at,
)


def canary(engine: str | None = None, phase: str = "Progressing", **writers: str) -> dict[str, Any]:
    annotations = {"apps.kurator.dev/engine": engine} if engine else None
    entries = [{"manager": name, "time": time, "subresource": "status"} for name, time in writers.items()]
    metadata = {"name": "web", "namespace": "shop", "annotations": annotations, "managedFields": entries}
    return {"metadata": metadata, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("engine", "adopts", "ours"),
    [
        ("hub", False, True),
        ("agent", True, False),
        ("flagger", True, False),
        (None, False, False),
        (None, True, True),
    ],
)
def test_the_annotation_says_whose_it_is(engine: str | None, adopts: bool, ours: bool) -> None:
    assert is_ours(canary(engine), "hub", adopts_plain=adopts) is ours


def test_another_engine_that_writes_the_status_is_named() -> None:
    now = canary(phase="Failed", **{"fleet-rollout-canary": "2026-01-01T00:00:01Z", "flagger": "2026-01-01T00:00:02Z"})
    assert rival(canary(), now, "") == "flagger"


def test_the_last_of_several_writers_is_meant() -> None:
    now = canary(phase="Failed", one="2026-01-01T00:00:03Z", other="2026-01-01T00:00:02Z")
    assert rival(canary(), now, "") == "one"


@pytest.mark.parametrize(
    "now",
    [
        canary(flagger="2026-01-01T00:00:02Z"),
        canary(phase="Failed", **{"kubectl-edit": "2026-01-01T00:00:02Z"}),
        canary(phase="Failed", **{"fleet-rollout-canary": "2026-01-01T00:00:02Z"}),
        canary(phase="Failed", **{"flagger": "2026-01-01T00:00:01Z", "fleet-rollout-canary": "2026-01-01T00:00:02Z"}),
        canary(phase="Failed", **{"flagger": "2026-01-01T00:00:02Z", "fleet-rollout-canary": "2026-01-01T00:00:02Z"}),
    ],
    ids=["nothing said", "a person", "ourselves", "ourselves, after a takeover", "ourselves, within the same second"],
)
def test_no_rival(now: dict[str, Any]) -> None:
    assert rival(canary(), now, "") is None


@pytest.mark.parametrize(
    ("wrote", "named"),
    [("2026-01-01T00:00:02Z", "flagger"), ("2026-01-01T00:00:01Z", None)],
    ids=["ours is known", "ours is new, its answer lost"],
)
def test_in_one_second_it_is_whoever_has_written_since(wrote: str, named: str | None) -> None:
    both = {"flagger": "2026-01-01T00:00:02Z", "fleet-rollout-canary": "2026-01-01T00:00:02Z"}
    assert rival(canary(), canary(phase="Failed", **both), wrote) == named


@pytest.mark.parametrize(
    ("writers", "when"),
    [
        ({}, ""),
        ({"flagger": "2026-01-01T00:00:02Z"}, ""),
        ({"flagger": "2026-01-01T00:00:02Z", "fleet-rollout-canary": "2026-01-01T00:00:01Z"}, "2026-01-01T00:00:01Z"),
    ],
)
def test_when_an_engine_of_ours_wrote(writers: dict[str, str], when: str) -> None:
    assert wrote_at(canary(**writers)) == when


def test_the_conflict_names_canary_writer_and_fix() -> None:
    text = conflict(canary(), "flagger")
    assert text.startswith("flagger writes the status of Canary shop/web, too; stop it")
    assert "apps.kurator.dev/engine: flagger" in text


@pytest.mark.parametrize("phase", ["Waiting", "Progressing", "WaitingPromotion", "Promoting", "Finalising"])
def test_a_rollout_is_under_way(phase: str) -> None:
    assert is_under_way({"phase": phase})


@pytest.mark.parametrize("status", [{}, *({"phase": phase} for phase in ("Initializing", "Succeeded", "Failed"))])
def test_nothing_is_under_way(status: dict[str, Any]) -> None:
    assert not is_under_way(status)


@pytest.mark.parametrize(
    ("engine", "phase", "kept"),
    [
        ("hub", "Progressing", True),
        ("agent", "Promoting", True),
        ("hub", "Succeeded", False),
        ("hub", "Failed", False),
        ("flagger", "Progressing", False),
        (None, "Progressing", False),
    ],
)
def test_flagger_waits_for_the_end_of_a_rollout_of_ours(engine: str | None, phase: str, kept: bool) -> None:
    assert is_kept(engine, {"phase": phase}) is kept


def test_a_plain_canary_is_brought_to_its_end() -> None:
    assert is_to_finish(canary())
    assert not is_to_finish(canary(phase="Succeeded"))
    assert not is_to_finish(canary("flagger"))
    assert not is_to_finish({"metadata": {"name": "web"}})


def test_the_engine_that_a_canary_names() -> None:
    assert engine_named(canary("agent")) == "agent"
    assert engine_named(canary()) is None
