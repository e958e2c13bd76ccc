"""The objects of one ClusterSync: rendered, applied, pruned, and their health looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fleet_rollout.control.artifacts import ArtifactReconciler
from fleet_rollout.control.attributions import Attributions
from fleet_rollout.control.draft import Draft
from fleet_rollout.control.loop import Key
from fleet_rollout.control.targets import Beside, Targets
from fleet_rollout.control.world import World
from fleet_rollout.decide import conditions as conds
from fleet_rollout.decide import host
from fleet_rollout.decide import sync as decide
from fleet_rollout.decide.intervals import rfc3339
from fleet_rollout.decide.inventory import object_id, stale, union
from fleet_rollout.decide.kstatus import may_be_absent
from fleet_rollout.errors import FleetRolloutError, Terminal, Transient
from fleet_rollout.kube.apply import Applier, Change, ReplicaRule
from fleet_rollout.kube.client import Cluster
from fleet_rollout.kube.errors import kube_errors
from fleet_rollout.kube.health import Checks, compiled, unhealthy
from fleet_rollout.kube.member import HOST_KIND
from fleet_rollout.kube.prune import Pruner
from fleet_rollout.kube.settled import Settled
from fleet_rollout_api.cluster_sync import ClusterSync, InventoryEntry

LISTED = 20
# Objects that one request in flight is enough for where nobody waits for the outcome.
UNHURRIED = 50


class HealthCheckFailed(Transient):
    """`short` is the Healthy condition's message, without the time it took."""

    def __init__(self, seconds: float, short: str) -> None:
        super().__init__("HealthCheckFailed", f"health check failed after {seconds:.2f}s: {short}")
        self.short = short


@dataclass(frozen=True)
class _Pruned:
    """What was deleted, what has to stay in the inventory, and why."""

    changes: list[Change] = field(default_factory=list)
    survivors: list[InventoryEntry] = field(default_factory=list)
    failure: str | None = None
    handed_over: list[InventoryEntry] = field(default_factory=list)
    beside: Beside | None = None  # where something is handed over


