"""Who may ask an address now, and who waits: no address is asked more than so many questions at the same time.

Waiting for a turn is no answer of the address, and costs nothing of the time that it has for one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fleet_rollout.decide.canary.objects import Unasked

# Nobody waits longer than this, or than its own time-out where that is longer.
PATIENCE = 30.0
# How often those who wait look whether the address still answers, in parts of their time-out.
LOOKS = 5
# Whoever gives an answer less time than this looks as if it had this much.
SHORTEST = 0.5


class Turns:
    """At most `most` questions to each address. First come, first served."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lines: dict[str, _Line] = {}

    @asynccontextmanager
    async def of(self, address: str, *, timeout: float) -> AsyncIterator[None]:
        """For one question, which has to end by itself, within `timeout` seconds.

        Unasked where the turn does not come; TimeoutError where those who have theirs get no answer for so long.
        """
        line = self._lines.setdefault(address, _Line(self._most))
        line.users += 1
        try:
            await line.take(address, timeout)
            try:
                yield
                line.heard = asyncio.get_running_loop().time()
            except Unasked:
                raise
            except BaseException:  # a time-out around this is a cancellation here
                line.failed = asyncio.get_running_loop().time()
                raise
            finally:
                line.free.release()
        finally:
            line.users -= 1
            if not line.users:
                del self._lines[address]


class _Line:
    """The turns of one address, and when it has last answered, or not."""

    def __init__(self, most: int) -> None:
        self.free = asyncio.Semaphore(most)
        self.users = 0
        self.heard = self.failed = float("-inf")

    async def take(self, address: str, timeout: float) -> None:
        if not self.free.locked():
            await self.free.acquire()
            return
        patience, timeout = max(PATIENCE, timeout), max(SHORTEST, timeout)
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(patience) as limit:
                looking: asyncio.TimerHandle

                def look() -> None:
                    nonlocal looking
                    if self._is_silent(began, timeout):
                        limit.reschedule(loop.time())
                    else:
                        looking = loop.call_later(timeout / LOOKS, look)

                looking = loop.call_later(timeout, look)
                try:
                    await self.free.acquire()
                finally:
                    looking.cancel()
        except TimeoutError:
            if self._is_silent(began, timeout):
                raise
            raise Unasked(f"{address} is asked by too many at once: no turn within {patience:g} s") from None

    def _is_silent(self, began: float, timeout: float) -> bool:
        """Whether the queue stands because the address does not answer; else it is only long."""
        last = max(began, self.heard)
        return self.failed >= last and asyncio.get_running_loop().time() - last >= timeout
