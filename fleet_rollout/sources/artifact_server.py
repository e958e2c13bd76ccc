"""Serves artifacts over HTTP, by their exact paths: no listing, no other file, no other method.

A replica that stands by has made none, or older ones; it asks its leader (`relay`).
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
from typing import BinaryIO

from aiohttp import web

from fleet_rollout.settings import Settings
from fleet_rollout.sources.artifact import Artifact
from fleet_rollout.sources.listening import listen
from fleet_rollout.sources.relay import Relay
from fleet_rollout.sources.store import ArtifactStore

CHUNK = 256 * 1024
# A reader that takes longer is cut off: while it reads, it may keep others waiting.
SEND_SECONDS = 300.0


def artifact_app(store: ArtifactStore, relay: Relay | None = None) -> web.Application:
    """The handlers alone, for a runner of the caller's."""

    async def send(request: web.Request) -> web.StreamResponse:
        # `raw_path`, because a decoded one could hold encoded slashes and dots.
        path = request.raw_path.removeprefix("/")
        own = store.served(path)
        if relay is not None and relay.is_needed(path, request):
            async with relay.newer(path, own) as newer:
                if newer is not None:
                    return await _answer(request, *newer)
        return await _send_own(request, store, own)

    app = web.Application()
    app.router.add_get("/{path:.*}", send)
    return app


async def _send_own(request: web.Request, store: ArtifactStore, artifact: Artifact | None) -> web.StreamResponse:
    if artifact is None:
        raise web.HTTPNotFound(text="no such artifact\n")
    try:
        handle = await asyncio.to_thread(store.open, artifact.path)
    except OSError:
        raise web.HTTPNotFound(text="no such artifact\n") from None
    with os.fdopen(handle, "rb") as file:
        return await _answer(request, artifact, file)


async def _answer(request: web.Request, artifact: Artifact, file: BinaryIO) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/gzip", "ETag": f'"{artifact.digest}"'})
    response.content_length = os.fstat(file.fileno()).st_size
    try:
        async with asyncio.timeout(SEND_SECONDS):
            await response.prepare(request)
            if request.method == "GET":
                while chunk := await asyncio.to_thread(file.read, CHUNK):
                    await response.write(chunk)
            await response.write_eof()
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
    return response


async def serve_artifacts(
    store: ArtifactStore, settings: Settings, relay: Relay | None = None
) -> tuple[web.AppRunner, str]:
    """Listen on `settings.artifact_address`; port 0 takes a free one. Also returns the base URL of what listens.

    A body of a request is never unpacked, though it is read to its end before the connection ends.
    """
    runner = web.AppRunner(artifact_app(store, relay), access_log=None, auto_decompress=False)
    return runner, await listen(runner, "--artifact-address", settings.artifact_address)


def reachable(settings: Settings, port: int) -> str | None:
    """Where other replicas find the artifacts of this one, as `host:port`; None where only this machine can tell."""
    host = settings.pod_ip or settings.artifact_address.rpartition(":")[0].strip("[]")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"{host}:{port}" if host else None
    if address.is_unspecified:
        return None
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
