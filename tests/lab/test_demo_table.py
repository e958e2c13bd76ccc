"""What the demo reads from an Application's status, and what it takes as seen."""

from __future__ import annotations

import pytest

from fleet_rollout.lab.demo_table import Row, Witness, has_failed, is_ready, rows_of

NEW, OLD = "0123456789abcdef", "fedcba9876543210"


def row(phase="Progressing", weight=25, commit=NEW, cluster="m1"):
    return Row(cluster, f"master@sha1:{commit[:8]}", phase, weight, 0, "")


def witnessed(*rows):
    witness = Witness(NEW)
    for found in rows:
        witness.see([found])
    return witness


def seen(*rows, end="Succeeded"):
    return list(witnessed(*rows).missing({"m1": end}))


def test_a_row_shows_the_cluster_its_revision_and_its_canary():
    sync = {"lastAppliedRevision": f"master@sha1:{NEW}", "conditions": [{"type": "Ready", "message": "Applied"}]}
    canary = {
        "phase": "Progressing",
        "canaryWeight": 25,
        "failedChecks": 1,
        "conditions": [{"message": "New revision"}],
    }
    application = {
        "status": {
            "syncStatus": [
                {
                    "name": "demo-0-attachedcluster-m1",
                    "kustomizationStatus": sync,
                    "rolloutStatus": {"clusterName": "m1", "rolloutStatusInCluster": canary},
                },
                {"name": "demo-0-attachedcluster-m2", "kustomizationStatus": sync},
                {"name": "demo-1-attachedcluster-m1", "kustomizationStatus": sync},
            ]
        }
    }
    assert rows_of(application, "demo-0-") == [
        Row("m1", "master@sha1:01234567", "Progressing", 25, 1, "New revision"),
        Row("m2", "master@sha1:01234567", "-", 0, 0, "Applied"),
    ]
    assert rows_of({}, "demo-0-") == []


@pytest.mark.parametrize(
    ("status", "observed", "expected"),
    [("True", 2, True), ("True", 1, False), ("False", 2, False), ("Unknown", 2, False)],
)
def test_ready_counts_for_the_present_generation_only(status, observed, expected):
    condition = {"type": "Ready", "status": status, "observedGeneration": observed}
    application = {"metadata": {"generation": 2}, "status": {"conditions": [condition]}}
    assert is_ready(application) is expected
    assert is_ready({"metadata": {"generation": 2}}) is False


@pytest.mark.parametrize(
    ("reason", "status", "observed", "expected"),
    [("RolloutFailed", "False", 2, True), ("RolloutFailed", "False", 1, False), ("Progressing", "Unknown", 2, False)],
)
def test_a_rollback_counts_for_the_present_generation_only(reason, status, observed, expected):
    condition = {"type": "Ready", "status": status, "reason": reason, "observedGeneration": observed}
    application = {"metadata": {"generation": 2}, "status": {"conditions": [condition]}}
    assert has_failed(application) is expected


def test_a_rollback_may_be_what_is_asked_for():
    course = (row(weight=0), row(), row("Failed", 0))
    assert seen(*course, end="Failed") == []
    assert list(witnessed(*course).broken({"m1": "Failed"})) == []
    assert list(witnessed(*course).broken({"m1": "Succeeded"})) == ["m1 has Failed"]


def test_an_old_verdict_breaks_no_promise():
    assert list(witnessed(row("Failed", 0)).broken({"m1": "Succeeded"})) == []


def test_a_course_of_progress_and_success_is_what_is_asked_for():
    assert seen(row(weight=0), row(), row("Promoting", 50), row("Succeeded", 0)) == []


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [row("Succeeded", 0)],
        [row(weight=0), row("Succeeded", 0)],
        [row(commit=OLD), row("Succeeded", 0)],
        [row(), row("Succeeded", 0, commit=OLD)],
        [row(), row("Failed", 0)],
        [row(cluster="m2"), row("Succeeded", 0, cluster="m2")],
    ],
)
def test_anything_less_is_missing(rows):
    assert len(seen(*rows)) == 1
