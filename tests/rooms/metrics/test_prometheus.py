"""Prometheus over HTTP: what is asked, and what its answers mean."""

from __future__ import annotations

import asyncio
import math
import time

import pytest
from aiohttp import web

from fleet_rollout.control.engine.dialing import DirectDial
from fleet_rollout.decide.canary.addresses import read_reach
from fleet_rollout.metrics import prometheus
from fleet_rollout.metrics.factory import prometheus_of
from fleet_rollout.metrics.query import Misconfigured, NoValues, Options, QueryFailed


def vector(*samples):
    result = [{"metric": {}, "value": [1700000000.1, sample]} for sample in samples]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


async def test_a_query_is_asked_with_its_blanks_collapsed(make, server):
    server.answer = vector("99.5")
    provider = make("prometheus", None, address=f"{server.url}/prom/?tenant=a")
    assert await provider.value('sum(\n\t rate(x{a="b  c"}[1m])\n)') == 99.5
    seen = server.last
    assert (seen.method, seen.path) == ("GET", "/prom/api/v1/query")
    assert seen.query == {"query": 'sum( rate(x{a="b c"}[1m]) )'}
    assert seen.raw_query == "query=sum%28+rate%28x%7Ba%3D%22b+c%22%7D%5B1m%5D%29+%29"
    assert seen.body == b""


