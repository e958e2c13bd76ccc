"""The private load tester of a workload: a Deployment and a Service of one name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet_rollout.decide import names
from fleet_rollout.decide.traffic_names import tester_name

Object = dict[str, Any]

PORT = 8080
COMMAND = ("./loadtester", f"-port={PORT}", "-log-level=info", "-timeout=1h")
PROBE = ("wget", "--quiet", "--tries=1", "--timeout=4", "--spider", f"http://localhost:{PORT}/healthz")


def _resources() -> dict[str, dict[str, str]]:
    return {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}}


@dataclass(frozen=True)
class LoadTester:
    """What an operator may choose about private load testers."""

    image: str = "ghcr.io/fluxcd/flagger-loadtester:0.29.0"
    resources: Mapping[str, Mapping[str, str]] = field(default_factory=_resources)


def container_resources(*, requests: Mapping[str, str], limits: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """A container's resources; what is empty is left out."""
    given = {"requests": requests, "limits": limits}
    found = {part: {name: amount for name, amount in amounts.items() if amount} for part, amounts in given.items()}
    return {part: amounts for part, amounts in found.items() if amounts}


def tester_objects(workload: str, namespace: str, policy: str, settings: LoadTester) -> tuple[Object, Object]:
    """Deployment and Service, without what the API server fills in."""
    name = tester_name(workload)
    metadata = {
        "name": name,
        "namespace": namespace,
        "labels": {"app": name},
        "annotations": {names.ROLLOUT_ANNOTATION: policy},
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": _deployment(name, settings),
    }
    ports = [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}]
    spec = {"type": "ClusterIP", "selector": {"app": name}, "ports": ports}
    return deployment, {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def _deployment(name: str, settings: LoadTester) -> Object:
    annotations = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(PORT),
        "openservicemesh.io/inbound-port-exclusion-list": f"80, {PORT}",
    }
    return {
        "replicas": 1,
        "selector": {"matchLabels": {"app": name}},
        "template": {
            "metadata": {"labels": {"app": name}, "annotations": annotations},
            "spec": {"containers": [_container(settings)]},
        },
    }


def _container(settings: LoadTester) -> Object:
    probe = {"exec": {"command": list(PROBE)}, "timeoutSeconds": 5}
    return {
        "name": "loadtester",
        "image": settings.image,
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "command": list(COMMAND),
        "livenessProbe": probe,
        "readinessProbe": probe,
        "resources": {kind: dict(amounts) for kind, amounts in settings.resources.items()},
        "securityContext": {"readOnlyRootFilesystem": True, "runAsUser": 10001},
    }
