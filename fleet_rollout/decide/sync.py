"""What one ClusterSync has to do now, from its spec, its status and the time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from fleet_rollout.decide import conditions as conds
from fleet_rollout.decide.intervals import parse_time, timeout_of
from fleet_rollout_api.cluster_sync import ClusterSync, ClusterSyncSpec, ClusterSyncStatus
from fleet_rollout_api.meta import Condition

# Fields of the policy that say when to work, not what the cluster should look like.
TIMING = frozenset({"interval", "retryInterval", "suspend", "dependsOn"})


class Work(Enum):
    """Why objects are to be applied in this pass."""

    NONE = "nothing to apply"
    NEW = "the wanted state changed"
    REQUESTED = "reconciliation was requested"
    RETRY = "the last attempt failed, or stopped half-way"
    EDITED = "the policy says otherwise when to work: resumed, or another interval"
    DRIFT = "the interval is over"


@dataclass(frozen=True)
class Timing:
    """What the process remembers: seconds since the last look at the objects, None after a restart."""

    since_check: float | None
    interval: float


def fingerprint(spec: ClusterSyncSpec) -> str:
    """Names the state that `spec` wants: artifact and effective policy. Equal fingerprints, equal objects."""
    policy = {name: value for name, value in spec.kustomization.dump().items() if name not in TIMING}
    wanted = {
        "artifact": spec.artifact.digest if spec.artifact else None,
        "kustomization": policy,
        "rollout": spec.rollout.dump() if spec.rollout else None,
        "engine": spec.engine if spec.rollout else None,
    }
    text = json.dumps(wanted, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def work_for(sync: ClusterSync, wanted: str, timing: Timing) -> Work:
    """Whether objects are applied in this pass, and why."""
    status = sync.status
    if status.applied_fingerprint != wanted:
        return Work.NEW
    if (sync.spec.requested_at or None) != status.last_handled_reconcile_at and sync.spec.requested_at:
        return Work.REQUESTED
    ready = conds.get(status.conditions, "Ready")
    # Unknown is what an intent says: who wrote it died, or could not reach the hub, before it said how it ended.
    is_left = ready is not None and ready.status == "Unknown" and not awaits_health(status)
    if ready is not None and (ready.status == "False" or is_left):
        return Work.RETRY
    if ready is not None and (ready.observed_generation or 0) < sync.metadata.generation:
        return Work.EDITED
    if timing.interval > 0 and timing.since_check is not None and timing.since_check >= timing.interval:
        return Work.DRIFT
    return Work.NONE


def needs_health(sync: ClusterSync) -> bool:
    """Whether the policy asks for health checks."""
    policy = sync.spec.kustomization
    return bool(policy.wait or policy.health_checks)


def health_deadline(sync: ClusterSync) -> float:
    """Seconds that health checks may take."""
    policy = sync.spec.kustomization
    return timeout_of(policy.interval, policy.timeout)


def awaits_health(status: ClusterSyncStatus) -> bool:
    """Whether objects were applied and their health is not yet known."""
    healthy = conds.get(status.conditions, "Healthy")
    return healthy is not None and healthy.status == "Unknown"


def attempt_seconds(status: ClusterSyncStatus, now: datetime) -> float:
    """Seconds since the attempt under way began, by the stored time."""
    if status.attempt is None:
        return 0.0
    return max(0.0, (now - parse_time(status.attempt.started_at)).total_seconds())


@dataclass(frozen=True)
class Stamp:
    """The generation and moment that conditions set in this pass carry."""

    generation: int
    now: datetime


def progressing(conditions: Sequence[Condition], stamp: Stamp, message: str) -> list[Condition]:
    """Ready Unknown, Reconciling True; what was Stalled is tried again."""
    kept = conds.remove(conditions, "Stalled")
    kept = _set(kept, stamp, "Reconciling", "True", "Progressing", message)
    return _set(kept, stamp, "Ready", "Unknown", "Progressing", "Reconciliation in progress")


def applying(conditions: Sequence[Condition], stamp: Stamp, message: str) -> list[Condition]:
    """What precedes writes to the member. Health is not waited for meanwhile: who stops here has more to do than that.

    What is known of it stays shown.
    """
    known = [found for found in conditions if found.type != "Healthy" or found.status != "Unknown"]
    return progressing(known, stamp, message)


def awaiting_health(conditions: Sequence[Condition], stamp: Stamp, revision: str, seconds: float) -> list[Condition]:
    """Objects are applied; their health is looked at."""
    message = f"Running health checks for revision {revision} with a timeout of {seconds:g}s"
    kept = progressing(conditions, stamp, message)
    return _set(kept, stamp, "Healthy", "Unknown", "Progressing", message)


def succeeded(conditions: Sequence[Condition], stamp: Stamp, revision: str) -> list[Condition]:
    """Everything wanted is applied, and healthy where asked."""
    kept = conds.remove(conditions, "Stalled", "Reconciling")
    return _set(kept, stamp, "Ready", "True", "ReconciliationSucceeded", f"Applied revision: {revision}")


def healthy(conditions: Sequence[Condition], stamp: Stamp, seconds: float) -> list[Condition]:
    """Every checked object is Current."""
    return _set(conditions, stamp, "Healthy", "True", "Succeeded", f"Health check passed in {seconds:.2f}s")


def unhealthy(conditions: Sequence[Condition], stamp: Stamp, message: str) -> list[Condition]:
    """Some checked objects are not Current."""
    return _set(conditions, stamp, "Healthy", "False", "HealthCheckFailed", message)


def failed(
    conditions: Sequence[Condition], stamp: Stamp, reason: str, message: str, *, stalled: bool
) -> list[Condition]:
    """The attempt failed; `stalled` where only a change can help."""
    if stalled:
        kept = conds.remove(conditions, "Reconciling")
        kept = _set(kept, stamp, "Stalled", "True", reason, message)
    else:
        before = conds.get(conditions, "Reconciling")
        doing = before.message if before is not None else "Reconciliation in progress"
        kept = conds.remove(conditions, "Stalled")
        kept = _set(kept, stamp, "Reconciling", "True", "ProgressingWithRetry", doing)
    return _set(kept, stamp, "Ready", "False", reason, message)


def _set(
    conditions: Sequence[Condition], stamp: Stamp, type_: str, status: conds.Status, reason: str, message: str
) -> list[Condition]:
    return conds.set_condition(conditions, type_, status, reason, message, generation=stamp.generation, now=stamp.now)
