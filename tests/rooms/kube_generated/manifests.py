"""Targets as users write them: short, so that the API server has defaults to add."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def _metadata(name: str, **more: Any) -> Object:
    return {"name": name, **more}


def pods(*, image: str = "example.com/podinfo:1", **spec: Any) -> Object:
    """A Pod template that uses configs in many ways."""
    container = {
        "name": "podinfo",
        "image": image,
        "ports": [{"containerPort": 9898, "name": "http"}, {"containerPort": 9797}],
        "env": [
            {"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "color"}}},
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
        "envFrom": [{"secretRef": {"name": "token", "optional": False}}],
        "resources": {"limits": {"cpu": "1000m", "memory": "0.5Gi"}},
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}},
    }
    volumes = [
        {"name": "files", "configMap": {"name": "files"}},
        {"name": "all", "projected": {"sources": [{"secret": {"name": "token"}}, {"configMap": {"name": "files"}}]}},
        {"name": "none", "configMap": {"name": "missing", "optional": True}},
        {"name": "scratch"},
    ]
    return {
        "metadata": {"labels": {"app": "podinfo", "tier": "web"}, "annotations": {"prometheus.io/scrape": "true"}},
        "spec": {"containers": [container], "volumes": volumes, **spec},
    }


def configs() -> list[Object]:
    """Everything that `pods` names."""
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata("settings"), "data": {"color": "<red>"}},
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": _metadata("files"),
            "data": {"a": "b"},
            "binaryData": {"c": "AAE="},
            "immutable": True,
        },
        {"apiVersion": "v1", "kind": "Secret", "metadata": _metadata("token"), "stringData": {"token": "x"}},
    ]


def _together() -> Object:
    selector = {"matchLabels": {"app": "podinfo"}}
    return {
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": selector}
        ],
        "affinity": {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 1, "podAffinityTerm": {"topologyKey": "host", "labelSelector": selector}}
                ]
            }
        },
    }


def deployment(**spec: Any) -> Object:
    template = spec.pop("template", None) or pods(**_together())
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata("podinfo", labels={"app": "podinfo"}, annotations={"note": "kept"}),
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "podinfo"}}, "template": template, **spec},
    }


def daemon_set(**spec: Any) -> Object:
    template = spec.pop("template", None) or pods(nodeSelector={"disk": "ssd"})
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": _metadata("podinfo", annotations={"note": "kept"}),
        "spec": {"selector": {"matchLabels": {"app": "podinfo"}}, "template": template, **spec},
    }


def service(name: str = "podinfo", **spec: Any) -> Object:
    defaults = {"selector": {"app": "podinfo"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": _metadata(name), "spec": {**defaults, **spec}}


def hpa(**spec: Any) -> Object:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo"}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _metadata("podinfo", labels={"team": "blue"}),
        "spec": {"scaleTargetRef": target, "maxReplicas": 4, **spec},
    }


def scaled_object(**spec: Any) -> Object:
    trigger = {"type": "prometheus", "metadata": {"query": "rate(podinfo[1m])", "threshold": "5"}}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": _metadata("podinfo"),
        "spec": {"scaleTargetRef": {"name": "podinfo"}, "triggers": [trigger], "maxReplicaCount": 3, **spec},
    }
