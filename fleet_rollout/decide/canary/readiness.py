"""Is a workload ready? If not, the reason as users read it, and whether waiting may help."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from fleet_rollout.decide.canary.objects import StepFailed
from fleet_rollout.decide.canary.subject import Subject

Object = Mapping[str, Any]

_WAITING = "waiting for rollout to finish: "


def require_primary(subject: Subject, primary: Object, now: datetime) -> None:
    """StepFailed unless the primary is ready."""
    kind = "primary daemonset " if subject.target_kind == "DaemonSet" else ""
    who = f"{kind}{subject.primary_workload}.{subject.namespace}"
    try:
        _judge(subject, primary, now, subject.analysis.get("primaryReadyThreshold"))
    except StepFailed as error:
        raise StepFailed(f"{who} not ready: {error.message}", retriable=error.retriable) from None


def require_canary(subject: Subject, target: Object, now: datetime) -> None:
    """StepFailed unless the target is ready."""
    try:
        _judge(subject, target, now, subject.analysis.get("canaryReadyThreshold"))
    except StepFailed as error:
        text = f"canary deployment {subject.target} not ready: {error.message}"
        if subject.target_kind == "DaemonSet":  # spelled as Flagger does, for whoever looks for it
            hope = str(error.retriable).lower()
            text = f"canary damonset {subject.target} not ready with retryable {hope}: {error.message}"
        raise StepFailed(text, retriable=error.retriable) from None


def _judge(subject: Subject, workload: Object, now: datetime, percent: Any) -> None:
    judge = _deployment if subject.target_kind == "Deployment" else _daemon_set
    judge(subject, workload, 100 if percent is None else int(percent), now)


def _deployment(subject: Subject, deployment: Object, percent: int, now: datetime) -> None:
    status = _seen_status(deployment)
    progressing, available = _condition(status, "Progressing"), _condition(status, "Available")
    if progressing.get("reason") == "ProgressDeadlineExceeded":
        name = deployment["metadata"]["name"]
        raise StepFailed(f'deployment "{name}" exceeded its progress deadline', retriable=False)
    wanted, updated = deployment["spec"].get("replicas", 1), status.get("updatedReplicas", 0)
    old, up = status.get("replicas", 0) - updated, status.get("availableReplicas", 0)
    needed = updated * percent // 100
    is_stuck = bool(progressing) and _is_unavailable_since(
        available, now - timedelta(seconds=subject.progress_deadline)
    )
    for holds, reason in (
        (updated < wanted, f"{updated} out of {wanted} new replicas have been updated"),
        (old > 0, f"{old} old replicas are pending termination"),
        (up < needed, f"{up} of {needed} (readyThreshold {percent}%) updated replicas are available"),
    ):
        if holds:
            raise StepFailed(_WAITING + reason, retriable=not is_stuck)


def _daemon_set(subject: Subject, daemon_set: Object, percent: int, now: datetime) -> None:
    status = _seen_status(daemon_set)
    desired, updated = status.get("desiredNumberScheduled", 0), status.get("updatedNumberScheduled", 0)
    up, needed = status.get("numberAvailable", 0), desired * percent // 100
    if updated >= desired and up >= needed:
        return
    since = _time(subject.status.get("lastTransitionTime"))
    if since is not None and since + timedelta(seconds=subject.progress_deadline) < now:
        raise StepFailed(f"exceeded its progressDeadlineSeconds: {subject.progress_deadline}", retriable=False)
    if updated < desired:
        raise StepFailed(f"{_WAITING}{updated} out of {desired} new pods have been updated")
    raise StepFailed(f"{_WAITING}{up} of {needed} (readyThreshold {percent}%) updated pods are available")


def _seen_status(workload: Object) -> Object:
    """The status, of which StepFailed says if it speaks of an older spec."""
    status: Object = workload.get("status") or {}
    if workload["metadata"].get("generation", 0) > status.get("observedGeneration", 0):
        kind = workload["kind"].lower()
        raise StepFailed(f"{_WAITING}observed {kind} generation less than desired generation")
    return status


def _condition(status: Object, type_: str) -> Object:
    return next((each for each in status.get("conditions") or () if each["type"] == type_), {})


def _is_unavailable_since(available: Object, deadline: datetime) -> bool:
    """Whether Kubernetes itself has called too few Pods available since before the deadline."""
    if (available.get("status"), available.get("reason")) != ("False", "MinimumReplicasUnavailable"):
        return False
    since = _time(available.get("lastUpdateTime"))
    return since is not None and since < deadline


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
