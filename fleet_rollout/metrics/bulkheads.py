"""Threads for clients that block, and turns for those that do not: one address that hangs takes no other's.

Every address has few of them, and all threads together have a limit. Waiting for a thread counts as waiting for the
answer; waiting for a turn does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from functools import cached_property, partial
from typing import Any, TypeVar

from fleet_rollout.metrics.turns import Turns

T = TypeVar("T")

PER_ADDRESS, TOTAL = 2, 64
# Questions that take no thread: what one address is asked at the same time.
TURNS = 8


class _Place:
    """The threads of one address; forgotten when nobody uses or awaits them."""

    def __init__(self, threads: int) -> None:
        self.free = asyncio.Semaphore(threads)
        self.users = 0


class Bulkheads:
    """Runs blocking work in threads. A thread is taken until its work really ends, whoever still waits for it."""

    def __init__(self, per_address: int = PER_ADDRESS, total: int = TOTAL, *, name: str = "metrics") -> None:
        self._per_address = per_address
        self._total = total
        self._places: dict[str, _Place] = {}
        self._free = asyncio.Semaphore(total)
        self._turns = Turns(TURNS)
        self._threads = ThreadPoolExecutor(total, thread_name_prefix=name)

    async def run(self, address: str, work: Callable[[], T], *, timeout: float) -> T:
        """What `work` returns; TimeoutError where there was no thread, or no result, within `timeout` seconds."""
        async with asyncio.timeout(timeout):
            await self._enter(address)
            running = asyncio.get_running_loop().run_in_executor(self._threads, work)
            running.add_done_callback(partial(self._leave, address))
            return await asyncio.shield(running)

    def turn(self, address: str, *, timeout: float) -> AbstractAsyncContextManager[None]:
        """For a question that needs no thread, and ends by itself within `timeout` seconds; see Turns."""
        return self._turns.of(address, timeout=timeout)

    @cached_property
    def beneath(self) -> Bulkheads:
        """Threads for what the work in these waits for. Were they the same, all could wait for one that none leaves."""
        return Bulkheads(self._per_address, self._total, name="beneath")

    def close(self) -> None:
        """No more work; what is running ends by its own limits."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if "beneath" in self.__dict__:
            self.beneath.close()

    async def _enter(self, address: str) -> None:
        place = self._places.setdefault(address, _Place(self._per_address))
        place.users += 1
        try:
            await place.free.acquire()
            try:
                await self._free.acquire()
            except BaseException:
                place.free.release()
                raise
        except BaseException:
            self._forget(address)
            raise

    def _leave(self, address: str, ended: asyncio.Future[Any]) -> None:
        if not ended.cancelled():
            ended.exception()  # it counts as seen: whoever waited may have gone
        self._free.release()
        self._places[address].free.release()
        self._forget(address)

    def _forget(self, address: str) -> None:
        place = self._places[address]
        place.users -= 1
        if not place.users:
            del self._places[address]
