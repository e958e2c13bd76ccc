"""What a ClusterSync has to do now, and the conditions each outcome leaves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from fleet_rollout.decide import sync as decide
from fleet_rollout.decide.sync import Stamp, Timing, Work
from fleet_rollout_api.cluster_sync import ClusterSync

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STAMP = Stamp(3, NOW)
ROLLOUT = {
    "trafficRoutingProvider": "istio",
    "workload": {"name": "web", "namespace": "web"},
    "serviceName": "web",
    "port": 80,
    "rolloutPolicy": {},
}


def sync(*, status=None, artifact="sha256:1", rollout=None, requested=None, generation=3, **policy):
    spec = {
        "application": "web",
        "policy": "web-0",
        "cluster": {"kind": "AttachedCluster", "name": "m1"},
        "artifact": {"revision": "main@sha1:1", "digest": artifact} if artifact else None,
        "kustomization": {"interval": "1m", "prune": True} | policy,
        "rollout": rollout,
        "requestedAt": requested,
    }
    metadata = {"name": "web-0-attachedcluster-m1", "namespace": "ns", "generation": generation}
    return ClusterSync.model_validate({"metadata": metadata, "spec": spec, "status": status or {}})


def condition(type_, status, reason="R", generation=3, message=""):
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "observedGeneration": generation,
    }


def done(**more):
    """The status of `sync()` when all is applied."""
    return {"appliedFingerprint": decide.fingerprint(sync().spec), "conditions": [condition("Ready", "True")]} | more


@pytest.mark.parametrize(
    ("changed", "is_same"),
    [
        ({}, True),
        ({"interval": "5m"}, True),
        ({"retryInterval": "5s"}, True),
        ({"suspend": True}, True),
        ({"dependsOn": [{"name": "base"}]}, True),
        ({"path": "./other"}, False),
        ({"images": [{"name": "web", "newTag": "2"}]}, False),
        ({"artifact": "sha256:2"}, False),
        ({"artifact": None}, False),
        ({"rollout": ROLLOUT}, False),
    ],
)
def test_a_fingerprint_names_what_is_wanted_and_not_when(changed, is_same):
    assert (decide.fingerprint(sync(**changed).spec) == decide.fingerprint(sync().spec)) is is_same


def test_another_engine_is_another_state_only_where_there_is_a_rollout():
    for rollout, is_same in ((None, True), (ROLLOUT, False)):
        spec = sync(rollout=rollout).spec
        other = spec.model_copy(update={"engine": "agent"})
        assert (decide.fingerprint(other) == decide.fingerprint(spec)) is is_same


@pytest.mark.parametrize(
    ("given", "timing", "expected"),
    [
        (sync(), Timing(0, 60), Work.NEW),
        (sync(status=done(appliedFingerprint="older")), Timing(0, 60), Work.NEW),
        (sync(status=done(), requested="a"), Timing(0, 60), Work.REQUESTED),
        (sync(status=done(lastHandledReconcileAt="a"), requested="a"), Timing(0, 60), Work.NONE),
        (sync(status=done(lastHandledReconcileAt="a")), Timing(0, 60), Work.NONE),
        (sync(status=done(conditions=[condition("Ready", "False")])), Timing(0, 60), Work.RETRY),
        (sync(status=done(conditions=[condition("Ready", "Unknown")])), Timing(0, 0), Work.RETRY),
        (
            sync(status=done(conditions=[condition("Ready", "Unknown"), condition("Healthy", "True")])),
            Timing(None, 60),
            Work.RETRY,
        ),
        (
            sync(status=done(conditions=[condition("Ready", "Unknown"), condition("Healthy", "Unknown")])),
            Timing(0, 60),
            Work.NONE,
        ),
        (sync(status=done(conditions=[condition("Ready", "True", generation=2)])), Timing(0, 60), Work.EDITED),
        (sync(status=done(conditions=[])), Timing(0, 60), Work.NONE),
        (sync(status=done()), Timing(59, 60), Work.NONE),
        (sync(status=done()), Timing(60, 60), Work.DRIFT),
        (sync(status=done()), Timing(9_999, 0), Work.NONE),
        (sync(status=done()), Timing(None, 60), Work.NONE),
    ],
)
def test_there_is_work_only_for_a_reason(given, timing, expected):
    assert decide.work_for(given, decide.fingerprint(sync().spec), timing) is expected


@pytest.mark.parametrize(
    ("policy", "expected"),
    [({}, False), ({"wait": True}, True), ({"healthChecks": [{"kind": "Deployment", "name": "web"}]}, True)],
)
def test_health_is_looked_at_where_it_is_asked_for(policy, expected):
    assert decide.needs_health(sync(**policy)) is expected


def test_the_deadline_of_health_is_flux_s():
    assert decide.health_deadline(sync(interval="5m")) == 270
    assert decide.health_deadline(sync(timeout="90s")) == 90


def test_health_is_awaited_while_it_is_unknown():
    assert decide.awaits_health(sync(status=done(conditions=[condition("Healthy", "Unknown")])).status)
    assert not decide.awaits_health(sync(status=done(conditions=[condition("Healthy", "True")])).status)
    assert not decide.awaits_health(sync(status=done()).status)


def test_an_attempt_lasts_since_its_stored_start_and_never_less_than_nothing():
    status = sync(status=done(attempt={"fingerprint": "f", "startedAt": "2026-01-01T00:00:00Z"})).status
    assert decide.attempt_seconds(status, NOW + timedelta(seconds=7)) == 7
    assert decide.attempt_seconds(status, NOW - timedelta(hours=1)) == 0
    assert decide.attempt_seconds(sync().status, NOW) == 0


WAITING = [condition("Ready", "Unknown"), condition("Healthy", "Unknown")]
# What a pass may find, whatever brought the last one to its end.
FOUND = {
    "well": [condition("Ready", "True")],
    "well and healthy": [condition("Ready", "True"), condition("Healthy", "True")],
    "waiting for health": WAITING,
    "unhealthy": [condition("Ready", "False"), condition("Healthy", "False")],
    "failed while it waited for health": [condition("Ready", "False"), condition("Healthy", "Unknown")],
    "stopped": [condition("Ready", "Unknown")],
}


@pytest.mark.parametrize("before", FOUND.values(), ids=FOUND)
def test_a_pass_that_stops_after_its_intent_is_taken_up_again(before):
    """It had something to write of the very state that counts as applied: drift, or what an earlier one had left."""
    status = sync(status=done(conditions=before)).status
    stopped = decide.applying(status.conditions, STAMP, "Applying revision r")
    given = sync(status=done(conditions=[c.dump() for c in stopped]))
    assert decide.work_for(given, decide.fingerprint(given.spec), Timing(0, 0)) is Work.RETRY


@pytest.mark.parametrize("before", FOUND.values(), ids=FOUND)
def test_a_pass_that_comes_to_its_end_is_not_done_again(before):
    status = sync(status=done(conditions=before)).status
    working = decide.applying(status.conditions, STAMP, "Applying revision r")
    for ended in (decide.succeeded(working, STAMP, "r"), decide.awaiting_health(working, STAMP, "r", 30)):
        given = sync(status=done(conditions=[c.dump() for c in ended]))
        assert decide.work_for(given, decide.fingerprint(given.spec), Timing(0, 60)) is Work.NONE


def test_what_is_known_of_health_stays_shown_while_objects_are_applied():
    for known in ("True", "False"):
        before = sync(status=done(conditions=[condition("Healthy", known)])).status.conditions
        assert [c for c in decide.applying(before, STAMP, "m") if c.type == "Healthy"] == before


def shown(conditions):
    return {c.type: (c.status, c.reason, c.message) for c in conditions}


def test_progress_success_and_failure_leave_flux_s_conditions():
    stalled = decide.failed([], STAMP, "EmptyBuild", "nothing there", stalled=True)
    assert shown(stalled) == {
        "Stalled": ("True", "EmptyBuild", "nothing there"),
        "Ready": ("False", "EmptyBuild", "nothing there"),
    }
    working = decide.progressing(stalled, STAMP, "Applying revision r")
    assert shown(working) == {
        "Reconciling": ("True", "Progressing", "Applying revision r"),
        "Ready": ("Unknown", "Progressing", "Reconciliation in progress"),
    }
    failed = decide.failed(working, STAMP, "ReconciliationFailed", "no", stalled=False)
    assert shown(failed) == {
        "Reconciling": ("True", "ProgressingWithRetry", "Applying revision r"),
        "Ready": ("False", "ReconciliationFailed", "no"),
    }
    assert shown(decide.failed([], STAMP, "R", "no", stalled=False))["Reconciling"][2] == "Reconciliation in progress"
    assert shown(decide.succeeded(failed, STAMP, "r")) == {
        "Ready": ("True", "ReconciliationSucceeded", "Applied revision: r")
    }


def test_health_has_a_condition_of_its_own():
    waiting = decide.awaiting_health([], STAMP, "r", 30)
    text = "Running health checks for revision r with a timeout of 30s"
    assert shown(waiting)["Healthy"] == ("Unknown", "Progressing", text)
    assert shown(decide.healthy(waiting, STAMP, 1.5))["Healthy"] == (
        "True",
        "Succeeded",
        "Health check passed in 1.50s",
    )
    assert shown(decide.unhealthy(waiting, STAMP, "late"))["Healthy"] == ("False", "HealthCheckFailed", "late")