class Objects:
    """Works on the draft's status; writes it before the first write to the member."""

    def __init__(self, world: World, targets: Targets, artifacts: ArtifactReconciler) -> None:
        self._world = world
        self._targets = targets
        self._artifacts = artifacts
        self._settled: dict[Key, Settled] = {}

    def forget(self, key: Key) -> None:
        """The ClusterSync is gone."""
        self._settled.pop(key, None)

    async def render(self, sync: ClusterSync) -> Sequence[dict[str, Any]]:
        """What the policy wants on the cluster. Shared by every cluster: not to be changed."""
        assert sync.spec.artifact is not None
        tree = await self._artifacts.tree(Key(sync.metadata.namespace, sync.spec.application), sync.spec.artifact)
        return await self._world.renderer.build(tree, sync.spec.artifact.digest, sync.spec.kustomization)

    async def apply(self, draft: Draft, wanted: str, *, in_a_hurry: bool) -> Beside | None:
        """Bring the cluster to the wanted objects, prune what is no longer wanted, and note what is there.

        Without hurry with few requests at once: a TLS handshake for a further connection costs more than ten of them.
        Where objects stay in the inventory until another policy, which wants them now, has them in its own: what that
        was decided by. While that stays so, another look finds the same.
        """
        sync = draft.sync
        assert sync.spec.artifact is not None
        compiled(sync.spec.kustomization.health_check_exprs)
        objects = await self.render(sync)
        old = await draft.inventory()
        self._refuse_empty(sync, objects, old)
        self._refuse_own(sync, objects)
        draft.change(last_attempted_revision=sync.spec.artifact.revision)
        cluster = self._targets.cluster(sync)
        with kube_errors("ReconciliationFailed", f"{sync.spec.cluster.kind}/{sync.spec.cluster.name}"):
            at_once = None if in_a_hurry else 1 + len(objects) // UNHURRIED
            changes = await self._apply(draft, wanted, cluster, objects, old, at_once)
            entries = [InventoryEntry(id=change.id, v=change.version) for change in changes]
            pruned = await self._prune(draft, wanted, cluster, stale(old, entries))
        await draft.keep_inventory(union([*pruned.survivors, *pruned.handed_over], entries))
        self._announce(draft, [*changes, *pruned.changes])
        if pruned.failure is not None:
            raise Transient("PruneFailed", pruned.failure)
        self._settle(draft, wanted, is_changed=any(map(_is_change, [*changes, *pruned.changes])))
        return pruned.beside

    async def _apply(
        self,
        draft: Draft,
        wanted: str,
        cluster: Cluster,
        objects: Sequence[dict[str, Any]],
        old: list[InventoryEntry],
        at_once: int | None,
    ) -> list[Change]:
        sync = draft.sync
        owner, impersonate = self._targets.owner(sync), self._targets.impersonate(sync)
        settled = self._settled.setdefault(draft.key, Settled(self._world.clock))
        applier = Applier(
            cluster,
            owner,
            self._world.settings,
            impersonate=impersonate,
            at_once=at_once,
            settled=settled,
            rehearsals=self._world.rehearsals,
        )
        draft.seen = applier.seen
        attributions = Attributions(draft, cluster, wanted, objects)

        async def before_write(entries: list[InventoryEntry]) -> None:
            await attributions.before_apply()
            await self._intend(draft, wanted, union(old, entries))

        changes = await applier.plan_and_apply(
            objects, force=sync.spec.kustomization.force, before_write=before_write, replicas=replica_rule(sync)
        )
        await attributions.after_apply()
        return changes

    def pruner(self, sync: ClusterSync, cluster: Cluster) -> Pruner:
        """Deletes as the policy's service account, on behalf of this ClusterSync."""
        return Pruner(cluster, self._targets.owner(sync), impersonate=self._targets.impersonate(sync))

    async def _intend(self, draft: Draft, wanted: str, entries: list[InventoryEntry]) -> None:
        """Inventory and leader's epoch, on the hub with the resourceVersion before the first write to the member."""
        draft.require_current()
        assert draft.sync.spec.artifact is not None
        draft.begin(wanted)
        await draft.keep_inventory(entries)
        message = f"Applying revision {draft.sync.spec.artifact.revision}"
        draft.change(conditions=decide.applying(draft.status.conditions, draft.stamp, message))
        await draft.write_intent()

    async def _prune(self, draft: Draft, wanted: str, cluster: Cluster, gone: list[InventoryEntry]) -> _Pruned:
        sync = draft.sync
        if not gone or not sync.spec.kustomization.prune:
            return _Pruned()
        beside = self._targets.beside(sync)
        try:
            taken = await self._targets.claimed_elsewhere(sync)
        except Transient as error:  # what others hold is not known
            return _Pruned(survivors=gone, failure=f"nothing is pruned: {error.message}")
        moving = await self._wanted_elsewhere(sync) - taken
        handed_over = [entry for entry in gone if entry.id in moving]
        gone = [entry for entry in gone if entry.id not in moving]
        if not gone:
            return _Pruned(handed_over=handed_over, beside=beside)
        attempt = draft.status.attempt
        if attempt is None or attempt.fingerprint != wanted or not draft.is_led(draft.status):
            await self._intend(draft, wanted, await draft.inventory())
        pruner = self.pruner(sync, cluster)
        changes, survivors = await pruner.prune(gone, siblings=taken)
        return _Pruned(changes, survivors, pruner.failure, handed_over, beside if handed_over else None)

    async def _wanted_elsewhere(self, sync: ClusterSync) -> frozenset[str]:
        """Ids that other policies of the Application make of the same content on the same cluster.

        An object that moves between policies must not be deleted by the one that is faster.
        """
        found: set[str] = set()
        for other in self._targets.siblings(sync):
            if other.spec.kustomization.suspend:
                continue
            spec = other.spec.model_copy(update={"artifact": sync.spec.artifact})
            try:
                objects = await self.render(other.model_copy(update={"spec": spec}))
            except FleetRolloutError:  # its own pass says so; what it cannot build it cannot take over
                continue
            found |= {object_id(obj).id for obj in objects}
        return frozenset(found)

    def _announce(self, draft: Draft, changes: list[Change]) -> None:
        if changed := [change for change in changes if _is_change(change)]:
            self._world.recorder.normal(draft.obj, "ReconciliationSucceeded", _listed(changed))

    def _settle(self, draft: Draft, wanted: str, *, is_changed: bool) -> None:
        """The status after a pass that applied everything; health is looked at next where asked."""
        sync, now = draft.sync, rfc3339(self._world.now())
        assert sync.spec.artifact is not None
        revision = sync.spec.artifact.revision
        is_new = draft.status.applied_fingerprint != wanted
        draft.change(applied_fingerprint=wanted, last_applied_digest=sync.spec.artifact.digest)
        if is_new:
            draft.change(applied_at=now)
        if sync.spec.requested_at:
            draft.change(last_handled_reconcile_at=sync.spec.requested_at)
        was_healthy = conds.is_true(draft.status.conditions, conds.HEALTHY)
        if not decide.needs_health(sync):
            draft.change(conditions=conds.remove(draft.status.conditions, conds.HEALTHY))
            self._succeed(draft)
        elif is_changed or is_new or not was_healthy:
            if draft.status.attempt is None or draft.status.attempt.fingerprint != wanted or not was_healthy:
                draft.begin(wanted)
            seconds = decide.health_deadline(sync)
            draft.change(conditions=decide.awaiting_health(draft.status.conditions, draft.stamp, revision, seconds))
        else:
            self._succeed(draft)

    def _succeed(self, draft: Draft) -> None:
        assert draft.sync.spec.artifact is not None
        revision = draft.sync.spec.artifact.revision
        draft.change(
            conditions=decide.succeeded(draft.status.conditions, draft.stamp, revision),
            last_applied_revision=revision,
            observed_generation=draft.sync.metadata.generation,
        )

    async def check_health(self, draft: Draft) -> None:
        """One look: all Current ends the wait, a failed object or the time-out ends the attempt."""
        sync = draft.sync
        policy = sync.spec.kustomization
        cluster = self._targets.cluster(sync)
        checks = Checks(
            entries=await draft.inventory() if policy.wait else [],
            may_be_absent=may_be_absent(await self.render(sync)) if policy.wait else frozenset(),
            references=[] if policy.wait else policy.health_checks,
            expressions=policy.health_check_exprs,
            selector=self._targets.owner(sync).selector,
        )
        with kube_errors("HealthCheckFailed", f"{sync.spec.cluster.kind}/{sync.spec.cluster.name}"):
            verdict = await unhealthy(cluster, checks, impersonate=self._targets.impersonate(sync))
        is_awaited = decide.awaits_health(draft.status)
        if not verdict.waiting and not verdict.failed:
            if is_awaited:
                seconds = decide.attempt_seconds(draft.status, self._world.now())
                draft.change(conditions=decide.healthy(draft.status.conditions, draft.stamp, seconds))
                self._succeed(draft)
            return
        if not is_awaited:
            self._await_health(draft)
        limit = decide.health_deadline(sync)
        seconds = decide.attempt_seconds(draft.status, self._world.deadline_now(limit))
        if verdict.failed:
            raise HealthCheckFailed(seconds, f"failed early due to stalled resources: [{', '.join(verdict.failed)}]")
        if seconds > limit:
            raise HealthCheckFailed(seconds, f"timeout waiting for: [{', '.join(verdict.waiting)}]")

    def _await_health(self, draft: Draft) -> None:
        """What was healthy is not so any more, though nothing was applied: it gets its time to recover."""
        assert draft.sync.spec.artifact is not None
        draft.begin(decide.fingerprint(draft.sync.spec))
        revision, seconds = draft.sync.spec.artifact.revision, decide.health_deadline(draft.sync)
        draft.change(conditions=decide.awaiting_health(draft.status.conditions, draft.stamp, revision, seconds))

    def _refuse_own(self, sync: ClusterSync, objects: Sequence[dict[str, Any]]) -> None:
        """On the hub, content must not reach the service's own parts, whoever it is applied as."""
        if sync.spec.cluster.kind != HOST_KIND:
            return
        refusal = host.refusal(
            objects,
            namespace=sync.metadata.namespace,
            own_namespace=self._world.settings.own_namespace,
            as_itself=self._targets.impersonate(sync) is None,
        )
        if refusal is not None:
            raise Terminal("HostObjectRefused", refusal)

    @staticmethod
    def _refuse_empty(sync: ClusterSync, objects: Sequence[dict[str, Any]], old: list[InventoryEntry]) -> None:
        if objects or not old or sync.spec.kustomization.allow_empty:
            return
        raise Terminal(
            "EmptyBuild",
            f"the build of policy {sync.spec.policy} holds no objects and the last one held {len(old)}; nothing is "
            "pruned. Restore the manifests, or set kustomization.allowEmpty: true to prune them all",
        )


def replica_rule(sync: ClusterSync) -> ReplicaRule | None:
    """Under a rollout the workload's replicas belong to whoever scales it, not to Git."""
    if sync.spec.rollout is None:
        return None
    workload = sync.spec.rollout.workload
    return ReplicaRule(kind=workload.kind, namespace=workload.namespace or "", name=workload.name)


def _is_change(change: Change) -> bool:
    return change.action not in ("unchanged", "skipped")


def _listed(changes: list[Change]) -> str:
    lines = [f"{change.subject} {change.action}" for change in changes[:LISTED]]
    if len(changes) > LISTED:
        lines.append(f"and {len(changes) - LISTED} more")
    return "\n".join(lines)
