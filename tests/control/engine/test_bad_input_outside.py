"""Metrics and hooks that do not answer as they should: what the user reads, what is counted, and that others go on."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from fleet_rollout.decide.canary.addresses import read_reach
from fleet_rollout.lab.lab import LabCluster
from tests.control.engine.scene import Scene
from tests.rooms.metrics.backends import Server

Object = dict[str, Any]
NOBODY = "http://127.0.0.1:9"
SECRET = "s3cret-token"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Outside of the member; a Prometheus or a hook."""
    made = Server(answer=answer("100"))
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def scene(place: Callable[[], Awaitable[str]], member: LabCluster) -> AsyncIterator[Scene]:
    made = Scene(member, await place(), reach=read_reach(["127.0.0.1"]))
    yield made
    await made.close()


def answer(value: str, kind: str = "vector") -> Object:
    """What Prometheus says."""
    pair = [1, value]
    result: Any = pair if kind == "scalar" else [{"metric": {}, ("values" if kind == "matrix" else "value"): pair}]
    return {"status": "success", "data": {"resultType": kind, "result": result}}


async def analysed(scene: Scene, *, server: str, metric: Object | None = None, **analysis: Any) -> None:
    """A Canary in the middle of its analysis, in which one metric is looked at from now on."""
    await scene.bring(spec={"metricsServer": server}, iterations=90, threshold=90, **analysis)
    await scene.until("Initialized")
    await scene.release()
    await scene.until("Progressing")
    async with asyncio.timeout(60):
        while not (await scene.status_of()).get("iterations"):
            await scene.tick()
    metrics = [metric or {"name": "errors", "query": "vector(1)", "interval": "1m", "thresholdRange": {"max": 200}}]
    await scene.api.merge(scene.path(), {"spec": {"analysis": {"metrics": metrics}}})


async def told(scene: Scene) -> list[str]:
    return [text.replace(scene.namespace, "NS") for text in await scene.tick()]


async def counted(scene: Scene, message: str) -> None:
    """One tick says this, counts one failed check, and takes no step."""
    before = await scene.status_of()
    (said,) = await told(scene)
    assert said.startswith(f"Warning {message}"), said
    after = await scene.status_of()
    assert after["failedChecks"] == before.get("failedChecks", 0) + 1
    assert after["iterations"] == before["iterations"]


# Metrics

INLINE = "Prometheus query failed for errors: "
DOWN = f"request failed: {NOBODY}: could not connect: Connection refused"


@pytest.mark.parametrize(
    ("said", "status", "fact"),
    [
        (answer("1", "scalar"), 200, "error unmarshaling result: a scalar or a string, not series; use vector() "),
        (answer("1", "matrix"), 200, "query returned multiple values"),
        ({"status": "success", "data": {"resultType": "vector", "result": "x"}}, 200, "error unmarshaling result: "),
        ({"error": "who are you?"}, 401, "error response: Status 401 Unauthorized: "),
    ],
    ids=["scalar", "matrix", "text", "401"],
)
async def test_what_prometheus_says_wrongly_is_a_failed_check(
    scene: Scene, server: Server, said: Object, status: int, fact: str
) -> None:
    await analysed(scene, server=server.url)
    server.answer, server.status = said, status
    await counted(scene, INLINE + fact)
    server.answer, server.status = answer("100"), 200
    assert await told(scene) == ["Normal Advance web.NS canary iteration 2/90"]


async def test_credentials_that_are_refused_are_told_where_to_mend_them(scene: Scene, server: Server) -> None:
    await analysed(scene, server=server.url)
    server.answer, server.status = {"error": "who are you?"}, 401
    (said,) = await told(scene)
    assert said.endswith("; check the Secret of the MetricTemplate, or the credentials in the address")


async def test_a_prometheus_that_is_down_is_named(scene: Scene) -> None:
    await analysed(scene, server=NOBODY)
    await counted(scene, INLINE + DOWN)


async def test_a_prometheus_that_is_down_is_told_before_the_first_rollout(scene: Scene) -> None:
    """As with Flagger that holds nothing up."""
    built_in = {"name": "request-success-rate", "interval": "1m", "thresholdRange": {"min": 99}}
    await scene.bring(spec={"metricsServer": NOBODY}, metrics=[built_in])
    said = await told(scene)
    assert f"Warning Error checking metric providers: prometheus not avaiable: running query failed: {DOWN}" in said
    await scene.until("Initialized")


