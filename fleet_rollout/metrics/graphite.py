"""Graphite's render API: the last point of all series that is not null."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

from fleet_rollout.decide.canary.addresses import Dial
from fleet_rollout.metrics.query import (
    Backend,
    NoValues,
    Options,
    QueryFailed,
    Reply,
    address_of,
    base_of,
    credential,
)

ONLINE = "target=test"


class Provider:
    """One Graphite."""

    def __init__(self, spec: Mapping[str, Any], credentials: Mapping[str, bytes] | None, options: Options, dial: Dial):
        url = address_of(spec)
        self._url = base_of(url)
        authorization = url.authorization
        if credentials is not None:
            user = credential(spec, credentials, "username", "a username")
            password = credential(spec, credentials, "password", "a password")
            authorization = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
        self._headers = {"Authorization": authorization} if authorization else {}
        self._backend = Backend(dial, [authorization.partition(" ")[2]], verify=not spec.get("insecureSkipVerify"))

    async def value(self, query: str) -> float:
        """A query is what stands behind `/render?`."""
        words = parse_qsl(" ".join(query.split()), keep_blank_values=True)
        pairs = [pair for pair in words if pair[0] != "format"] + [("format", "json")]
        asked = urlencode(sorted(pairs, key=lambda pair: pair[0]))
        reply = await self._backend.json("GET", f"{self._url}/render?{asked}", self._headers)
        value = last_point(reply)
        if value is None or math.isnan(value):
            raise NoValues
        return value

    async def is_online(self) -> None:
        try:
            await self.value(ONLINE)
        except NoValues:
            return
        except QueryFailed as error:
            raise QueryFailed(f"running query failed: {error}") from None


def last_point(reply: Reply) -> float | None:
    """Points are pairs of value and time; values may be texts."""
    if not isinstance(reply.data, list):
        raise reply.unreadable
    value: float | None = None
    for series in reply.data:
        points = series.get("datapoints") if isinstance(series, Mapping) else None
        if not isinstance(points, list):
            raise reply.unreadable
        for point in points:
            value = _value(point, reply, value)
    return value


def _value(point: Any, reply: Reply, before: float | None) -> float | None:
    if not isinstance(point, list) or len(point) != 2 or not isinstance(point[0], int | float | str | None):
        raise reply.unreadable
    if point[0] is None:
        return before
    try:
        return float(point[0])
    except ValueError:
        raise reply.unreadable from None
