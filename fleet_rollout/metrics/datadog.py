"""Datadog's metrics query: the oldest point of the first series, because the newest is still being filled."""

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

DEFAULT_ADDRESS = "https://api.datadoghq.com"


class Provider:
    """One account."""

    def __init__(self, spec: Mapping[str, Any], credentials: Mapping[str, bytes] | None, options: Options, dial: Dial):
        self._url = base_of(address_of(spec, DEFAULT_ADDRESS))
        self._headers = {
            "DD-API-KEY": header_credential(spec, credentials, "datadog_api_key"),
            "DD-APPLICATION-KEY": header_credential(spec, credentials, "datadog_application_key"),
        }
        self._window = int(INTERVALS * interval_seconds(options.interval))
        self._now = options.now
        self._backend = Backend(dial, self._headers.values())

    async def value(self, query: str) -> float:
        now = int(self._now())
        asked = urlencode({"from": now - self._window, "query": query, "to": now})
        reply = await self._backend.json("GET", f"{self._url}/api/v1/query?{asked}", self._headers)
        return number_of(at(reply, "series", 0, "pointlist", 0, 1), reply)

    async def is_online(self) -> None:
        await self._backend.text("GET", f"{self._url}/api/v1/validate", self._headers)
