"""KEDA's ScaledObject: its copy for the primary, its queries rewritten, its pause."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fleet_rollout.decide.canary.config_refs import PRIMARY_SUFFIX
from fleet_rollout.decide.canary.copied_metadata import portable
from fleet_rollout.decide.canary.live import replaced, with_maps
from fleet_rollout.decide.canary.objects import Object, Write
from fleet_rollout.decide.canary.subject import Subject
from fleet_rollout.decide.metadata import annotations_of, labels_of

API_VERSION = "keda.sh/v1alpha1"
PAUSED = "autoscaling.keda.sh/paused-replicas"
# KEDA writes the object's own name there.
_NAME_LABEL = "scaledobject.keda.sh/name"
_REPLICAS = {"minReplicas": "minReplicaCount", "maxReplicas": "maxReplicaCount"}


def copied(subject: Subject, source: Mapping[str, Any]) -> tuple[dict[str, Object], Object]:
    """Metadata maps and spec of a copy for the primary. A pause of the target is not the primary's (Q20)."""
    named = subject.spec["autoscalerRef"]
    spec = dict(source["spec"])
    spec["scaleTargetRef"] = {**spec["scaleTargetRef"], "name": subject.primary_workload}
    spec["triggers"] = [
        _trigger(each, named.get("primaryScalerQueries"), subject) for each in spec.get("triggers") or ()
    ]
    overridden = named.get("primaryScalerReplicas") or {}
    spec |= {field: overridden[name] for name, field in _REPLICAS.items() if name in overridden}
    maps = {
        "labels": _without(portable(labels_of(source)), _NAME_LABEL),
        "annotations": _without(portable(annotations_of(source)), PAUSED),
    }
    return maps, _with_hpa_name(spec)


def updated(subject: Subject, source: Mapping[str, Any], primary: Object) -> list[Write]:
    """The spec of the copy as the source has it now; a pause that an older copy took over ends."""
    _, spec = copied(subject, source)
    metadata = with_maps(primary["metadata"], annotations=_without(annotations_of(primary), PAUSED))
    return replaced(primary, {**primary, "metadata": metadata, "spec": spec})


def paused(scaler: Object) -> list[Write]:
    """KEDA keeps the target at zero."""
    return _annotated(scaler, {**annotations_of(scaler), PAUSED: "0"})


def resumed(scaler: Object) -> list[Write]:
    """KEDA scales the target again."""
    return _annotated(scaler, _without(annotations_of(scaler), PAUSED))


def _annotated(scaler: Object, annotations: Mapping[str, str]) -> list[Write]:
    return replaced(scaler, {**scaler, "metadata": with_maps(scaler["metadata"], annotations=annotations)})


def _trigger(trigger: Mapping[str, Any], queries: Mapping[str, str] | None, subject: Subject) -> Object:
    """The trigger with the primary's query: the one given by its name, else the target's with names replaced."""
    metadata = trigger.get("metadata") or {}
    if queries is not None:
        query = queries.get(trigger.get("name", ""))
    else:
        query = _for_primary(metadata.get("query"), subject)
    return {**trigger, "metadata": {**metadata, "query": query}} if query is not None else dict(trigger)


def _for_primary(query: str | None, subject: Subject) -> str | None:
    if query is None:
        return None
    return re.sub(f"{re.escape(subject.target_name)}(-canary)?", lambda _: subject.primary_workload, query)


def _with_hpa_name(spec: Object) -> Object:
    """Two ScaledObjects cannot share one HPA; KEDA finds a name itself where none is given."""
    advanced = spec.get("advanced") or {}
    config = advanced.get("horizontalPodAutoscalerConfig") or {}
    if not config.get("name"):
        return spec
    renamed = {**config, "name": config["name"] + PRIMARY_SUFFIX}
    return {**spec, "advanced": {**advanced, "horizontalPodAutoscalerConfig": renamed}}


def _without(entries: Mapping[str, str], key: str) -> dict[str, str]:
    return {name: value for name, value in entries.items() if name != key}
