"""Flagger in a member: its CRDs and Istio's, the gateway, Prometheus and Flagger itself as played Pods.

`install` gives a member everything that a rollout with provider istio and engine Flagger needs.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from fleet_rollout.lab import binaries, gateway, prometheus
from fleet_rollout.lab.gateway import NAMESPACE
from fleet_rollout.lab.lab import LabCluster
from fleet_rollout.lab.pods import PodContext, Program, Recipe
from fleet_rollout.lab.programs import FLAGGER
from fleet_rollout.lab.state import LabError

Object = dict[str, Any]

IMAGE = f"ghcr.io/fluxcd/flagger:{FLAGGER}"
PORT = 8080
PROGRAMS = ("prometheus", "flagger", "loadtester", "hey")
READY_TIMEOUT = 120.0
# Flagger picks up new Canaries that often; its default of 10 s would only make people wait.
CONTROL_LOOP = "2s"


async def install(cluster: LabCluster) -> None:
    """Apply all of it and wait until it runs. Doing it again changes nothing."""
    if lacking := await asyncio.to_thread(binaries.missing, PROGRAMS):
        raise LabError(f"missing: {', '.join(lacking)}; `fleet-rollout lab binaries` downloads or builds them")
    crds = [str(binaries.manifest(name)) for name in ("istio-crds", "flagger-crds")]
    await cluster.kubectl("apply", "--server-side", "-f", crds[0], "-f", crds[1])
    await cluster.kubectl("wait", "--for=condition=Established", "-f", crds[0], "-f", crds[1])
    wanted = [*gateway.objects(), *prometheus.objects(), *objects()]
    listing = json.dumps({"apiVersion": "v1", "kind": "List", "items": wanted})
    await cluster.kubectl("apply", "--server-side", "-f", "-", stdin=listing)
    wait = ("wait", "--for=condition=Available", "deployment", "--all", f"--timeout={READY_TIMEOUT:g}s")
    await cluster.kubectl(*wait, "-n", NAMESPACE, timeout=READY_TIMEOUT + 30)


async def gateway_address(cluster: LabCluster) -> str:
    """host:port of the member's Envoy, for requests with any host that the member knows."""
    return await asyncio.to_thread(gateway.address_file(cluster.folder).read_text)


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
