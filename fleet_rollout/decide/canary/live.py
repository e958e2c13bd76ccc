"""Looking at live objects, and replacing them only where something differs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from fleet_rollout.decide.canary.objects import Live, Object, Put, Ref, Remove, StepFailed, Write, ref_of


def required(live: Live, ref: Ref) -> Object:
    """The object at `ref`; StepFailed where there is none."""
    found = live[ref]
    if found is None:
        raise StepFailed(f"{described(ref)} does not exist")
    return found


def described(where: Ref | Mapping[str, Any]) -> str:
    """How events name an object: `deployment podinfo.test`."""
    ref = where if isinstance(where, Ref) else ref_of(where)
    return f"{ref.kind.lower()} {ref.name}.{ref.namespace}"


def replaced(live: Mapping[str, Any], obj: Mapping[str, Any]) -> list[Write]:
    """Put `obj`, made from the live one, in its place; nothing where it is the same."""
    return [Put(copy.deepcopy(dict(obj)))] if obj != live else []


def removed(live: Mapping[str, Any]) -> Remove:
    """Delete this very object."""
    return Remove(ref_of(live), live["metadata"]["uid"], live["metadata"]["resourceVersion"])


def with_maps(owner: Mapping[str, Any], **maps: Mapping[str, Any] | None) -> Object:
    """`owner` with these maps in it; empty ones are left out, for the API server keeps none."""
    kept = {name: value for name, value in owner.items() if name not in maps}
    return kept | {name: dict(value) for name, value in maps.items() if value}
