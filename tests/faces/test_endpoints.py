"""What the service answers over HTTP, as a closed list: nothing serialises an object of anybody (trust row 24)."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from unittest.mock import Mock

import aiohttp
import pytest
from aiohttp import web
from prometheus_client.metrics import MetricWrapperBase
from yarl import URL

from fleet_rollout import measures
from fleet_rollout.faces.telemetry import Probes, application, serve
from fleet_rollout.loadtester.options import Options
from fleet_rollout.loadtester.server import LoadTester
from fleet_rollout.series import Durations, Values
from fleet_rollout.settings import Settings
from fleet_rollout.sources.artifact_server import artifact_app, serve_artifacts
from fleet_rollout.sources.receiver import Receiver
from fleet_rollout.sources.store import ArtifactStore

# Names and kinds of things, and fixed words; nothing that is read from content, specs or Secrets.
LABELS = {
    *("name", "namespace", "cluster", "workload", "metric", "kind", "queue", "target", "verb", "code", "result"),
    *("reason", "phase", "policy", "deployment_strategy", "analysis_status", "version", "mesh_provider"),
}


def routes(app: web.Application) -> set[tuple[str, str]]:
    return {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource}


def labels() -> set[str]:
    ours = [each for each in vars(measures).values() if isinstance(each, Values | Durations)]
    theirs = [each for each in vars(measures).values() if isinstance(each, MetricWrapperBase)]
    return {label for each in ours for label in each.names} | {label for each in theirs for label in each._labelnames}


async def nothing(*_: object) -> None:
    return None


async def test_t24_no_path_is_answered_but_these(tmp_path: Path) -> None:
    telemetry = application(Probes(lambda: None, lambda: None))
    paths = ("/healthz", "/readyz", "/metrics")
    assert routes(telemetry) == {(method, path) for method in ("GET", "HEAD") for path in paths}
    assert routes(Receiver(nothing, nothing).app) == {("POST", "/hook/{namespace}/{name}")}
    artifacts = artifact_app(ArtifactStore(Settings(data_dir=tmp_path)))
    assert routes(artifacts) == {(method, "/{path}") for method in ("GET", "HEAD")}
    gates = {f"/{gate}/{act}" for gate in ("gate", "rollback") for act in ("check", "open", "close")}
    constant = {"/healthz", "/metrics", "/gate/approve", "/gate/halt"}
    # Everything else is a task, whose output is told only to who asks for it (tests/rooms/loadtester).
    everything = {("*", path) for path in (*constant, *gates, "/{anything}")}
    assert routes(LoadTester(Options(), Mock(), Mock()).app) == everything


async def test_t24_the_probes_say_ok_or_what_is_wrong_and_metrics_only_names() -> None:
    complaints = [None, "not leading"]
    async with (
        serve("127.0.0.1:0", Probes(lambda: None, lambda: complaints[-1])) as url,
        aiohttp.ClientSession() as session,
    ):
        for path, expected in (("healthz", (200, "ok")), ("readyz", (503, "not leading")), ("debug", (404, None))):
            async with session.get(f"{url}/{path}") as answer:
                assert answer.status == expected[0]
                assert expected[1] in (await answer.text(), None)
    assert labels() == LABELS


@asynccontextmanager
async def artifacts(folder: Path) -> AsyncIterator[str]:
    settings = Settings(data_dir=folder, artifact_address="127.0.0.1:0")
    runner, url = await serve_artifacts(ArtifactStore(settings), settings)
    try:
        yield url
    finally:
        await runner.cleanup()


@asynccontextmanager
async def telemetry(_: Path) -> AsyncIterator[str]:
    async with serve("127.0.0.1:0", Probes(lambda: None, lambda: None)) as url:
        yield url


@pytest.mark.parametrize("listener", [artifacts, telemetry])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_t17_a_packed_body_is_never_unpacked(listener, method: str, tmp_path: Path) -> None:
    """A mebibyte that unfolds to one gibibyte, after which the connection ends."""
    body = gzip.compress(bytes(64 * 1024**2)) * 16
    head = f"{method} /healthz/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Encoding: gzip\r\n"
    async with listener(tmp_path) as address:
        url = URL(address)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        before = time.process_time()
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        async with asyncio.timeout(60):
            answer = await reader.read()
        spent = time.process_time() - before
        writer.close()
    assert answer.split()[1] in (b"404", b"405")
    assert spent < 0.5
