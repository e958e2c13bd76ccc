"""Kubernetes Events about the objects of one API server: built here, sent by a function that the caller gives.

An event is a courtesy: recording never waits, never raises, and never takes more than its share. What is said
again within a while is counted, and told by one more Event with that count (client-go patches its first Event at
every repetition: a write each, and a read after a restart); what one object says too often is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, Literal, TypeVar

from fleet_rollout.decide.intervals import rfc3339
from fleet_rollout.decide.printable import printable
from fleet_rollout.measures import EVENTS_DROPPED

log = logging.getLogger(__name__)

COMPONENT = "fleet-rollout"
MESSAGE_LIMIT = 1024  # what the API server accepts
NAME_ROOM = 230  # of 253, so that a suffix fits

# The same words about the same object are told again after this long, with a count.
REPEAT_AFTER = 600.0
# One object may say this much at once, then one thing a minute (kubectl's client allows one in five minutes).
BURST = 25
REFILL = 60.0
# The canary engine speaks at every tick, of every step of an analysis: what it says again is told once a minute, and a
# hundred steps may follow each other.
ENGINE_COMPONENT = "flagger"
ENGINE_REASON = "Synced"
ENGINE_REPEAT_AFTER, ENGINE_BURST, ENGINE_REFILL = 60.0, 100, 10.0
# So many times as long as the same words are not repeated it is known how often they were said.
KEPT_COUNTS = 10
# Memory for who said what; the oldest are forgotten.
MOST_REMEMBERED = 4096
QUEUE_LENGTH = 5000
# Least time between two events (s), and between those that follow upon `AT_ONCE` others: a commit on a large fleet has
# one to tell of each member, and must not share the API server with them.
PACE, SLOW_PACE = 0.02, 0.1
AT_ONCE = 100

EventType = Literal["Normal", "Warning"]
Post = Callable[[dict[str, Any]], Awaitable[Any]]
V = TypeVar("V")


@dataclass(frozen=True)
class Told:
    """One event to send: `count` occurrences from `first` to `last`; `about` is a `reference`."""

    about: Mapping[str, Any]
    type: EventType
    reason: str
    message: str
    first: datetime
    last: datetime
    count: int


@dataclass
class _Repeats:
    told: float  # when it was last sent
    since: datetime | None = None  # the first occurrence not yet sent
    count: int = 0

    def is_over(self, clock: float, repeat_after: float) -> bool:
        """Whether there is nothing to remember: it would be told anew, or was last said long ago."""
        return clock - self.told > (KEPT_COUNTS if self.count else 1) * repeat_after


@dataclass
class _Budget:
    left: float
    at: float


class _Remembered(OrderedDict[Any, V], Generic[V]):
    """A dict of bounded size."""

    def keep(self, key: Any, value: V) -> V:
        self[key] = value
        self.move_to_end(key)
        if len(self) > MOST_REMEMBERED:
            self.popitem(last=False)
        return value


class Throttle:
    """Decides which occurrences are sent. `clock` is in seconds and never goes back."""

    def __init__(self, *, repeat_after: float = REPEAT_AFTER, burst: int = BURST, refill: float = REFILL) -> None:
        self._repeat_after = repeat_after
        self._burst = burst
        self._refill = refill
        self._repeats: _Remembered[_Repeats] = _Remembered()
        self._budgets: _Remembered[_Budget] = _Remembered()

    def admit(
        self, obj: Mapping[str, Any], type: EventType, reason: str, message: str, *, now: datetime, clock: float
    ) -> Told | None:
        """The event to send for this occurrence, or None where it is only counted, or too much."""
        who = _identity(obj)
        repeats = self._repeats.get((who, type, reason, message))
        if repeats is not None and clock - repeats.told < self._repeat_after:
            repeats.count += 1
            repeats.since = repeats.since or now
            return None
        if not self._spend(who, clock):
            EVENTS_DROPPED.inc()
            return None
        self._repeats.keep((who, type, reason, message), _Repeats(clock))
        self._forget_told(clock)
        first, count = (repeats.since or now, repeats.count) if repeats is not None else (now, 0)
        return Told(reference(obj), type, reason, message[:MESSAGE_LIMIT], first, now, count + 1)

    def _forget_told(self, clock: float) -> None:
        while (oldest := next(iter(self._repeats.items())))[1].is_over(clock, self._repeat_after):
            del self._repeats[oldest[0]]

    def _spend(self, who: tuple[str, ...], clock: float) -> bool:
        budget = self._budgets.get(who) or self._budgets.keep(who, _Budget(self._burst, clock))
        budget.left = min(self._burst, budget.left + (clock - budget.at) / self._refill)
        budget.at = clock
        if budget.left < 1:
            return False
        budget.left -= 1
        return True


def reference(obj: Mapping[str, Any]) -> dict[str, Any]:
    """What an Event says of `obj`; the rest need not be kept until it is sent."""
    metadata = obj.get("metadata") or {}
    return {
        **{field: obj[field] for field in ("apiVersion", "kind") if obj.get(field)},
        **{field: metadata[field] for field in ("namespace", "name", "uid", "resourceVersion") if metadata.get(field)},
    }


def _identity(obj: Mapping[str, Any]) -> tuple[str, ...]:
    metadata = obj.get("metadata") or {}
    return tuple(str(part) for part in (obj.get("kind"), metadata.get("namespace"), metadata.get("name")))


def event(told: Told, *, suffix: str, component: str = COMPONENT) -> dict[str, Any]:
    """The Event object (core/v1, which kubectl describe shows) for `told`; `suffix` makes its name unique."""
    name = str(told.about["name"])[:NAME_ROOM].rstrip(".-")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{name}.{suffix}", "namespace": told.about.get("namespace", "default")},
        "involvedObject": told.about,
        "type": told.type,
        "reason": told.reason,
        "message": printable(told.message)[:MESSAGE_LIMIT],
        "source": {"component": component},
        "reportingComponent": component,
        "firstTimestamp": rfc3339(told.first),
        "lastTimestamp": rfc3339(told.last),
        "count": told.count,
    }


class Recorder:
    """`normal` and `warning` from anywhere on the loop; `run` sends until cancelled. `post` creates one object."""

    def __init__(
        self,
        post: Post,
        *,
        component: str = COMPONENT,
        throttle: Throttle | None = None,
        slow_pace: float = SLOW_PACE,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._post = post
        self._component = component
        self._throttle = throttle or Throttle()
        self._slow_pace = slow_pace
        self._now = now
        self._clock = clock
        self._due = float("-inf")  # when as many as were sent would have been sent slowly
        self._waiting: deque[Told] = deque()
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()

    def normal(self, obj: Mapping[str, Any] | None, reason: str, message: str) -> None:
        """Say that something went as it should."""
        self._record(obj, "Normal", reason, message)

    def warning(self, obj: Mapping[str, Any] | None, reason: str, message: str) -> None:
        """Say that something needs attention."""
        self._record(obj, "Warning", reason, message)

    def _record(self, obj: Mapping[str, Any] | None, type: EventType, reason: str, message: str) -> None:
        if obj is None or not (obj.get("metadata") or {}).get("name"):
            return  # gone meanwhile: nobody could look the event up
        told = self._throttle.admit(obj, type, reason, message, now=self._now(), clock=self._clock())
        if told is None:
            return
        if len(self._waiting) >= QUEUE_LENGTH:
            EVENTS_DROPPED.inc()
            return
        self._waiting.append(told)
        self._emptied.clear()
        self._filled.set()

    async def finished(self) -> None:
        """Returns when everything that was recorded has been sent; `run` has to go on meanwhile."""
        await self._emptied.wait()

    async def run(self) -> None:
        """Send what was recorded, in order, and warnings out of turn where a crowd waits; never ends by itself."""
        try:
            while True:
                await self._filled.wait()
                pause = PACE
                while self._waiting:
                    await self._send(self._next(is_crowd=pause > PACE))
                    pause = self._pause()
                    await asyncio.sleep(pause)
                self._filled.clear()
                self._emptied.set()
        finally:
            EVENTS_DROPPED.inc(len(self._waiting))

    def _next(self, *, is_crowd: bool) -> Told:
        warning = next((told for told in self._waiting if told.type == "Warning"), None) if is_crowd else None
        if warning is None:
            return self._waiting.popleft()
        self._waiting.remove(warning)
        return warning

    def _pause(self) -> float:
        now = self._clock()
        self._due = max(self._due, now - AT_ONCE * self._slow_pace) + self._slow_pace
        return max(PACE, self._due - now)

    async def _send(self, told: Told) -> None:
        try:
            made = event(told, suffix=secrets.token_hex(8), component=self._component)
            await self._post(made)
        except Exception as error:  # whatever it is (refused, unreachable, not leading), an event stops nothing
            EVENTS_DROPPED.inc()
            log.debug("event not written: %s", error, extra={"reason": told.reason})


def engine_recorder(post: Post, **clocks: Any) -> Recorder:
    """A recorder that speaks as Flagger does, for the Canaries of one member."""
    throttle = Throttle(repeat_after=ENGINE_REPEAT_AFTER, burst=ENGINE_BURST, refill=ENGINE_REFILL)
    return Recorder(post, component=ENGINE_COMPONENT, throttle=throttle, slow_pace=PACE, **clocks)
