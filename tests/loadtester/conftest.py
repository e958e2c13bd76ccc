"""Load testers on free ports, asked over real HTTP, and small programs for them to run."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiohttp import web

from fleet_rollout.loadtester.gates import Gates, MemoryGates
from fleet_rollout.loadtester.options import Options
from fleet_rollout.loadtester.server import serve

CANARY = {"name": "podinfo", "namespace": "test", "phase": "Progressing", "checksum": "758df7c9fc"}


class Said(NamedTuple):
    status: int
    text: str


class Client:
    """Asks one load tester."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.session = session

    async def ask(self, path: str, body: Any = CANARY, method: str = "POST", **options: Any) -> Said:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.session.request(method, self.url + path, data=io.BytesIO(data), **options) as answer:
            return Said(answer.status, await answer.text())

    async def task(self, cmd: str | None = None, canary: str = "podinfo", **metadata: str) -> Said:
        """A call with metadata, as a Canary makes it."""
        metadata |= {} if cmd is None else {"cmd": cmd}
        return await self.ask("/", CANARY | {"name": canary, "metadata": metadata})


@pytest.fixture
async def open_tester() -> AsyncIterator[Callable[..., Awaitable[Client]]]:
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())

        async def start(gates: Gates | None = None, **options: Any) -> Client:
            chosen = Options(host="127.0.0.1", port=0, **options)
            return Client(await stack.enter_async_context(serve(chosen, gates or MemoryGates())), session)

        yield start


@pytest.fixture
async def tester(open_tester: Callable[..., Awaitable[Client]]) -> Client:
    return await open_tester()


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Puts a script on the PATH, in front of everything else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def make(name: str, script: str) -> Path:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return make


@pytest.fixture
async def web_server() -> AsyncIterator[Callable[[Callable[..., Any]], Awaitable[str]]]:
    """Starts plain HTTP servers, each with one handler for everything; gives their URLs."""
    runners: list[web.ServerRunner] = []

    async def start(handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> str:
        runner = web.ServerRunner(web.Server(handler, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()
