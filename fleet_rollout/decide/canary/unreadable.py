"""Canaries that say too little to be driven. The API server takes them: Flagger's schema requires no `spec`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleet_rollout.decide.canary.reverting import FINALIZER


def unreadable(canary: Mapping[str, Any]) -> str | None:
    """What is missing, and what mends it; None where the Canary can be driven."""
    metadata, spec = canary["metadata"], canary.get("spec")
    if not isinstance(spec, Mapping):
        fault = "no spec; write spec.targetRef, spec.service and spec.analysis"
    elif not _names_something(spec.get("targetRef")):
        fault = "no spec.targetRef with kind and name; write those of its workload"
    else:
        return None
    text = f"Canary {metadata['name']}.{metadata['namespace']} has {fault}"
    if metadata.get("deletionTimestamp") and FINALIZER in (metadata.get("finalizers") or []):
        return f"{text}, or take finalizer {FINALIZER} away: then it goes, and gives nothing back"
    return text


def _names_something(reference: object) -> bool:
    return isinstance(reference, Mapping) and all(reference.get(field) for field in ("kind", "name"))
