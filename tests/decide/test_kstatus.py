"""kstatus, row by row."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fleet_rollout.decide.inventory import Ref
from fleet_rollout.decide.kstatus import (
    Health,
    Status,
    Unhealthy,
    crash_looping,
    failures,
    health_error,
    health_of,
    may_be_absent,
)

NOW = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)
CURRENT, IN_PROGRESS, FAILED = Status.CURRENT, Status.IN_PROGRESS, Status.FAILED


def live(api_version, kind, spec=None, status=None, **metadata):
    obj = {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x", "namespace": "apps", **metadata}}
    return {**obj, **{key: value for key, value in (("spec", spec), ("status", status)) if value is not None}}


def condition(type_, status="True", reason="R", message="because", **rest):
    return {"type": type_, "status": status, "reason": reason, "message": message, **rest}


def check(obj, expected, message=None):
    health = health_of(obj, NOW)
    assert health.status is expected, health
    assert message is None or health.message == message


@pytest.mark.parametrize(
    ("metadata", "status", "expected", "message"),
    [
        ({}, None, CURRENT, "Resource is current"),
        ({}, {}, CURRENT, "Resource is current"),
        ({"deletionTimestamp": "2026-01-01T00:00:00Z"}, None, Status.TERMINATING, "Resource scheduled for deletion"),
        (
            {"generation": 2},
            {"observedGeneration": 1, "conditions": [condition("Ready")]},
            IN_PROGRESS,
            "Widget generation is 2, but latest observed is 1",
        ),
        ({"generation": 2}, {"observedGeneration": 2}, CURRENT, None),
        ({"generation": 2}, {"observedGeneration": 0}, IN_PROGRESS, None),
        ({}, {"conditions": [condition("Reconciling"), condition("Ready")]}, IN_PROGRESS, "because"),
        ({}, {"conditions": [condition("Reconciling", message="")]}, IN_PROGRESS, "R"),
        ({}, {"conditions": [condition("Reconciling", message="", reason="")]}, IN_PROGRESS, ""),
        ({}, {"conditions": [condition("Reconciling", "False")]}, CURRENT, None),
        ({}, {"conditions": [condition("Stalled"), condition("Ready")]}, FAILED, "because"),
        ({}, {"conditions": [condition("Stalled", "False")]}, CURRENT, None),
        ({}, {"conditions": [condition("Ready")]}, CURRENT, "Resource is Ready"),
        ({}, {"conditions": [condition("Ready", "False")]}, IN_PROGRESS, "because"),
        ({}, {"conditions": [condition("Ready", "Unknown")]}, IN_PROGRESS, "because"),
        ({}, {"conditions": "odd"}, CURRENT, None),
        ({}, {"conditions": ["odd", condition("Ready", "False")]}, IN_PROGRESS, None),
        ({}, "odd", CURRENT, None),
    ],
)
def test_what_holds_for_every_kind(metadata, status, expected, message):
    check(live("example.org/v1", "Widget", status=status, **metadata), expected, message)


READY = {"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3, "readyReplicas": 3}
AVAILABLE = condition("Available")
ROLLED_OUT = condition("Progressing", reason="NewReplicaSetAvailable")
EXCEEDED = condition("Progressing", "False", "ProgressDeadlineExceeded")


@pytest.mark.parametrize(
    ("spec", "status", "conditions", "expected", "message"),
    [
        ({"replicas": 3}, READY, [AVAILABLE], CURRENT, "Deployment is available. Replicas: 3"),
        ({"replicas": 3}, READY, [EXCEEDED], FAILED, "Progress deadline exceeded"),
        ({"replicas": 3}, {**READY, "replicas": 2}, [AVAILABLE], IN_PROGRESS, "replicas: 2/3"),
        ({}, {}, [AVAILABLE], IN_PROGRESS, "replicas: 0/1"),
        ({"replicas": 0}, {}, [AVAILABLE], CURRENT, None),
        ({"replicas": 3}, {**READY, "updatedReplicas": 1}, [AVAILABLE], IN_PROGRESS, "Updated: 1/3"),
        ({"replicas": 3}, {**READY, "replicas": 5}, [AVAILABLE], IN_PROGRESS, "Pending termination: 2"),
        ({"replicas": 3}, {**READY, "availableReplicas": 2}, [AVAILABLE], IN_PROGRESS, "Available: 2/3"),
        ({"replicas": 3}, {**READY, "readyReplicas": 2}, [AVAILABLE], IN_PROGRESS, "Ready: 2/3"),
        ({"replicas": 3, "progressDeadlineSeconds": 600}, READY, [AVAILABLE, ROLLED_OUT], CURRENT, None),
        ({"replicas": 3, "progressDeadlineSeconds": 600}, READY, [AVAILABLE], IN_PROGRESS, "ReplicaSet not Available"),
        (
            {"replicas": 3, "progressDeadlineSeconds": 600},
            READY,
            [AVAILABLE, condition("Progressing", reason="ReplicaSetUpdated")],
            IN_PROGRESS,
            "ReplicaSet not Available",
        ),
        ({"replicas": 3, "progressDeadlineSeconds": 2**31 - 1}, READY, [AVAILABLE], CURRENT, None),
        ({"replicas": 3}, READY, [], IN_PROGRESS, "Deployment not Available"),
        ({"replicas": 3}, READY, [condition("Available", "False")], IN_PROGRESS, "Deployment not Available"),
        ({"replicas": 3}, {**READY, "replicas": "3"}, [AVAILABLE], IN_PROGRESS, "replicas: 0/3"),
    ],
)
def test_deployment(spec, status, conditions, expected, message):
    check(live("apps/v1", "Deployment", spec, {**status, "conditions": conditions}), expected, message)


SETTLED = {"replicas": 3, "readyReplicas": 3, "currentReplicas": 3, "currentRevision": "a", "updateRevision": "a"}


def partition(value):
    return {"replicas": 3, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": value}}}


@pytest.mark.parametrize(
    ("spec", "status", "expected", "message"),
    [
        ({"updateStrategy": {"type": "OnDelete"}}, {}, CURRENT, None),
        ({"replicas": 3}, SETTLED, CURRENT, "All replicas scheduled as expected: 3"),
        ({"replicas": 3}, {**SETTLED, "replicas": 2}, IN_PROGRESS, "Replicas: 2/3"),
        ({}, {}, IN_PROGRESS, "Replicas: 0/1"),
        ({"replicas": 3}, {**SETTLED, "readyReplicas": 2}, IN_PROGRESS, "Ready: 2/3"),
        ({"replicas": 3}, {**SETTLED, "replicas": 4}, IN_PROGRESS, "Pending termination: 1"),
        (partition(1), {**SETTLED, "updatedReplicas": 1}, IN_PROGRESS, "updated: 1/2"),
        (
            partition(1),
            {**SETTLED, "updatedReplicas": 2, "updateRevision": "b"},
            CURRENT,
            "Partition rollout complete: 3",
        ),
        (partition(0), {**SETTLED, "updatedReplicas": 3}, CURRENT, None),
        (partition(-1), SETTLED, CURRENT, None),
        ({"replicas": 3}, {**SETTLED, "currentReplicas": 1}, IN_PROGRESS, "current: 1/3"),
        (
            {"replicas": 3},
            {**SETTLED, "updateRevision": "b"},
            IN_PROGRESS,
            "Waiting for updated revision to match current",
        ),
    ],
)
def test_stateful_set(spec, status, expected, message):
    check(live("apps/v1", "StatefulSet", spec, status), expected, message)


SCHEDULED = {
    "observedGeneration": 1,
    "desiredNumberScheduled": 2,
    "currentNumberScheduled": 2,
    "updatedNumberScheduled": 2,
    "numberAvailable": 2,
    "numberReady": 2,
}


@pytest.mark.parametrize(
    ("change", "expected", "message"),
    [
        ({}, CURRENT, "All replicas scheduled as expected. Replicas: 2"),
        ({"observedGeneration": None}, IN_PROGRESS, "Controller has not observed the latest generation"),
        ({"desiredNumberScheduled": None}, IN_PROGRESS, "Missing .status.desiredNumberScheduled"),
        ({"currentNumberScheduled": 1}, IN_PROGRESS, "Current: 1/2"),
        ({"updatedNumberScheduled": 1}, IN_PROGRESS, "Updated: 1/2"),
        ({"numberAvailable": 1}, IN_PROGRESS, "Available: 1/2"),
        ({"numberReady": 1}, IN_PROGRESS, "Ready: 1/2"),
        ({"desiredNumberScheduled": 0}, CURRENT, None),
    ],
)
def test_daemon_set(change, expected, message):
    check(live("apps/v1", "DaemonSet", {}, {**SCHEDULED, **change}, generation=1), expected, message)


def test_a_daemon_set_without_generation_is_in_progress():
    status = {key: value for key, value in SCHEDULED.items() if key != "observedGeneration"}
    check(live("apps/v1", "DaemonSet", {}, status), IN_PROGRESS)


@pytest.mark.parametrize(
    ("change", "expected", "message"),
    [
        ({}, CURRENT, "ReplicaSet is available. Replicas: 2"),
        ({"conditions": [condition("ReplicaFailure")]}, IN_PROGRESS, "Replica Failure condition. Check Pods"),
        ({"conditions": [condition("ReplicaFailure", "False")]}, CURRENT, None),
        ({"fullyLabeledReplicas": 1}, IN_PROGRESS, "Labelled: 1/2"),
        ({"availableReplicas": 1}, IN_PROGRESS, "Available: 1/2"),
        ({"readyReplicas": 1}, IN_PROGRESS, "Ready: 1/2"),
        ({"replicas": 3}, IN_PROGRESS, "Pending termination: 1"),
    ],
)
def test_replica_set(change, expected, message):
    status = {"replicas": 2, "fullyLabeledReplicas": 2, "availableReplicas": 2, "readyReplicas": 2, **change}
    check(live("apps/v1", "ReplicaSet", {"replicas": 2}, status), expected, message)


WAITING = {"name": "app", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
PULLING = {"name": "app", "state": {"waiting": {"reason": "ImagePullBackOff"}}}


def unschedulable(since):
    return {
        "phase": "Pending",
        "conditions": [condition("PodScheduled", "False", "Unschedulable", lastTransitionTime=since)],
    }


@pytest.mark.parametrize(
    ("status", "expected", "message"),
    [
        ({"phase": "Succeeded"}, CURRENT, "Pod has completed successfully"),
        ({"phase": "Failed"}, CURRENT, "Pod has completed, but not successfully"),
        ({"phase": "Running", "conditions": [condition("Ready")]}, CURRENT, "Pod is Ready"),
        ({"phase": "Running", "containerStatuses": [PULLING, WAITING]}, FAILED, "Containers in CrashLoop state: app"),
        ({"phase": "Running", "containerStatuses": [PULLING]}, IN_PROGRESS, "Pod is running but is not Ready"),
        ({"phase": "Running", "containerStatuses": "odd"}, IN_PROGRESS, None),
        ({"phase": "Pending"}, IN_PROGRESS, "Pod is in the Pending phase"),
        (unschedulable("2026-01-01T12:00:00Z"), FAILED, "Pod could not be scheduled"),
        (unschedulable("2026-01-01T12:00:20Z"), IN_PROGRESS, "Pod has not been scheduled"),
        (unschedulable("odd"), IN_PROGRESS, None),
        (unschedulable("2026-01-01T12:00:00"), IN_PROGRESS, None),
        (unschedulable(None), IN_PROGRESS, None),
        ({}, IN_PROGRESS, "Pod phase not available"),
        ({"phase": ""}, IN_PROGRESS, "Pod phase not available"),
        ({"phase": "Odd"}, Status.UNKNOWN, "unknown phase Odd"),
    ],
)
def test_pod(status, expected, message):
    check(live("v1", "Pod", {}, status), expected, message)


@pytest.mark.parametrize(
    ("spec", "conditions", "expected", "message"),
    [
        ({"suspend": True}, [], CURRENT, "Job is suspended"),
        ({}, [condition("Complete")], CURRENT, "Job Completed"),
        ({}, [condition("Failed")], FAILED, "Job Failed: because"),
        ({}, [condition("Failed", "False")], IN_PROGRESS, "Job in progress"),
        ({"suspend": False}, [], IN_PROGRESS, "Job in progress"),
    ],
)
def test_job_is_current_when_it_is_done(spec, conditions, expected, message):
    check(live("batch/v1", "Job", spec, {"conditions": conditions}), expected, message)


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (live("batch/v1", "CronJob"), CURRENT),
        (live("policy/v1", "PodDisruptionBudget", status={"conditions": [condition("Ready", "False")]}), CURRENT),
        (live("policy/v1", "PodDisruptionBudget", status={"observedGeneration": 1}, generation=2), IN_PROGRESS),
        (live("v1", "PersistentVolumeClaim", status={"phase": "Bound"}), CURRENT),
        (live("v1", "PersistentVolumeClaim", status={"phase": "Pending"}), IN_PROGRESS),
        (live("v1", "PersistentVolumeClaim"), IN_PROGRESS),
        (live("v1", "Service", {"type": "LoadBalancer"}), IN_PROGRESS),
        (live("v1", "Service", {"type": "LoadBalancer", "clusterIP": "10.0.0.1"}), CURRENT),
        (live("v1", "Service", {"type": "ClusterIP"}), CURRENT),
        (live("v1", "ConfigMap"), CURRENT),
        (live("example.org/v1", "Deployment", {"replicas": 3}), CURRENT),
    ],
)
def test_other_kinds(obj, expected):
    check(obj, expected)


@pytest.mark.parametrize(
    ("conditions", "expected", "message"),
    [
        ([condition("NamesAccepted", "False")], FAILED, "because"),
        ([condition("NamesAccepted"), condition("Established", "False")], FAILED, "because"),
        ([condition("Established", "False", "Installing")], IN_PROGRESS, "Install in progress"),
        ([condition("NamesAccepted"), condition("Established")], CURRENT, "CRD is established"),
        ([condition("Established", "Unknown")], IN_PROGRESS, None),
        ([], IN_PROGRESS, "Install in progress"),
    ],
)
def test_custom_resource_definition(conditions, expected, message):
    obj = live("apiextensions.k8s.io/v1", "CustomResourceDefinition", {}, {"conditions": conditions})
    check(obj, expected, message)


PARENT = live("apps/v1", "StatefulSet", uid="parent")


def pod(name, status, owner="parent", **metadata):
    obj = live("v1", "Pod", {}, status, ownerReferences=[{"uid": owner}], **metadata)
    return {**obj, "metadata": {**obj["metadata"], "name": name}}


CRASHING = {"phase": "Running", "containerStatuses": [WAITING]}


def test_a_parent_whose_pod_crashes_in_a_loop_has_failed():
    healthy = pod("a", {"phase": "Running", "conditions": [condition("Ready")]})
    found = crash_looping(PARENT, [healthy, pod("b", CRASHING)], NOW)
    assert found == Health(FAILED, "Pod/apps/b: Containers in CrashLoop state: app")


@pytest.mark.parametrize(
    "other",
    [
        pod("b", CRASHING, owner="someone else"),
        pod("b", CRASHING, deletionTimestamp="2026-01-01T00:00:00Z"),
        pod("b", unschedulable("2026-01-01T00:00:00Z")),
        live("v1", "Pod", {}, CRASHING),
    ],
)
def test_pods_that_are_foreign_ending_or_unschedulable_say_nothing_about_a_parent(other):
    assert crash_looping(PARENT, [other], NOW) is None


def row(kind, name, status):
    return Unhealthy(Ref("ns", name, "", kind), Health(status))


def test_a_time_out_names_every_object_that_is_not_current():
    rows = [row("Deployment", "x", IN_PROGRESS), row("Job", "y", Status.NOT_FOUND)]
    assert health_error(rows) == (
        "timeout waiting for: [Deployment/ns/x status: 'InProgress', Job/ns/y status: 'NotFound']"
    )
    assert failures(rows) == []


def test_an_early_end_names_the_failed_objects_alone():
    rows = [row("Deployment", "x", FAILED), row("Job", "y", IN_PROGRESS)]
    assert health_error(rows) == "failed early due to stalled resources: [Deployment/ns/x status: 'Failed']"
    assert failures(rows) == rows[:1]


def test_what_is_never_applied_or_removes_itself_may_be_absent():
    ignored = live("v1", "ConfigMap", annotations={"kustomize.toolkit.fluxcd.io/reconcile": "disabled"})
    ends = live("batch/v1", "Job", {"ttlSecondsAfterFinished": 0})
    stays = [live("batch/v1", "Job", {}), live("v1", "Secret")]
    assert may_be_absent([ignored, ends, *stays]) == {"apps_x__ConfigMap", "apps_x_batch_Job"}
