"""Keeps a member's Envoy at what the member's objects say: watches them, and tells Envoy what changed.

Changes that belong together (an owner and what is collected with it) are taken in one step, as
istiod does.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import aiohttp

from fleet_rollout.lab.api import Api, ApiAnswer
from fleet_rollout.lab.children import LOCALHOST
from fleet_rollout.lab.envoy import Envoy
from fleet_rollout.lab.state import LabError
from fleet_rollout.lab.traffic import Key, Snapshot, mesh_of

Object = dict[str, Any]

SERVICES = "/api/v1/services"
PODS = "/api/v1/pods"
VIRTUAL_SERVICES = "/apis/networking.istio.io/v1/virtualservices"
# istiod waits as long for more changes before it tells its proxies (PILOT_DEBOUNCE_AFTER).
QUIET = 0.1
RETRY = 0.5

log = logging.getLogger("lab")


class Traffic:
    """Follows the objects of one member for a running Envoy."""

    def __init__(self, api: Api, envoy: Envoy) -> None:
        self._envoy = envoy
        self._api = api
        self._stores: dict[str, dict[Key, Object]] = {SERVICES: {}, PODS: {}, VIRTUAL_SERVICES: {}}
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled; what was told last stays when it ends."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell())
            for path, store in self._stores.items():
                group.create_task(self._follow(path, store))

    async def _tell(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(QUIET)
            self._changed.clear()
            services, pods, virtual_services = self._stores.values()
            mesh = mesh_of(Snapshot(services, pods, virtual_services))
            endpoints = {name: [(LOCALHOST, port) for port in ports] for name, ports in mesh.endpoints.items()}
            try:
                await self._envoy.tell(mesh.hosts, endpoints)
            except (LabError, aiohttp.ClientError, TimeoutError):
                log.exception("traffic does not follow the objects")

    async def _follow(self, path: str, store: dict[Key, Object]) -> None:
        """List and watch for ever; what was known stays while the API server is away."""
        while True:
            try:
                version = await self._list(path, store)
                async for event in self._api.watch(path, version):
                    if not self._take(event, store):
                        break
            except ApiAnswer as answer:
                if answer.status != 404:  # its definition may come later
                    log.info("watching %s: %s", path, answer)
            except (aiohttp.ClientError, TimeoutError) as error:
                log.info("watching %s: %r", path, error)
            await asyncio.sleep(RETRY)

    async def _list(self, path: str, store: dict[Key, Object]) -> str:
        answer = await self._api.get(path)
        store.clear()
        store.update({_key(item): item for item in answer["items"]})
        self._changed.set()
        return str(answer["metadata"]["resourceVersion"])

    def _take(self, event: Object, store: dict[Key, Object]) -> bool:
        """False where the watch is of no more use."""
        match event["type"]:
            case "ADDED" | "MODIFIED":
                store[_key(event["object"])] = event["object"]
            case "DELETED":
                store.pop(_key(event["object"]), None)
            case "BOOKMARK":
                return True
            case _:
                return False
        self._changed.set()
        return True


def _key(item: Object) -> Key:
    return item["metadata"]["namespace"], item["metadata"]["name"]
