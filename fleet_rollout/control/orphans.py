"""What could not be pruned from a lost member: recorded in a ConfigMap, taken up again when the member returns."""

from __future__ import annotations

from typing import Any

import orjson

from fleet_rollout.control.draft import Draft
from fleet_rollout.control.world import CONFIG_MAPS, World
from fleet_rollout.decide.metadata import Owner
from fleet_rollout.decide.names import MANAGER_HUB, NAME_LIMIT, short_hash
from fleet_rollout.errors import Transient
from fleet_rollout.kube.client import Cluster
from fleet_rollout.kube.prune import Pruner
from fleet_rollout_api.cluster_sync import InventoryEntry

PREFIX = "fleet-rollout-orphans-"


def record_name(namespace: str, cluster: str) -> str:
    """`fleet-rollout-orphans-<cluster>`; cut and hashed where it is too long. Clusters of one name share a record."""
    name = PREFIX + cluster
    return name if len(name) <= 253 else f"{name[: 253 - NAME_LIMIT]}-{short_hash(namespace + name)}"


class Orphans:
    """One ConfigMap a cluster in the service's own namespace, one key a ClusterSync."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def record(self, draft: Draft) -> None:
        """Write down what `draft` leaves behind. Precedes the removal of its finalizer."""
        sync = draft.sync
        entries = await draft.inventory()
        rollout = draft.status.rollout
        left = {
            "cluster": sync.spec.cluster.dump(),
            "name": sync.metadata.name,
            "namespace": sync.metadata.namespace,
            "application": sync.spec.application,
            "hub": self._world.hub_uid,
            "entries": [entry.dump() for entry in [*entries, *(rollout.objects if rollout else [])]],
        }
        key = f"{sync.metadata.namespace}.{sync.metadata.name}"
        await self._store(sync.metadata.namespace, sync.spec.cluster.name, {key: orjson.dumps(left).decode()})
        message = f"{len(left['entries'])} objects are left on {sync.spec.cluster.name}, which cannot be reached"
        self._world.recorder.warning(draft.obj, "Orphaned", message)

    async def resume(self, namespace: str, kind: str, cluster_name: str, cluster: Cluster) -> None:
        """Prune what is recorded for a member that answers again, then drop the record."""
        own = self._world.settings.own_namespace
        found = await self._world.hub.get(CONFIG_MAPS, record_name(namespace, cluster_name), own)
        for key, text in ((found or {}).get("data") or {}).items():
            left = orjson.loads(text)
            if left["namespace"] == namespace and left["cluster"]["kind"] == kind:
                await self._prune(left, cluster)
                await self._store(namespace, cluster_name, {key: None})

    async def _prune(self, left: dict[str, Any], cluster: Cluster) -> None:
        owner = Owner(
            name=left["name"], namespace=left["namespace"], application=left["application"], hub_uid=left["hub"]
        )
        entries = [InventoryEntry.model_validate(entry) for entry in left["entries"]]
        pruner = Pruner(cluster, owner)
        await pruner.prune(entries)
        if pruner.failure is not None:
            raise Transient("PruneFailed", pruner.failure)

    async def _store(self, namespace: str, cluster: str, data: dict[str, str | None]) -> None:
        own = self._world.settings.own_namespace
        name = record_name(namespace, cluster)
        if await self._world.hub.get(CONFIG_MAPS, name, own) is None:
            made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": own}}
            await self._world.hub.create(CONFIG_MAPS, made, manager=MANAGER_HUB)
        await self._world.hub.patch(CONFIG_MAPS, name, own, {"data": data}, kind="merge", manager=MANAGER_HUB)
