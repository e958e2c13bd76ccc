"""Splunk Observability: a SignalFlow program over a websocket, and the last value of its only series.

The computation has an end, because it is asked for a window that is over: the messages up to END_OF_CHANNEL are all.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from fleet_rollout.decide.canary.addresses import Dial, NotReached, Socket, Url
from fleet_rollout.metrics.query import (
    INTERVALS,
    TIMEOUT,
    Backend,
    NoValues,
    Options,
    QueryFailed,
    address_of,
    base_of,
    header_credential,
    interval_seconds,
)

CHANNEL = "ch-1"
# Binary messages: version, type, flags, reserved, channel; then time, count and that many values.
HEADER, HEAD, PAYLOAD = struct.Struct(">BBBB16s"), struct.Struct(">QI"), struct.Struct(">B8s8s")
COMPRESSED, JSON = 1, 2
LONG, DOUBLE, INT = 1, 2, 3
MOST_BYTES = 4 * 1024 * 1024
GZIP = zlib.MAX_WBITS | 16


class Point(NamedTuple):
    """A value of one series."""

    series: bytes | str
    value: float


class Provider:
    """One realm."""

    def __init__(self, spec: Mapping[str, Any], credentials: Mapping[str, bytes] | None, options: Options, dial: Dial):
        url = address_of(spec, schemes=("https", "http", "wss", "ws"))
        self._stream = f"{base_of(_moved(url, 'ws', 'api.', 'stream.'))}/v2/signalflow/connect"
        self._api = base_of(_moved(url, "http", "stream.", "api."))
        self._token = header_credential(spec, credentials, "sf_token_key")
        self._window = int(INTERVALS * interval_seconds(options.interval) * 1000)
        self._now = options.now
        self._backend = Backend(dial, [self._token])

    async def value(self, query: str) -> float:
        try:
            async with self._backend.dial.socket(self._stream, headers={}, timeout=TIMEOUT) as socket:
                points = await self._points(socket, query)
        except NotReached as error:
            raise QueryFailed(f"error executing query: {error}") from None
        if not points:
            raise NoValues("invalid response")
        if len({point.series for point in points}) > 1:
            raise QueryFailed("invalid response: query returned multiple values")
        if math.isnan(points[-1].value):
            raise NoValues("invalid response")
        return points[-1].value

    async def is_online(self) -> None:
        await self._backend.text("GET", f"{self._api}/v2/metric?limit=1", {"X-SF-Token": self._token})

    async def _points(self, socket: Socket, query: str) -> list[Point]:
        now = int(self._now() * 1000)
        program = {"program": query, "start": now - self._window, "stop": now, "immediate": True}
        await socket.send(_text({"type": "authenticate", "token": self._token}))
        await socket.send(_text({"type": "execute", "channel": CHANNEL, **program}))
        points: list[Point] = []
        while (said := await socket.receive()) is not None:
            try:
                message = _message(said) if isinstance(said, str) else _unpacked(said)
                if isinstance(message, list):
                    points += message
                elif self._is_last(message):
                    return points
                else:
                    points += _json_points(message)
            except (ValueError, KeyError, TypeError, AttributeError, struct.error, zlib.error):
                raise QueryFailed("error executing query: a message of SignalFlow that cannot be read") from None
        raise QueryFailed("error executing query: the connection was closed before the end of the data")

    def _is_last(self, message: Mapping[str, Any]) -> bool:
        if message["type"] == "error":
            said = message.get("message") or message.get("errorType") or message.get("error")
            raise QueryFailed(f"error executing query: {self._backend.quote(str(said))}")
        if message.get("event") == "CHANNEL_ABORT":
            raise QueryFailed("error executing query: the computation was aborted")
        return bool(message.get("event") == "END_OF_CHANNEL")


def _moved(url: Url, scheme: str, old: str, new: str) -> Url:
    """The host of the other API, where the host is Splunk's; and its scheme, as safe as the address has it."""
    host = new + url.host.removeprefix(old) if url.host.startswith(old) else url.host
    return replace(url, scheme=scheme + ("s" if url.scheme in ("https", "wss") else ""), host=host)


def _message(said: str | bytes) -> dict[str, Any]:
    found = orjson.loads(said)
    if not isinstance(found, dict):
        raise TypeError
    return found


def _text(message: dict[str, Any]) -> str:
    return orjson.dumps(message).decode()


def _json_points(message: Mapping[str, Any]) -> Iterator[Point]:
    if message["type"] == "data":
        for found in message["data"]:
            if found.get("value") is not None:
                yield Point(str(found["tsId"]), float(found["value"]))


def _unpacked(said: bytes) -> list[Point] | dict[str, Any]:
    """The values of a binary message, or the JSON in it."""
    _, _, flags, _, _ = HEADER.unpack_from(said)
    rest = said[HEADER.size :]
    if flags & COMPRESSED:
        unzip = zlib.decompressobj(GZIP)
        rest = unzip.decompress(rest, MOST_BYTES)
        if unzip.unconsumed_tail:
            raise ValueError
    if flags & JSON:
        return _message(rest)
    _, count = HEAD.unpack_from(rest)
    payloads = (PAYLOAD.unpack_from(rest, HEAD.size + index * PAYLOAD.size) for index in range(count))
    return [Point(series, _number(kind, raw)) for kind, series, raw in payloads if kind in (LONG, DOUBLE, INT)]


def _number(kind: int, raw: bytes) -> float:
    if kind == DOUBLE:
        return float(struct.unpack(">d", raw)[0])
    return float(struct.unpack(">q", raw)[0] if kind == LONG else struct.unpack(">i", raw[:4])[0])
