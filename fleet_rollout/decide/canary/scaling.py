"""The target between rollouts: at zero, and back. Services have nothing to scale."""

from __future__ import annotations

from typing import Any

from fleet_rollout.decide.canary.live import replaced, required
from fleet_rollout.decide.canary.objects import Live, Object, Write
from fleet_rollout.decide.canary.primary_pods import without_scale_down
from fleet_rollout.decide.canary.scalers import target_scaler
from fleet_rollout.decide.canary.subject import Subject
from fleet_rollout.decide.canary.workload import primary_ref, target_ref
from fleet_rollout.decide.traffic_names import SCALE_TO_ZERO_KEY


def scale_down(subject: Subject, live: Live) -> list[Write]:
    """No Pod of the target; a DaemonSet gets a node selector that no node matches."""
    target = required(live, target_ref(subject))
    if subject.target_kind == "Deployment":
        return with_replicas(target, 0)
    pods = target["spec"]["template"]["spec"]
    return _with_pods(target, pods | {"nodeSelector": {**(pods.get("nodeSelector") or {}), SCALE_TO_ZERO_KEY: "true"}})


def scale_up(subject: Subject, live: Live) -> list[Write]:
    """The target's Pods again; replicas that somebody has set meanwhile stay."""
    target = required(live, target_ref(subject))
    if subject.target_kind == "Deployment":
        return with_replicas(target, _wanted_replicas(subject, target, live))
    return _with_pods(target, without_scale_down(target["spec"]["template"]["spec"]))


def is_scaled_down(subject: Subject, target: Object) -> bool:
    """Whether the engine, or anybody, has scaled the target to zero."""
    if subject.target_kind == "Deployment":
        return bool(target["spec"].get("replicas") == 0)
    return SCALE_TO_ZERO_KEY in (target["spec"]["template"]["spec"].get("nodeSelector") or {})


def with_replicas(workload: Object, replicas: int) -> list[Write]:
    """The Deployment with so many replicas."""
    return replaced(workload, {**workload, "spec": {**workload["spec"], "replicas": replicas}})


def _wanted_replicas(subject: Subject, target: Object, live: Live) -> int:
    """What it has; else its autoscaler's minimum, or as many as the primary; at least one."""
    if target["spec"].get("replicas"):
        return int(target["spec"]["replicas"])
    if subject.spec.get("autoscalerRef"):
        scaler = (target_scaler(subject, live) or {}).get("spec") or {}
        return max(1, scaler.get("minReplicas") or scaler.get("minReplicaCount") or 1)
    primary = live[primary_ref(subject)]
    return int(primary["spec"].get("replicas") or 1) if primary is not None else 1


def _with_pods(target: Object, pods: dict[str, Any]) -> list[Write]:
    template = {**target["spec"]["template"], "spec": pods}
    return replaced(target, {**target, "spec": {**target["spec"], "template": template}})
