"""What operators watch: structured logs, and /healthz, /readyz and /metrics on one listener."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pythonjsonlogger.json import JsonFormatter

from fleet_rollout import measures

TEXT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
JSON_FIELDS = "%(asctime)s %(levelname)s %(name)s %(message)s"
RENAMED = {"asctime": "time", "levelname": "level", "name": "logger"}
# Libraries that tell of every request at INFO.
QUIET = ("kopf", "aiohttp.access", "asyncio", "git")

Probe = Callable[[], str | None]


@dataclass(frozen=True)
class Probes:
    """Each answers None where all is well, else with what is not."""

    healthy: Probe
    ready: Probe


def configure_logging(form: str, level: str) -> None:
    """One handler to standard error; `form` is json or text."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter(JSON_FIELDS, rename_fields=RENAMED) if form == "json" else logging.Formatter(TEXT)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def application(probes: Probes) -> web.Application:
    """The three pages."""

    async def probe(answer: Probe) -> web.Response:
        complaint = answer()
        return web.Response(text="ok\n") if complaint is None else web.Response(status=503, text=f"{complaint}\n")

    async def healthz(_: web.Request) -> web.Response:
        return await probe(probes.healthy)

    async def readyz(_: web.Request) -> web.Response:
        return await probe(probes.ready)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(measures.REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    return app


@asynccontextmanager
async def serve(address: str, probes: Probes) -> AsyncIterator[str]:
    """Listen on `address` (port 0 takes a free one) until the block ends; gives the base URL."""
    host, _, port = address.rpartition(":")
    runner = web.AppRunner(application(probes), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host.strip("[]") or None, int(port)).start()
        yield f"http://{host or 'localhost'}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
