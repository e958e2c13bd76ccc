"""Stub members: starts the stub's process, makes kubeconfigs for its clusters, and asks what it has seen."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import aiohttp
import orjson

from fleet_rollout.control.member_crds import labelled
from fleet_rollout.lab.certificates import Authority
from fleet_rollout.lab.cluster import kubeconfig
from fleet_rollout_api.crd import member_crds

GRACE = 10.0


class Members:
    """`async with Members(folder) as members`: clusters come into being when they are first asked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        authority = Authority.create("stub-ca")
        self._ca = authority.pair.certificate
        authority.serving(["127.0.0.1", "localhost"]).write(self._folder, "serving")
        (self._folder / "shared.json").write_bytes(orjson.dumps([_served(labelled(crd)) for crd in member_crds()]))
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.budgets.stub", str(self._folder)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self.url = f"https://127.0.0.1:{int(await self._process.stdout.readline())}"
        context = ssl.create_default_context(cadata=self._ca.decode())
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                async with asyncio.timeout(GRACE):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()

    def kubeconfig(self, number: str) -> bytes:
        return kubeconfig(f"stub-{number}", f"{self.url}/c/{number}", self._ca, token="stub")

    async def mark(self) -> None:
        """Count from here."""
        await self._ask("mark")

    async def report(self) -> dict[str, Any]:
        """What was asked since the mark, and per cluster when the first and the last object was changed."""
        return await self._ask("report")

    async def hang(self, *numbers: str) -> None:
        """From now on these take requests and never answer."""
        await self._ask("hang", {"clusters": numbers})

    async def set_canary(self, number: str, namespace: str, name: str, status: dict[str, Any]) -> float:
        """Do what Flagger does; when it was done, by the monotonic clock."""
        order = {"cluster": number, "namespace": namespace, "name": name, "status": status}
        return float((await self._ask("canary", order))["at"])

    async def put(self, numbers: Iterable[str], *objects: dict[str, Any]) -> None:
        """Write these objects into each of these clusters, as their users do."""
        await self._ask("put", {"clusters": list(numbers), "objects": objects})

    async def phases(self) -> dict[str, int]:
        """How many Canaries are in which phase."""
        return await self._ask("phases")

    async def _ask(self, what: str, order: dict[str, Any] | None = None) -> dict[str, Any]:
        assert self._session is not None
        async with self._session.post(f"{self.url}/control/{what}", data=orjson.dumps(order or {})) as answer:
            found: dict[str, Any] = orjson.loads(await answer.read())
            return found


def _served(crd: dict[str, Any]) -> dict[str, Any]:
    return {**crd, "status": {"conditions": [{"type": "Established", "status": "True"}]}}
