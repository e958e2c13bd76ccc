"""Small manifests for the lab's own tests."""

from __future__ import annotations

import pytest


@pytest.fixture
def deployment():
    """`deployment(namespace, image, ...)`: a Deployment and the path it belongs to."""

    def make(namespace: str, image: str, *, name: str = "web", replicas: int = 1, **container) -> dict:
        labels = {"app": name}
        spec = {"containers": [{"name": "main", "image": image, "ports": [{"containerPort": 8080}], **container}]}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        }

    return make


@pytest.fixture
def service():
    """`service(namespace, name)`: port 80 (named http) of a Deployment's Pods on 8080."""

    def make(namespace: str, name: str = "web") -> dict:
        return {
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
        }

    return make
