"""What an object's own metadata says about it: the user's control annotations, and whose object it is.

Flux's keys with Flux's meaning, as label or annotation, values in any case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fleet_rollout.decide.inventory import ref_of
from fleet_rollout.decide.names import (
    APP_LABEL,
    FORCE_KEY,
    HUB_LABEL,
    OWNER_NAME_LABEL,
    OWNER_NAMESPACE_LABEL,
    PRUNE_KEY,
    RECONCILE_KEY,
    SSA_KEY,
)

Object = Mapping[str, Any]

OWNER_LABELS = frozenset({OWNER_NAME_LABEL, OWNER_NAMESPACE_LABEL, APP_LABEL, HUB_LABEL})


@dataclass(frozen=True)
class Owner:
    """On whose behalf objects are written: one ClusterSync of one Application of one hub.

    `shares_name`: another Application has a ClusterSync of this name by now. `is_any_policy`: what another ClusterSync
    of the Application has written counts as its own.
    """

    name: str
    namespace: str
    application: str
    hub_uid: str
    shares_name: bool = False
    is_any_policy: bool = False

    @property
    def labels(self) -> dict[str, str]:
        return {
            OWNER_NAME_LABEL: self.name,
            OWNER_NAMESPACE_LABEL: self.namespace,
            APP_LABEL: self.application,
            HUB_LABEL: self.hub_uid,
        }

    @property
    def selector(self) -> str:
        """Finds what this ClusterSync itself has written."""
        chosen = (HUB_LABEL, OWNER_NAMESPACE_LABEL, OWNER_NAME_LABEL)
        return ",".join(f"{key}={self.labels[key]}" for key in chosen)


def labels_of(obj: Object) -> Mapping[str, Any]:
    return obj["metadata"].get("labels") or {}


def annotations_of(obj: Object) -> Mapping[str, Any]:
    return obj["metadata"].get("annotations") or {}


def _says(obj: Object | None, key: str, value: str) -> bool:
    if obj is None:
        return False
    metadata = obj["metadata"]
    for part in ("annotations", "labels"):
        found = metadata.get(part)
        if found and key in found and str(found[key]).lower() == value.lower():
            return True
    return False


def is_ignored(*objects: Object | None) -> bool:
    """`reconcile: disabled` or `ssa: Ignore` on the manifest or the live object: not applied, not pruned."""
    return any(_says(obj, RECONCILE_KEY, "disabled") or _says(obj, SSA_KEY, "Ignore") for obj in objects)


def is_created_only(desired: Object) -> bool:
    """`ssa: IfNotPresent` on the manifest: created when absent, never updated after."""
    return _says(desired, SSA_KEY, "IfNotPresent")


def is_merged(desired: Object, live: Object | None) -> bool:
    """`ssa: Merge`: fields that were set with kubectl are left to kubectl."""
    return _says(desired, SSA_KEY, "Merge") or _says(live, SSA_KEY, "Merge")


def is_recreated(desired: Object, live: Object | None) -> bool:
    """`force: enabled`: deleted and created anew where a change is not possible in place."""
    return _says(desired, FORCE_KEY, "enabled") or _says(live, FORCE_KEY, "enabled")


def is_kept(live: Object) -> bool:
    """Never deleted by us: `prune: disabled`, and everything that is ignored."""
    return _says(live, PRUNE_KEY, "disabled") or is_ignored(live)


def with_labels(obj: Object, added: Mapping[str, str]) -> dict[str, Any]:
    """The manifest with labels added; the original is not touched, for it is shared by every cluster."""
    return {**obj, "metadata": {**obj["metadata"], "labels": {**labels_of(obj), **added}}}


def is_owned(live: Object, owner: Owner) -> bool:
    """Written by this very ClusterSync: what prune may delete. The application's name may have been edited away."""
    found = labels_of(live)
    if owner.is_any_policy:
        return _same_application(found, owner)
    return all(found.get(key) == value for key, value in owner.labels.items() if owner.shares_name or key != APP_LABEL)


def ownership_conflict(live: Object, owner: Owner) -> str | None:
    """Why this live object may not be written by `owner`; None where it may.

    Ours is what carries this hub, namespace and application, under whichever policy. What Flux or Kurator left under
    the very same name is adopted, and so is what nobody has claimed.
    """
    found = labels_of(live)
    if HUB_LABEL in found:
        return None if _same_application(found, owner) else _refusal(live, _application_claim(found, owner))
    claimed = (found.get(OWNER_NAMESPACE_LABEL), found.get(OWNER_NAME_LABEL))
    if claimed in ((None, None), (owner.namespace, owner.name)):
        return None
    return _refusal(live, f"Kustomization '{claimed[0] or ''}/{claimed[1] or ''}' of Flux")


def _same_application(found: Mapping[str, Any], owner: Owner) -> bool:
    keys = (HUB_LABEL, OWNER_NAMESPACE_LABEL, APP_LABEL)
    return all(found.get(key) == owner.labels[key] for key in keys)


def _application_claim(found: Mapping[str, Any], owner: Owner) -> str:
    name = f"Application '{found.get(OWNER_NAMESPACE_LABEL, '')}/{found.get(APP_LABEL, '')}'"
    return name if found[HUB_LABEL] == owner.hub_uid else f"{name} of the hub {found[HUB_LABEL]}"


def _refusal(live: Object, claim: str) -> str:
    return (
        f"{ref_of(live).subject} belongs to {claim}: "
        "remove it from one of the two sources, or delete it from the cluster"
    )
