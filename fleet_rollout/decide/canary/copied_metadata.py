"""Which labels and annotations of an object go onto the copies that the engine makes of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fleet_rollout.decide.names import GROUP

Entries = Mapping[str, str]

# By these keys Flux and we know our own objects, and would prune or rewrite copies that carry them.
_TOOL_MARKERS = ("toolkit.fluxcd.io", f"{GROUP}/")
# What the cluster itself says of a workload, true of that one alone.
SYSTEM_ANNOTATIONS = frozenset({"deployment.kubernetes.io/revision", "deprecated.daemonset.template.generation"})
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def portable(entries: Entries | None) -> dict[str, str]:
    """Everything but the keys by which a GitOps tool knows its objects."""
    return {key: value for key, value in (entries or {}).items() if not any(mark in key for mark in _TOOL_MARKERS)}


def included(entries: Entries | None, prefixes: Iterable[str]) -> dict[str, str]:
    """Portable entries whose key starts with one of `prefixes`; `*` stands for all, nothing for none."""
    wanted = tuple("" if prefix == "*" else prefix for prefix in prefixes if prefix)
    return {key: value for key, value in portable(entries).items() if key.startswith(wanted)}


def relabelled(labels: Entries | None, key: str, value: str) -> dict[str, str]:
    """Portable labels with the one that selects the Pods set to `value`."""
    return {**portable(labels), key: value}


def without_system(annotations: Entries) -> dict[str, str]:
    """Annotations that say nothing of one workload alone."""
    return {key: value for key, value in annotations.items() if key not in SYSTEM_ANNOTATIONS}
