"""The raw limit: one asyncio client that sends the same server-side applies and does nothing else."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import orjson
import uvloop

from fleet_rollout.lab.lab import LabCluster
from fleet_rollout.settings import Settings

IN_FLIGHT = Settings().member_in_flight
HEADERS = {"Content-Type": "application/apply-patch+yaml", "Accept": "application/json"}


async def timed(work: Mapping[str, Sequence[dict[str, Any]]], clusters: Mapping[str, LabCluster]) -> float:
    """Seconds until every ConfigMap of `work` (by cluster) is applied, all clusters at once; on uvloop."""
    return await asyncio.to_thread(uvloop.run, _apply_all(work, clusters))


async def _apply_all(work: Mapping[str, Sequence[dict[str, Any]]], clusters: Mapping[str, LabCluster]) -> float:
    async with asyncio.TaskGroup() as group:
        started = time.monotonic()
        for name, objects in work.items():
            group.create_task(_one_cluster(clusters[name], objects))
    return time.monotonic() - started


async def _one_cluster(cluster: LabCluster, objects: Sequence[dict[str, Any]]) -> None:
    context = ssl.create_default_context(cadata=cluster.ca.decode())
    headers = {**HEADERS, "Authorization": f"Bearer {cluster.token}"}
    connector = aiohttp.TCPConnector(ssl=context, limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        waiting = iter(objects)

        async def send() -> None:
            for obj in waiting:
                metadata = obj["metadata"]
                path = f"/api/v1/namespaces/{metadata['namespace']}/configmaps/{metadata['name']}"
                url = f"{cluster.server}{path}?fieldManager=fleet-rollout&force=true"
                async with session.patch(url, data=orjson.dumps(obj)) as answer:
                    answer.raise_for_status()
                    orjson.loads(await answer.read())

        async with asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT):
                group.create_task(send())
