"""What every backend has in common when it is slow, refuses, or talks nonsense; and who keeps secrets."""

from __future__ import annotations

import logging
from dataclasses import replace

import orjson
import pytest
from aiohttp import web

from fleet_rollout.metrics.factory import KINDS, provider_for
from fleet_rollout.metrics.query import Misconfigured, NoValues, QueryFailed
from tests.rooms.metrics.backends import SECRETS

# With a query that each can read.
HTTP = {
    "prometheus": "up",
    "datadog": "avg:x{*}",
    "newrelic": "SELECT 1",
    "dynatrace": "builtin:x",
    "graphite": "target=x",
    "influxdb": "from()",
    "externalmetrics": "default/x",
}
# The credential of each that stands in a header as it is.
IN_HEADERS = {
    "prometheus": "token",
    "datadog": "datadog_api_key",
    "newrelic": "newrelic_query_key",
    "dynatrace": "dynatrace_token",
    "influxdb": "token",
    "externalmetrics": "token",
    "splunk": "sf_token_key",
}
# Which say so in the body of a 200.
JSON = [kind for kind in HTTP if kind != "influxdb"]


@pytest.mark.parametrize("kind", HTTP)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503, 599])
async def test_a_refusal_is_quoted(make, server, kind, status):
    server.status, server.answer = status, "the reason"
    with pytest.raises(QueryFailed, match=rf"error response: .*{status}.*the reason"):
        await make(kind).value(HTTP[kind])
    assert len(server.seen) == 1


@pytest.mark.parametrize("kind", HTTP)
async def test_a_hang_ends(make, server, kind, monkeypatch):
    monkeypatch.setattr("fleet_rollout.metrics.prometheus.TIMEOUT", 0.2)
    server.hangs = True
    provider = make(kind)
    provider._backend.timeout = 0.2
    with pytest.raises(QueryFailed, match=r"request failed: .*no answer within 0\.2 s"):
        await provider.value(HTTP[kind])


@pytest.mark.parametrize("kind", HTTP)
async def test_a_connection_that_is_cut(make, server, kind):
    async def cut(request):
        request.transport.abort()

    server.handler = cut
    with pytest.raises(QueryFailed, match=r"request failed: .*the connection was cut"):
        await make(kind).value(HTTP[kind])


@pytest.mark.parametrize("kind", JSON)
@pytest.mark.parametrize("answer", ["<html>", "", "{", "[1,", b"\xff\xfe"])
async def test_an_answer_that_is_not_json(make, server, kind, answer):
    server.answer = answer
    with pytest.raises(QueryFailed, match="not JSON"):
        await make(kind).value(HTTP[kind])


@pytest.mark.parametrize("kind", JSON)
@pytest.mark.parametrize("answer", [None, [], {}, 5, "text", [[]], {"a": []}])
async def test_json_of_another_shape_is_no_value(make, server, kind, answer):
    server.answer = orjson.dumps(answer)
    with pytest.raises((QueryFailed, NoValues)):
        await make(kind).value(HTTP[kind])


@pytest.mark.parametrize("kind", HTTP)
async def test_t21_secrets_are_in_nothing_that_is_said(make, server, kind, caplog):
    """A backend that repeats what it was sent, and a log at its loudest."""
    caplog.set_level(logging.DEBUG)

    async def echo(request):
        return web.Response(status=403, text=f"{dict(request.headers)} {request.path_qs}")

    server.handler = echo
    with pytest.raises(QueryFailed) as caught:
        await make(kind).value(HTTP[kind])
    said = str(caught.value) + caplog.text
    assert "s3cret" not in said
    assert "bWU6czNjcmV0LXBhc3M=" not in said


@pytest.mark.parametrize("kind", sorted(KINDS - {"stackdriver", "cloudwatch", "keptn", "externalmetrics"}))
def test_a_missing_secret_is_said_with_the_key(make, kind):
    with pytest.raises(Misconfigured, match="credentials does not contain"):
        make(kind, {})


@pytest.mark.parametrize("kind", ["datadog", "newrelic", "dynatrace", "splunk"])
@pytest.mark.parametrize("interval", ["", "1x", "m"])
def test_an_interval_that_is_none_is_said(server, options, dial, kind, interval):
    with pytest.raises(Misconfigured, match="error parsing metric interval"):
        provider_for({"type": kind, "address": server.url}, SECRETS[kind], replace(options, interval=interval), dial)


async def test_an_unknown_type_is_prometheus_with_a_warning(make, server, caplog):
    server.answer = {"data": {"result": [{"value": [1, "5"]}]}}
    assert await make("zabbix", None).value("x") == 5
    assert "unknown metrics provider 'zabbix', using prometheus" in caplog.text


@pytest.mark.parametrize("kind", sorted(IN_HEADERS))
@pytest.mark.parametrize("value", ["\ufeffs3cret-k3y".encode(), "s3cret-k3ß".encode(), b"s3cret\xff"])
def test_t21_a_credential_that_no_header_can_hold_is_refused_by_its_key(make, kind, value):
    key = IN_HEADERS[kind]
    with pytest.raises(Misconfigured, match=f"{key} has characters other than ASCII") as caught:
        make(kind, {**(SECRETS.get(kind) or {}), key: value})
    assert "s3cret" not in str(caught.value)


def test_a_credential_that_is_encoded_may_be_any_text(make):
    make("prometheus", {"username": "jürgen".encode(), "password": "größe".encode()})
    make("influxdb", {"token": b"t0ken", "org": "Größe GmbH".encode()})
