"""Inventories that outgrow a status: up to 1,000 entries live in the ClusterSync, the rest in ConfigMaps beside it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from fleet_rollout.control.world import CONFIG_MAPS
from fleet_rollout.decide.inventory import parts
from fleet_rollout.decide.names import APP_LABEL, GROUP, MANAGER_HUB, short_hash
from fleet_rollout.errors import Transient
from fleet_rollout.kube.client import ApiError, Cluster
from fleet_rollout_api.cluster_sync import ClusterSync, InventoryEntry

INLINE = 1_000
PER_PART = 5_000
PART_BYTES = 700_000  # a ConfigMap may be 1 MiB
DATA_KEY = "entries.json"


class Incomplete(Transient):
    """A part is gone or not as it was written; `found` is what there is without it."""

    def __init__(self, part: str, fact: str, found: list[InventoryEntry]) -> None:
        fix = "restore it as the controller's account (kubectl --as)"
        super().__init__("InventoryIncomplete", f"{part} {fact}, a part of the inventory; {fix}")
        self.fact = f"{part} {fact}"
        self.found = found


class Inventories:
    """Reads and writes the whole inventory of a ClusterSync.

    Parts are named by their content and never changed: what a status names stays as it was until another status is
    written, so that a crash at any line leaves too many parts, never too few entries.
    """

    def __init__(self, hub: Cluster) -> None:
        self._hub = hub

    async def read(self, sync: ClusterSync) -> list[InventoryEntry]:
        """Every recorded entry: inline ones, then those of the parts. Raises Incomplete."""
        entries = list(sync.status.inventory.entries) if sync.status.inventory else []
        wrong: dict[str, str] = {}
        for name in sync.status.inventory_parts:
            found = await self._hub.get(CONFIG_MAPS, name, sync.metadata.namespace)
            text = ((found or {}).get("data") or {}).get(DATA_KEY, "")
            if _part_name(sync, text) == name:
                entries += [InventoryEntry.model_validate(row) for row in orjson.loads(text)]
            else:
                wrong[name] = "was changed" if found else "not found"
        for name, fact in wrong.items():
            raise Incomplete(f"ConfigMap/{sync.metadata.namespace}/{name}", fact, entries)
        return entries

    async def write(self, sync: ClusterSync, entries: list[InventoryEntry]) -> tuple[list[InventoryEntry], list[str]]:
        """Store what does not fit inline; returns what goes inline and the names of the parts."""
        inline, rest = entries[:INLINE], entries[INLINE:]
        texts = [_text(part) for part in parts(rest, most=PER_PART, size=PART_BYTES)]
        names = [_part_name(sync, text) for text in texts]
        for name, text in zip(names, texts, strict=True):
            if name not in sync.status.inventory_parts:
                await self._hub.apply(CONFIG_MAPS, _part(sync, name, text), manager=MANAGER_HUB)
        return inline, names

    async def drop(self, sync: ClusterSync, names: Iterable[str]) -> None:
        """Delete parts that no status of this very ClusterSync names any more, as they are now.

        One that is written meanwhile stays: whoever did so needs it. It goes with the ClusterSync at the latest.
        """
        for name in names:
            found = await self._hub.get(CONFIG_MAPS, name, sync.metadata.namespace)
            if found is not None and _is_part_of(found, sync):
                await self._delete(found["metadata"])

    async def _delete(self, seen: dict[str, Any]) -> None:
        version = seen["resourceVersion"]
        try:
            await self._hub.delete(
                CONFIG_MAPS, seen["name"], seen["namespace"], uid=seen["uid"], resource_version=version
            )
        except ApiError as error:
            if not error.is_conflict:
                raise


def _part_name(sync: ClusterSync, text: str) -> str:
    """By its content, which tells an accident; attackers are kept off by the admission policy."""
    return f"{sync.metadata.name}-inventory-{short_hash(text)}"


def _is_part_of(found: dict[str, Any], sync: ClusterSync) -> bool:
    return sync.metadata.uid in [owner["uid"] for owner in found["metadata"].get("ownerReferences", [])]


def _text(entries: list[InventoryEntry]) -> str:
    return orjson.dumps([entry.dump() for entry in entries]).decode()


def _part(sync: ClusterSync, name: str, text: str) -> dict[str, Any]:
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
            "name": name,
            "namespace": sync.metadata.namespace,
            "labels": {APP_LABEL: sync.spec.application},
            "ownerReferences": [owner],
        },
        "data": {DATA_KEY: text},
    }
