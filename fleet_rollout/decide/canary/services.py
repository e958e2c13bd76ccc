"""The three Services of a workload: the apex that users call, one of the primary's Pods, one of the target's.

Type, headless and traffic distribution are said when a Service is made, and left to its owner afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fleet_rollout.decide.canary.copied_metadata import Entries
from fleet_rollout.decide.canary.labels import primary_value
from fleet_rollout.decide.canary.live import replaced, with_maps
from fleet_rollout.decide.canary.objects import Live, Object, Put, Ref, StepFailed, Write
from fleet_rollout.decide.canary.ports import service_ports
from fleet_rollout.decide.canary.subject import UNTOUCHED_BY_FLUX, Subject
from fleet_rollout.decide.metadata import annotations_of, labels_of


def reads(subject: Subject) -> list[Ref]:
    """The three Services; a target that is a Service itself has none of these."""
    if subject.target_kind == "Service":
        return []
    return [_ref(subject, name) for name in (subject.apex, subject.canary, subject.primary)]


def reconcile_versions(subject: Subject, live: Live) -> list[Write]:
    """Bring the Services of target and primary to what is wanted."""
    if subject.target_kind == "Service":
        return []
    if subject.port == 0:
        raise StepFailed(f"Canary {subject.full_name} has no spec.service.port; write the port that users call")
    return [
        *_reconcile(subject, live, subject.canary, subject.label_value, "canary"),
        *_reconcile(subject, live, subject.primary, primary_value(subject.label_value), "primary"),
    ]


def reconcile_apex(subject: Subject, live: Live) -> list[Write]:
    """Let the Service that users call select the primary's Pods."""
    if subject.target_kind == "Service":
        return []
    return _reconcile(subject, live, subject.apex, primary_value(subject.label_value), "apex")


def apex_ref(subject: Subject) -> Ref:
    return _ref(subject, subject.apex)


def controller(obj: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The owner that controls an object."""
    owners = obj["metadata"].get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller")), None)


def _ref(subject: Subject, name: str) -> Ref:
    return Ref("v1", "Service", subject.namespace, name)


def _reconcile(subject: Subject, live: Live, name: str, value: str, role: str) -> list[Write]:
    given = subject.service.get(role) or {}
    labels = {**(given.get("labels") or {}), subject.label_key: name}
    annotations = {**(given.get("annotations") or {}), **UNTOUCHED_BY_FLUX}
    selector, found = {subject.label_key: value}, live[_ref(subject, name)]
    if found is None:
        return [Put(_new(subject, name, labels, annotations, selector))]
    metadata = _enforced(subject, found, labels, annotations) if _is_ours(subject, found) else found["metadata"]
    spec = _updated(found["spec"], service_ports(subject), selector)
    if (metadata, spec) == (found["metadata"], found["spec"]):
        return []
    # From now on it is the engine's to say where this Service leads, also where a user has made it.
    metadata = with_maps(metadata, annotations={**annotations_of({"metadata": metadata}), **UNTOUCHED_BY_FLUX})
    return replaced(found, {**found, "metadata": metadata, "spec": spec})


def _new(subject: Subject, name: str, labels: Entries, annotations: Entries, selector: Entries) -> Object:
    service = subject.service
    spec: Object = {"type": "ClusterIP", "selector": dict(selector), "ports": service_ports(subject)}
    if service.get("headless"):
        spec["clusterIP"] = "None"
    if service.get("trafficDistribution"):
        spec["trafficDistribution"] = service["trafficDistribution"]
    metadata = {"name": name, "namespace": subject.namespace, "ownerReferences": [subject.owner_reference]}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": with_maps(metadata, labels=labels, annotations=annotations),
        "spec": spec,
    }


def _is_ours(subject: Subject, service: Mapping[str, Any]) -> bool:
    owner = controller(service)
    return owner is not None and (owner["kind"], owner["name"]) == ("Canary", subject.name)


def _enforced(subject: Subject, live: Object, labels: Entries, annotations: Entries) -> Object:
    """Exactly these labels and annotations, but for the keys that the user keeps to himself."""
    unmanaged = subject.service.get("unmanagedMetadata") or {}
    return with_maps(
        live["metadata"],
        labels={**labels, **_picked(labels_of(live), unmanaged.get("labels"))},
        annotations={**annotations, **_picked(annotations_of(live), unmanaged.get("annotations"))},
    )


def _picked(entries: Mapping[str, Any], keys: Iterable[str] | None) -> dict[str, Any]:
    return {key: entries[key] for key in keys or () if key in entries}


def _updated(live: Object, ports: list[Object], selector: Entries) -> Object:
    """The live spec with these ports, in whatever order, and this selector."""
    before = live.get("ports") or []
    node_ports = {port.get("name"): port["nodePort"] for port in before if port.get("nodePort")}
    wanted = [{**port, "nodePort": node_ports[port["name"]]} if port["name"] in node_ports else port for port in ports]
    if sorted(wanted, key=_by_port) == sorted(before, key=_by_port):
        wanted = before
    return {**live, "ports": wanted, "selector": dict(selector)}


def _by_port(port: Mapping[str, Any]) -> tuple[int, str]:
    return (port["port"], port.get("name", ""))
