"""One Canary that the engine drives: its ticks on their grid, one after the other, and sleep while nothing happens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from fleet_rollout.control.engine.sight import Sight
from fleet_rollout.control.engine.steady import SteadyTime
from fleet_rollout.control.engine.tick import CANARIES, Outside, Tick
from fleet_rollout.decide.canary import machine
from fleet_rollout.decide.canary.claim import conflict, rival, wrote_at
from fleet_rollout.decide.canary.effects import Emit
from fleet_rollout.decide.canary.grid import Grid, moment
from fleet_rollout.decide.canary.objects import Object
from fleet_rollout.decide.canary.subject import EngineOptions, Subject
from fleet_rollout.decide.canary.unreadable import unreadable
from fleet_rollout.decide.intervals import parse_time, rfc3339
from fleet_rollout.errors import FleetRolloutError
from fleet_rollout.kube.client import Cluster
from fleet_rollout.kube.errors import ApiError, Unreachable
from fleet_rollout.measures import TICK_LATENESS

log = logging.getLogger(__name__)

ACTIVE = frozenset({"Progressing", "Waiting", "WaitingPromotion", "Promoting", "Finalising"})
# What makes another version of a Canary worth a tick before its time.
TELLING_METADATA = ("generation", "annotations", "labels", "deletionTimestamp", "finalizers")


class Driven:
    """`raw` is the newest known Canary. `options` is asked at every tick, for a Fleet may be edited."""

    def __init__(
        self,
        cluster: Cluster,
        sight: Sight,
        outside: Outside,
        options: Callable[[], EngineOptions],
        raw: Object,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._take(raw)
        self.rival: str | None = None  # another engine that was seen writing the status
        self._cluster = cluster
        self._sight = sight
        self._outside = outside
        self._options = options
        self._clock = clock
        self._wall = wall
        self._steady = SteadyTime(wall, clock)
        self._news = asyncio.Event()
        self._edited = asyncio.Event()
        self._is_ticking = False
        self._is_ending = False
        self._is_in_doubt = False  # an answer was lost: the Canary may be another than `raw`
        self._told: Object | None = None  # by the watch, during a tick
        self._grid = self._first_grid()

    def _take(self, raw: Object) -> None:
        """Its managedFields are larger than all the rest, and of them one time is read again."""
        self.raw = raw
        self._wrote_at = wrote_at(raw)
        raw["metadata"].pop("managedFields", None)

    def _first_grid(self) -> Grid:
        """From the creation on: by the wall clock once, so that a clock that is set later moves no tick."""
        metadata = self.raw["metadata"]
        age = (self._wall() - parse_time(metadata["creationTimestamp"])).total_seconds()
        return Grid(self._clock() - max(0.0, age) + moment(metadata["uid"]), self._interval)

    @property
    def _interval(self) -> float:
        return Subject(self.raw, self._options()).interval

    def show(self, raw: Object) -> None:
        """The watch tells of the Canary. Our own status writes come back as well, and are no news."""
        if self._is_ticking:
            self._told = raw
            return
        if not self._is_news(raw):
            return
        before, manager = self.raw, rival(self.raw, raw, self._wrote_at)
        self._take(raw)
        self._notice(manager)
        if any(raw["metadata"].get(name) != before["metadata"].get(name) for name in TELLING_METADATA):
            self.rival = None
            self.wake()
        if self._interval != self._grid.interval:
            self._edited.set()

    def _is_news(self, raw: Object) -> bool:
        """Whether it is a newer Canary that can be driven; of any other the watch will tell the engine."""
        return _version(raw) > _version(self.raw) and unreadable(raw) is None

    def _notice(self, manager: str | None) -> None:
        if manager is not None and self.rival is None:
            told = Emit("Warning", conflict(self.raw, manager))
            self._outside.emit(Subject(self.raw, self._options()), told)
        self.rival = manager or self.rival

    def wake(self) -> None:
        """Something that this Canary looks at has changed: the next tick on the grid is due."""
        self._news.set()

    @property
    def is_ticking(self) -> bool:
        """Whether a tick is under way, which may be beginning a rollout that `raw` does not show yet."""
        return self._is_ticking

    def end(self) -> bool:
        """Begin no other tick; whether one is under way, which `run` then ends with."""
        self._is_ending = True
        return self._is_ticking

    async def run(self) -> None:
        """Tick until cancelled, or ended. A Canary that nobody has looked at yet is looked at at once."""
        is_new = not (self.raw.get("status") or {}).get("phase")
        due = self._clock() if is_new else self._grid.due_from(self._clock())
        while True:
            due = await self._wait(due)
            TICK_LATENESS.observe(max(0.0, self._clock() - due))
            self._news.clear()
            last = await self.tick()
            if self._is_ending:
                return
            if last is not None and last.is_quiet and self._may_sleep():
                await self._rest(last)
                due = self._grid.due_from(self._clock())
            else:
                due = self._next(due)

    async def _wait(self, due: float) -> float:
        """Until a tick is due; the time it was due at. An edited interval counts from the edit on."""
        while (seconds := due - self._clock()) > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._edited.wait()
            except TimeoutError:
                break
            self._edited.clear()
            due = self._anchored() or due
        return due

    def _anchored(self) -> float | None:
        """The first tick of a new grid where the interval was edited; None where it was not."""
        now = self._clock()
        grid = self._grid.edited(self._interval, now)
        if grid is self._grid:
            return None
        self._grid = grid
        return now + grid.interval

    async def tick(self) -> Tick | None:
        """One tick; None where a mistake of ours ended it, or another engine is at work."""
        try:
            if self._is_in_doubt:
                await self._look_again()
            if self.rival is None and not self._is_in_doubt and self._may_be_judged():
                return await self._tick()
        except Exception:  # one Canary's trouble is not the others', and is to end none of its own ticks to come
            metadata = self.raw["metadata"]
            log.exception("tick of Canary %s.%s failed", metadata["name"], metadata["namespace"])
        return None

    def _may_be_judged(self) -> bool:
        """By defaults a healthy version could be rolled back. What is being deleted is let go by any."""
        return self._options().are_known or self._is_leaving

    @property
    def _is_leaving(self) -> bool:
        return bool(self.raw["metadata"].get("deletionTimestamp"))

    async def _tick(self) -> Tick:
        options, now = self._options(), self._wall()
        steady = self._steady.now(Subject(self.raw, options).progress_deadline)
        tick = Tick(self._cluster, self._sight, self._outside, options, self.raw, steady)
        steps = (machine.terminate if self._is_leaving else machine.tick)(self.raw, options, rfc3339(now))
        self._is_ticking = True
        began = self._clock()
        try:
            await tick.run(steps)
        except asyncio.CancelledError:
            tick.has_measured = False  # the Canary is gone, and no series is to be made of it anew
            raise
        finally:
            self._is_ticking = False
            if tick.has_measured:
                self._outside.spent(Subject(self.raw, options), self._clock() - began)
            self._is_in_doubt = tick.has_lost
            self._sight.use(self, tick.refs)
            self._catch_up(tick)
        return tick

    async def _look_again(self) -> None:
        """What was written last may have come to nothing, or not: a step must be neither left out nor taken twice."""
        metadata = self.raw["metadata"]
        try:
            found = await self._cluster.get(CANARIES, metadata["name"], metadata["namespace"])
        except (ApiError, Unreachable, FleetRolloutError) as error:
            log.debug("Canary %s/%s: %s", metadata["namespace"], metadata["name"], error)
            return
        if found is not None and found["metadata"]["uid"] == metadata["uid"]:
            self._is_in_doubt = False
            self.show(found)

    def _catch_up(self, tick: Tick) -> None:
        """Take over what the tick has stored or found, then what the watch has told meanwhile."""
        if self._is_news(tick.confirmed):
            self._take(tick.confirmed)
            self._notice(tick.rival)
        told, self._told = self._told, None
        if told is not None:
            self.show(told)

    def _next(self, tick: float) -> float:
        return self._anchored() or self._grid.after(tick, self._clock())

    def _may_sleep(self) -> bool:
        return (self.raw.get("status") or {}).get("phase") not in ACTIVE and not self._news.is_set()

    async def _rest(self, last: Tick) -> None:
        """Until something changes, or what nobody watches has to be looked at again."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._sight.recheck_after(last.refs)):
                await self._news.wait()


def _version(raw: Object) -> int:
    return int(raw["metadata"].get("resourceVersion") or 0)
