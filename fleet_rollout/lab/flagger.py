"""Flagger in a member: its CRDs and Flagger itself as a played Pod, beside the mesh.

`install` gives a member everything that a rollout with provider istio and engine Flagger needs.
"""

from __future__ import annotations

from typing import Any

from fleet_rollout.lab import binaries, gateway, mesh, prometheus
from fleet_rollout.lab.lab import LabCluster
from fleet_rollout.lab.mesh import gateway_address
from fleet_rollout.lab.pods import PodContext, Program, Recipe
from fleet_rollout.lab.programs import FLAGGER

__all__ = ["gateway_address", "install", "objects"]

Object = dict[str, Any]

IMAGE = f"ghcr.io/fluxcd/flagger:{FLAGGER}"
PORT = 8080
# Flagger picks up new Canaries that often; its default of 10 s would only make people wait.
CONTROL_LOOP = "2s"


async def install(cluster: LabCluster) -> None:
    """Apply all of it and wait until it runs. Doing it again changes nothing."""
    await mesh.require(("flagger",))
    await mesh.install(cluster)
    await mesh.bring(cluster, mesh.crds("flagger-crds"))
    await mesh.bring(cluster, objects())


def objects() -> list[Object]:
    """What the member holds of Flagger, with the flags of the guide."""
    arguments = [
        "-mesh-provider=istio",
        f"-metrics-server={prometheus.ADDRESS}",
        "-enable-config-tracking=true",
        f"-control-loop-interval={CONTROL_LOOP}",
        "-log-level=info",
    ]
    container = {
        "image": IMAGE,
        "command": ["./flagger"],
        "args": arguments,
        "ports": [{"name": "http", "containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}},
    }
    return gateway.deployment_and_service("flagger", container)


def play(context: PodContext) -> Program:
    """The container's own flags, and where the cluster is; names of Services are resolved by the lab's proxy."""
    flags = [word for word in context.arguments if word.startswith("-")]
    here = [f"-kubeconfig={context.kubeconfig}", f"-port={context.port(PORT)}"]
    return Program([binaries.require("flagger"), *flags, *here], {"HTTP_PROXY": context.proxy}, ready="/healthz")


RECIPES: dict[str, Recipe] = {"ghcr.io/fluxcd/flagger": play, **gateway.RECIPES}
