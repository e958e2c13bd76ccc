"""From the text that kustomize printed to the objects to apply, checked; and what a policy lays over them.

Objects are plain dicts, shared by every cluster that gets this build: whoever wants to change one copies it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson

from fleet_rollout.errors import Terminal
from fleet_rollout.render.documents import load
from fleet_rollout.render.kustomization_file import failed
from fleet_rollout.render.ledger import Ledger
from fleet_rollout_api.meta import Metadata

Objects = tuple[dict[str, Any], ...]

KUSTOMIZE_GROUP = "kustomize.config.k8s.io/"


def parse(outputs: Sequence[bytes], ledger: Ledger) -> Objects:
    """The objects in what kustomize printed: lists opened, kustomizations left out, every one nameable and unique."""
    objects = tuple(each for text in outputs for each in _flat(load(text, "the built manifests", ledger)))
    _refuse_twins(objects)
    return objects


def _flat(documents: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for document in documents:
        kind = document.get("kind") if isinstance(document, dict) else None
        if isinstance(kind, str) and kind.endswith("List") and isinstance(document.get("items"), list):
            yield from _flat(document["items"])
        elif not _is_kustomization(_checked(document)):
            yield document


def _is_kustomization(document: dict[str, Any]) -> bool:
    return document["kind"] == "Kustomization" and str(document["apiVersion"]).startswith(KUSTOMIZE_GROUP)


def _checked(document: Any) -> dict[str, Any]:
    """`document`, if it has what identifies an object; the error never repeats its content."""
    fields = document if isinstance(document, dict) else {}
    metadata = fields.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    parts = {"apiVersion": fields.get("apiVersion"), "kind": fields.get("kind"), "metadata.name": name}
    missing = [field for field, value in parts.items() if not isinstance(value, str) or not value]
    if missing:
        known = "/".join(value for value in parts.values() if isinstance(value, str) and value) or "a document"
        raise Terminal(
            "BuildFailed",
            f"failed to decode Kubernetes apiVersion, kind and name from: {known}: {', '.join(missing)} missing",
        )
    return fields


def _refuse_twins(objects: Objects) -> None:
    seen: set[tuple[str, str, str, str]] = set()
    for each in objects:
        group = each["apiVersion"].rpartition("/")[0]
        key = (group, each["kind"], each["metadata"].get("namespace") or "", each["metadata"]["name"])
        if key in seen:
            subject = "/".join(part for part in key[1:] if part)
            raise failed("", f"{subject} is there twice: remove one of the two manifests")
        seen.add(key)


def with_common_metadata(objects: Objects, common: Metadata | None) -> Objects:
    """`objects` with the policy's labels and annotations, which win; selectors and templates stay as they are."""
    if common is None or not (common.labels or common.annotations):
        return objects
    return tuple(_labelled(each, common) for each in objects)


def _labelled(each: dict[str, Any], common: Metadata) -> dict[str, Any]:
    metadata = dict(each["metadata"])
    for field, extra in (("labels", common.labels), ("annotations", common.annotations)):
        if extra:
            metadata[field] = {**(metadata.get(field) or {}), **extra}
    return {**each, "metadata": metadata}


def compacted(objects: Objects) -> tuple[Objects, int]:
    """`objects` with their keys shared in memory, and their size as JSON; InvalidYAML where they are not JSON."""
    try:
        text = orjson.dumps(objects)
    except TypeError as error:  # bytes from a binary tag, keys that are not text, integers beyond 64 bits
        raise Terminal("InvalidYAML", f"a built manifest cannot be sent as JSON: {error}") from None
    return tuple(orjson.loads(text)), len(text)
