"""Is this live object Current, InProgress or Failed? The rules of kstatus, as Flux reads them.

https://github.com/fluxcd/cli-utils/tree/master/pkg/kstatus/status. Every function takes the object as the API server
returned it; status fields that are absent or of the wrong type count as not there yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from fleet_rollout.decide.inventory import Ref, object_id, ref_of
from fleet_rollout.decide.metadata import is_ignored

Object = Mapping[str, Any]


class Status(StrEnum):
    IN_PROGRESS = "InProgress"
    FAILED = "Failed"
    CURRENT = "Current"
    TERMINATING = "Terminating"
    NOT_FOUND = "NotFound"
    UNKNOWN = "Unknown"


@dataclass(frozen=True)
class Health:
    """A status and one sentence that says why."""

    status: Status
    message: str = ""


@dataclass(frozen=True)
class Unhealthy:
    """An object that is not Current."""

    ref: Ref
    health: Health

    def __str__(self) -> str:
        return f"{self.ref.subject} status: '{self.health.status}'"


NOT_FOUND = Health(Status.NOT_FOUND, "Resource not found")
_UNSCHEDULABLE_AFTER = timedelta(seconds=15)
_NO_DEADLINE = 2**31 - 1
Rule = Callable[[Object, datetime], Health]


def health_of(obj: Object, now: datetime) -> Health:
    """The status of a live object: what is common to all kinds, then the rule of its kind."""
    ref = ref_of(obj)
    rule = RULES.get((ref.group, ref.kind), _generic)
    return prelude(obj) or rule(obj, now)


def prelude(obj: Object) -> Health | None:
    """What decides for every kind, before its own rule."""
    metadata = obj["metadata"]
    if metadata.get("deletionTimestamp"):
        return Health(Status.TERMINATING, "Resource scheduled for deletion")
    if is_behind(obj):
        seen = _get(obj, "status", "observedGeneration")
        return _in_progress(f"{obj['kind']} generation is {metadata.get('generation')}, but latest observed is {seen}")
    if (condition := _condition(obj, "Reconciling")) and _is(condition, "True"):
        return _in_progress(_text(condition))
    if (condition := _condition(obj, "Stalled")) and _is(condition, "True"):
        return _failed(_text(condition))
    return None


def is_behind(obj: Object) -> bool:
    """The controller of this object has not seen its latest spec."""
    seen = _get(obj, "status", "observedGeneration")
    return seen is not None and seen != obj["metadata"].get("generation")


def failures(rows: Iterable[Unhealthy]) -> list[Unhealthy]:
    """Those that ended a health check early: waiting longer will not help them."""
    return [row for row in rows if row.health.status is Status.FAILED]


def health_error(rows: Sequence[Unhealthy]) -> str:
    """The text of the Healthy condition; the failed objects alone where there are any."""
    stalled = failures(rows)
    if stalled:
        return f"failed early due to stalled resources: [{', '.join(map(str, stalled))}]"
    return f"timeout waiting for: [{', '.join(map(str, rows))}]"


def may_be_absent(objects: Iterable[Object]) -> frozenset[str]:
    """Inventory ids of what need not be there to be healthy: never applied, or a Job that removes itself when done."""
    return frozenset(
        object_id(obj).id
        for obj in objects
        if is_ignored(obj) or (obj["kind"] == "Job" and _get(obj, "spec", "ttlSecondsAfterFinished") is not None)
    )


def crash_looping(parent: Object, pods: Iterable[Object], now: datetime) -> Health | None:
    """Failed where a Pod of this parent crashes in a loop; None otherwise. Only for kinds of FAILED_BY_PODS.

    Pods that end, or that no node has room for, say nothing about the parent: both pass by themselves.
    """
    for pod in pods:
        owners = pod["metadata"].get("ownerReferences") or []
        if not any(owner.get("uid") == parent["metadata"].get("uid") for owner in owners):
            continue
        health = health_of(pod, now)
        if health.status is Status.FAILED and not _unschedulable(pod):
            return _failed(f"{ref_of(pod).subject}: {health.message}")
    return None


def _current(message: str) -> Health:
    return Health(Status.CURRENT, message)


def _in_progress(message: str) -> Health:
    return Health(Status.IN_PROGRESS, message)


def _failed(message: str) -> Health:
    return Health(Status.FAILED, message)


def _get(obj: Any, *path: str) -> Any:
    for name in path:
        obj = obj.get(name) if isinstance(obj, Mapping) else None
    return obj


def _number(obj: Object, *path: str, default: int = 0) -> int:
    value = _get(obj, *path)
    return value if isinstance(value, int) else default


def _condition(obj: Object, type_: str) -> Mapping[str, Any] | None:
    conditions = _get(obj, "status", "conditions")
    found = conditions if isinstance(conditions, list) else []
    return next((c for c in found if isinstance(c, Mapping) and c.get("type") == type_), None)


def _is(condition: Mapping[str, Any] | None, status: str, reason: str | None = None) -> bool:
    if condition is None or condition.get("status") != status:
        return False
    return reason is None or condition.get("reason") == reason


def _text(condition: Mapping[str, Any]) -> str:
    return str(condition.get("message") or condition.get("reason") or "")


def _first(rows: Iterable[tuple[bool, str]]) -> Health | None:
    """InProgress with the text of the first row that holds."""
    return next((_in_progress(message) for holds, message in rows if holds), None)


def _generic(obj: Object, _: datetime) -> Health:
    ready = _condition(obj, "Ready")
    if ready is not None and not _is(ready, "True"):
        return _in_progress(_text(ready))
    return _current("Resource is Ready" if ready else "Resource is current")


def _exists(obj: Object, _: datetime) -> Health:
    return _current(f"{obj['kind']} is current")


def _deployment(obj: Object, _: datetime) -> Health:
    progressing = _condition(obj, "Progressing")
    if progressing is not None and progressing.get("reason") == "ProgressDeadlineExceeded":
        return _failed("Progress deadline exceeded")
    wanted = _number(obj, "spec", "replicas", default=1)
    total, updated = _number(obj, "status", "replicas"), _number(obj, "status", "updatedReplicas")
    available, ready = _number(obj, "status", "availableReplicas"), _number(obj, "status", "readyReplicas")
    has_deadline = _number(obj, "spec", "progressDeadlineSeconds", default=_NO_DEADLINE) != _NO_DEADLINE
    rolled_out = not has_deadline or _is(progressing, "True", "NewReplicaSetAvailable")
    return _first(
        (
            (wanted > total, f"replicas: {total}/{wanted}"),
            (wanted > updated, f"Updated: {updated}/{wanted}"),
            (total > wanted, f"Pending termination: {total - wanted}"),
            (updated > available, f"Available: {available}/{updated}"),
            (wanted > ready, f"Ready: {ready}/{wanted}"),
            (not rolled_out, "ReplicaSet not Available"),
            (not _is(_condition(obj, "Available"), "True"), "Deployment not Available"),
        )
    ) or _current(f"Deployment is available. Replicas: {total}")


def _stateful_set(obj: Object, _: datetime) -> Health:
    if _get(obj, "spec", "updateStrategy", "type") == "OnDelete":
        return _current("StatefulSet is using the ondelete update strategy")
    wanted = _number(obj, "spec", "replicas", default=1)
    total, ready = _number(obj, "status", "replicas"), _number(obj, "status", "readyReplicas")
    current, updated = _number(obj, "status", "currentReplicas"), _number(obj, "status", "updatedReplicas")
    partition = _number(obj, "spec", "updateStrategy", "rollingUpdate", "partition", default=-1)
    partitioned = partition != -1
    revisions = _get(obj, "status", "currentRevision"), _get(obj, "status", "updateRevision")
    return _first(
        (
            (wanted > total, f"Replicas: {total}/{wanted}"),
            (wanted > ready, f"Ready: {ready}/{wanted}"),
            (total > wanted, f"Pending termination: {total - wanted}"),
            (partitioned and updated < wanted - partition, f"updated: {updated}/{wanted - partition}"),
            (not partitioned and wanted > current, f"current: {current}/{wanted}"),
            (not partitioned and revisions[0] != revisions[1], "Waiting for updated revision to match current"),
        )
    ) or _current(f"{'Partition rollout complete' if partitioned else 'All replicas scheduled as expected'}: {total}")


def _daemon_set(obj: Object, _: datetime) -> Health:
    if not obj["metadata"].get("generation") or _get(obj, "status", "observedGeneration") is None:
        return _in_progress("Controller has not observed the latest generation")
    if _get(obj, "status", "desiredNumberScheduled") is None:
        return _in_progress("Missing .status.desiredNumberScheduled")
    wanted = _number(obj, "status", "desiredNumberScheduled")
    counts = {
        "Current": _number(obj, "status", "currentNumberScheduled"),
        "Updated": _number(obj, "status", "updatedNumberScheduled"),
        "Available": _number(obj, "status", "numberAvailable"),
        "Ready": _number(obj, "status", "numberReady"),
    }
    return _first((wanted > count, f"{name}: {count}/{wanted}") for name, count in counts.items()) or _current(
        f"All replicas scheduled as expected. Replicas: {wanted}"
    )


def _replica_set(obj: Object, _: datetime) -> Health:
    if _is(_condition(obj, "ReplicaFailure"), "True"):
        return _in_progress("Replica Failure condition. Check Pods")
    wanted, total = _number(obj, "spec", "replicas", default=1), _number(obj, "status", "replicas")
    counts = {
        "Labelled": _number(obj, "status", "fullyLabeledReplicas"),
        "Available": _number(obj, "status", "availableReplicas"),
        "Ready": _number(obj, "status", "readyReplicas"),
    }
    rows = [(wanted > count, f"{name}: {count}/{wanted}") for name, count in counts.items()]
    rows.append((total > wanted, f"Pending termination: {total - wanted}"))
    return _first(rows) or _current(f"ReplicaSet is available. Replicas: {total}")


def _pod(obj: Object, now: datetime) -> Health:
    match _get(obj, "status", "phase"):
        case "Succeeded":
            return _current("Pod has completed successfully")
        case "Failed":
            return _current("Pod has completed, but not successfully")
        case "Running":
            return _running_pod(obj)
        case "Pending":
            return _pending_pod(obj, now)
        case None | "":
            return _in_progress("Pod phase not available")
        case phase:
            return Health(Status.UNKNOWN, f"unknown phase {phase}")


def _running_pod(obj: Object) -> Health:
    if _is(_condition(obj, "Ready"), "True"):
        return _current("Pod is Ready")
    containers = _get(obj, "status", "containerStatuses")
    crashing = [
        str(_get(container, "name"))
        for container in (containers if isinstance(containers, list) else [])
        if _get(container, "state", "waiting", "reason") == "CrashLoopBackOff"
    ]
    if crashing:
        return _failed(f"Containers in CrashLoop state: {','.join(crashing)}")
    return _in_progress("Pod is running but is not Ready")


def _pending_pod(obj: Object, now: datetime) -> Health:
    condition = _unschedulable(obj)
    if condition is None:
        return _in_progress("Pod is in the Pending phase")
    since = _time(condition.get("lastTransitionTime"))
    if since is not None and now - since > _UNSCHEDULABLE_AFTER:
        return _failed("Pod could not be scheduled")
    return _in_progress("Pod has not been scheduled")


def _unschedulable(pod: Object) -> Mapping[str, Any] | None:
    condition = _condition(pod, "PodScheduled")
    return condition if _is(condition, "False", "Unschedulable") else None


def _time(text: Any) -> datetime | None:
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return time if time.tzinfo else None


def _job(obj: Object, _: datetime) -> Health:
    if _get(obj, "spec", "suspend") is True:
        return _current("Job is suspended")
    if _is(_condition(obj, "Complete"), "True"):
        return _current("Job Completed")
    failed = _condition(obj, "Failed")
    if failed is not None and _is(failed, "True"):
        return _failed(f"Job Failed: {_text(failed)}")
    return _in_progress("Job in progress")


def _claim(obj: Object, _: datetime) -> Health:
    return _current("PVC is Bound") if _get(obj, "status", "phase") == "Bound" else _in_progress("PVC is not Bound")


def _service(obj: Object, _: datetime) -> Health:
    # The external address of a LoadBalancer is not awaited: many clusters never give one.
    if _get(obj, "spec", "type") == "LoadBalancer" and not _get(obj, "spec", "clusterIP"):
        return _in_progress("ClusterIP not set")
    return _current("Service is ready")


def _definition(obj: Object, _: datetime) -> Health:
    names, established = _condition(obj, "NamesAccepted"), _condition(obj, "Established")
    if names is not None and _is(names, "False"):
        return _failed(_text(names))
    if established is not None and _is(established, "False") and established.get("reason") != "Installing":
        return _failed(_text(established))
    return _current("CRD is established") if _is(established, "True") else _in_progress("Install in progress")


RULES: Mapping[tuple[str, str], Rule] = {
    ("apps", "Deployment"): _deployment,
    ("apps", "StatefulSet"): _stateful_set,
    ("apps", "DaemonSet"): _daemon_set,
    ("apps", "ReplicaSet"): _replica_set,
    ("", "Pod"): _pod,
    ("batch", "Job"): _job,
    ("batch", "CronJob"): _exists,
    ("", "PersistentVolumeClaim"): _claim,
    ("", "Service"): _service,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _definition,
    ("policy", "PodDisruptionBudget"): _exists,
}
# Kinds whose Pods are looked at while they are InProgress. Deployments have a progress deadline instead.
FAILED_BY_PODS = frozenset({("apps", "StatefulSet"), ("apps", "ReplicaSet")})
