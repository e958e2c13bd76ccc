"""What the demo reads from an Application's status, and what it takes as seen."""

from __future__ import annotations

import pytest

from fleet_rollout.lab.demo_table import Row, Witness, is_ready, rows_of

NEW, OLD = "0123456789abcdef", "fedcba9876543210"


def row(phase="Progressing", weight=25, commit=NEW, cluster="m1"):
    return Row(cluster, f"master@sha1:{commit[:8]}", phase, weight, 0, "")


def seen(*rows):
    witness = Witness(NEW)
    for found in rows:
        witness.see([found])
    return list(witness.missing({"m1": "Succeeded"}))


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


def test_an_end_that_was_not_promised_is_told():
    witness = Witness(NEW)
    for found in (row(), row("Failed", 0)):
        witness.see([found])
    assert list(witness.broken({"m1": "Succeeded"})) == ["m1 has Failed"]
    assert list(witness.broken({"m1": "Failed"})) == []
    assert list(witness.missing({"m1": "Failed"})) == []
