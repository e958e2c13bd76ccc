"""What a plain sync begins with: an Application, its commits, and a Fleet of one member."""

from __future__ import annotations

import base64
from typing import Any

import yaml

Object = dict[str, Any]


def manifests(namespace: str) -> dict[str, str]:
    """The first commit: a Namespace, three ConfigMaps and a Deployment."""
    labels = {"app": "web"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": pod},
    }
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    maps = {f"{name}.yaml": config_map(namespace, name, "1") for name in ("stays", "changes", "goes")}
    return {"namespace.yaml": yaml.safe_dump(space), "deployment.yaml": yaml.safe_dump(deployment), **maps}


def changes(namespace: str) -> dict[str, str | None]:
    """The second commit."""
    return {"changes.yaml": config_map(namespace, "changes", "2"), "goes.yaml": None}


def config_map(namespace: str, name: str, value: str) -> str:
    metadata = {"name": name, "namespace": namespace}
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"value": value}})


def application(namespace: str, url: str) -> Object:
    policy = {"kustomization": {"interval": "1h", "path": "./", "prune": True}}
    git = {"url": url, "interval": "1h", "ref": {"branch": "main"}}
    return {
        "apiVersion": "apps.kurator.dev/v1alpha1",
        "kind": "Application",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"source": {"gitRepository": git}, "syncPolicies": [policy], "destination": {"fleet": "fleet"}},
    }


def fleet(namespace: str, kubeconfig: bytes, mode: str) -> list[tuple[str, Object]]:
    """A Fleet of one member, and how it is reached."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "m1-kubeconfig", "namespace": namespace},
        "data": {"value": base64.b64encode(kubeconfig).decode()},
    }
    cluster = {
        "apiVersion": "cluster.kurator.dev/v1alpha1",
        "kind": "AttachedCluster",
        "metadata": {"name": "m1", "namespace": namespace},
        "spec": {"kubeconfig": {"name": "m1-kubeconfig", "key": "value"}},
    }
    group = {
        "apiVersion": "fleet.kurator.dev/v1alpha1",
        "kind": "Fleet",
        "metadata": {"name": "fleet", "namespace": namespace},
        "spec": {
            "clusters": [{"kind": "AttachedCluster", "name": "m1"}],
            "rolloutEngine": {"mode": mode},
        },
    }
    return [("secrets", secret), ("attachedclusters", cluster), ("fleets", group)]
