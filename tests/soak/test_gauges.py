"""The soak's gauges notice what grows, and a restart begins anew."""

from __future__ import annotations

import os

import pytest

from tests.soak.gauges import MIB, Gauges, Sample
from tests.soak.oracles import mistakes, nothing


def gauges(*rss: int, descriptors: int = 30) -> Gauges:
    samples = [Sample(float(at), mib * MIB, descriptors, 10, 50) for at, mib in enumerate(rss)]
    return Gauges(pid=1, samples=samples)


def holds(measured: Gauges) -> dict[str, bool]:
    return {name: is_within for name, _, is_within in measured.rows()}


@pytest.mark.parametrize(
    ("rss", "is_within"),
    [([80] * 20, True), ([40, 60, 80, 90, *[100] * 16], True), (list(range(80, 160, 4)), False)],
    ids=["steady", "warms up", "grows"],
)
def test_memory_that_grows_after_the_start_is_a_violation(rss: list[int], is_within: bool) -> None:
    assert holds(gauges(*rss)) == {"rss": is_within, "descriptors": True, "threads": True, "tasks": True}


def test_descriptors_that_grow_are_a_violation() -> None:
    measured = gauges(*[80] * 8)
    measured.samples += gauges(*[80] * 8, descriptors=60).samples
    assert not holds(measured)["descriptors"]


def test_a_restarted_process_is_measured_anew() -> None:
    measured = gauges(*[80] * 8)
    measured.look(os.getpid(), 50)
    assert (measured.pid, len(measured.samples)) == (os.getpid(), 1)


def test_a_process_that_has_ended_adds_nothing() -> None:
    measured = Gauges()
    measured.look(2**22 + 1, 50)
    assert measured.samples == []
    assert all(holds(measured).values())


def test_what_was_found_is_a_violation_and_is_named() -> None:
    assert nothing("m1", []).holds
    assert nothing("m1", list("abcd")) == ("m1", False, "4: a, b, c")


@pytest.mark.parametrize(
    ("word", "is_one"),
    [
        ({"level": "ERROR", "message": "Task exception was never retrieved"}, True),
        ({"level": "WARNING", "message": "ClusterSync/a/b: internal error"}, True),
        ({"level": "WARNING", "message": "the hub: refused; trying again"}, False),
    ],
)
def test_errors_of_the_service_s_own_are_mistakes(word: dict[str, str], is_one: bool) -> None:
    assert mistakes([word]) == [word["message"]] * is_one
