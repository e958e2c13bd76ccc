"""Flagger in a member: its CRDs and Istio's, the gateway, Prometheus and Flagger itself as played Pods.

`install` gives a member everything that a rollout with provider istio and engine Flagger needs.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import yaml

from fleet_rollout.lab import binaries, gateway, prometheus
from fleet_rollout.lab.lab import LabCluster
from fleet_rollout.lab.pods import PodContext, Program, Recipe
from fleet_rollout.lab.programs import FLAGGER
from fleet_rollout.lab.state import LabError

Object = dict[str, Any]

IMAGE = f"ghcr.io/fluxcd/flagger:{FLAGGER}"
PORT = 8080
PROGRAMS = ("prometheus", "flagger", "loadtester", "hey")
READY_TIMEOUT = 120.0
POLL = 0.2
# Plural, and the condition that says that an object of the kind works.
KINDS = {
    "CustomResourceDefinition": ("customresourcedefinitions", "Established"),
    "Namespace": ("namespaces", ""),
    "Service": ("services", ""),
    "Deployment": ("deployments", "Available"),
}
# Flagger picks up new Canaries that often; its default of 10 s would only make people wait.
CONTROL_LOOP = "2s"


async def install(cluster: LabCluster) -> None:
    """Apply all of it and wait until it runs. Doing it again changes nothing."""
    if lacking := await asyncio.to_thread(binaries.missing, PROGRAMS):
        raise LabError(f"missing: {', '.join(lacking)}; `fleet-rollout lab binaries` downloads or builds them")
    namespace, *mesh = gateway.objects()
    for wanted in (_crds(), (namespace,), (*mesh, *prometheus.objects(), *objects())):
        async with asyncio.TaskGroup() as group:
            for item in wanted:
                group.create_task(_apply(cluster, item))


@functools.cache
def _crds() -> tuple[Object, ...]:
    found: list[Object] = []
    for name in ("istio-crds", "flagger-crds"):
        # libyaml: Python's own loader takes a second for them.
        found += yaml.load_all(binaries.manifest(name).read_text(), Loader=yaml.CSafeLoader)
    return tuple(found)


async def _apply(cluster: LabCluster, item: Object) -> None:
    """Apply one object and wait for the condition that says that it works."""
    plural, condition = KINDS[item["kind"]]
    metadata = item["metadata"]
    group = "/api/v1" if item["apiVersion"] == "v1" else f"/apis/{item['apiVersion']}"
    inside = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    path = f"{group}{inside}/{plural}/{metadata['name']}"
    current = await cluster.api.apply(path, item)
    try:
        async with asyncio.timeout(READY_TIMEOUT):
            while condition and not _holds(current, condition):
                await asyncio.sleep(POLL)
                current = await cluster.api.get(path)
    except TimeoutError:
        told = current.get("status", {}).get("conditions")
        raise LabError(f"{path} of {cluster.name} is not {condition} after {READY_TIMEOUT:g}s: {told}") from None


def _holds(item: Object, condition: str) -> bool:
    conditions = item.get("status", {}).get("conditions") or []  # null on a new definition
    return any(c["type"] == condition and c["status"] == "True" for c in conditions)


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
