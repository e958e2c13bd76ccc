"""The soak's gauges notice what grows, and a restart begins anew."""

from __future__ import annotations

import os

import pytest

from tests.faults.rules import Asked, Key
from tests.soak.gauges import MIB, Gauges, Sample
from tests.soak.oracles import before_the_inventory, mistakes, nothing, unguarded


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
    others = {"samples": True, "descriptors": True, "threads": True, "tasks": True}
    assert holds(gauges(*rss)) == {**others, "rss": is_within}


def test_descriptors_that_grow_are_a_violation() -> None:
    measured = gauges(*[80] * 8)
    measured.samples += gauges(*[80] * 8, descriptors=60).samples
    assert not holds(measured)["descriptors"]


def test_a_restarted_process_is_measured_anew() -> None:
    measured = gauges(*[80] * 8)
    measured.look(os.getpid(), 50)
    assert (measured.pid, len(measured.samples)) == (os.getpid(), 1)


def test_a_process_that_has_ended_adds_nothing_and_nothing_is_no_measurement() -> None:
    measured = Gauges()
    measured.look(2**22 + 1, 50)
    assert measured.samples == []
    assert not holds(measured)["samples"]


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


SYNC = Key("hub", "patch", "clustersyncs.apps.kurator.dev", "apps", "web-0-m1", "status")
APPLY = Key("m1", "apply", "configmaps", "apps", "a")
OBJECT = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "apps"}}


def recording(*ids: str, status: int = 200) -> Asked:
    value = {"inventory": {"entries": [{"id": each, "v": "v1"} for each in ids]}}
    return Asked(SYNC, [{"op": "add", "path": "/status", "value": value}], number=1, status=status)


@pytest.mark.parametrize(
    ("before", "is_known"),
    [
        ([recording("apps_a__ConfigMap")], True),
        ([recording()], False),
        ([recording("apps_a__ConfigMap", status=0)], False),
    ],
    ids=["on record", "without it", "never carried out"],
)
def test_what_is_applied_before_it_is_on_record_is_a_violation(before: list[Asked], is_known: bool) -> None:
    assert before_the_inventory([*before, Asked(APPLY, OBJECT, number=2, status=200)]) == [str(APPLY)] * (not is_known)


@pytest.mark.parametrize(
    ("cluster", "names", "is_one"),
    [("m1", ["uid"], True), ("m1", ["uid", "resourceVersion"], False), ("hub", ["uid"], False), ("hub", [], True)],
)
def test_deletes_of_what_was_not_looked_at_are_a_violation(cluster: str, names: list[str], is_one: bool) -> None:
    key = Key(cluster, "delete", "configmaps", "apps", "a")
    assert unguarded([Asked(key, {"preconditions": dict.fromkeys(names, "1")}, number=1)]) == [str(key)] * is_one
