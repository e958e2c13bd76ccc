"""New Relic's Insights query API: one NRQL query with exactly one result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from fleet_rollout.decide.canary.addresses import Dial
from fleet_rollout.metrics.query import (
    Backend,
    Options,
    address_of,
    at,
    base_of,
    credential,
    header_credential,
    interval_seconds,
    number_of,
)

DEFAULT_ADDRESS = "https://insights-api.newrelic.com"
ONLINE = "SELECT * FROM Metric"


class Provider:
    """One account."""

    def __init__(self, spec: Mapping[str, Any], credentials: Mapping[str, bytes] | None, options: Options, dial: Dial):
        account = quote(credential(spec, credentials, "newrelic_account_id"), safe="")
        self._url = f"{base_of(address_of(spec, DEFAULT_ADDRESS))}/v1/accounts/{account}/query"
        self._headers = {"X-Query-Key": header_credential(spec, credentials, "newrelic_query_key")}
        self._window = int(interval_seconds(options.interval))
        self._backend = Backend(dial, self._headers.values())

    async def value(self, query: str) -> float:
        reply = await self._backend.json("GET", self._asking(query), self._headers)
        results = at(reply, "results") or []
        if not isinstance(results, list) or len(results) != 1:
            raise reply.without_values
        return number_of(at(reply, "results", 0, "result"), reply)

    async def is_online(self) -> None:
        await self._backend.text("GET", self._asking(ONLINE), self._headers)

    def _asking(self, query: str) -> str:
        return f"{self._url}?{urlencode({'nrql': f'{query} SINCE {self._window} seconds ago'})}"
