"""Tells event hooks, in the background: each Canary has a lane of its own, in which its hooks hear things in order.

A hook that hangs, or an address that is dead, costs its own Canaries their events, and no others theirs.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from fleet_rollout.decide.canary.addresses import AddressRefused, Dial, parse_url
from fleet_rollout.decide.canary.hooks import Hook
from fleet_rollout.decide.canary.objects import StepFailed
from fleet_rollout.notify import webhooks

log = logging.getLogger(__name__)

# What waits for its turn, of one Canary and of all.
MOST_OF_ONE, MOST_TOLD = 100, 1000
# Events that one address is told at the same time, and the seconds that one of them may take, with all its attempts.
AT_ONCE = 4
LONGEST = 30.0


class Told(NamedTuple):
    """One event of a Canary (namespace and name) for one hook."""

    canary: tuple[str, str]
    hook: Hook
    body: Mapping[str, Any]


class Telling:
    """`dial` is asked for each event anew; it is given the Canary's namespace."""

    def __init__(self, dial: Callable[[str], Dial]) -> None:
        self._dial = dial
        self._lanes: dict[tuple[str, str], deque[Told]] = {}
        self._waiting = 0
        self._turns: dict[str, _Turns] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._emptied = asyncio.Event()
        self._emptied.set()

    def begin(self, tasks: asyncio.TaskGroup) -> None:
        """Tell what has been left, and what will be."""
        self._tasks = tasks
        for canary in self._lanes:
            tasks.create_task(self._drain(canary))

    def leave(self, told: Told) -> None:
        """Never waits. Where too many do, the oldest event of whoever has most of them is dropped."""
        lane = self._lanes.get(told.canary)
        if lane is None:
            lane = self._lanes[told.canary] = deque()
            self._emptied.clear()
            if self._tasks is not None:
                self._tasks.create_task(self._drain(told.canary))
        lane.append(told)
        self._waiting += 1
        if len(lane) > MOST_OF_ONE:
            self._next(lane)
        elif self._waiting > MOST_TOLD:
            self._next(max(self._lanes.values(), key=len))

    async def finished(self) -> None:
        """Returns when all has been told, or given up."""
        await self._emptied.wait()

    async def _drain(self, canary: tuple[str, str]) -> None:
        lane = self._lanes[canary]
        try:
            while lane:
                first = lane[0]
                async with self._turn(_server(first.hook.url)):
                    if lane and lane[0] is first:  # else it was dropped meanwhile
                        await self._tell(self._next(lane))
        finally:
            del self._lanes[canary]
            if not self._lanes:
                self._emptied.set()

    def _next(self, lane: deque[Told]) -> Told:
        self._waiting -= 1
        return lane.popleft()

    async def _tell(self, told: Told) -> None:
        namespace, name = told.canary
        try:
            async with asyncio.timeout(LONGEST):
                await webhooks.call(told.hook, told.body, self._dial(namespace))
        except (TimeoutError, StepFailed) as error:
            log.debug("Canary %s/%s: hook %s was not told: %s", namespace, name, told.hook.name, error)
        except Exception:  # whatever it is, an event that is not told stops nothing
            log.exception("Canary %s/%s: hook %s was not told", namespace, name, told.hook.name)

    @asynccontextmanager
    async def _turn(self, server: str) -> AsyncIterator[None]:
        turns = self._turns.setdefault(server, _Turns())
        turns.users += 1
        try:
            async with turns.free:
                yield
        finally:
            turns.users -= 1
            if not turns.users:
                del self._turns[server]


class _Turns:
    """Of one address; forgotten when nobody uses or awaits them."""

    def __init__(self) -> None:
        self.free = asyncio.Semaphore(AT_ONCE)
        self.users = 0


def _server(url: str) -> str:
    """Whose turns a hook takes: the gates and checks of others may be asked of the same server."""
    try:
        return str(parse_url(url).origin)
    except AddressRefused:
        return url
