"""Who owns which field of a live object, and the JSON patch that takes over what kubectl and older syncs own.

A field that stays with its former manager is never removed when Git drops it; hence the takeover. Other managers
(autoscalers, operators, Helm) keep what they own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet_rollout.decide.metadata import annotations_of, labels_of
from fleet_rollout.decide.names import FLUX_PREFIX, MANAGER_SYNC

APPLY, UPDATE = "Apply", "Update"


@dataclass(frozen=True)
class Former:
    """Managers that are taken over: those whose name starts so, in these operations."""

    prefix: str
    operations: frozenset[str]
    exact: bool = True

    def matches(self, entry: Mapping[str, Any]) -> bool:
        name = str(entry.get("manager", ""))
        is_named = name == self.prefix if self.exact else name.startswith(self.prefix)
        return is_named and entry.get("operation") in self.operations


_BOTH = frozenset({APPLY, UPDATE})
FORMER_MANAGERS = (
    Former("kubectl", _BOTH, exact=False),
    Former("before-first-apply", frozenset({UPDATE})),
    Former("kustomize-controller", _BOTH),
    Former(MANAGER_SYNC, frozenset({UPDATE})),
)
REMOVED_ANNOTATIONS = (
    "kubectl.kubernetes.io/last-applied-configuration",
    f"{FLUX_PREFIX}/checksum",
    "fluxcd.io/sync-checksum",
)
REMOVED_LABELS = ("fluxcd.io/sync-gc-mark",)


def takeover(live: Mapping[str, Any], manager: str = MANAGER_SYNC) -> list[dict[str, Any]]:
    """The JSON patch that gives `manager` what its predecessors own; empty where there is nothing to take.

    It names the resourceVersion, so that it fails with a conflict when the object has moved on.
    """
    patch = [*_removals("annotations", annotations_of(live), REMOVED_ANNOTATIONS)]
    patch += _removals("labels", labels_of(live), REMOVED_LABELS)
    entries = _entries(live)
    taken = merged(entries, manager)
    if taken != entries:
        patch.append({"op": "replace", "path": "/metadata/managedFields", "value": taken})
    if patch:
        version = live["metadata"]["resourceVersion"]
        patch.append({"op": "replace", "path": "/metadata/resourceVersion", "value": version})
    return patch


def merged(entries: Sequence[Mapping[str, Any]], manager: str = MANAGER_SYNC) -> list[Mapping[str, Any]]:
    """The managedFields after the takeover. What was written to a subresource stays where it is."""
    taken = [entry for entry in entries if _is_former(entry)]
    if not taken:
        return list(entries)
    own = next((entry for entry in entries if _is_own(entry, manager)), None)
    fields: dict[str, Any] = {}
    for entry in (own, *taken):
        fields = _union(fields, (entry or {}).get("fieldsV1") or {})
    first = {**(own or taken[0]), "manager": manager, "operation": APPLY, "fieldsV1": fields}
    return [first, *(entry for entry in entries if entry is not own and not _is_former(entry))]


def owns(live: Mapping[str, Any], path: Sequence[str], manager: str = MANAGER_SYNC) -> bool:
    """Would `manager` own this field after the takeover?"""
    for entry in merged(_entries(live), manager):
        node: Any = entry.get("fieldsV1") if _is_own(entry, manager) else None
        for name in path:
            node = node.get(f"f:{name}") if isinstance(node, dict) else None
        if node is not None:
            return True
    return False


def _entries(live: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(live["metadata"].get("managedFields") or [])


def _is_former(entry: Mapping[str, Any]) -> bool:
    return not entry.get("subresource") and any(former.matches(entry) for former in FORMER_MANAGERS)


def _is_own(entry: Mapping[str, Any], manager: str) -> bool:
    return entry.get("manager") == manager and entry.get("operation") == APPLY and not entry.get("subresource")


def _union(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """FieldsV1 is a trie whose leaves are empty objects, so its union is a plain merge."""
    return {**one, **{key: _union(one.get(key) or {}, value or {}) for key, value in other.items()}}


def _removals(field: str, found: Mapping[str, Any], removed: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"op": "remove", "path": f"/metadata/{field}/{key.replace('~', '~0').replace('/', '~1')}"}
        for key in removed
        if key in found
    ]
