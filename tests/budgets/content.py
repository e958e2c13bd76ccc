"""What the measured commits contain: twenty small objects, each of which every revision changes."""

from __future__ import annotations

from typing import Any

import yaml

OBJECTS = 20
TEXT = "x" * 960  # with the rest about 1.2 KB an object, as sent


def config_maps(revision: str, count: int = OBJECTS) -> list[dict[str, Any]]:
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"config-{number:02}"},
            "data": {"revision": revision, "text": TEXT},
        }
        for number in range(count)
    ]


def workload(revision: str) -> list[dict[str, Any]]:
    """A Deployment and its Service; a new revision changes annotations, so that no analysis begins."""
    metadata = {"name": "web", "annotations": {"revision": revision}}
    container = {"name": "web", "image": "registry.example/web:1", "ports": [{"containerPort": 8080}]}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}}
    selector = {"matchLabels": {"app": "web"}}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {"replicas": 2, "selector": selector, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
        },
    ]


def with_rollout(revision: str) -> dict[str, str]:
    """Twenty objects as a repository's files, a workload for a rollout among them."""
    return {"all.yaml": yaml.safe_dump_all([*workload(revision), *config_maps(revision, OBJECTS - 2)])}


def plain(revision: str, count: int = OBJECTS, folder: str = "") -> dict[str, str]:
    return {f"{folder}all.yaml": yaml.safe_dump_all(config_maps(revision, count))}


def rollout(namespace: str) -> dict[str, Any]:
    """A rollout of `workload`, as the guide's."""
    return {
        "trafficRoutingProvider": "istio",
        "workload": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "namespace": namespace},
        "serviceName": "web",
        "port": 80,
        "rolloutPolicy": {
            "trafficRouting": {"timeoutSeconds": 60, "canaryStrategy": {"maxWeight": 50, "stepWeight": 10}},
            "trafficAnalysis": {
                "checkIntervalSeconds": 10,
                "checkFailedTimes": 2,
                "metrics": [{"name": "request-success-rate", "intervalSeconds": 10, "thresholdRange": {"min": 99}}],
            },
            "rolloutTimeoutSeconds": 600,
        },
    }
