"""Serves Git repositories over smart HTTP on the loopback: `git http-backend` behind a small web server.

Who may read a repository is a file beside its objects (repository.py), so whoever makes repositories needs
no connection to this server. It never serves anything outside its root.
"""

from __future__ import annotations

import asyncio
import hmac
import os
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from fleet_rollout.lab.children import LOCALHOST, die_with_parent
from fleet_rollout.lab.repository import ACCESS_LOG, AUTHORIZATION, GIT_ENVIRONMENT
from fleet_rollout.processes import child_environment

CHUNK = 64 * 1024
HEAD_LIMIT = 64 * 1024


def application(root: Path) -> web.Application:
    """A web application for the repositories in `root`: `/<name>.git`."""

    async def serve(request: web.Request) -> web.StreamResponse:
        repository = root / f"{request.match_info['name']}.git"
        if not (repository / "HEAD").exists():
            raise web.HTTPNotFound(text="no such repository\n")
        if not _is_allowed(repository, request):
            raise web.HTTPUnauthorized(headers={"WWW-Authenticate": 'Basic realm="lab"'}, text="who are you?\n")
        with (repository / ACCESS_LOG).open("a") as log:
            log.write(f"{request.method} {request.match_info['rest']} {request.query_string}\n")
        return await _backend(root, request)

    app = web.Application()
    app.router.add_route("*", "/{name:[A-Za-z0-9][A-Za-z0-9._-]*}.git/{rest:.*}", serve)
    return app


class GitServer:
    """The application on a free port of the loopback."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        self._runner = web.AppRunner(application(self._root), access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, LOCALHOST, 0).start()
        self.url = f"http://{LOCALHOST}:{self._runner.addresses[0][1]}"

    async def end(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()


def _is_allowed(repository: Path, request: web.Request) -> bool:
    try:
        wanted = (repository / AUTHORIZATION).read_text()
    except FileNotFoundError:
        return True
    return hmac.compare_digest(wanted.encode(), request.headers.get("Authorization", "").encode())


async def _backend(root: Path, request: web.Request) -> web.StreamResponse:
    process = await asyncio.create_subprocess_exec(
        "git",
        "http-backend",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=child_environment(_cgi(root, request)),
        limit=HEAD_LIMIT,
        preexec_fn=die_with_parent(),
    )
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_feed(process, request.content.iter_chunked(CHUNK)))
            return await _answer(process, request)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _cgi(root: Path, request: web.Request) -> dict[str, str]:
    # No CONTENT_LENGTH and no HTTP_CONTENT_ENCODING: the web server has unpacked the body, so both would be wrong.
    return {
        **GIT_ENVIRONMENT,
        "GIT_PROJECT_ROOT": str(root),
        "GIT_HTTP_EXPORT_ALL": "1",
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query_string,
        "REQUEST_METHOD": request.method,
        "CONTENT_TYPE": request.headers.get("Content-Type", ""),
        "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
        "REMOTE_ADDR": LOCALHOST,
        "REMOTE_USER": "lab",
        "PATH": os.environ.get("PATH", os.defpath),
    }


async def _feed(process: asyncio.subprocess.Process, body: AsyncIterator[bytes]) -> None:
    assert process.stdin is not None
    try:
        async for chunk in body:
            process.stdin.write(chunk)
            await process.stdin.drain()
    except ConnectionError:
        return  # it has answered without reading everything
    finally:
        process.stdin.close()


async def _answer(process: asyncio.subprocess.Process, request: web.Request) -> web.StreamResponse:
    assert process.stdout is not None
    response = web.StreamResponse()
    head = await process.stdout.readuntil(b"\r\n\r\n")
    for line in head.decode("latin-1").strip().split("\r\n"):
        name, _, value = line.partition(": ")
        if name == "Status":
            response.set_status(int(value.split(" ")[0]))
        else:
            response.headers[name] = value
    await response.prepare(request)
    while chunk := await process.stdout.read(CHUNK):
        await response.write(chunk)
    await response.write_eof()
    return response
