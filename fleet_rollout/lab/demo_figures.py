"""The demo's figures: what each member's Prometheus says of the new version at the moment of the verdict."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fleet_rollout.lab.demo_table import Row
from fleet_rollout.lab.lab import LabCluster

# Through the member's API server, the way that the engine asks.
PROMETHEUS = "/api/v1/namespaces/istio-system/services/http:prometheus:9090/proxy/api/v1/query"
LABELS = 'reporter="destination",destination_workload_namespace="webapp",destination_workload="backend"'
SHORTEST_WINDOW = 5
# What the example asks for.
LOWEST_SUCCESS_RATE, HIGHEST_P99 = 99.0, 500.0
VERDICTS = frozenset({"Promoting", "Finalising", "Succeeded", "Failed"})


@dataclass(frozen=True)
class Figures:
    """Of the new version, from its first request in the analysis to the verdict; NaN where nothing was measured."""

    requests: float
    success_rate: float
    p99: float

    def agrees(self, verdict: str) -> bool:
        """Whether they explain the verdict. A check that failed may be forgiven, so that a success need not be fast."""
        if verdict == "Succeeded":
            return self.success_rate >= LOWEST_SUCCESS_RATE and not math.isnan(self.p99)
        return self.success_rate < LOWEST_SUCCESS_RATE or self.p99 > HIGHEST_P99

    def text(self) -> str:
        return f"success rate {self.success_rate:6.2f} %  p99 {self.p99:6.1f} ms  {self.requests:5.0f} requests"


def queries(window: int) -> tuple[str, str, str]:
    """Requests, success rate in percent, and p99 in milliseconds of the last `window` seconds."""
    total = f"sum(increase(istio_requests_total{{{LABELS}}}[{window}s]))"
    good = f'(sum(increase(istio_requests_total{{{LABELS},response_code!~"5.*"}}[{window}s])) or vector(0))'
    buckets = f"sum(rate(istio_request_duration_milliseconds_bucket{{{LABELS}}}[{window}s])) by (le)"
    return total, f"{good} / {total} * 100", f"histogram_quantile(0.99, {buckets})"


async def measured(member: LabCluster, window: int) -> Figures:
    """Ask the Prometheus of one member."""
    return Figures(*await asyncio.gather(*(_value(member, query) for query in queries(window))))


async def _value(member: LabCluster, query: str) -> float:
    answer: dict[str, Any] = await member.api.get(PROMETHEUS, query=query)
    found = answer["data"]["result"]
    return float(found[0]["value"][1]) if found else math.nan


class Measurements:
    """Asks once for every member, as soon as its row shows the verdict on `revision`."""

    def __init__(self, members: dict[str, LabCluster], revision: str) -> None:
        self._members = members
        self._revision = revision
        self._begun: dict[str, float] = {}
        self._asking: dict[str, asyncio.Task[Figures]] = {}

    def see(self, rows: Iterable[Row]) -> None:
        """Told of every change of the table."""
        for row in rows:
            if not row.is_about(self._revision):
                continue
            if row.phase == "Progressing":
                self._begun.setdefault(row.cluster, time.monotonic())
            elif row.phase in VERDICTS and row.cluster in self._begun and row.cluster not in self._asking:
                window = max(SHORTEST_WINDOW, math.ceil(time.monotonic() - self._begun[row.cluster]))
                self._asking[row.cluster] = asyncio.create_task(measured(self._members[row.cluster], window))

    async def figures(self) -> dict[str, Figures]:
        """The answers, by member."""
        return dict(zip(self._asking, await asyncio.gather(*self._asking.values()), strict=True))
