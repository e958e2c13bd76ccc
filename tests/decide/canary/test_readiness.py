"""Reference 2.9 and 8.2: readiness, its texts, and what waiting does not help."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_rollout.decide.canary import readiness
from fleet_rollout.decide.canary.objects import StepFailed
from tests.decide.canary.workloads import daemon_set, deployment, subject

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
WAITING = "waiting for rollout to finish: "


def ago(seconds):
    return (NOW - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def condition(type_, status="True", reason="", **fields):
    return {"type": type_, "status": status, "reason": reason, **fields}


PROGRESSING = condition("Progressing", reason="ReplicaSetUpdated")
EXCEEDED = condition("Progressing", "False", "ProgressDeadlineExceeded")
READY = {"observedGeneration": 3, "replicas": 4, "updatedReplicas": 4, "availableReplicas": 4}


def unavailable(seconds, reason="MinimumReplicasUnavailable", status="False"):
    return condition("Available", status, reason, lastUpdateTime=ago(seconds))


def a_deployment(name="podinfo", *conditions, wanted=4, generation=3, **status):
    """`wanted` replicas in the spec; everything else is of the status."""
    found = {**READY, **status, "conditions": list(conditions)}
    return deployment(name, replicas=wanted, metadata={"generation": generation}, status=found)


def verdict(check, who, workload):
    """The reason without its prefix, and whether waiting may help; None where it is ready."""
    try:
        check(who, workload, NOW)
    except StepFailed as error:
        return error.message, error.retriable
    return None


# How events begin; the spelling is Flagger's.
SAID = {
    "Deployment": "canary deployment podinfo.test not ready: ",
    "DaemonSet": "canary damonset podinfo.test not ready with retryable {}: ",
}


def canary(workload, kind="Deployment", **about):
    found = verdict(readiness.require_canary, subject(kind, **about), workload)
    return found and (found[0].partition(SAID[kind].format(str(found[1]).lower()))[2], found[1])


# Deployments


@pytest.mark.parametrize(
    ("workload", "expected"),
    [
        (a_deployment(), None),
        (
            a_deployment(wanted=0, updatedReplicas=0, availableReplicas=0),
            (f"{WAITING}4 old replicas are pending termination", True),
        ),
        (a_deployment("podinfo", EXCEEDED), ('deployment "podinfo" exceeded its progress deadline', False)),
        (a_deployment(generation=4), (f"{WAITING}observed deployment generation less than desired generation", True)),
        (
            a_deployment("podinfo", EXCEEDED, generation=4),
            (f"{WAITING}observed deployment generation less than desired generation", True),
        ),
        (a_deployment(updatedReplicas=1), (f"{WAITING}1 out of 4 new replicas have been updated", True)),
        (a_deployment(wanted=4, updatedReplicas=0), (f"{WAITING}0 out of 4 new replicas have been updated", True)),
        (
            deployment(replicas=1, metadata={"generation": 1}, status={"observedGeneration": 1}),
            (f"{WAITING}0 out of 1 new replicas have been updated", True),
        ),
        (deployment(), (f"{WAITING}0 out of 2 new replicas have been updated", True)),
        (deployment(replicas=0), None),
        (
            deployment(metadata={"generation": 1}),
            (f"{WAITING}observed deployment generation less than desired generation", True),
        ),
        (
            {**a_deployment(), "status": {**READY, "replicas": 6}},
            (f"{WAITING}2 old replicas are pending termination", True),
        ),
        (
            a_deployment(availableReplicas=3),
            (f"{WAITING}3 of 4 (readyThreshold 100%) updated replicas are available", True),
        ),
    ],
)
def test_the_reasons_in_order(workload, expected):
    assert canary(workload) == expected


def test_replicas_that_nobody_names_are_one():
    workload = a_deployment(replicas=1, updatedReplicas=1, availableReplicas=1)
    del workload["spec"]["replicas"]
    assert canary(workload) is None


@pytest.mark.parametrize(
    ("conditions", "retriable"),
    [
        ((PROGRESSING, unavailable(61)), False),
        ((PROGRESSING, unavailable(60)), True),
        ((PROGRESSING, unavailable(59)), True),
        ((unavailable(61),), True),
        ((PROGRESSING,), True),
        ((PROGRESSING, unavailable(61, reason="Other")), True),
        ((PROGRESSING, unavailable(61, status="True")), True),
        ((PROGRESSING, condition("Available", "False", "MinimumReplicasUnavailable")), True),
    ],
)
@pytest.mark.parametrize("status", [{"updatedReplicas": 1}, {"replicas": 5}, {"availableReplicas": 1}])
def test_the_canarys_deadline_counts_while_too_few_are_available(conditions, retriable, status):
    """S29: 61 seconds are over a deadline of 60."""
    found = canary(a_deployment("podinfo", *conditions, **status), progressDeadlineSeconds=60)
    assert found is not None
    assert found[1] is retriable


def test_a_ready_deployment_is_ready_whatever_the_deadline():
    assert canary(a_deployment("podinfo", PROGRESSING, unavailable(9999)), progressDeadlineSeconds=60) is None


@pytest.mark.parametrize(
    ("percent", "available", "needed"),
    [(100, 3, 4), (50, 1, 2), (75, 2, 3), (74, 1, 2), (99, 2, 3), (None, 3, 4)],
)
def test_the_threshold_is_cut_to_whole_pods(percent, available, needed):
    analysis = {"canaryReadyThreshold": percent} if percent is not None else {}
    shown = 100 if percent is None else percent
    text = f"{WAITING}{available} of {needed} (readyThreshold {shown}%) updated replicas are available"
    assert canary(a_deployment(availableReplicas=available), analysis=analysis) == (text, True)
    assert canary(a_deployment(availableReplicas=needed), analysis=analysis) is None


def test_a_threshold_of_nothing_is_honoured():
    assert canary(a_deployment(availableReplicas=0), analysis={"canaryReadyThreshold": 0}) is None


def test_each_version_has_a_threshold_of_its_own():
    analysis = {"primaryReadyThreshold": 25, "canaryReadyThreshold": 100}
    who, one = subject(analysis=analysis), a_deployment("podinfo-primary", availableReplicas=1)
    assert verdict(readiness.require_primary, who, one) is None
    assert verdict(readiness.require_canary, who, one) is not None


def test_texts_name_the_workload():
    who, workload = subject(), a_deployment("podinfo-primary", EXCEEDED)
    assert verdict(readiness.require_primary, who, workload) == (
        'podinfo-primary.test not ready: deployment "podinfo-primary" exceeded its progress deadline',
        False,
    )
    assert verdict(readiness.require_canary, who, a_deployment(updatedReplicas=0)) == (
        f"canary deployment podinfo.test not ready: {WAITING}0 out of 4 new replicas have been updated",
        True,
    )


# DaemonSets

SCHEDULED = {"observedGeneration": 3, "desiredNumberScheduled": 4, "updatedNumberScheduled": 4, "numberAvailable": 4}


def a_daemon_set(generation=3, **status):
    return daemon_set(metadata={"generation": generation}, status={**SCHEDULED, **status})


@pytest.mark.parametrize(
    ("workload", "expected"),
    [
        (a_daemon_set(), None),
        (a_daemon_set(generation=4), f"{WAITING}observed daemonset generation less than desired generation"),
        (a_daemon_set(updatedNumberScheduled=1), f"{WAITING}1 out of 4 new pods have been updated"),
        (a_daemon_set(numberAvailable=3), f"{WAITING}3 of 4 (readyThreshold 100%) updated pods are available"),
        (daemon_set(), None),
    ],
)
def test_daemon_sets(workload, expected):
    assert canary(workload, "DaemonSet") == (expected and (expected, True))


@pytest.mark.parametrize(("seconds", "retriable"), [(61, False), (60, True), (None, True)])
@pytest.mark.parametrize("status", [{"updatedNumberScheduled": 1}, {"numberAvailable": 1}])
def test_a_daemon_sets_deadline_counts_from_the_last_status(seconds, retriable, status):
    written = {"lastTransitionTime": ago(seconds)} if seconds is not None else {}
    found = canary(a_daemon_set(**status), "DaemonSet", progressDeadlineSeconds=60, status=written)
    assert found is not None
    assert found[1] is retriable
    if not retriable:
        assert found[0] == "exceeded its progressDeadlineSeconds: 60"
    assert canary(a_daemon_set(), "DaemonSet", progressDeadlineSeconds=60, status=written) is None


def test_a_daemon_sets_threshold_and_text():
    who = subject("DaemonSet", analysis={"primaryReadyThreshold": 50})
    assert verdict(readiness.require_primary, who, a_daemon_set(numberAvailable=2)) is None
    assert verdict(readiness.require_primary, who, a_daemon_set(numberAvailable=1)) == (
        "primary daemonset podinfo-primary.test not ready: "
        f"{WAITING}1 of 2 (readyThreshold 50%) updated pods are available",
        True,
    )


COUNT = st.integers(0, 5)


@given(COUNT, COUNT, COUNT, COUNT, st.integers(0, 100))
def test_ready_means_all_updated_none_old_and_enough_available(wanted, replicas, updated, available, percent):
    status = {"replicas": replicas, "updatedReplicas": updated, "availableReplicas": available}
    found = canary(a_deployment(wanted=wanted, **status), analysis={"canaryReadyThreshold": percent})
    is_ready = updated >= wanted and replicas <= updated and available * 100 > updated * percent - 100
    assert (found is None) is is_ready
