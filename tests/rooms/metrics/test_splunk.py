"""SignalFlow over a websocket, as the service talks."""

from __future__ import annotations

import gzip
import struct

import orjson
import pytest
from aiohttp import WSMsgType, web

from fleet_rollout.metrics.query import Misconfigured, NoValues, QueryFailed
from fleet_rollout.metrics.splunk import Provider
from tests.rooms.metrics.backends import NOW, SECRETS

START = {"type": "control-message", "channel": "ch-1", "event": "STREAM_START"}
END = {"type": "control-message", "channel": "ch-1", "event": "END_OF_CHANNEL"}


def binary(*values, series=b"AAAAAAAA", compressed=False):
    """A data message: pairs of value type and eight bytes."""
    body = struct.pack(">QI", 1700000000000, len(values))
    body += b"".join(struct.pack(">B8s8s", kind, series, raw) for kind, raw in values)
    header = struct.pack(">BBBB16s", 1, 5, 1 if compressed else 0, 0, b"ch-1")
    return header + (gzip.compress(body, mtime=0) if compressed else body)


def double(value):
    return 2, struct.pack(">d", value)


NULL = (0, bytes(8))


@pytest.fixture
def flow(server):
    """`flow(*messages)`: what is said after the program has come; gives the list of what was heard."""

    def say(*messages, close=False):
        heard = []

        async def handle(request):
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            while len(heard) < 2:
                heard.append(orjson.loads((await socket.receive()).data))
            await socket.send_str('{"type":"authenticated","orgId":"x"}')
            for message in messages:
                if isinstance(message, bytes):
                    await socket.send_bytes(message)
                else:
                    await socket.send_str(message if isinstance(message, str) else orjson.dumps(message).decode())
            if not close:
                assert (await socket.receive()).type in (WSMsgType.CLOSE, WSMsgType.CLOSED)
            return socket

        server.handler = handle
        return heard

    return say


async def test_a_program_runs_over_ten_intervals(make, server, flow):
    heard = flow(
        START, {"type": "metadata", "channel": "ch-1", "tsId": "A"}, binary(double(1.0)), binary(double(2.5)), END
    )
    assert await make("splunk").value("data('x').publish()") == 2.5
    assert server.last.path == "/v2/signalflow/connect"
    assert heard[0] == {"type": "authenticate", "token": "s3cret-token"}
    now = int(NOW * 1000)
    window = {"start": now - 600_000, "stop": now, "immediate": True}
    assert heard[1] == {"type": "execute", "channel": "ch-1", "program": "data('x').publish()", **window}
    assert "s3cret" not in str(server.last.headers)


@pytest.mark.parametrize(
    ("message", "value"),
    [
        (binary((1, struct.pack(">q", -7))), -7.0),
        (binary((3, struct.pack(">i", 5) + bytes(4))), 5.0),
        (binary(double(float("inf"))), float("inf")),
        (binary(double(1.0), NULL), 1.0),
        (binary(double(1.5), compressed=True), 1.5),
        ({"type": "data", "channel": "ch-1", "data": [{"tsId": "A", "value": 4}, {"tsId": "A", "value": None}]}, 4.0),
    ],
)
async def test_values_come_in_many_forms(make, flow, message, value):
    flow(message, END)
    assert await make("splunk").value("x") == value


async def test_json_in_a_binary_message(make, flow):
    wrapped = struct.pack(">BBBB16s", 1, 3, 3, 0, b"ch-1") + gzip.compress(orjson.dumps(END), mtime=0)
    flow(binary(double(3.0)), wrapped)
    assert await make("splunk").value("x") == 3.0


@pytest.mark.parametrize("messages", [[], [binary()], [binary(NULL)], [binary(double(float("nan")))]])
async def test_no_value_before_the_end(make, flow, messages):
    flow(*messages, END)
    with pytest.raises(NoValues, match="no values found"):
        await make("splunk").value("x")


async def test_several_series_are_too_many(make, flow):
    flow(binary(double(1.0)), binary(double(2.0), series=b"BBBBBBBB"), END)
    with pytest.raises(QueryFailed, match="query returned multiple values"):
        await make("splunk").value("x")


@pytest.mark.parametrize(
    ("message", "fact"),
    [
        ({"type": "error", "channel": "ch-1", "error": 400, "message": "bad s3cret-token"}, r"bad \*\*\*"),
        ({"type": "error", "errorType": "ANALYTICS_PROGRAM"}, "ANALYTICS_PROGRAM"),
        ({"type": "control-message", "event": "CHANNEL_ABORT"}, "was aborted"),
        ("{", "cannot be read"),
        ("[]x", "cannot be read"),
        ('"text"', "cannot be read"),
        ({"no": "type"}, "cannot be read"),
        ({"type": "data", "data": [{"value": 1}]}, "cannot be read"),
        (b"short", "cannot be read"),
        (binary(double(1.0))[:-1], "cannot be read"),
        (struct.pack(">BBBB16s", 1, 5, 1, 0, b"ch-1") + b"no gzip", "cannot be read"),
        (struct.pack(">BBBB16s", 1, 5, 1, 0, b"ch-1") + gzip.compress(bytes(50_000_000), mtime=0), "cannot be read"),
    ],
)
async def test_what_goes_wrong_is_said(make, flow, message, fact):
    flow(message)
    with pytest.raises(QueryFailed, match=f"error executing query: .*{fact}"):
        await make("splunk").value("x")


async def test_a_connection_that_ends_early(make, flow):
    flow(binary(double(1.0)), close=True)
    with pytest.raises(QueryFailed, match="closed before the end of the data"):
        await make("splunk").value("x")


async def test_a_computation_that_does_not_end(make, flow, monkeypatch):
    monkeypatch.setattr("fleet_rollout.metrics.splunk.TIMEOUT", 0.2)
    flow(START)
    with pytest.raises(QueryFailed, match=r"no answer within 0\.2 s"):
        await make("splunk").value("x")


async def test_a_refused_handshake(make, server):
    server.status = 401
    with pytest.raises(QueryFailed, match="error executing query"):
        await make("splunk").value("x")


async def test_the_online_probe_asks_the_other_api(make, server):
    await make("splunk", address=server.url.replace("http", "ws")).is_online()
    seen = server.last
    assert (seen.path, seen.query) == ("/v2/metric", {"limit": "1"})
    assert seen.headers["X-SF-Token"] == "s3cret-token"


@pytest.mark.parametrize("address", ["https://api.us1.signalfx.com", "wss://stream.us1.signalfx.com/"])
def test_either_address_of_a_realm_names_both(options, dial, address):
    provider = Provider({"type": "splunk", "address": address}, SECRETS["splunk"], options, dial)
    assert provider._stream == "wss://stream.us1.signalfx.com/v2/signalflow/connect"
    assert provider._api == "https://api.us1.signalfx.com"


def test_an_address_is_needed(make):
    with pytest.raises(Misconfigured, match="not a valid URL"):
        make("splunk", address="")


@pytest.mark.parametrize("message", ["[1]", '["data"]', "7", "null", '"data"'])
async def test_json_that_is_no_object_cannot_be_read(make, flow, message):
    flow(message)
    with pytest.raises(QueryFailed, match="a message of SignalFlow that cannot be read"):
        await make("splunk").value("x")
