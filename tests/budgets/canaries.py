"""Canaries to measure an engine with: Istio, an analysis of two metrics every ten seconds, and what they are about."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

NAMESPACE = "web"
METRICS_NAMESPACE = "istio-system"
INTERVAL = "10s"
METRICS = [
    {"name": "request-success-rate", "interval": "1m", "thresholdRange": {"min": 99}},
    {"name": "request-duration", "interval": "1m", "thresholdRange": {"max": 500}},
]


def deployment(name: str, tag: str, namespace: str = NAMESPACE) -> Object:
    """The workload that its user owns; a new tag is a new revision."""
    container = {
        "name": "web",
        "image": f"registry.example/web:{tag}",
        "ports": [{"name": "http", "containerPort": 8080}],
        "env": [{"name": f"SETTING_{number}", "value": f"value {number}"} for number in range(8)],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}},
    }
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": name}}, "template": template},
    }


def canary(name: str, namespace: str = NAMESPACE, *, metrics_server: str = "", **analysis: Any) -> Object:
    """As the guides write it; `analysis` says how the weights rise."""
    spec: Object = {
        "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "provider": "istio",
        "progressDeadlineSeconds": 600,
        "service": {"port": 80, "targetPort": 8080, "gateways": ["mesh"]},
        "analysis": {"interval": INTERVAL, "threshold": 5, "metrics": METRICS, **analysis},
    }
    if metrics_server:
        spec["metricsServer"] = metrics_server
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "flagger.app/v1beta1", "kind": "Canary", "metadata": metadata, "spec": spec}


def metrics_service(name: str = "prometheus", namespace: str = METRICS_NAMESPACE) -> Object:
    """What leads to a Prometheus by way of the API server."""
    spec = {"selector": {"app": name}, "ports": [{"name": "http", "port": 9090}]}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
