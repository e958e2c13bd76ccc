"""Keeps a member's Envoy at what the member's objects say: watches them, and tells Envoy what changed.

Changes that belong together (an owner and what is collected with it) are taken in one step, as
istiod does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp

from fleet_rollout.lab.api import Api, ApiAnswer
from fleet_rollout.lab.envoy import Envoy
from fleet_rollout.lab.state import LabError
from fleet_rollout.lab.traffic import Key, PodAddress, Snapshot, mesh_of

Object = dict[str, Any]
Locate = Callable[[str, int], tuple[str, int] | None]

SERVICES = "/api/v1/services"
PODS = "/api/v1/pods"
VIRTUAL_SERVICES = "/apis/networking.istio.io/v1/virtualservices"
# istiod waits as long for more changes before it tells its proxies (PILOT_DEBOUNCE_AFTER).
QUIET = 0.1
RETRY = 0.5

log = logging.getLogger("lab")


class Traffic:
    """The Envoy of one member and what keeps it up to date. `locate` finds the process behind a Pod's address."""

    def __init__(self, api: Api, folder: Path, locate: Locate) -> None:
        self.envoy = Envoy(folder)
        self._api = api
        self._locate = locate
        self._stores: dict[str, dict[Key, Object]] = {SERVICES: {}, PODS: {}, VIRTUAL_SERVICES: {}}
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self.envoy.start()
        self._begin(self._tell())
        for path, store in self._stores.items():
            self._begin(self._follow(path, store))

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self.envoy.end()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def _tell(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(QUIET)
            self._changed.clear()
            services, pods, virtual_services = self._stores.values()
            mesh = mesh_of(Snapshot(services, pods, virtual_services))
            endpoints = {name: self._located(found) for name, found in mesh.endpoints.items()}
            try:
                await self.envoy.tell(mesh.hosts, endpoints)
            except (LabError, aiohttp.ClientError, TimeoutError):
                log.exception("traffic does not follow the objects")

    def _located(self, addresses: tuple[PodAddress, ...]) -> list[tuple[str, int]]:
        found = (self._locate(address.ip, address.port) for address in addresses)
        return [address for address in found if address is not None]

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
