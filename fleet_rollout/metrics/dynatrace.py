"""Dynatrace's metrics API v2: one value for the whole window, of the last entry of the first result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from fleet_rollout.decide.canary.addresses import Dial
from fleet_rollout.metrics.query import (
    INTERVALS,
    Backend,
    Options,
    address_of,
    at,
    base_of,
    header_credential,
    interval_seconds,
    number_of,
)


class Provider:
    """One environment."""

    def __init__(self, spec: Mapping[str, Any], credentials: Mapping[str, bytes] | None, options: Options, dial: Dial):
        self._url = f"{base_of(address_of(spec))}/api/v2/metrics"
        token = header_credential(spec, credentials, "dynatrace_token")
        self._headers = {"Authorization": f"Api-Token {token}"}
        self._window = int(INTERVALS * interval_seconds(options.interval) * 1000)
        self._now = options.now
        self._backend = Backend(dial, [token])

    async def value(self, query: str) -> float:
        now = int(self._now()) * 1000
        asked = {"from": now - self._window, "metricSelector": query, "resolution": "Inf", "to": now}
        reply = await self._backend.json("GET", f"{self._url}/query?{urlencode(asked)}", self._headers)
        return number_of(at(reply, "result", 0, "data", -1, "values", 0), reply)

    async def is_online(self) -> None:
        await self._backend.text("GET", f"{self._url}?pageSize=1", self._headers)