async def test_t25_without_credentials_nothing_of_ours_goes_along(make, server, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login hub password hubs-own\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    server.answer = vector("1")
    await make("prometheus", None).value("x")
    assert set(server.last.headers) == {"Host", "User-Agent", "Accept", "Accept-Encoding"}
    assert server.last.headers["User-Agent"] == "fleet-rollout"


@pytest.mark.parametrize(
    ("credentials", "header"),
    [
        ({"token": b"abc\n"}, "Bearer abc"),
        ({"token": b"abc", "username": b"u", "password": b"p"}, "Bearer abc"),
        ({"username": b"us\xc3\xa9r", "password": b"pa:ss"}, "Basic dXPDqXI6cGE6c3M="),
    ],
)
async def test_credentials_of_the_secret(make, server, credentials, header):
    server.answer = vector("1")
    await make("prometheus", credentials, headers={"authorization": ["no"]}).value("x")
    assert server.last.headers["Authorization"] == header


async def test_credentials_in_the_address(make, server):
    server.answer = vector("1")
    address = server.url.replace("://", "://me:p%40ss@")
    await make("prometheus", None, address=address).value("x")
    assert server.last.headers["Authorization"] == "Basic bWU6cEBzcw=="


async def test_headers_of_the_template(make, server):
    server.answer = vector("1")
    headers = {"X-Scope-OrgID": ["a", "b"], "Authorization": ["Custom c"], "Host": ["evil.example.com"]}
    await make("prometheus", None, headers=headers).value("x")
    assert server.last.headers["X-Scope-OrgID"] == "a, b"
    assert server.last.headers["Authorization"] == "Custom c"
    assert server.last.headers["Host"].startswith("127.0.0.1")


@pytest.mark.parametrize(
    ("samples", "value"),
    [
        (["3", "7"], 7.0),
        (["+Inf"], math.inf),
        (["-Inf"], -math.inf),
        (["1e-3"], 0.001),
        (["NaN", "5"], 5.0),
        (["5", 7], 5.0),
    ],
)
async def test_s54_the_last_value_counts_and_infinity_is_one(make, server, samples, value):
    server.answer = vector(*samples)
    assert await make("prometheus", None).value("x") == value


@pytest.mark.parametrize(
    "answer",
    [
        vector(),
        vector("NaN"),
        vector("5", "NaN"),
        vector(7),
        {"status": "success", "data": {"resultType": "vector", "result": None}},
        {"status": "success", "data": None},
        {},
    ],
)
async def test_s13_no_value_is_told_apart_from_zero(make, server, answer):
    server.answer = answer
    with pytest.raises(NoValues, match=r"^no values found$"):
        await make("prometheus", None).value("x")


@pytest.mark.parametrize(
    ("answer", "fact"),
    [
        ({"data": {"resultType": "scalar", "result": [1700000000.1, "5"]}}, "a scalar or a string"),
        ({"data": {"resultType": "string", "result": [1700000000.1, "x"]}}, "a scalar or a string"),
        ({"data": {"resultType": "matrix", "result": [{"metric": {}, "values": [[1, "2"]]}]}}, "multiple values"),
        ({"data": {"resultType": "vector", "result": [{"metric": {}, "histogram": [1, {}]}]}}, "histogram"),
        ({"data": {"resultType": "vector", "result": {"a": 1}}}, "not a list of series"),
        (vector("many"), "'many' is not a number"),
        ("<html>log in</html>", "not JSON"),
        ([1], "no values found"),
    ],
)
async def test_an_answer_of_another_kind_is_no_value(make, server, answer, fact):
    server.answer = answer
    with pytest.raises((QueryFailed, NoValues), match=fact):
        await make("prometheus", None).value("x")


async def test_s13_an_error_is_quoted_with_its_status(make, server):
    server.status, server.answer = 500, {"status": "error", "error": "x" * 500}
    with pytest.raises(QueryFailed) as caught:
        await make("prometheus", None).value("x")
    text = str(caught.value)
    assert text.startswith('error response: Status 500 Internal Server Error: {"status": "error"')
    assert len(text) == len("error response: Status 500 Internal Server Error: ") + 200
    assert len(server.seen) == 1  # the analysis is the retry


@pytest.mark.parametrize("status", [204, 201])
async def test_other_answers_are_no_results(make, server, status):
    server.status, server.answer = status, ""
    with pytest.raises(QueryFailed, match=f"HTTP Status Code {status}"):
        await make("prometheus", None).value("x")


async def test_a_server_that_hangs_is_given_up(make, server, monkeypatch):
    monkeypatch.setattr(prometheus, "TIMEOUT", 0.2)
    server.hangs = True
    with pytest.raises(QueryFailed, match=r"request failed: http://127\.0\.0\.1:\d+: no answer within 0\.2 s"):
        await make("prometheus", None).value("x")


@pytest.fixture
async def silent():
    """An address that takes connections and says nothing."""

    async def wait(reader, writer):
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(wait, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


async def test_a_server_that_hangs_delays_no_other(make, server, silent, dial, bulkheads, monkeypatch):
    monkeypatch.setattr(prometheus, "TIMEOUT", 1.0)
    server.answer = vector("1")
    options = Options(bulkheads=bulkheads)
    stuck = [asyncio.create_task(prometheus_of(silent, options, dial).value("x")) for _ in range(20)]
    await asyncio.sleep(0.1)
    started = time.monotonic()
    assert await asyncio.gather(*(make("prometheus", None).value("x") for _ in range(10))) == [1.0] * 10
    assert time.monotonic() - started < 0.8
    for failure in await asyncio.gather(*stuck, return_exceptions=True):
        assert isinstance(failure, QueryFailed)


async def test_a_queue_of_many_canaries_is_no_failed_query(make, server, monkeypatch):
    """The last has waited for its turn longer than Prometheus may take for an answer."""
    monkeypatch.setattr(prometheus, "TIMEOUT", 0.4)

    async def handle(_):
        await asyncio.sleep(0.05)
        return web.json_response(vector("1"))

    server.handler = handle
    began = time.monotonic()
    assert await asyncio.gather(*(make("prometheus", None).value("x") for _ in range(100))) == [1.0] * 100
    assert time.monotonic() - began > 0.5


async def test_the_client_library_never_dials_by_itself(server, bulkheads, options):
    """It mounts a transport of its own on the session that it is given; ours has to stand in its place."""
    nothing_allowed = DirectDial(read_reach([]), bulkheads)
    with pytest.raises(QueryFailed, match="leads to a loopback"):
        await prometheus_of(server.url, options, nothing_allowed).value("x")
    assert server.seen == []
    await nothing_allowed.close()


async def test_nothing_listens(make):
    with pytest.raises(QueryFailed, match=r"request failed: http://127\.0\.0\.1:\d+: could not connect"):
        await make("prometheus", None, address="http://127.0.0.1:1").value("x")


async def test_the_online_probe_asks_for_one(make, server):
    server.answer = vector("1")
    await make("prometheus", None).is_online()
    assert server.last.query == {"query": "vector(1)"}


@pytest.mark.parametrize(
    ("answer", "status", "fact"),
    [
        (vector("2"), 200, "value is not 1 for query: vector"),
        (vector(), 200, "running query failed: no values found"),
        ({}, 503, "running query failed: error response: Status 503 Service Unavailable"),
    ],
)
async def test_the_online_probe_fails(make, server, answer, status, fact):
    server.answer, server.status = answer, status
    with pytest.raises(QueryFailed, match=fact):
        await make("prometheus", None).is_online()


@pytest.mark.parametrize(
    ("spec", "credentials", "fact"),
    [
        ({"address": ""}, None, "prometheus address  is not a valid URL"),
        ({"address": "prometheus:9090"}, None, "prometheus address prometheus:9090 is not a valid URL"),
        ({"address": "http://me:s3cret@:9090"}, None, r"prometheus address http://\*\*\*@:9090 is not a valid URL"),
        ({}, {}, "prometheus credentials does not contain a username"),
        ({}, {"username": b"u"}, "prometheus credentials does not contain a password"),
        ({}, {"token": b"a\nb"}, "token has control characters"),
        ({"headers": {"X-A": ["b\r\nc: d"]}}, None, "X-A has control characters"),
        ({"headers": {"X A": ["b"]}}, None, "header 'X A' is not a name"),
    ],
)
def test_what_is_wrong_with_a_template_is_said(make, spec, credentials, fact):
    with pytest.raises(Misconfigured, match=fact):
        make("prometheus", credentials, **spec)
