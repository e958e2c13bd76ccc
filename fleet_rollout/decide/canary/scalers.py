"""The primary's autoscaler, made after the target's; and the target's kept quiet between rollouts.

An HPA stops by itself while its target has no replicas. KEDA has to be told (`keda.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleet_rollout.decide.canary import keda
from fleet_rollout.decide.canary.config_refs import PRIMARY_SUFFIX
from fleet_rollout.decide.canary.copied_metadata import included, portable
from fleet_rollout.decide.canary.live import described, replaced, required, with_maps
from fleet_rollout.decide.canary.objects import Live, Object, Put, Ref, StepFailed, Write
from fleet_rollout.decide.canary.subject import Subject
from fleet_rollout.decide.metadata import annotations_of, labels_of

# Always the stable version: `autoscalerRef` may name one that the API server has long dropped.
API_VERSIONS = {"HorizontalPodAutoscaler": "autoscaling/v2", "ScaledObject": keda.API_VERSION}
_COPIED = ("minReplicas", "maxReplicas", "metrics", "behavior")


def reads(subject: Subject) -> list[Ref]:
    """The target's autoscaler and the primary's, where there are any."""
    ref = target_scaler_ref(subject)
    return [] if ref is None else [ref, _primary_ref(ref)]


def target_scaler_ref(subject: Subject) -> Ref | None:
    """Where the target's autoscaler is. Knative scales its Services itself."""
    if subject.is_knative:
        return None
    named = subject.spec.get("autoscalerRef") or {}
    version = API_VERSIONS.get(named.get("kind", ""))
    return Ref(version, named["kind"], subject.namespace, named["name"]) if version else None


def target_scaler(subject: Subject, live: Live) -> Object | None:
    """The target's autoscaler, where it has one and it exists."""
    ref = target_scaler_ref(subject)
    return live[ref] if ref is not None else None


def create_scaler(subject: Subject, live: Live) -> list[Write]:
    """The primary's autoscaler, where there is none; one that exists is left to `sync_scaler`."""
    return _write(subject, live, is_update=False)


def sync_scaler(subject: Subject, live: Live) -> list[Write]:
    """Bring the primary's autoscaler to what the target's says."""
    return _write(subject, live, is_update=True)


def pause_scaler(subject: Subject, live: Live) -> list[Write]:
    """Keep the target's autoscaler from scaling it up."""
    ref = target_scaler_ref(subject)
    return keda.paused(required(live, ref)) if ref is not None and ref.kind == "ScaledObject" else []


def resume_scaler(subject: Subject, live: Live) -> list[Write]:
    """Let the target's autoscaler work. One that is gone holds nothing up."""
    scaler = target_scaler(subject, live)
    return keda.resumed(scaler) if scaler is not None and scaler["kind"] == "ScaledObject" else []


def _primary_ref(ref: Ref) -> Ref:
    return ref._replace(name=ref.name + PRIMARY_SUFFIX)


def _write(subject: Subject, live: Live, *, is_update: bool) -> list[Write]:
    ref = target_scaler_ref(subject)
    if ref is None:
        return []
    source, primary = live[ref], live[_primary_ref(ref)]
    if source is None:
        missing = f"{described(ref)} does not exist"
        raise StepFailed(f"{missing}; create it, or take spec.autoscalerRef out of Canary {subject.full_name}")
    is_keda = ref.kind == "ScaledObject"
    if primary is None:
        return [Put(_new(subject, source, *(keda.copied(subject, source) if is_keda else _copied(subject, source))))]
    if not is_update:
        return []
    return keda.updated(subject, source, primary) if is_keda else _updated(subject, source, primary)


def _copied(subject: Subject, source: Mapping[str, Any]) -> tuple[dict[str, Object], Object]:
    """Metadata maps and spec of a copy of an HPA."""
    spec = {name: source["spec"][name] for name in _COPIED if name in source["spec"]}
    spec |= subject.spec["autoscalerRef"].get("primaryScalerReplicas") or {}
    spec["scaleTargetRef"] = {**source["spec"]["scaleTargetRef"], "name": subject.primary_workload}
    annotations = included(annotations_of(source), subject.options.include_label_prefix)
    return {"labels": portable(labels_of(source)), "annotations": annotations}, spec


def _updated(subject: Subject, source: Mapping[str, Any], primary: Object) -> list[Write]:
    """Labels as the source has them now; annotations of others stay (Q19)."""
    maps, spec = _copied(subject, source)
    annotations = {**annotations_of(primary), **maps["annotations"]}
    metadata = with_maps(primary["metadata"], labels=maps["labels"], annotations=annotations)
    return replaced(primary, {**primary, "metadata": metadata, "spec": spec})


def _new(subject: Subject, source: Mapping[str, Any], maps: dict[str, Object], spec: Object) -> Object:
    name = source["metadata"]["name"] + PRIMARY_SUFFIX
    metadata = {"name": name, "namespace": subject.namespace, "ownerReferences": [subject.owner_reference]}
    kind = {"apiVersion": source["apiVersion"], "kind": source["kind"]}
    return {**kind, "metadata": with_maps(metadata, **maps), "spec": spec}
