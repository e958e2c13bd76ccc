"""Real requests through a real Envoy to sample programs, measured by a real Prometheus."""

from __future__ import annotations

import asyncio
import json
import sys

import aiohttp
import pytest

from fleet_rollout.lab import binaries, children, prometheus
from fleet_rollout.lab.envoy import Envoy
from fleet_rollout.lab.load import Load, send
from fleet_rollout.lab.sample import environment_of
from fleet_rollout.lab.state import LabError
from fleet_rollout.lab.traffic_routes import Backend, routes_of

HOST = "backend.webapp"
PRIMARY, CANARY = "webapp/backend-primary", "webapp/backend"


def hosts(primary, canary, *, match=None):
    def workload(host, port):
        return [Backend(f"webapp/{host}", 1)]

    split = {
        "route": [
            {"destination": {"host": "backend-primary"}, "weight": primary},
            {"destination": {"host": "backend"}, "weight": canary},
        ]
    }
    rules = [split]
    if match:
        rules = [{"match": match, "route": [split["route"][1]]}, {"route": [split["route"][0]]}]
    return [{"name": "backend", "domains": [HOST], "routes": routes_of(rules, workload)}]


class Samples:
    def __init__(self, folder):
        self.folder = folder
        self.children = []

    async def start(self, image, **env):
        port = children.free_port()
        environment = {"PORT": str(port), **environment_of(image, env)}
        argv = [sys.executable, "-m", "fleet_rollout.lab.sample"]
        child = await children.start("sample", argv, log=self.folder / "sample.log", env=environment)
        self.children.append(child)
        async with aiohttp.ClientSession() as session, asyncio.timeout(30):
            while not await answers(session, f"http://127.0.0.1:{port}/readyz"):
                await asyncio.sleep(0.05)
        return child, ("127.0.0.1", port)


async def answers(session, url):
    try:
        async with session.get(url) as answer:
            return answer.status < 400
    except aiohttp.ClientError:
        return False


@pytest.fixture
async def samples(tmp_path):
    started = Samples(tmp_path)
    yield started
    for child in started.children:
        await child.end()


@pytest.fixture
async def envoy(tmp_path):
    running = Envoy(tmp_path / "envoy")
    await running.start()
    yield running
    await running.end()


async def test_weights_and_their_changes_are_followed(envoy, samples):
    _, old = await samples.start("fleet-rollout/sample:1.0.0")
    _, new = await samples.start("fleet-rollout/sample:2.0.0")
    endpoints = {PRIMARY: [old], CANARY: [new]}
    await envoy.tell(hosts(100, 0), endpoints)
    assert set((await send(envoy.address, HOST, 100)).versions) == {"1.0.0"}
    await envoy.tell(hosts(50, 50), endpoints)
    tally = await send(envoy.address, f"{HOST}:9898", 300)
    assert 0.3 < tally.versions["2.0.0"] / tally.total < 0.7
    await envoy.tell(hosts(0, 100), endpoints)
    assert set((await send(envoy.address, HOST, 100)).versions) == {"2.0.0"}
    assert tally.failed == 0


async def test_a_cookie_leads_to_the_canary(envoy, samples):
    _, old = await samples.start("fleet-rollout/sample:1.0.0")
    _, new = await samples.start("fleet-rollout/sample:2.0.0")
    match = [{"headers": {"cookie": {"regex": "^(.*?;)?(canary=always)(;.*)?$"}}}]
    await envoy.tell(hosts(0, 100, match=match), {PRIMARY: [old], CANARY: [new]})
    versions = []
    async with aiohttp.ClientSession() as session:
        for cookie in ("canary=always", "canary=never", "a=b;canary=always"):
            headers = {"Host": HOST, "Cookie": cookie}
            async with session.get(f"http://{envoy.address}/", headers=headers) as answer:
                versions.append((await answer.json())["version"])
    assert versions == ["2.0.0", "1.0.0", "2.0.0"]


