"""What the stub's clusters hold and how it is told: objects as bytes, their places in paths, and the answers' words."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import orjson

KINDS = {
    "": {
        "Namespace": "namespaces",
        "ConfigMap": "configmaps",
        "Secret": "secrets",
        "Service": "services",
        "Event": "events",
    },
    "apps": {"Deployment": "deployments"},
    "discovery.k8s.io": {"EndpointSlice": "endpointslices"},
    "networking.istio.io": {"VirtualService": "virtualservices", "DestinationRule": "destinationrules"},
    "autoscaling": {"HorizontalPodAutoscaler": "horizontalpodautoscalers"},
    "apiextensions.k8s.io": {"CustomResourceDefinition": "customresourcedefinitions"},
    "flagger.app": {"Canary": "canaries", "MetricTemplate": "metrictemplates", "AlertProvider": "alertproviders"},
}
VERSIONS = {
    "": "v1",
    "apps": "v1",
    "discovery.k8s.io": "v1",
    "networking.istio.io": "v1beta1",
    "autoscaling": "v2",
    "apiextensions.k8s.io": "v1",
    "flagger.app": "v1beta1",
}
CLUSTER_SCOPED = {"namespaces", "customresourcedefinitions"}
INITIALIZED = {"phase": "Initialized", "canaryWeight": 0, "failedChecks": 0, "iterations": 0, "lastAppliedSpec": "1"}
HANGING = "hangs"  # the Prometheus that never answers

Place = tuple[str, str, str, str]  # group, plural, namespace, name


@dataclass
class Stored:
    """One object: as it is sent, and what tells whether an apply changes it."""

    body: bytes
    applied: bytes
    labels: dict[str, str]
    version: int
    uid: str
    created: str


def made(body: bytes, live: Stored | None, version: int, manager: str, number: int) -> Stored:
    """The object that an apply leaves behind: everything is as sent, for there is one manager an object."""
    obj = orjson.loads(body)
    metadata = obj["metadata"]
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    uid, created = (live.uid, live.created) if live is not None else (f"uid-{number}", now)
    entry = {"manager": manager, "operation": "Apply", "apiVersion": obj["apiVersion"], "time": now, "fieldsV1": {}}
    metadata |= {"uid": uid, "resourceVersion": str(version), "creationTimestamp": created, "managedFields": [entry]}
    if live is not None and obj["kind"] == "Canary":
        obj["status"] = orjson.loads(live.body).get("status", {})
    return Stored(orjson.dumps(obj), body, metadata.get("labels") or {}, version, uid, created)


def deployed(deployment: dict[str, Any]) -> dict[str, Any]:
    """The status of a Deployment whose Pods are all there."""
    count = deployment["spec"].get("replicas", 1)
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), count)
    return {"observedGeneration": deployment["metadata"]["generation"], **counts}


def sample(value: str) -> bytes:
    """What a Prometheus answers."""
    series = [{"metric": {}, "value": [1700000000.1, value]}]
    return orjson.dumps({"status": "success", "data": {"resultType": "vector", "result": series}})


def status(code: int, reason: str, message: str) -> tuple[int, bytes]:
    """A refusal."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message}
    return code, orjson.dumps(body | {"code": code})


def discovery(groups: list[str]) -> dict[str, Any]:
    """An APIGroupDiscoveryList of these groups."""
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "items": [
            {
                "metadata": {"name": group},
                "versions": [{"version": VERSIONS[group], "resources": list(_resources(group))}],
            }
            for group in groups
        ],
    }


def _resources(group: str) -> Iterator[dict[str, Any]]:
    for kind, plural in KINDS[group].items():
        scope = "Cluster" if plural in CLUSTER_SCOPED else "Namespaced"
        yield {"resource": plural, "responseKind": {"kind": kind}, "scope": scope}


def parse(path: str) -> tuple[Place, bool, str]:
    """The place that a path names, whether it is a listing, and the subresource."""
    parts = [unquote(part) for part in path.split("/")[1:]]
    group, parts = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 2:
        namespace, parts = parts[1], parts[2:]
    plural, name, subresource = [*parts, "", ""][:3]
    return (group, plural, namespace, name), not name, subresource


def scope_of(path: str) -> tuple[str, str, str]:
    """What a watch of this path tells of."""
    (group, plural, namespace, _), _, _ = parse(path)
    return group, plural, namespace


def place_of(obj: dict[str, Any]) -> Place:
    """Where an object is."""
    group = obj["apiVersion"].rpartition("/")[0]
    metadata = obj["metadata"]
    return group, KINDS[group][obj["kind"]], metadata.get("namespace", ""), metadata["name"]


def metadata_of(content: bytes) -> bytes:
    """A PartialObjectMetadata of one object, or a list of them."""
    return orjson.dumps(_metadata_of(orjson.loads(content)))


def _metadata_of(obj: dict[str, Any]) -> dict[str, Any]:
    partial = {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": obj["metadata"]}
    if "items" in obj:
        return partial | {"kind": "PartialObjectMetadataList", "items": [_metadata_of(item) for item in obj["items"]]}
    return partial


def with_metadata(obj: dict[str, Any]) -> dict[str, Any]:
    """With what the API server gives every object."""
    metadata = {"uid": f"uid-{obj['metadata']['name']}", "resourceVersion": "1", **obj["metadata"]}
    return {**obj, "metadata": metadata}
