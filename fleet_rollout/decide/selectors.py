"""Does a cluster's label set match a selector? Kubernetes' rules for matchLabels and matchExpressions.

A selector with an operator that nobody knows matches nothing: selecting too little never touches a wrong cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fleet_rollout_api.application import ClusterSelector

# Kubernetes: NotIn also holds where the key is absent.
OPERATORS: Mapping[str, Callable[[str | None, Sequence[str]], bool]] = {
    "In": lambda value, values: value is not None and value in values,
    "NotIn": lambda value, values: value is None or value not in values,
    "Exists": lambda value, values: value is not None,
    "DoesNotExist": lambda value, values: value is None,
}


def matches(selector: ClusterSelector | None, labels: Mapping[str, str]) -> bool:
    """Whether all of `selector` holds for `labels`; no selector, and an empty one, match every cluster."""
    if selector is None:
        return True
    if any(labels.get(key) != value for key, value in (selector.match_labels or {}).items()):
        return False
    return all(
        (holds := OPERATORS.get(wanted.operator)) is not None and holds(labels.get(wanted.key), wanted.values or ())
        for wanted in selector.match_expressions or ()
    )
