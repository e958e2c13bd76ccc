"""Kubernetes Events: what happened, once, beside the object it happened to.

Never raises into its caller and never blocks it. Equal events within a while are one event with a count; a flood is
dropped and counted, because status says the same.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from fleet_rollout import measures
from fleet_rollout.decide.intervals import rfc3339
from fleet_rollout.decide.names import short_hash

log = logging.getLogger(__name__)

COMPONENT = "fleet-rollout"
MESSAGE_LIMIT = 1024
WAITING = 1000
REMEMBERED = 4096
# An event that was posted is not posted again for this long; its repetitions are counted.
SAME_SECONDS = 300.0

Object = Mapping[str, Any]
Post = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass
class _Series:
    posted: float
    count: int = 1


class Recorder:
    """`post` sends one Event; `run` is a task of the process that owns the recorder."""

    def __init__(
        self,
        post: Post,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._post = post
        self._clock = clock
        self._now = now
        self._waiting: asyncio.Queue[dict[str, Any]] = asyncio.Queue(WAITING)
        self._series: OrderedDict[tuple[str, ...], _Series] = OrderedDict()

    def normal(self, obj: Object | None, reason: str, message: str) -> None:
        """Something went as wanted."""
        self._record(obj, "Normal", reason, message)

    def warning(self, obj: Object | None, reason: str, message: str) -> None:
        """Something did not."""
        self._record(obj, "Warning", reason, message)

    def _record(self, obj: Object | None, type_: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        if obj is None:
            return
        message = message if len(message) <= MESSAGE_LIMIT else message[: MESSAGE_LIMIT - 1] + "…"
        count = self._counted((str(obj["metadata"].get("uid", "")), type_, reason, message))
        if count is None:
            return
        try:
            self._waiting.put_nowait(event(obj, type_, reason, message, count, self._now()))
        except asyncio.QueueFull:
            measures.EVENTS_DROPPED.inc()

    def _counted(self, same: tuple[str, ...]) -> int | None:
        """How often this has happened, where that is to be told now."""
        series = self._series.get(same)
        if series is None:
            self._series[same] = _Series(self._clock())
            if len(self._series) > REMEMBERED:
                self._series.popitem(last=False)
            return 1
        series.count += 1
        if self._clock() - series.posted < SAME_SECONDS:
            return None
        series.posted = self._clock()
        return series.count

    async def run(self) -> None:
        """Send what waits, until cancelled."""
        while True:
            waiting = await self._waiting.get()
            try:
                await self._post(waiting)
            except Exception as error:  # an event that is lost must not end the service
                measures.EVENTS_DROPPED.inc()
                log.debug("an event was not written: %s", error)


def event(
    obj: Object, type_: Literal["Normal", "Warning"], reason: str, message: str, count: int, now: datetime
) -> dict[str, Any]:
    """A core/v1 Event about `obj`."""
    metadata = obj["metadata"]
    moment = rfc3339(now)
    namespace = metadata.get("namespace") or "default"
    suffix = short_hash(f"{metadata.get('uid')}{type_}{reason}{message}{now.timestamp()}")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name'][:200]}.{suffix}", "namespace": namespace},
        "involvedObject": {
            "apiVersion": obj["apiVersion"],
            "kind": obj["kind"],
            "name": metadata["name"],
            "namespace": metadata.get("namespace", ""),
            "uid": metadata.get("uid", ""),
            "resourceVersion": metadata.get("resourceVersion", ""),
        },
        "type": type_,
        "reason": reason,
        "message": message,
        "count": count,
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
    }
