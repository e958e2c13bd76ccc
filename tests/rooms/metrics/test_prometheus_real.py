"""The lab's real Prometheus, which watches itself: the client's contract, and every built-in query."""

from __future__ import annotations

import asyncio
import json
import math

import pytest

from fleet_rollout.decide.canary.checks import BUILT_IN, Model
from fleet_rollout.lab import binaries, children
from fleet_rollout.metrics.factory import prometheus_of
from fleet_rollout.metrics.queries import OBSERVERS, PREFIXES, built_in
from fleet_rollout.metrics.query import NoValues, QueryFailed
from fleet_rollout.metrics.templates import render

REQUESTS = 'prometheus_http_requests_total{app="cart"}'


@pytest.fixture(scope="module")
async def address(tmp_path_factory):
    """It scrapes itself every second, under the label app="cart"."""
    folder, port = tmp_path_factory.mktemp("prometheus"), children.free_port()
    own = {"targets": [f"127.0.0.1:{port}"], "labels": {"app": "cart"}}
    job = {"job_name": "own", "scrape_interval": "1s", "static_configs": [own]}
    (folder / "prometheus.json").write_text(json.dumps({"scrape_configs": [job]}))
    argv = [
        binaries.require("prometheus"),
        f"--config.file={folder / 'prometheus.json'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    running = await children.start("prometheus", argv, log=folder / "log")
    yield f"http://127.0.0.1:{port}"
    await running.end()


@pytest.fixture
async def prometheus(address, options, dial):
    """Ready, and with samples of its own."""
    provider = prometheus_of(address, options, dial)
    async with asyncio.timeout(60):
        while True:
            try:
                await provider.value(f"sum(rate({REQUESTS}[10s]))")
                return provider
            except (NoValues, QueryFailed):
                await asyncio.sleep(0.1)


async def test_it_is_online(prometheus):
    await prometheus.is_online()


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("vector(99.5)", 99.5),
        ("vector(1) / 0", math.inf),
        ("-vector(1) / 0", -math.inf),
        ('sort(label_replace(vector(7), "a", "b", "", "") or vector(3))', 7.0),
        ("sum(\n\tup{app='cart'}\n)", 1.0),
    ],
)
async def test_values(prometheus, query, value):
    assert await prometheus.value(query) == value


@pytest.mark.parametrize("query", ["vector(0) / 0", "nothing_has_this_name", 'up{app="other"}'])
async def test_no_values(prometheus, query):
    with pytest.raises(NoValues, match=r"^no values found$"):
        await prometheus.value(query)


@pytest.mark.parametrize(
    ("query", "fact"),
    [
        ("sum(", r"error response: Status 400 Bad Request: .*parse error"),
        ("", "error response: Status 400 Bad Request"),
        ("scalar(vector(5))", "a scalar or a string"),
        ('"text"', "a scalar or a string"),
        ("up[1m]", "query returned multiple values"),
    ],
)
async def test_failures(prometheus, query, fact):
    with pytest.raises(QueryFailed, match=fact):
        await prometheus.value(query)


@pytest.mark.parametrize("provider", [*OBSERVERS, *PREFIXES])
@pytest.mark.parametrize("metric", BUILT_IN)
async def test_every_built_in_query_can_be_read(prometheus, provider, metric):
    model = Model("shop", "web", "cart", "cart", "cart", "cart", "30s")
    with pytest.raises(NoValues):
        await prometheus.value(built_in(provider, metric, model).text)


@pytest.mark.parametrize("value", ['x"} or vector(1) #', "x'} or vector(1) #", "x\\", "x\n} or vector(1) #"])
@pytest.mark.parametrize("matcher", ['up{app="{{ variables.v }}"}', "up{app='{{ variables.v }}'}"])
async def test_t45_a_variable_cannot_change_the_result(prometheus, matcher, value):
    query = render(matcher, Model("n", "ns", "t", "s", "i", "r", "1m", {"v": value}))
    with pytest.raises(NoValues):
        await prometheus.value(query)


async def test_t45_as_it_would_if_it_were_not_quoted(prometheus):
    assert await prometheus.value('up{app="x"} or vector(1) #"}') == 1
