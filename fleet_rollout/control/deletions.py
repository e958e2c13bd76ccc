"""The end of a ClusterSync: take the rollout away without an outage, prune, or give up on a lost member.

The finalizer goes only when nothing is left on the cluster, or when what is left is recorded.
"""

from __future__ import annotations

from fleet_rollout.control.draft import Draft
from fleet_rollout.control.hub_writes import HubWrites
from fleet_rollout.control.loop import Key
from fleet_rollout.control.members import lost_since
from fleet_rollout.control.objects import Objects
from fleet_rollout.control.orphans import Orphans
from fleet_rollout.control.rollouts import Rollouts
from fleet_rollout.control.targets import PLURALS, Targets
from fleet_rollout.control.world import CLUSTER_SYNCS, World
from fleet_rollout.decide.intervals import parse_time, rfc3339
from fleet_rollout.decide.names import FINALIZER
from fleet_rollout.decide.sync import health_deadline
from fleet_rollout.errors import Transient
from fleet_rollout.kube.client import Cluster
from fleet_rollout.kube.errors import kube_errors
from fleet_rollout_api.cluster_sync import ClusterSync

TERMINATION_POLL = 2.0


def keeps_objects(sync: ClusterSync) -> bool:
    """Whether the objects stay on the cluster when the ClusterSync goes (Flux's deletionPolicy)."""
    policy = sync.spec.kustomization
    if policy.suspend or policy.deletion_policy == "Orphan":
        return True
    return policy.deletion_policy in (None, "MirrorPrune") and not policy.prune


def keeps_rollout(sync: ClusterSync) -> bool:
    """Suspended and orphaned ClusterSyncs leave everything as it is, Canary included."""
    policy = sync.spec.kustomization
    return policy.suspend or policy.deletion_policy == "Orphan"


class Deletions:
    """Called again and again until the finalizer is gone."""

    def __init__(self, world: World, writes: HubWrites, targets: Targets, rollouts: Rollouts, objects: Objects) -> None:
        self._world = world
        self._writes = writes
        self._targets = targets
        self._rollouts = rollouts
        self._objects = objects
        self._orphans = Orphans(world)

    async def finalize(self, draft: Draft) -> float | None:
        """One step towards the end; seconds until the next."""
        if FINALIZER not in draft.obj["metadata"].get("finalizers", []):
            return None
        sync = draft.sync
        nothing_left = not await draft.inventory_left() and draft.status.rollout is None
        if nothing_left or keeps_rollout(sync):
            await self._release(draft)
            return None
        try:
            cluster = self._targets.cluster(sync)
            with kube_errors("PruneFailed", f"{sync.spec.cluster.kind}/{sync.spec.cluster.name}"):
                again = await self._rollouts.remove(draft, cluster)
                if again is None and not keeps_objects(sync):
                    again = await self._prune(draft, cluster)
        except Transient as error:
            if not self._is_lost(sync, error):
                raise
            await self._orphans.record(draft, keeps_objects=keeps_objects(sync))
            await self._release(draft)
            return None
        if again is not None:
            await draft.write()
            return again
        await self._release(draft)
        return None

    async def _prune(self, draft: Draft, cluster: Cluster) -> float | None:
        sync = draft.sync
        entries = await draft.inventory()
        pruner = self._objects.pruner(sync, cluster)
        changes, survivors = await pruner.prune(entries, siblings=await self._targets.claimed_elsewhere(sync))
        if pruner.failure is not None:
            await draft.keep_inventory(survivors)
            await draft.write()
            raise Transient("PruneFailed", pruner.failure)
        deleted = {change.id for change in changes if change.action == "deleted"}
        leaving = [entry for entry in entries if entry.id in deleted]
        if sync.spec.kustomization.deletion_policy == "WaitForTermination" and await pruner.remaining(leaving):
            if self._has_time(sync):
                return TERMINATION_POLL
            message = f"failed to wait for resources termination within {health_deadline(sync):g}s"
            self._world.recorder.warning(draft.obj, "PruneFailed", message)
        return None

    def _has_time(self, sync: ClusterSync) -> bool:
        """Whether termination may still be awaited: a finalizer that nobody removes must not keep ours for ever."""
        since = parse_time(sync.metadata.deletion_timestamp or rfc3339(self._world.now()))
        limit = health_deadline(sync)
        return (self._world.deadline_now(limit) - since).total_seconds() < limit

    def _is_lost(self, sync: ClusterSync, error: Transient) -> bool:
        """Whether to stop waiting: at once where the way to the member is gone, else after `member_give_up` seconds."""
        if error.reason in ("ClusterNotFound", "KubeconfigMissing"):
            return True
        reference = sync.spec.cluster
        key = Key(sync.metadata.namespace, reference.name)
        obj = self._world.store.get(PLURALS[reference.kind], key) if reference.kind in PLURALS else None
        since = lost_since(obj) if obj is not None else None
        if since is None and reference.kind in PLURALS:
            # A Cluster's status is not ours to write: what this process has seen has to do.
            since = self._world.members.lost_since(reference.kind, reference.name, sync.metadata.namespace)
        if since is None:
            return False
        limit = self._world.settings.member_give_up
        return (self._world.deadline_now(limit) - since).total_seconds() >= limit

    async def _release(self, draft: Draft) -> None:
        await self._writes.finalizer(CLUSTER_SYNCS, draft.obj, present=False)
