"""The soak's gauges notice what grows, and a restart begins anew."""

from __future__ import annotations

import os

import pytest

from tests.soak.gauges import MIB, Gauges, Sample
from tests.soak.oracles import nothing


def gauges(*rss: int, descriptors: int = 30) -> Gauges:
    samples = [Sample(float(at), mib * MIB, descriptors, 10) for at, mib in enumerate(rss)]
    return Gauges(pid=1, samples=samples)


def holds(measured: Gauges) -> dict[str, bool]:
    return {name: is_within for name, _, is_within in measured.rows()}


@pytest.mark.parametrize(
    ("rss", "is_within"),
    [([80] * 20, True), ([40, 60, 80, 90, *[100] * 16], True), (list(range(80, 160, 4)), False)],
    ids=["steady", "warms up", "grows"],
)
def test_memory_that_grows_after_the_start_is_a_violation(rss: list[int], is_within: bool) -> None:
    assert holds(gauges(*rss)) == {"rss": is_within, "descriptors": True, "threads": True}


def test_descriptors_that_grow_are_a_violation() -> None:
    measured = gauges(*[80] * 8)
    measured.samples += gauges(*[80] * 8, descriptors=60).samples
    assert not holds(measured)["descriptors"]


def test_a_restarted_process_is_measured_anew() -> None:
    measured = gauges(*[80] * 8)
    measured.look(os.getpid())
    assert (measured.pid, len(measured.samples)) == (os.getpid(), 1)


def test_a_process_that_has_ended_adds_nothing() -> None:
    measured = Gauges()
    measured.look(2**22 + 1)
    assert measured.samples == []
    assert all(holds(measured).values())


def test_what_was_found_is_a_violation_and_is_named() -> None:
    assert nothing("m1", []).holds
    assert nothing("m1", list("abcd")) == ("m1", False, "4: a, b, c")
