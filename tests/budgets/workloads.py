"""Plays the controllers of a cluster for Deployments: their Pods are ready as soon as they are asked for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fleet_rollout.lab.api import Api

APPS = "/apis/apps/v1"


@contextlib.asynccontextmanager
async def played(api: Api, namespace: str) -> AsyncIterator[None]:
    """While the block runs, every Deployment of the namespace gets the status of one whose Pods are all there."""
    task = asyncio.create_task(_play(api, f"{APPS}/namespaces/{namespace}/deployments"))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _play(api: Api, path: str) -> None:
    version = "0"
    while True:
        async for event in api.watch(path, version, timeoutSeconds="3000"):
            found = event["object"]
            version = found["metadata"]["resourceVersion"]
            if event["type"] in ("ADDED", "MODIFIED") and not _is_ready(found):
                await api.merge(f"{path}/{found['metadata']['name']}/status", {"status": status(found)})


def _is_ready(deployment: dict[str, Any]) -> bool:
    wanted = status(deployment)
    there = deployment.get("status") or {}
    return all(there.get(name, 0) == value for name, value in wanted.items() if name != "conditions")


def status(deployment: dict[str, Any]) -> dict[str, Any]:
    count = deployment["spec"].get("replicas", 1)
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), count)
    conditions = [
        {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"},
        {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
    ]
    return {"observedGeneration": deployment["metadata"]["generation"], **counts, "conditions": conditions}
