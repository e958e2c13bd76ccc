"""A member with everything that a rollout needs, and the manifests of what is rolled out."""

from __future__ import annotations

import pytest

from fleet_rollout.lab import flagger


@pytest.fixture(scope="session")
async def mesh(member):
    """A member with gateway, Prometheus and Flagger."""
    await flagger.install(member)
    return member


@pytest.fixture(scope="session")
def deployment():
    def make(name, image, *, port, command=()):
        container = {"name": "main", "image": image, "ports": [{"name": "http", "containerPort": port}]}
        template = {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [container | {"args": list(command)}]},
        }
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": template},
        }

    return make


@pytest.fixture(scope="session")
def service():
    def make(name, port, *, app=None):
        ports = [{"name": "http", "port": port, "targetPort": "http"}]
        spec = {"selector": {"app": app or name}, "ports": ports}
        return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}

    return make
