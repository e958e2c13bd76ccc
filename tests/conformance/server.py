"""One real API server without any controller: what workloads report is written by the tests, and nothing undoes it."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from fleet_rollout.lab import binaries, children
from fleet_rollout.lab.api import Api, ApiAnswer
from fleet_rollout.lab.cluster import ControlPlane, Etcd, Programs
from fleet_rollout.lab.lab import CRDS
from tests.rooms.traffic import crd_files

# No finer place for it: the whole suite needs these, and two more providers are looked at.
MESHES = ("istio", "flagger", "gateway-api")
LIMIT = 60.0


class Server(ControlPlane):
    """A control plane without its controllers."""

    async def start(self) -> None:
        """Start the API server and wait until it is ready."""
        log = self.folder / "kube-apiserver.log"
        self._api_server = await children.start("kube-apiserver", self._api_server_argv(), log=log)
        await self._wait_ready(self._api_server)


@contextlib.asynccontextmanager
async def running(meshes: Iterable[str] = MESHES, *, audit: bool = False) -> AsyncIterator[Server]:
    """An API server with the CRDs of these meshes; all of it is gone afterwards."""
    programs = Programs(binaries.require("etcd"), binaries.require("kube-apiserver"), Path("unused"))
    with tempfile.TemporaryDirectory(prefix="conformance-", ignore_cleanup_errors=True) as folder:
        etcd = Etcd(programs.etcd, Path(folder))
        server = Server("conformance", Path(folder) / "c", programs, etcd, audit=audit)
        try:
            await etcd.start()
            await server.start()
            await _install(server.api, meshes)
            yield server
        finally:
            await server.end()
            await etcd.end()


async def _install(api: Api, meshes: Iterable[str]) -> None:
    """Apply the CRDs and wait until objects of all of them can be read."""
    for mesh in meshes:
        found = await asyncio.to_thread(crd_files.definitions, mesh)
        await asyncio.gather(*(api.apply(f"{CRDS}/{item['metadata']['name']}", item) for item in found))
        async with asyncio.timeout(LIMIT):
            for path in (path for item in found for path in _paths(item["spec"])):
                while not await _is_served(api, path):
                    await asyncio.sleep(0.1)


def _paths(spec: dict[str, Any]) -> list[str]:
    versions = [version["name"] for version in spec["versions"] if version["served"]]
    return [f"/apis/{spec['group']}/{version}/{spec['names']['plural']}" for version in versions]


async def _is_served(api: Api, path: str) -> bool:
    """A new kind is unknown at first, and then its storage is being made."""
    try:
        await api.get(path, limit="1")
    except ApiAnswer as answer:
        if answer.status not in (404, 429, 503):
            raise
        return False
    return True
