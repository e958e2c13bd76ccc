"""The objects that the scenarios are about, as their users would write them.

`$METRICS`, `$HOOKS` and `$ALERTS` stand for the addresses of the scripted servers (servers.py).
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

NAME = "podinfo"
CONFIG = "podinfo-config"
COLOUR = "colour"

MATCH = [{"headers": {"x": {"exact": "y"}}}]
AFFINITY = {"cookieName": "ck", "primaryCookieName": "pk"}
NGINX: Object = {
    "provider": "nginx",
    "ingressRef": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": NAME},
}
HPA_REFERENCE = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "name": NAME}

INGRESS: Object = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "Ingress",
    "metadata": {"name": NAME, "annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "8m"}},
    "spec": {
        "ingressClassName": "nginx",
        "rules": [
            {
                "host": "app.example.com",
                "http": {
                    "paths": [
                        {
                            "path": "/",
                            "pathType": "Prefix",
                            "backend": {"service": {"name": NAME, "port": {"number": 9898}}},
                        },
                        {
                            "path": "/docs",
                            "pathType": "Prefix",
                            "backend": {"service": {"name": "docs", "port": {"number": 80}}},
                        },
                    ]
                },
            }
        ],
    },
}
METRIC_TEMPLATE: Object = {
    "apiVersion": "flagger.app/v1beta1",
    "kind": "MetricTemplate",
    "metadata": {"name": "own"},
    "spec": {
        "provider": {"type": "prometheus", "address": "$METRICS"},
        "query": "own{namespace='{{ namespace }}', target='{{ target }}', window='{{ interval }}'}",
    },
}
ALERT_PROVIDER: Object = {
    "apiVersion": "flagger.app/v1beta1",
    "kind": "AlertProvider",
    "metadata": {"name": "chat"},
    "spec": {"type": "slack", "channel": "releases", "username": "rollouts", "address": "$ALERTS"},
}
HPA: Object = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": NAME, "labels": {"team": "red"}},
    "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME},
        "minReplicas": 1,
        "maxReplicas": 3,
        "metrics": [
            {
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
            }
        ],
    },
}


def hooked(**types: str) -> Object:
    """A delta with webhooks: `hooked(gate="confirm-rollout")`."""
    found = [{"name": name, "type": type_, "url": f"$HOOKS/{name}"} for name, type_ in types.items()]
    return {"analysis": {"webhooks": found}}


def every_hook() -> Object:
    """One hook of each type."""
    return hooked(
        start="confirm-rollout",
        warm="pre-rollout",
        load="rollout",
        more="confirm-traffic-increase",
        promote="confirm-promotion",
        bye="post-rollout",
        back="rollback",
    )


def target(kind: str, revision: str, *, has_config: bool = False, has_cluster_ip: bool = False) -> Object:
    """The workload that its user owns, in one of its revisions."""
    if kind == "Service":
        spec: Object = {"type": "ExternalName", "externalName": f"v{revision}.example.com"}
        if has_cluster_ip:
            spec = {"selector": {"app": NAME, "version": revision}}
        ports = [{"name": "http", "port": 9898, "targetPort": 9898}]
        metadata = {"name": NAME, "labels": {"team": "red"}, "annotations": {"owner": "red"}}
        return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": {**spec, "ports": ports}}
    container: Object = {
        "name": "main",
        "image": f"ghcr.io/stefanprodan/podinfo:{revision}",
        "ports": [{"name": "http", "containerPort": 9898}, {"name": "metrics", "containerPort": 9797}],
    }
    if has_config:
        container["envFrom"] = [{"configMapRef": {"name": CONFIG}}]
    spec = {
        "selector": {"matchLabels": {"app": NAME}},
        "template": {"metadata": {"labels": {"app": NAME}}, "spec": {"containers": [container]}},
    }
    if kind == "Deployment":
        spec |= {"replicas": 1, "progressDeadlineSeconds": 60}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": NAME, "labels": {"app": NAME, "team": "red"}, "annotations": {"owner": "red"}},
        "spec": spec,
    }


def config_map(colour: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CONFIG}, "data": {COLOUR: colour}}


def filled(template: Any, addresses: dict[str, str]) -> Any:
    """Replace `$NAME` by addresses, wherever texts begin with it."""
    if isinstance(template, dict):
        return {key: filled(value, addresses) for key, value in template.items()}
    if isinstance(template, list):
        return [filled(value, addresses) for value in template]
    if isinstance(template, str) and template.startswith("$"):
        name, slash, rest = template[1:].partition("/")
        return addresses[name] + slash + rest
    return template
