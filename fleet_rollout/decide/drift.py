"""Does the live object still say what Git says? Compares it with the answer of a dry run, never with the manifest.

What the manifest does not mention is equal on both sides, so it is never touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleet_rollout.decide.metadata import annotations_of, labels_of

_NOT_COMPARED = frozenset({"metadata", "status"})


def has_drifted(live: Mapping[str, Any], answer: Mapping[str, Any]) -> bool:
    """True when applying would change labels, annotations, or anything outside metadata and status."""
    if labels_of(live) != labels_of(answer) or annotations_of(live) != annotations_of(answer):
        return True
    return _body(live) != _body(answer)


def _body(obj: Mapping[str, Any]) -> dict[str, Any]:
    body = {key: value for key, value in obj.items() if key not in _NOT_COMPARED}
    if obj["kind"] == "HorizontalPodAutoscaler":
        body["spec"] = _without_doubled_metrics(body.get("spec"))
    return body


def _without_doubled_metrics(spec: Any) -> Any:
    # A dry run over several HPA versions answers with metrics doubled or empty (kubernetes/kubernetes#74099).
    if not isinstance(spec, dict) or not isinstance(spec.get("metrics"), list):
        return spec
    metrics: list[Any] = []
    for metric in spec["metrics"]:
        if metric and metric not in metrics:
            metrics.append(metric)
    return {**spec, "metrics": metrics}
