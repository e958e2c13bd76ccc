"""The status of a source in Flux's shape (section H of the reference): what is kept, what goes, what moves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fleet_rollout.decide.source_status import failed, has_failed, stored, suspended

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
ARTIFACT = {"revision": "main@sha1:1", "digest": "sha256:1"}
MESSAGE = "stored artifact for revision 'main@sha1:1'"


def shown(status):
    return {c["type"]: (c["status"], c["reason"], c["message"]) for c in status["conditions"]}


def fetched(previous=None, now=NOW, handled=None):
    return stored(previous, ARTIFACT, generation=1, handled=handled, now=now)


def test_g1_a_fetch_leaves_ready_and_artifact_in_storage():
    status = fetched()
    assert shown(status) == {
        "Ready": ("True", "Succeeded", MESSAGE),
        "ArtifactInStorage": ("True", "Succeeded", MESSAGE),
    }
    assert (status["artifact"], status["observedGeneration"]) == (ARTIFACT, 1)
    assert "lastHandledReconcileAt" not in status


def test_g6_a_fetch_that_finds_nothing_new_changes_nothing_but_the_request():
    assert fetched(fetched(), LATER) == fetched()
    assert fetched(fetched(), LATER, handled="x") == fetched() | {"lastHandledReconcileAt": "x"}


def test_g9_a_failure_keeps_the_artifact_and_a_success_takes_the_failure_back():
    failure = failed(fetched(), "GitOperationFailed", "host down", stalled=False, generation=1, handled=None, now=LATER)
    assert shown(failure) == {
        "Reconciling": ("True", "ProgressingWithRetry", "reconciliation in progress"),
        "Ready": ("False", "GitOperationFailed", "host down"),
        "FetchFailed": ("True", "GitOperationFailed", "host down"),
        "ArtifactInStorage": ("True", "Succeeded", MESSAGE),
    }
    assert failure["artifact"] == ARTIFACT
    assert shown(fetched(failure, LATER)) == shown(fetched())
    assert [has_failed(each) for each in (None, fetched(), failure, fetched(failure))] == [False, False, True, False]


def test_the_same_failure_again_is_no_transition():
    first = failed(None, "GitOperationFailed", "host down", stalled=False, generation=1, handled=None, now=NOW)
    again = failed(first, "GitOperationFailed", "host down", stalled=False, generation=1, handled=None, now=LATER)
    assert [c for c in again["conditions"] if c["type"] != "Ready"] == [
        c for c in first["conditions"] if c["type"] != "Ready"
    ]
    assert again["conditions"] == first["conditions"]


def test_what_only_an_edit_can_mend_is_stalled_and_observed():
    status = failed(None, "InvalidURL", "bad", stalled=True, generation=4, handled="x", now=NOW)
    assert shown(status)["Stalled"] == ("True", "InvalidURL", "bad")
    assert "Reconciling" not in shown(status)
    assert (status["observedGeneration"], status["lastHandledReconcileAt"]) == (4, "x")
    retried = failed(status, "GitOperationFailed", "down", stalled=False, generation=5, handled="x", now=NOW)
    assert "Stalled" not in shown(retried)
    assert retried["observedGeneration"] == 4


def test_storage_has_a_condition_of_its_own():
    status = failed(None, "ArtifactUnavailable", "gone", stalled=False, generation=1, handled=None, now=NOW)
    assert shown(status)["StorageOperationFailed"][0] == "True"
    assert "FetchFailed" not in shown(status)
    assert has_failed(status)


def test_suspension_records_the_request_and_drops_stalled():
    stalled = failed(fetched(), "InvalidURL", "bad", stalled=True, generation=1, handled=None, now=NOW)
    status = suspended(stalled, generation=2, handled="x")
    assert "Stalled" not in shown(status)
    assert (status["artifact"], status["observedGeneration"], status["lastHandledReconcileAt"]) == (ARTIFACT, 2, "x")
