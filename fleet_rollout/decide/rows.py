"""How one policy stands on one cluster: a claim with a reason, and the row of the Application's status.

A row is ready when the wanted content is applied and healthy where asked, and its Canary has accepted that content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fleet_rollout.decide import conditions, names
from fleet_rollout.decide.hand_over import Held
from fleet_rollout.decide.plan import SyncPlan
from fleet_rollout.decide.problems import Problem
from fleet_rollout.decide.rollout_phase import Verdict, judge
from fleet_rollout_api.cluster_sync import ClusterReference, ClusterSync
from fleet_rollout_api.flagger import CanaryCondition, CanaryStatus

ROLLOUT_READY = "RolloutReady"
ROLLOUT_FAILED = "RolloutFailed"
HAND_OVER = "HandOverPending"
# Counted instead of the Canary's phase while that is about older content.
PENDING = "Pending"
MESSAGE_LIMIT = 600

# What the API server keeps of a Canary's status; the rest would differ for ever from what was written.
CANARY_FIELDS = tuple(str(field.alias) for field in CanaryStatus.model_fields.values())
CONDITION_FIELDS = tuple(str(field.alias) for field in CanaryCondition.model_fields.values())


@dataclass(frozen=True)
class Standing:
    """`ready` as a condition's status: False has failed (or waits for a retry), Unknown is not finished."""

    ready: conditions.Status
    reason: str
    message: str = ""
    stalled: bool = False


@dataclass(frozen=True)
class RowState:
    """One row, not written down yet. `verdict` is None where there is no rollout; `leaving` rows are not counted."""

    name: str
    policy: str
    cluster: ClusterReference
    sync: ClusterSync | None
    standing: Standing
    verdict: Verdict | None = None
    leaving: bool = False

    @property
    def place(self) -> str:
        return f"{self.cluster.kind}/{self.cluster.name}"

    @property
    def phase(self) -> str | None:
        """The Canary's phase as it is counted."""
        if self.verdict is None:
            return None
        said = self.engine_says
        return said if said is not None and self.verdict is not Verdict.WAITING else PENDING

    @property
    def engine_says(self) -> str | None:
        """The phase that an engine has written last, whatever content it is about; None where none is at work yet."""
        record = self.sync.status.rollout if self.sync is not None else None
        phase = (record.canary_status or {}).get("phase") if record is not None else None
        return str(phase) if phase else None


def row_states(plan: SyncPlan, syncs: Sequence[ClusterSync], wanted: str | None) -> list[RowState]:
    """The rows in their order: the plan's, then what else is there, by name. `wanted` is the artifact's digest."""
    by_name = {sync.metadata.name: sync for sync in syncs}
    held = {each.name: each for each in plan.held}
    rows = []
    for row in plan.rows:
        sync = by_name.pop(row.name, None)
        problem = next(
            (each for each in plan.problems if (each.policy, each.cluster) == (row.policy, row.cluster)), None
        )
        rows.append(_state(row.child, row.policy, row.cluster, sync, wanted, problem))
    for name in sorted(by_name):
        sync, spec = by_name[name], by_name[name].spec
        child = names.child_name(spec.policy, spec.cluster.kind, spec.cluster.name)
        if name in held:
            standing = Standing("Unknown", HAND_OVER, _awaits(held[name]))
            rows.append(RowState(child, spec.policy, spec.cluster, sync, standing, leaving=True))
        elif name in plan.delete:
            rows.append(RowState(child, spec.policy, spec.cluster, sync, _leaving(sync), leaving=True))
        else:
            rows.append(_kept(_state(child, spec.policy, spec.cluster, sync, wanted, None), plan))
    return rows


def _awaits(held: Held) -> str:
    """What a policy that is not wanted any more is kept for. Who may never be there is not named, but why that is."""
    awaited = [f"{', '.join(held.waits_for)} has taken over"] if held.waits_for else []
    problems = dict.fromkeys(f"{each.reason}: {each.message}" for each in held.problems)
    if problems:
        awaited.append(f"this is mended: {'; '.join(problems)}")
    return f"kept until {' and '.join(awaited)}"


def _kept(row: RowState, plan: SyncPlan) -> RowState:
    """Of a policy whose Fleet is not there: it stays as it is, so that nothing but an analysis is under way."""
    missing = plan.unplaced.get(row.policy)
    if missing is None or row.leaving or row.standing.ready != "Unknown" or row.verdict is Verdict.RUNNING:
        return row
    return replace(row, standing=Standing("False", missing.reason, missing.message))


def _state(
    child: str,
    policy: str,
    cluster: ClusterReference,
    sync: ClusterSync | None,
    wanted: str | None,
    problem: Problem | None,
) -> RowState:
    if sync is not None and sync.metadata.deletion_timestamp is not None:
        return RowState(child, policy, cluster, sync, _leaving(sync), leaving=True)
    if problem is not None:
        standing = Standing("False", problem.reason, problem.message, problem.terminal)
        return RowState(child, policy, cluster, sync, standing)
    if sync is None:
        return RowState(child, policy, cluster, None, Standing("Unknown", "Progressing", "waits to be started"))
    standing, verdict = _applied(sync, wanted), None
    if sync.spec.rollout is not None:
        standing, verdict = _rolled_out(sync, standing)
    elif sync.status.rollout is not None and standing.ready == "True":
        standing = Standing("Unknown", "RolloutRemoving", "the rollout is being removed")
    return RowState(child, policy, cluster, sync, standing, verdict)


