"""Series kept as numbers show what the client's own would."""

from __future__ import annotations

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest

from fleet_rollout.series import BUCKETS, Durations, Values

LABELS = ["name", "cluster"]
keys = st.tuples(st.sampled_from(["web", 'a"b\\c\n']), st.sampled_from(["east", "west"]))


@pytest.fixture(scope="module", autouse=True)
def without_creation_times():
    prometheus_client.disable_created_metrics()
    yield
    prometheus_client.enable_created_metrics()


@given(st.lists(st.tuples(keys, st.floats(0, 20) | st.sampled_from(BUCKETS))))
def test_a_histogram_counts_as_the_clients_own(observed):
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    durations = Durations("taken_seconds", "Time.", LABELS, registry=ours)
    histogram = Histogram("taken_seconds", "Time.", LABELS, registry=theirs, buckets=BUCKETS)
    for key, seconds in observed:
        for each in (durations, histogram):
            each.labels(*key).observe(seconds)
    assert generate_latest(ours) == generate_latest(theirs)


@given(st.lists(st.tuples(keys, st.floats(allow_nan=False) | st.booleans())))
def test_a_gauge_says_what_the_clients_own_says(told):
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    values, gauge = Values("up", "Up.", LABELS, registry=ours), Gauge("up", "Up.", LABELS, registry=theirs)
    for (name, cluster), value in told:
        for each in (values, gauge):
            each.labels(cluster=cluster, name=name).set(value)
    assert generate_latest(ours) == generate_latest(theirs)


def test_what_is_removed_is_not_shown():
    registry = CollectorRegistry()
    values = Values("up", "Up.", LABELS, registry=registry)
    for name in ("a", "b"):
        for cluster in ("east", "west"):
            values.labels(name, cluster).set(1)
    values.remove("a", "east")
    values.remove("c", "east")
    values.remove_by_labels({"cluster": "west"})
    values.remove_by_labels({"name": "c", "cluster": "east"})
    assert [sample.labels for metric in registry.collect() for sample in metric.samples] == [
        {"name": "b", "cluster": "east"}
    ]
