"""The mesh of a member: Istio's CRDs, the gateway and Prometheus, without any engine for canaries.

`install` gives a member everything that a rollout with provider istio needs where an engine of ours runs it.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from fleet_rollout.lab import binaries, gateway, prometheus
from fleet_rollout.lab.lab import LabCluster
from fleet_rollout.lab.state import LabError

Object = dict[str, Any]

PROGRAMS = ("prometheus", "loadtester", "hey")
READY_TIMEOUT = 120.0
POLL = 0.2
# Plural, and the condition that says that an object of the kind works.
KINDS = {
    "CustomResourceDefinition": ("customresourcedefinitions", "Established"),
    "Namespace": ("namespaces", ""),
    "Service": ("services", ""),
    "Deployment": ("deployments", "Available"),
}


async def install(cluster: LabCluster) -> None:
    """Apply all of it and wait until it runs. Doing it again changes nothing."""
    await require(PROGRAMS)
    namespace, *mesh = gateway.objects()
    for wanted in (crds("istio-crds"), (namespace,), (*mesh, *prometheus.objects())):
        await bring(cluster, wanted)


async def require(programs: Sequence[str]) -> None:
    """Raises LabError where one of these is nowhere."""
    if lacking := await asyncio.to_thread(binaries.missing, tuple(programs)):
        raise LabError(f"missing: {', '.join(lacking)}; `fleet-rollout lab binaries` downloads or builds them")


@functools.cache
def crds(manifest: str) -> tuple[Object, ...]:
    """The definitions in a manifest of the lab."""
    # libyaml: Python's own loader takes a second for them.
    return tuple(yaml.load_all(binaries.manifest(manifest).read_text(), Loader=yaml.CSafeLoader))


async def bring(cluster: LabCluster, wanted: Iterable[Object]) -> None:
    """Apply objects at the same time, and wait until all of them work."""
    async with asyncio.TaskGroup() as group:
        for item in wanted:
            group.create_task(_apply(cluster, item))


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