async def test_no_request_is_lost_while_workloads_are_replaced(envoy, samples):
    first, old = await samples.start("fleet-rollout/sample:1.0.0")
    await envoy.tell(hosts(100, 0), {PRIMARY: [old]})
    async with Load(envoy.address, HOST, rate=200) as load:
        await load.until(100)
        _, new = await samples.start("fleet-rollout/sample:2.0.0")
        await envoy.tell(hosts(0, 100), {PRIMARY: [old], CANARY: [new]})
        await envoy.tell(hosts(0, 100), {CANARY: [new]})
        await first.end(grace=10)
        await load.until(200)
    assert load.tally.failures == []
    assert set(load.tally.versions) == {"1.0.0", "2.0.0"}


async def test_a_process_that_is_killed_costs_no_request_while_another_serves(envoy, samples):
    first, one = await samples.start("fleet-rollout/sample:1.0.0")
    _, two = await samples.start("fleet-rollout/sample:1.0.0")
    await envoy.tell(hosts(100, 0), {PRIMARY: [one, two]})
    async with Load(envoy.address, HOST, rate=200) as load:
        await load.until(100)
        await first.end()
        await load.until(200)
    assert load.tally.failures == []


async def test_routes_that_envoy_refuses_are_reported_and_the_old_ones_stay(envoy, samples):
    _, old = await samples.start("fleet-rollout/sample:1.0.0")
    await envoy.tell(hosts(100, 0), {PRIMARY: [old]})
    with pytest.raises(LabError, match="refused its routes"):
        await envoy.tell([*hosts(100, 0), {"name": "again", "domains": [HOST], "routes": []}], {PRIMARY: [old]})
    assert (await send(envoy.address, HOST, 10)).failed == 0


async def test_a_host_or_workload_without_endpoints_is_an_error_answer(envoy):
    assert set((await send(envoy.address, "nobody.example.com", 5)).failures) == {"status 404"}
    await envoy.tell(hosts(100, 0), {PRIMARY: []})
    assert set((await send(envoy.address, HOST, 5)).failures) == {"status 503"}


async def test_prometheus_tells_success_rate_and_duration_by_istio_names(envoy, samples, tmp_path):
    _, bad = await samples.start("fleet-rollout/sample:2.0.0-bad")
    await envoy.tell(hosts(0, 100), {CANARY: [bad]})
    port = children.free_port()
    targets = tmp_path / "targets.json"
    targets.write_text(json.dumps([{"targets": [envoy.admin]}]))
    argv = prometheus.argv(binaries.require("prometheus"), tmp_path, targets, port)
    running = await children.start("prometheus", argv, log=tmp_path / "prometheus.log")
    labels = 'reporter="destination",destination_workload_namespace="webapp",destination_workload=~"backend"'
    total = f"sum(rate(istio_requests_total{{{labels}}}[10s]))"
    success = f'100 * sum(rate(istio_requests_total{{{labels},response_code!~"5.*"}}[10s])) / {total}'
    buckets = f"sum(rate(istio_request_duration_milliseconds_bucket{{{labels}}}[10s])) by (le)"
    try:
        async with Load(envoy.address, HOST, rate=100), aiohttp.ClientSession() as session, asyncio.timeout(60):
            rate = await value(session, port, success)
            duration = await value(session, port, f"histogram_quantile(0.99, {buckets})")
        assert 20 < rate < 80
        assert 0 < duration < 1000
    finally:
        await running.end()


async def value(session, port, query):
    """The first value that the query has."""
    while True:
        try:
            async with session.get(f"http://127.0.0.1:{port}/api/v1/query", params={"query": query}) as answer:
                found = (await answer.json())["data"]["result"]
        except (aiohttp.ClientError, KeyError):
            found = []
        if found and found[0]["value"][1] != "NaN":
            return float(found[0]["value"][1])
        await asyncio.sleep(0.2)
