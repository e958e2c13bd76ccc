"""Does the member's CRD know every field we write? A field that its schema lacks would be dropped without a word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fleet_rollout.decide.problems import Problem

Schema = Mapping[str, Any]
OPEN = "x-kubernetes-preserve-unknown-fields"


def missing_fields(value: Any, schema: Schema, path: str = "") -> Iterator[str]:
    """The paths of `value` that a structural schema would prune, each at its uppermost missing field."""
    if schema.get(OPEN):
        return
    if isinstance(value, Mapping):
        yield from _missing_in_map(value, schema, path)
    elif isinstance(value, list):
        items = schema.get("items") or {OPEN: True}
        for index, each in enumerate(value):
            yield from missing_fields(each, items, f"{path}[{index}]")


def _missing_in_map(value: Mapping[str, Any], schema: Schema, path: str) -> Iterator[str]:
    properties = schema.get("properties") or {}
    rest = schema.get("additionalProperties")
    for name, each in value.items():
        inner = f"{path}.{name}" if path else name
        if name in properties:
            yield from missing_fields(each, properties[name], inner)
        elif isinstance(rest, Mapping):
            yield from missing_fields(each, rest, inner)
        elif not rest:
            yield inner


def incompatible(obj: Mapping[str, Any], schema: Schema) -> Problem | None:
    """The problem of writing `obj` where its CRD, which is not ours to change, has this schema."""
    fields = list(missing_fields({"spec": obj["spec"]}, schema))
    if not fields:
        return None
    message = (
        f"CustomResourceDefinition of {obj['kind']} in the member lacks {', '.join(fields)};"
        " update the CRDs of flagger.app there, or remove the setting"
    )
    return Problem("CRDIncompatible", message)
