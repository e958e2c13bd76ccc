"""Drift is what an apply would change; nothing else."""

from __future__ import annotations

import copy

import pytest

from fleet_rollout.decide.drift import has_drifted

LIVE = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {
        "name": "web",
        "labels": {"app": "web"},
        "annotations": {"a": "1"},
        "resourceVersion": "7",
        "managedFields": [],
    },
    "spec": {"replicas": 2},
    "status": {"readyReplicas": 2},
}


def answer(change):
    obj = copy.deepcopy(LIVE)
    change(obj)
    return obj


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda o: None, False),
        (lambda o: o["status"].update(readyReplicas=0), False),
        (lambda o: o["metadata"].update(resourceVersion="8", managedFields=[{"manager": "x"}], generation=3), False),
        (lambda o: o["metadata"]["labels"].update(app="shop"), True),
        (lambda o: o["metadata"].pop("labels"), True),
        (lambda o: o["metadata"]["annotations"].pop("a"), True),
        (lambda o: o["spec"].update(replicas=3), True),
        (lambda o: o.update(data={}), True),
        (lambda o: o.pop("spec"), True),
    ],
)
def test_labels_annotations_and_all_outside_metadata_and_status_count(change, expected):
    assert has_drifted(LIVE, answer(change)) is expected


def autoscaler(spec):
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "x"}, "spec": spec}


CPU, MEMORY = {"type": "Resource", "resource": {"name": "cpu"}}, {"type": "Resource", "resource": {"name": "memory"}}


@pytest.mark.parametrize(
    ("live", "answered", "expected"),
    [
        ({"metrics": [CPU]}, {"metrics": [CPU, CPU, {}]}, False),
        ({"metrics": [CPU]}, {"metrics": [CPU, MEMORY]}, True),
        ({"metrics": [CPU], "maxReplicas": 2}, {"metrics": [CPU], "maxReplicas": 3}, True),
        ({"maxReplicas": 2}, {"maxReplicas": 2}, False),
        (None, None, False),
    ],
)
def test_doubled_and_empty_metrics_of_an_autoscaler_are_no_drift(live, answered, expected):
    assert has_drifted(autoscaler(live), autoscaler(answered)) is expected
