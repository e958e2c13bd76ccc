"""The Pod template of the primary: the target's, with names of its own where two versions must not meet."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from fleet_rollout.decide.canary.config_refs import PRIMARY_SUFFIX, with_primary_configs
from fleet_rollout.decide.canary.copied_metadata import portable, relabelled
from fleet_rollout.decide.canary.labels import primary_value
from fleet_rollout.decide.canary.live import with_maps
from fleet_rollout.decide.canary.objects import Object
from fleet_rollout.decide.canary.subject import Subject
from fleet_rollout.decide.traffic_names import SCALE_TO_ZERO_KEY

# A new value makes the primary's Pods roll even where nothing else has changed.
FLAGGER_ID = "flagger-id"


def primary_template(
    subject: Subject, target: Mapping[str, Any], configs: Collection[str], flagger_id: str
) -> tuple[dict[str, Object], Object]:
    """Metadata maps and spec of the primary's Pods. `configs`: the keys of those that have a copy."""
    template = target["spec"]["template"]
    metadata = template.get("metadata") or {}
    maps = {
        "labels": relabelled(metadata.get("labels"), subject.label_key, primary_value(subject.label_value)),
        "annotations": {**portable(metadata.get("annotations")), FLAGGER_ID: flagger_id},
    }
    spec = with_primary_configs(template["spec"], configs)
    if subject.target_kind == "DaemonSet":
        return maps, without_scale_down(spec)
    for selector in _spreading_selectors(spec):
        _rename(selector, subject)
    return maps, spec


def without_scale_down(spec: Mapping[str, Any]) -> Object:
    """The Pod spec of a DaemonSet that is not scaled to zero."""
    nodes = spec.get("nodeSelector") or {}
    return with_maps(spec, nodeSelector={key: value for key, value in nodes.items() if key != SCALE_TO_ZERO_KEY})


def _spreading_selectors(spec: Mapping[str, Any]) -> Iterator[Object]:
    """The label selectors by which Pods of one version keep away from each other."""
    terms = list(spec.get("topologySpreadConstraints") or ())
    apart = (spec.get("affinity") or {}).get("podAntiAffinity") or {}
    terms += [each["podAffinityTerm"] for each in apart.get("preferredDuringSchedulingIgnoredDuringExecution") or ()]
    terms += apart.get("requiredDuringSchedulingIgnoredDuringExecution") or ()
    return (term["labelSelector"] for term in terms if term.get("labelSelector"))


def _rename(selector: Object, subject: Subject) -> None:
    """The target's name becomes the primary's, under the keys that select Pods of a target."""
    keys, name = subject.options.selector_labels, subject.target_name
    for key, value in (selector.get("matchLabels") or {}).items():
        if key in keys and value == name:
            selector["matchLabels"][key] = name + PRIMARY_SUFFIX
    for expression in selector.get("matchExpressions") or ():
        if expression["key"] in keys and expression.get("values"):
            expression["values"] = [name + PRIMARY_SUFFIX if each == name else each for each in expression["values"]]
