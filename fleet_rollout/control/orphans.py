"""What could not be pruned from a lost member: recorded in a ConfigMap, taken up again when the member returns.

Where a ClusterSync of the same name is there again by then, it takes the record over as its inventory: nobody but it
may then decide which of the objects are to go.
"""

from __future__ import annotations

from typing import Any

import orjson

from fleet_rollout.control.draft import Draft
from fleet_rollout.control.leftovers import Leftover
from fleet_rollout.control.loop import Key
from fleet_rollout.control.removals import Removals
from fleet_rollout.control.targets import Targets
from fleet_rollout.control.world import CLUSTER_SYNCS, CONFIG_MAPS, World
from fleet_rollout.decide.metadata import Owner
from fleet_rollout.decide.names import MANAGER_HUB, NAME_LIMIT, short_hash
from fleet_rollout.errors import Transient
from fleet_rollout.kube.client import ApiError, Cluster
from fleet_rollout.kube.errors import kube_errors
from fleet_rollout.kube.prune import Pruner
from fleet_rollout_api.cluster_sync import ClusterReference, InventoryEntry, RolloutRecord

PREFIX = "fleet-rollout-orphans-"


def record_name(namespace: str, cluster: str) -> str:
    """`fleet-rollout-orphans-<cluster>`; cut and hashed where it is too long. Clusters of one name share a record."""
    name = PREFIX + cluster
    return name if len(name) <= 253 else f"{name[: 253 - NAME_LIMIT]}-{short_hash(namespace + name)}"


class Orphans:
    """One ConfigMap a cluster in the service's own namespace, one key a ClusterSync."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._removals = Removals(world, None)
        self._targets = Targets(world)

    async def record(self, draft: Draft, *, keeps_objects: bool) -> None:
        """Write down what `draft` leaves behind. Precedes the removal of its finalizer.

        Objects that are to stay on the cluster are not; a rollout of theirs is to be removed nevertheless.
        """
        sync = draft.sync
        entries = [] if keeps_objects else await draft.inventory()
        rollout = draft.status.rollout
        if not entries and rollout is None:
            return
        left: dict[str, Any] = {
            "cluster": sync.spec.cluster.dump(),
            "name": sync.metadata.name,
            "namespace": sync.metadata.namespace,
            "application": sync.spec.application,
            "hub": self._world.hub_uid,
            "account": self._targets.impersonate(sync),
            "entries": [entry.dump() for entry in entries],
            "rollout": rollout.dump() if rollout else None,
        }
        text = orjson.dumps(left).decode()
        await self._store(sync.metadata.namespace, sync.spec.cluster.name, {_data_key(draft.key): text})
        count = len(entries) + len(rollout.objects if rollout else [])
        message = f"{count} objects are left on {sync.spec.cluster.name}, which cannot be reached"
        self._world.recorder.warning(draft.obj, "Orphaned", message)

    async def adopt(self, draft: Draft) -> None:
        """Take over what an earlier ClusterSync of this name left: into the status first, then off the record."""
        sync = draft.sync
        cluster = sync.spec.cluster
        text = (await self._recorded(sync.metadata.namespace, cluster.name)).get(_data_key(draft.key))
        if text is None or (left := orjson.loads(text))["cluster"] != cluster.dump():
            return
        await draft.keep_inventory(_entries(left))
        draft.change(rollout=_rollout(left))
        await draft.write()
        await self._store(sync.metadata.namespace, cluster.name, {_data_key(draft.key): None})

    async def resume(self, namespace: str, kind: str, cluster_name: str, cluster: Cluster) -> bool:
        """Prune what is recorded for a member that answers again, then drop the record; False where some is left."""
        is_done = True
        for key, text in (await self._recorded(namespace, cluster_name)).items():
            left = orjson.loads(text)
            if left["namespace"] != namespace or left["cluster"]["kind"] != kind:
                continue
            again = self._world.store.get(CLUSTER_SYNCS.plural, Key(namespace, left["name"]))
            if again is None:
                if not await self._remove_rollout(left, cluster):
                    is_done = False
                    continue
                await self._prune(left, cluster)
            elif not (again.get("status") or {}).get("inventory"):
                is_done = False  # not adopted yet
                continue
            await self._store(namespace, cluster_name, {key: None})
        return is_done

    async def _recorded(self, namespace: str, cluster_name: str) -> dict[str, str]:
        own = self._world.settings.own_namespace
        found = await self._world.hub.get(CONFIG_MAPS, record_name(namespace, cluster_name), own)
        data: dict[str, str] = (found or {}).get("data") or {}
        return data

    async def _remove_rollout(self, left: dict[str, Any], cluster: Cluster) -> bool:
        """Whether no rollout is left: it goes first, for what the engine has taken over would stay otherwise."""
        rollout, key = _rollout(left), Key(left["namespace"], left["name"])
        if rollout is None:
            return True
        reference = ClusterReference.model_validate(left["cluster"])

        async def keep(progress: RolloutRecord | None) -> None:
            left["rollout"] = progress.dump() if progress else None
            await self._store(key.namespace, reference.name, {_data_key(key): orjson.dumps(left).decode()})

        leftover = Leftover(key, left["application"], reference, rollout, keep)
        again = await self._removals.remove(leftover, cluster, leaving=bool(left["entries"]))
        await keep(leftover.status.rollout)
        return again is None

    async def _prune(self, left: dict[str, Any], cluster: Cluster) -> None:
        owner = Owner(
            name=left["name"], namespace=left["namespace"], application=left["application"], hub_uid=left["hub"]
        )
        # As the account that the policy had: what it could not delete, the kubeconfig's own may not for it.
        pruner = Pruner(cluster, owner, impersonate=left.get("account"))
        with kube_errors("PruneFailed", f"{left['cluster']['kind']}/{left['cluster']['name']}"):
            await pruner.prune(_entries(left))
        if pruner.failure is not None:
            raise Transient("PruneFailed", pruner.failure)

    async def _store(self, namespace: str, cluster: str, data: dict[str, str | None]) -> None:
        own = self._world.settings.own_namespace
        name = record_name(namespace, cluster)
        if await self._world.hub.get(CONFIG_MAPS, name, own) is None:
            made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": own}}
            try:
                await self._world.hub.create(CONFIG_MAPS, made, manager=MANAGER_HUB)
            except ApiError as error:
                if not error.is_already_exists:  # another ClusterSync of this cluster was quicker
                    raise
        await self._world.hub.patch(CONFIG_MAPS, name, own, {"data": data}, kind="merge", manager=MANAGER_HUB)


def _data_key(sync: Key) -> str:
    return f"{sync.namespace}.{sync.name}"


def _entries(left: dict[str, Any]) -> list[InventoryEntry]:
    return [InventoryEntry.model_validate(entry) for entry in left["entries"]]


def _rollout(left: dict[str, Any]) -> RolloutRecord | None:
    return RolloutRecord.model_validate(left["rollout"]) if left["rollout"] else None
