"""Where it is written what is left on lost members: ConfigMaps in the service's own namespace.

Each is of one ClusterSync that is gone, is named after it, and holds no more than one ConfigMap may; a label stands for
the cluster. Versions before this one wrote one ConfigMap for all clusters of one name, with a key a ClusterSync: those
are read, and struck from, like the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from fleet_rollout.control.loop import Key
from fleet_rollout.control.world import CONFIG_MAPS, World
from fleet_rollout.decide.inventory import parts
from fleet_rollout.decide.names import MANAGER_HUB, NAME_LIMIT, ORPHANS_LABEL, short_hash
from fleet_rollout.kube.client import ApiError
from fleet_rollout_api.cluster_sync import ClusterReference, ClusterSync, InventoryEntry

PREFIX = "fleet-rollout-orphans-"
DATA_KEY = "left.json"
PER_RECORD = 5_000
# A ConfigMap may be 1 MiB; the record of a rollout is in it, too.
RECORD_BYTES = 700_000
LONGEST = 253

Left = dict[str, Any]


class Place(NamedTuple):
    """Where one record is."""

    config_map: str
    key: str


class OrphanRecords:
    """Reads and writes; what a record leads to is decided elsewhere."""

    def __init__(self, world: World) -> None:
        self._hub = world.hub
        self._own = world.settings.own_namespace

    async def write(self, sync: ClusterSync, left: Left, entries: Sequence[InventoryEntry]) -> None:
        """Record `left` with `entries`, in as many ConfigMaps as that takes. What is to go first is in the first."""
        for number, part in enumerate(parts(entries, most=PER_RECORD, size=RECORD_BYTES) or [[]]):
            record = left | {"entries": [entry.dump() for entry in part]}
            if number:
                record["rollout"] = None
            await self._hub.apply(CONFIG_MAPS, self._config_map(sync, number, record), manager=MANAGER_HUB)

    def _config_map(self, sync: ClusterSync, number: int, record: Left) -> dict[str, Any]:
        key, cluster = Key(sync.metadata.namespace, sync.metadata.name), sync.spec.cluster
        identity = short_hash(f"{cluster.kind}/{cluster.name}/{sync.metadata.uid}")
        metadata = {
            "name": f"{_stem(key)}-{identity}-{number:03}",
            "namespace": self._own,
            "labels": {ORPHANS_LABEL: _label(key.namespace, cluster)},
        }
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {DATA_KEY: _text(record)}}

    async def places(self, namespace: str, cluster: ClusterReference, of: Key | None = None) -> list[Place]:
        """Where records of a cluster may be, or those of one ClusterSync alone; of each the first one first."""
        chosen = f"{ORPHANS_LABEL}={_label(namespace, cluster)}"
        found, _ = await self._hub.list(CONFIG_MAPS, self._own, label_selector=chosen, metadata_only=True)
        # The name is what the admission policy guards; a label anybody may put on something.
        beginning = PREFIX if of is None else f"{_stem(of)}-"
        names = sorted(obj["metadata"]["name"] for obj in found if obj["metadata"]["name"].startswith(beginning))
        return [Place(name, DATA_KEY) for name in names] + await self._earlier(namespace, cluster, of)

    async def _earlier(self, namespace: str, cluster: ClusterReference, of: Key | None) -> list[Place]:
        """Those of versions before this one."""
        name = earlier_name(namespace, cluster.name)
        found = await self._hub.get(CONFIG_MAPS, name, self._own)
        keys = (found or {}).get("data") or {}
        return [Place(name, key) for key in keys if key != DATA_KEY and (of is None or key == earlier_key(of))]

    async def read(self, place: Place) -> Left | None:
        """None where somebody has struck it meanwhile."""
        found = await self._hub.get(CONFIG_MAPS, place.config_map, self._own)
        text = ((found or {}).get("data") or {}).get(place.key)
        return orjson.loads(text) if text else None

    async def change(self, place: Place, left: Left) -> None:
        """Write down how far it has come."""
        await self._patch(place, _text(left))

    async def strike(self, place: Place) -> None:
        """Nothing of it is left."""
        if place.key != DATA_KEY:
            await self._patch(place, None)
            return
        found = await self._hub.get(CONFIG_MAPS, place.config_map, self._own)
        if found is not None:
            uid, version = found["metadata"]["uid"], found["metadata"]["resourceVersion"]
            await self._hub.delete(CONFIG_MAPS, place.config_map, self._own, uid=uid, resource_version=version)

    async def _patch(self, place: Place, text: str | None) -> None:
        data = {"data": {place.key: text}}
        try:
            await self._hub.patch(CONFIG_MAPS, place.config_map, self._own, data, kind="merge", manager=MANAGER_HUB)
        except ApiError as error:
            if not error.is_not_found:  # somebody has struck it
                raise


def earlier_name(namespace: str, cluster: str) -> str:
    """`fleet-rollout-orphans-<cluster>`; cut and hashed where it is too long."""
    name = PREFIX + cluster
    return name if len(name) <= LONGEST else f"{name[: LONGEST - NAME_LIMIT]}-{short_hash(namespace + name)}"


def earlier_key(sync: Key) -> str:
    return f"{sync.namespace}.{sync.name}"


def _stem(sync: Key) -> str:
    return f"{PREFIX}{sync.namespace}.{sync.name}"[: LONGEST - NAME_LIMIT]


def _label(namespace: str, cluster: ClusterReference) -> str:
    return short_hash(f"{namespace}/{cluster.kind}/{cluster.name}")


def _text(left: Left) -> str:
    return orjson.dumps(left).decode()
