"""Serves stored artifacts over HTTP, by their exact paths: no listing, no other file, no other method."""

from __future__ import annotations

import asyncio
import os

from aiohttp import web

from fleet_rollout.settings import Settings
from fleet_rollout.sources.listening import listen
from fleet_rollout.sources.store import ArtifactStore

CHUNK = 256 * 1024


def artifact_app(store: ArtifactStore) -> web.Application:
    """The handlers alone, for a runner of the caller's."""

    async def send(request: web.Request) -> web.StreamResponse:
        # `raw_path`, because a decoded one could hold encoded slashes and dots.
        path = request.raw_path.removeprefix("/")
        artifact = store.served(path)
        if artifact is None:
            raise web.HTTPNotFound(text="no such artifact\n")
        try:
            handle = await asyncio.to_thread(store.open, path)
        except OSError:
            raise web.HTTPNotFound(text="no such artifact\n") from None
        with os.fdopen(handle, "rb") as file:
            headers = {"Content-Type": "application/gzip", "ETag": f'"{artifact.digest}"'}
            response = web.StreamResponse(headers=headers)
            response.content_length = os.fstat(handle).st_size
            await response.prepare(request)
            if request.method == "GET":
                while chunk := await asyncio.to_thread(file.read, CHUNK):
                    await response.write(chunk)
            await response.write_eof()
            return response

    app = web.Application()
    app.router.add_get("/{path:.*}", send)
    return app


async def serve_artifacts(store: ArtifactStore, settings: Settings) -> tuple[web.AppRunner, str]:
    """Listen on `settings.artifact_address`; port 0 takes a free one. Also returns the base URL for status."""
    runner = web.AppRunner(artifact_app(store), access_log=None)
    url = await listen(runner, "--artifact-address", settings.artifact_address)
    return runner, settings.artifact_url or url