def _leaving(sync: ClusterSync) -> Standing:
    ready = conditions.get(sync.status.conditions, conditions.READY)
    message = ready.message if ready is not None and ready.status == "False" else "what it has brought is being removed"
    return Standing("Unknown", "Deleting", message)


def _applied(sync: ClusterSync, wanted: str | None) -> Standing:
    """Whether the wanted content is applied, and healthy where asked."""
    ready = conditions.get(sync.status.conditions, conditions.READY)
    artifact = sync.spec.artifact
    if ready is not None and ready.status == "False":
        return Standing(
            "False", ready.reason, ready.message, conditions.is_true(sync.status.conditions, conditions.STALLED)
        )
    is_current = (
        artifact is not None
        and artifact.digest == (wanted or artifact.digest)
        and sync.status.last_applied_digest == artifact.digest
        and sync.status.observed_generation >= sync.metadata.generation
    )
    if is_current and ready is not None and ready.status == "True":
        return Standing("True", ready.reason)
    if sync.spec.kustomization.suspend:
        revision = sync.status.last_applied_revision or "nothing"
        return Standing("Unknown", "Suspended", f"the policy is suspended, {revision} is applied")
    doing = conditions.get(sync.status.conditions, conditions.RECONCILING)
    return Standing("Unknown", "Progressing", doing.message if doing is not None else "waits for the wanted revision")


def _rolled_out(sync: ClusterSync, applied: Standing) -> tuple[Standing, Verdict]:
    """What the rollout adds to an apply: nothing while that is not finished."""
    record = sync.status.rollout
    translated = conditions.get(sync.status.conditions, ROLLOUT_READY)
    if applied.ready != "True":
        return applied, Verdict.WAITING
    if translated is not None and translated.status == "False":
        return Standing("False", translated.reason, translated.message), Verdict.WAITING
    if record is None:
        return Standing("Unknown", "RolloutProgressing", "the rollout is being set up"), Verdict.WAITING
    found = judge(record, sync.status.applied_fingerprint, sync.spec.engine)
    assert sync.spec.rollout is not None
    note = "; the rollout is suspended" if sync.spec.rollout.rollout_policy.suspend else ""
    standings = {
        Verdict.SUCCEEDED: applied,
        Verdict.FAILED: Standing("False", ROLLOUT_FAILED, found.message, stalled=True),
        Verdict.RUNNING: Standing("Unknown", "RolloutProgressing", found.message + note),
        Verdict.WAITING: Standing("Unknown", "RolloutProgressing", found.message + note),
    }
    return standings[found.verdict], found.verdict


def written(row: RowState, *, with_inventory: bool = True) -> dict[str, Any]:
    """The row as the status shows it, in Kurator's shape and with our fields beside it."""
    sync = row.sync
    fields = {
        "name": row.name,
        "policy": row.policy,
        "cluster": row.place,
        "clusterSync": sync.metadata.name if sync is not None else None,
        "ready": row.standing.ready,
        "message": row.standing.message[:MESSAGE_LIMIT] or None,
        "kustomizationStatus": _kustomization_status(sync, with_inventory) if sync is not None else None,
        "rolloutStatus": _rollout_status(sync) if sync is not None else None,
    }
    return _present(fields)


def compact(row: RowState) -> dict[str, Any]:
    """The row in a few words, for a status that would grow too large; details are in the ClusterSync."""
    fields = written(row, with_inventory=False)
    details = fields.pop("kustomizationStatus", {})
    fields["kustomizationStatus"] = {key: details[key] for key in ("lastAppliedRevision",) if key in details} or None
    if rollout := fields.get("rolloutStatus"):
        canary = rollout.get("rolloutStatusInCluster", {})
        short = {key: canary[key] for key in ("phase", "canaryWeight", "failedChecks", "iterations") if key in canary}
        fields["rolloutStatus"] = _present(rollout | {"rolloutStatusInCluster": short or None})
    return _present(fields)


def _kustomization_status(sync: ClusterSync, with_inventory: bool) -> dict[str, Any]:
    status = sync.status
    inventory = status.inventory if with_inventory and not status.inventory_parts else None
    fields = {
        "observedGeneration": status.observed_generation,
        "conditions": [condition.dump() for condition in status.conditions] or None,
        "lastAppliedRevision": status.last_applied_revision,
        "lastAttemptedRevision": status.last_attempted_revision,
        "lastHandledReconcileAt": status.last_handled_reconcile_at,
        "inventory": {"entries": [entry.dump() for entry in inventory.entries]} if inventory else None,
    }
    return _present(fields)


def _rollout_status(sync: ClusterSync) -> dict[str, Any] | None:
    record = sync.status.rollout
    if record is None:
        return None
    fields = {
        "clusterName": sync.spec.cluster.name,
        "rolloutNameInCluster": record.canary or record.workload,
        "rolloutStatusInCluster": _canary_status(record.canary_status) or None,
    }
    return _present(fields)


def _canary_status(status: Mapping[str, Any] | None) -> dict[str, Any]:
    found = {key: value for key, value in (status or {}).items() if key in CANARY_FIELDS and value is not None}
    if "conditions" in found:
        found["conditions"] = [
            {key: value for key, value in each.items() if key in CONDITION_FIELDS and value is not None}
            for each in found["conditions"]
        ]
    return found


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}
