"""What the service answers over HTTP, as a closed list: nothing serialises an object of anybody (trust row 24)."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import aiohttp
from aiohttp import web
from prometheus_client.metrics import MetricWrapperBase

from fleet_rollout import measures
from fleet_rollout.faces.telemetry import Probes, application, serve
from fleet_rollout.loadtester.options import Options
from fleet_rollout.loadtester.server import LoadTester
from fleet_rollout.series import Durations, Values
from fleet_rollout.settings import Settings
from fleet_rollout.sources.artifact_server import artifact_app
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
