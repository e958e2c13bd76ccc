"""The primary of a Deployment or DaemonSet: made once, then changed by promotions alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleet_rollout.decide.canary import tracking
from fleet_rollout.decide.canary.copied_metadata import (
    SYSTEM_ANNOTATIONS,
    included,
    portable,
    relabelled,
    without_system,
)
from fleet_rollout.decide.canary.labels import primary_value
from fleet_rollout.decide.canary.live import described, replaced, required, with_maps
from fleet_rollout.decide.canary.objects import Live, Object, Put, Ref, StepFailed, Write
from fleet_rollout.decide.canary.primary_pods import primary_template
from fleet_rollout.decide.canary.subject import Subject
from fleet_rollout.decide.metadata import annotations_of, labels_of

API_VERSION = "apps/v1"
# What a primary has of the target's spec beside replicas and Pods.
_COPIED = {
    "Deployment": ("progressDeadlineSeconds", "minReadySeconds", "revisionHistoryLimit", "strategy"),
    "DaemonSet": ("minReadySeconds", "revisionHistoryLimit", "updateStrategy"),
}


def target_ref(subject: Subject) -> Ref:
    return Ref(API_VERSION, subject.target_kind, subject.namespace, subject.target_name)


def primary_ref(subject: Subject) -> Ref:
    return Ref(API_VERSION, subject.target_kind, subject.namespace, subject.primary_workload)


def create_primary(subject: Subject, live: Live, flagger_id: str) -> list[Write]:
    """The primary and its configs, where there is no primary."""
    target = required(live, target_ref(subject))
    strategy = (target["spec"].get("updateStrategy") or {}).get("type") or "RollingUpdate"
    if strategy != "RollingUpdate":
        raise StepFailed(f"{described(target)} must use the RollingUpdate strategy, not {strategy}")
    primary = live[primary_ref(subject)]
    if primary is not None:
        _refuse_stranger(subject, primary)
        return []
    configs = tracking.tracked(subject, target, live) or {}
    return [*tracking.copies(subject, configs, live), Put(_new(subject, target, configs, flagger_id))]


def promote(subject: Subject, live: Live, flagger_id: str) -> list[Write]:
    """Bring the primary and its configs to what the target is."""
    target, primary = required(live, target_ref(subject)), required(live, primary_ref(subject))
    configs = tracking.tracked(subject, target, live) or {}
    prefixes = subject.options.include_label_prefix
    system = {key: value for key, value in annotations_of(primary).items() if key in SYSTEM_ANNOTATIONS}
    metadata = with_maps(
        primary["metadata"],
        labels=_labels(subject, target),
        annotations=without_system(included(annotations_of(target), prefixes)) | system,
    )
    maps, pods = primary_template(subject, target, configs, flagger_id)
    template = {"metadata": with_maps(primary["spec"]["template"].get("metadata") or {}, **maps), "spec": pods}
    spec = _promoted_spec(subject, target["spec"], primary["spec"]) | {"template": template}
    return [
        *tracking.copies(subject, configs, live),
        *replaced(primary, {**primary, "metadata": metadata, "spec": spec}),
    ]


def _refuse_stranger(subject: Subject, primary: Mapping[str, Any]) -> None:
    """Somebody else's workload of the primary's name would leave the users' Service without Pods.

    One whose Pods have the label is taken over, as by Flagger.
    """
    label, wanted = subject.label_key, primary_value(subject.label_value)
    is_made_for_us = any(owner.get("kind") == "Canary" for owner in primary["metadata"].get("ownerReferences") or ())
    if not is_made_for_us and labels_of(primary["spec"]["template"]).get(label) != wanted:
        raise StepFailed(
            f"{described(primary)} was made by somebody else, and its Pods have no label {label}: {wanted}; "
            f"delete it, or give another name to {described(target_ref(subject))}"
        )


def _new(subject: Subject, target: Mapping[str, Any], configs: tracking.Tracked, flagger_id: str) -> Object:
    maps, pods = primary_template(subject, target, configs, flagger_id)
    spec: Object = _copied(subject, target["spec"]) | {
        "selector": {"matchLabels": {subject.label_key: primary_value(subject.label_value)}},
        "template": {"metadata": maps, "spec": pods},
    }
    if subject.target_kind == "Deployment":
        spec["replicas"] = target["spec"].get("replicas") or 1
    ref = primary_ref(subject)
    metadata = {"name": ref.name, "namespace": ref.namespace, "ownerReferences": [subject.owner_reference]}
    annotations = without_system(portable(annotations_of(target)))
    return {
        "apiVersion": ref.api_version,
        "kind": ref.kind,
        "metadata": with_maps(metadata, labels=_labels(subject, target), annotations=annotations),
        "spec": spec,
    }


def _labels(subject: Subject, target: Mapping[str, Any]) -> dict[str, str]:
    kept = included(labels_of(target), subject.options.include_label_prefix)
    return relabelled(kept, subject.label_key, primary_value(subject.label_value))


def _copied(subject: Subject, spec: Mapping[str, Any]) -> Object:
    return {name: spec[name] for name in _COPIED[subject.target_kind] if name in spec}


def _promoted_spec(subject: Subject, target: Mapping[str, Any], primary: Mapping[str, Any]) -> Object:
    rest = {name: value for name, value in primary.items() if name not in _COPIED[subject.target_kind]}
    # An autoscaler of the primary knows better how many Pods the users' traffic needs.
    if subject.target_kind == "Deployment" and not subject.spec.get("autoscalerRef"):
        rest["replicas"] = target.get("replicas", 1)
    return rest | _copied(subject, target)
