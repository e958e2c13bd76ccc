"""Inventories that outgrow a status: up to 1,000 entries live in the ClusterSync, the rest in ConfigMaps beside it.

The parts are written before the status that counts them, so that a crash between leaves too many, never too few.
"""

from __future__ import annotations

from typing import Any

import orjson

from fleet_rollout.control.world import CONFIG_MAPS
from fleet_rollout.decide.names import APP_LABEL, GROUP, MANAGER_HUB
from fleet_rollout.kube.client import Cluster
from fleet_rollout_api.cluster_sync import ClusterSync, InventoryEntry

INLINE = 1_000
PER_PART = 5_000
DATA_KEY = "entries.json"


class Inventories:
    """Reads and writes the whole inventory of a ClusterSync."""

    def __init__(self, hub: Cluster) -> None:
        self._hub = hub

    async def read(self, sync: ClusterSync) -> list[InventoryEntry]:
        """Every recorded entry: inline ones, then those of the parts."""
        entries = list(sync.status.inventory.entries) if sync.status.inventory else []
        for part in range(sync.status.inventory_parts):
            found = await self._hub.get(CONFIG_MAPS, part_name(sync, part), sync.metadata.namespace)
            if found is not None:
                rows = orjson.loads(found.get("data", {}).get(DATA_KEY, "[]"))
                entries += [InventoryEntry.model_validate(row) for row in rows]
        return entries

    async def write(self, sync: ClusterSync, entries: list[InventoryEntry]) -> tuple[list[InventoryEntry], int]:
        """Store what does not fit inline; returns what goes inline and the number of parts."""
        inline, rest = entries[:INLINE], entries[INLINE:]
        parts = [rest[at : at + PER_PART] for at in range(0, len(rest), PER_PART)]
        for number, part in enumerate(parts):
            await self._hub.apply(CONFIG_MAPS, _part(sync, number, part), manager=MANAGER_HUB)
        for number in range(len(parts), sync.status.inventory_parts):
            await self._hub.delete(CONFIG_MAPS, part_name(sync, number), sync.metadata.namespace)
        return inline, len(parts)


def part_name(sync: ClusterSync, number: int) -> str:
    """The ConfigMap that holds part `number` (from 0)."""
    return f"{sync.metadata.name}-inventory-{number}"


def _part(sync: ClusterSync, number: int, entries: list[InventoryEntry]) -> dict[str, Any]:
    owner = {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "ClusterSync",
        "name": sync.metadata.name,
        "uid": sync.metadata.uid,
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": part_name(sync, number),
            "namespace": sync.metadata.namespace,
            "labels": {APP_LABEL: sync.spec.application},
            "ownerReferences": [owner],
        },
        "data": {DATA_KEY: orjson.dumps([entry.dump() for entry in entries]).decode()},
    }