async def test_a_prometheus_that_hangs_is_given_up(
    scene: Scene, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet_rollout.metrics.prometheus.TIMEOUT", 0.5)
    await analysed(scene, server=server.url)
    server.hangs = True
    await counted(scene, f"{INLINE}request failed: {server.url}: no answer within 0.5 s")


async def test_a_prometheus_that_is_slow_holds_up_its_own_canary_alone(
    scene: Scene, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet_rollout.metrics.prometheus.TIMEOUT", 60.0)
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def slowly(_: web.Request) -> web.Response:
        asked.set()
        await may_answer.wait()
        return web.json_response(answer("100"))

    await analysed(scene, server=server.url)
    await scene.bring(name="other")
    server.handler = slowly
    waiting = asyncio.create_task(told(scene))
    await asked.wait()
    await scene.until("Initialized", "other")
    assert not waiting.done()
    may_answer.set()
    assert await waiting == ["Normal Advance web.NS canary iteration 2/90"]


# Templates


def template(server: str, query: str = "vector(1)", **provider: Any) -> Object:
    spec = {"provider": {"type": "prometheus", "address": server, **provider}, "query": query}
    return {"apiVersion": "flagger.app/v1beta1", "kind": "MetricTemplate", "metadata": {"name": "p99"}, "spec": spec}


async def test_a_template_is_told_what_it_lacks_until_it_lacks_nothing(scene: Scene, server: Server) -> None:
    metric = {"name": "errors", "templateRef": {"name": "p99"}, "interval": "1m", "thresholdRange": {"max": 200}}
    await analysed(scene, server=NOBODY, metric=metric)
    await counted(
        scene,
        'Metric template p99.NS error: metrictemplates.flagger.app "p99" not found; create it, or correct templateRef',
    )
    query = 'errors{tier="{{ variables.tier }}"}'
    await scene.apply(template(server.url, query, secretRef={"name": "token"}), "metrictemplates")
    await counted(
        scene,
        'Metric template p99.NS secret token error: secrets "token" not found; '
        "create it, or take secretRef out of the MetricTemplate",
    )
    secret = {"metadata": {"name": "token"}, "data": {"token": b64encode(SECRET.encode()).decode()}}
    await scene.api.create(f"/api/v1/namespaces/{scene.namespace}/secrets", secret)
    await counted(scene, "Metric template p99.NS query render error: line 1: templateVariables has no key 'tier'")
    assert server.seen == []
    given = {"spec": {"analysis": {"metrics": [{**metric, "templateVariables": {"tier": "web"}}]}}}
    await scene.api.merge(scene.path(), given)
    assert await told(scene) == ["Normal Advance web.NS canary iteration 2/90"]
    assert server.last.query["query"] == 'errors{tier="web"}'
    assert server.last.headers["Authorization"] == f"Bearer {SECRET}"


async def test_a_secret_without_its_keys_is_told_which_and_shows_none(scene: Scene, server: Server) -> None:
    metric = {"name": "errors", "templateRef": {"name": "p99"}, "interval": "1m", "thresholdRange": {"max": 200}}
    secret = {"metadata": {"name": "token"}, "data": {"user": b64encode(SECRET.encode()).decode()}}
    await scene.api.create(f"/api/v1/namespaces/{scene.namespace}/secrets", secret)
    await scene.apply(template(server.url, secretRef={"name": "token"}), "metrictemplates")
    await analysed(scene, server=NOBODY, metric=metric)
    await counted(
        scene,
        "Metric template p99.NS provider prometheus error: prometheus credentials does not contain a username",
    )
    assert not any(SECRET in text for text in await scene.events())


async def test_t25_a_template_sends_nothing_of_the_engines_own(
    scene: Scene, server: Server, member: LabCluster
) -> None:
    """Its address is whatever somebody has written; the engine's token may do everything in the member."""
    metric = {"name": "errors", "templateRef": {"name": "p99"}, "thresholdRange": {"max": 200}}
    await scene.apply(template(server.url), "metrictemplates")
    await analysed(scene, server=NOBODY, metric=metric, webhooks=[hook(f"{server.url}/", "rollout")])
    await told(scene)
    assert {seen.method for seen in server.seen} == {"GET", "POST"}
    for seen in server.seen:
        assert not {"Authorization", "Cookie"} & {name.title() for name in seen.headers}
        assert not [text for text in seen.headers.values() if member.token in text]


# Hooks


def hook(url: str, type: str, **more: Any) -> Object:
    return {"name": "check", "type": type, "url": url, **more}


@pytest.mark.parametrize("type", ["rollout", "rollback"])
@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("down", f"POST {NOBODY}/ giving up after 1 attempt(s): could not connect: Connection refused"),
        ("403", "the gate is closed"),
        ("hangs", "POST {url}/ giving up after 1 attempt(s): no answer within 1 s"),
    ],
    ids=["down", "403", "hangs"],
)
async def test_a_hook_that_does_not_pass(scene: Scene, server: Server, type: str, fault: str, text: str) -> None:
    """A check counts as failed; a rollback hook that cannot be asked rolls nothing back, and checks go on."""
    url = NOBODY if fault == "down" else server.url
    await analysed(scene, server=server.url, webhooks=[])
    if fault == "403":
        server.answer, server.status = text, 403
    server.hangs = fault == "hangs"
    await scene.api.merge(
        scene.path(),
        {"spec": {"analysis": {"metrics": [], "webhooks": [hook(f"{url}/", type, timeout="1s")]}}},
    )
    if type == "rollout":
        await counted(scene, f"Halt web.NS advancement external check check failed {text.format(url=url)}")
        return
    assert await told(scene) == [
        "Normal Rollback hook check not signaling a rollback",
        "Normal Advance web.NS canary iteration 2/90",
    ]


async def test_a_gate_that_cannot_be_asked_stays_closed_and_counts_nothing(scene: Scene, server: Server) -> None:
    await scene.bring(webhooks=[hook(f"{NOBODY}/", "confirm-rollout")])
    await scene.until("Initialized")
    await scene.release()
    assert await told(scene) == ["Warning Halt web.NS advancement waiting for approval check"]
    assert await told(scene) == []
    status = await scene.status_of()
    assert (status["phase"], status["failedChecks"]) == ("Waiting", 0)
    gates = [hook(f"{server.url}/", "confirm-rollout")]
    await scene.api.merge(scene.path(), {"spec": {"analysis": {"webhooks": gates}}})
    await scene.until("Progressing")
