"""The workload's namespace takes part in the mesh: which labels and annotations it needs, and who says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleet_rollout.decide import names
from fleet_rollout.decide.problems import Problem
from fleet_rollout.decide.traffic_names import provider_of

Object = dict[str, Any]


def prepare_namespace(
    provider: str, namespace: str, policy: str, live: Mapping[str, Any] | None
) -> tuple[Object | None, tuple[Problem, ...]]:
    """What to apply to the namespace (which creates it where it is absent), before any Pod starts in it.

    None where the provider needs nothing, or where the namespace says the opposite.
    """
    wanted = provider_of(provider)
    if not wanted.namespace_labels:
        return None, ()
    found = (live or {}).get("metadata", {})
    problems = (
        *_conflicts("label", namespace, wanted.namespace_labels, found.get("labels") or {}),
        *_conflicts("annotation", namespace, wanted.namespace_annotations, found.get("annotations") or {}),
    )
    if problems:
        return None, problems
    annotations = dict(wanted.namespace_annotations)
    # Kurator marks only a namespace it has created. What is applied once has to be applied again, else it goes.
    if live is None or (found.get("annotations") or {}).get(names.ROLLOUT_ANNOTATION) == policy:
        annotations[names.ROLLOUT_ANNOTATION] = policy
    metadata: Object = {"name": namespace, "labels": dict(wanted.namespace_labels)}
    if annotations:
        metadata["annotations"] = annotations
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}, ()


def _conflicts(what: str, namespace: str, wanted: Mapping[str, str], found: Mapping[str, str]) -> list[Problem]:
    return [
        Problem(
            "NamespaceConflict",
            f"Namespace/{namespace}: {what} key conflict: {key} is '{found[key]}', the rollout needs '{value}';"
            f" remove the {what}, or use another namespace",
        )
        for key, value in wanted.items()
        if key in found and found[key] != value
    ]
