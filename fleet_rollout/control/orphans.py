"""What could not be pruned from a lost member: on record, and taken up again when the member returns.

Where a ClusterSync of the same name and Application is there again by then, it takes the record over as its inventory:
nobody but it may then decide which of the objects are to go.
"""

from __future__ import annotations

from fleet_rollout.control.draft import Draft
from fleet_rollout.control.leftovers import Leftover, stand_in
from fleet_rollout.control.loop import Key
from fleet_rollout.control.orphan_records import Left, OrphanRecords, Place
from fleet_rollout.control.removals import Removals
from fleet_rollout.control.targets import PLURALS, Targets
from fleet_rollout.control.world import CLUSTER_SYNCS, World
from fleet_rollout.decide.metadata import Owner
from fleet_rollout.errors import FleetRolloutError, Transient, Waiting
from fleet_rollout.kube.client import Cluster
from fleet_rollout.kube.errors import Unreachable, kube_errors
from fleet_rollout.kube.prune import Pruner
from fleet_rollout_api.cluster_sync import ClusterReference, InventoryEntry, RolloutRecord


class Orphans:
    """Decides what becomes of the records."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._records = OrphanRecords(world)
        self._targets = Targets(world)
        self._removals = Removals(world, self._targets, None)
        self._looked_for: dict[Key, str] = {}  # UID of the ClusterSync for which there was nothing

    async def record(self, draft: Draft, *, keeps_objects: bool) -> None:
        """Write down what `draft` leaves behind. Precedes the removal of its finalizer.

        Objects that are to stay on the cluster are not; a rollout of theirs is to be removed nevertheless.
        """
        sync = draft.sync
        entries = [] if keeps_objects else await draft.inventory()
        rollout = draft.status.rollout
        if not entries and rollout is None:
            return
        left: Left = {
            "cluster": sync.spec.cluster.dump(),
            "name": sync.metadata.name,
            "namespace": sync.metadata.namespace,
            "application": sync.spec.application,
            "hub": self._world.hub_uid,
            "account": self._targets.impersonate(sync),
            "rollout": rollout.dump() if rollout else None,
        }
        await self._records.write(sync, left, entries)
        count = len(entries) + len(rollout.objects if rollout else [])
        message = f"{count} objects are left on {sync.spec.cluster.name}, which cannot be reached"
        self._world.recorder.warning(draft.obj, "Orphaned", message)

    async def adopt(self, draft: Draft) -> None:
        """Take over what an earlier ClusterSync of this name left: into the status first, then off the record.

        It is on record before its name is free for another, whoever led then: where there is nothing, nothing comes.
        """
        key, cluster = draft.key, draft.sync.spec.cluster
        if self._looked_for.get(key) == draft.sync.metadata.uid:
            return
        found: list[tuple[Place, Left]] = []
        for place in await self._records.places(key.namespace, cluster, key):
            left = await self._records.read(place)
            if left is None or not _is_of(left, key.namespace, cluster) or left["name"] != key.name:
                continue
            if left["application"] == draft.sync.spec.application:  # what is another's goes before ours may come
                found.append((place, left))
        if not found:
            self._looked_for[key] = draft.sync.metadata.uid
            return
        entries = {entry.id: entry for _, left in found for entry in _entries(left)}
        rollouts = (_rollout(left) for _, left in found)
        await draft.keep_inventory(list(entries.values()))
        draft.change(rollout=next((rollout for rollout in rollouts if rollout is not None), None))
        await draft.write()
        for place, _ in found:
            await self._records.strike(place)

    def forget(self, key: Key) -> None:
        """The ClusterSync is gone."""
        self._looked_for.pop(key, None)

    async def resume(self, namespace: str, kind: str, cluster_name: str, cluster: Cluster) -> float | None:
        """Prune what is recorded for a member that answers again, then drop the record.

        Seconds until the next try where some is left. What cannot be pruned is told of in an Event of the cluster, and
        holds up no other, unless the member is lost again.
        """
        reference = ClusterReference(kind=kind, name=cluster_name)
        again = self._world.settings.member_check_interval
        waiting: set[str] = set()
        for place in await self._records.places(namespace, reference):
            left = await self._records.read(place)
            if left is None or not _is_of(left, namespace, reference) or left["name"] in waiting:
                continue
            try:
                is_settled = await self._is_settled(place, left, cluster)
            except Waiting as wait:  # somebody has written in between: nothing has failed
                is_settled = False
                again = again if wait.retry_after is None else min(again, wait.retry_after)
            except FleetRolloutError as error:
                is_settled = False
                message = f"what ClusterSync/{namespace}/{left['name']} has left here stays: {error.message}"
                obj = self._world.store.get(PLURALS[kind], Key(namespace, cluster_name))
                self._world.recorder.warning(obj, error.reason, message)
                if isinstance(error.__cause__, Unreachable):
                    return again
            if is_settled:
                await self._records.strike(place)
            else:
                waiting.add(left["name"])
        return again if waiting else None

    async def _is_settled(self, place: Place, left: Left, cluster: Cluster) -> bool:
        """Whether nothing of it is left, or a ClusterSync of the same name has it now."""
        again = self._world.store.get(CLUSTER_SYNCS.plural, Key(left["namespace"], left["name"]))
        if again is not None and (again.get("spec") or {}).get("application") == left["application"]:
            return bool((again.get("status") or {}).get("inventory"))  # else it has not adopted it yet
        if not await self._remove_rollout(place, left, cluster):
            return False
        await self._prune(left, cluster, shares_name=again is not None)
        return True

    async def _remove_rollout(self, place: Place, left: Left, cluster: Cluster) -> bool:
        """Whether no rollout is left: it goes first, for what the engine has taken over would stay otherwise."""
        rollout, key = _rollout(left), Key(left["namespace"], left["name"])
        if rollout is None:
            return True
        reference = ClusterReference.model_validate(left["cluster"])

        async def keep(progress: RolloutRecord | None) -> None:
            left["rollout"] = progress.dump() if progress else None
            await self._records.change(place, left)

        leftover = Leftover(key, left["application"], reference, rollout, keep)
        again = await self._removals.remove(leftover, cluster, _owner(left), leaving=bool(left["entries"]))
        await keep(leftover.status.rollout)
        return again is None

    async def _prune(self, left: Left, cluster: Cluster, *, shares_name: bool) -> None:
        key, reference = Key(left["namespace"], left["name"]), ClusterReference.model_validate(left["cluster"])
        # As the account that the policy had: what it could not delete, the kubeconfig's own may not for it.
        pruner = Pruner(cluster, _owner(left, shares_name=shares_name), impersonate=left.get("account"))
        claimed = await self._targets.claimed_elsewhere(stand_in(key, left["application"], reference))
        with kube_errors("PruneFailed", f"{reference.kind}/{reference.name}"):
            await pruner.prune(_entries(left), siblings=claimed)
        if pruner.failure is not None:
            raise Transient("PruneFailed", pruner.failure)


def _owner(left: Left, *, shares_name: bool = False) -> Owner:
    """On whose behalf it was written; the hub may have been set up anew since."""
    return Owner(left["name"], left["namespace"], left["application"], left["hub"], shares_name)


def _is_of(left: Left, namespace: str, cluster: ClusterReference) -> bool:
    return (left["namespace"], left["cluster"]) == (namespace, cluster.dump())


def _entries(left: Left) -> list[InventoryEntry]:
    return [InventoryEntry.model_validate(entry) for entry in left["entries"]]


def _rollout(left: Left) -> RolloutRecord | None:
    return RolloutRecord.model_validate(left["rollout"]) if left["rollout"] else None
