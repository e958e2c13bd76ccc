"""A target that is a Service: its own copies `-canary` and `-primary` lead to the two versions.

The target is the apex itself. The canary's copy follows it always, the primary's with promotions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleet_rollout.decide.canary.copied_metadata import LAST_APPLIED, portable
from fleet_rollout.decide.canary.live import replaced, required, with_maps
from fleet_rollout.decide.canary.objects import Live, Object, Put, Ref, Write
from fleet_rollout.decide.canary.subject import Subject
from fleet_rollout.decide.metadata import annotations_of, labels_of

# Given out by the API server, each to one Service.
_ALLOCATED = ("clusterIP", "clusterIPs", "healthCheckNodePort")


def target_ref(subject: Subject) -> Ref:
    return Ref("v1", "Service", subject.namespace, subject.target_name)


def primary_ref(subject: Subject) -> Ref:
    return target_ref(subject)._replace(name=subject.primary_workload)


def canary_ref(subject: Subject) -> Ref:
    return target_ref(subject)._replace(name=f"{subject.target_name}-canary")


def create_primary(subject: Subject, live: Live) -> list[Write]:
    """The canary's copy as the target is now; the primary's where there is none."""
    target = required(live, target_ref(subject))
    missing = [primary_ref(subject)] if live[primary_ref(subject)] is None else []
    return [write for ref in (canary_ref(subject), *missing) for write in _copy(subject, target, live, ref)]


def promote(subject: Subject, live: Live) -> list[Write]:
    """The primary's copy as the target is now; it stays the Canary's (Q17)."""
    required(live, primary_ref(subject))
    return _copy(subject, required(live, target_ref(subject)), live, primary_ref(subject))


def _copy(subject: Subject, target: Mapping[str, Any], live: Live, ref: Ref) -> list[Write]:
    found = live[ref]
    annotations = {key: value for key, value in portable(annotations_of(target)).items() if key != LAST_APPLIED}
    maps = {"labels": portable(labels_of(target)), "annotations": annotations}
    before = {"name": ref.name, "namespace": ref.namespace} if found is None else found["metadata"]
    metadata = with_maps(before, **maps) | {"ownerReferences": [subject.owner_reference]}
    spec = _spec(subject, target["spec"], {} if found is None else found["spec"])
    if found is None:
        return [Put({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})]
    return replaced(found, {**found, "metadata": metadata, "spec": spec})


def _spec(subject: Subject, source: Mapping[str, Any], live: Mapping[str, Any]) -> Object:
    """The target's spec with what was given to the copy instead of what was given to the target."""
    spec = {name: value for name, value in source.items() if name not in _ALLOCATED}
    spec |= {name: live[name] for name in _ALLOCATED if name in live}
    if not live and source.get("clusterIP") == "None":
        spec["clusterIP"] = "None"
    if source.get("ports"):
        spec["ports"] = [_port(port, live) for port in source["ports"]]
    if subject.service.get("trafficDistribution"):
        spec["trafficDistribution"] = subject.service["trafficDistribution"]
    return spec


def _port(port: Mapping[str, Any], live: Mapping[str, Any]) -> Object:
    own: Mapping[str, Any] = next((each for each in live.get("ports") or () if _names(each) == _names(port)), {})
    given = {"nodePort": own["nodePort"]} if own.get("nodePort") else {}
    return {name: value for name, value in port.items() if name != "nodePort"} | given


def _names(port: Mapping[str, Any]) -> tuple[str, int, str]:
    return (port.get("name", ""), port["port"], port.get("protocol", "TCP"))
