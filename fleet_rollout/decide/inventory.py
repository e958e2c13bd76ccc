"""What one ClusterSync has on its cluster: ids as Flux writes them, and what a new set of objects makes stale.

Nothing is lost here: whatever is in neither set of a comparison was in neither inventory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet_rollout_api.cluster_sync import InventoryEntry

# RBAC names may hold colons, which Flux stores doubled as underscores because its ids become ConfigMap keys
# elsewhere. A name that itself holds `__` is therefore not told apart from one with a colon; Flux has the same limit.
_COLON, _STORED_COLON = ":", "__"
RBAC_GROUP = "rbac.authorization.k8s.io"
ENTRY_FRAME = len('{"id":"","v":""},')


@dataclass(frozen=True, order=True)
class Ref:
    """One object of a cluster. Identity is everything but the version: `v1beta1` to `v1` is the same object."""

    namespace: str
    name: str
    group: str
    kind: str
    version: str = ""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def subject(self) -> str:
        """`Kind/namespace/name`, or `Kind/name` where there is no namespace: how every message names it."""
        return "/".join(part for part in (self.kind, self.namespace, self.name) if part)


def ref_of(obj: Mapping[str, Any]) -> Ref:
    """The reference of a manifest or a live object."""
    group, _, version = obj["apiVersion"].rpartition("/")
    metadata = obj["metadata"]
    return Ref(metadata.get("namespace") or "", metadata["name"], group, obj["kind"], version)


def entry_of(ref: Ref) -> InventoryEntry:
    """The entry of an inventory that stands for this object."""
    name = ref.name.replace(_COLON, _STORED_COLON) if ref.group == RBAC_GROUP else ref.name
    return InventoryEntry(id=f"{ref.namespace}_{name}_{ref.group}_{ref.kind}", v=ref.version)


def object_id(obj: Mapping[str, Any]) -> InventoryEntry:
    """The entry of an inventory that stands for this manifest."""
    return entry_of(ref_of(obj))


def parse_id(entry: InventoryEntry) -> Ref:
    """The object an entry stands for. Raises ValueError when it is no id: never guess what to delete."""
    namespace, first, rest = entry.id.partition("_")
    rest, second, kind = rest.rpartition("_")
    name, third, group = rest.rpartition("_")
    if not (first and second and third and name and kind):
        raise ValueError(f"not an inventory id: {entry.id!r}")
    return Ref(namespace, name.replace(_STORED_COLON, _COLON), group, kind, entry.v)


def stale(old: Iterable[InventoryEntry], new: Iterable[InventoryEntry]) -> list[InventoryEntry]:
    """What `old` holds and `new` does not, in the order of `old`."""
    kept = {entry.id for entry in new}
    return [entry for entry in old if entry.id not in kept]


def union(old: Iterable[InventoryEntry], new: Sequence[InventoryEntry]) -> list[InventoryEntry]:
    """What is written before the first object is: all of `new`, then what `old` alone holds.

    A process that stops at any line after that finds every object of both in the inventory.
    """
    return [*new, *stale(old, new)]


def parts(entries: Iterable[InventoryEntry], *, most: int, size: int) -> list[list[InventoryEntry]]:
    """In their order, as many together as one object can hold: `most` entries of no more than `size` bytes as JSON.

    An entry that is larger by itself is a part of its own.
    """
    found: list[list[InventoryEntry]] = []
    room = 0
    for entry in entries:
        needed = len(f"{entry.id}{entry.v}".encode()) + ENTRY_FRAME
        if not found or len(found[-1]) == most or needed > room:
            found.append([])
            room = size
        found[-1].append(entry)
        room -= needed
    return found
