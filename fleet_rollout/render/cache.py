"""Remembers results by key, makes each only once however many ask at the same time, and forgets the oldest by size."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from fleet_rollout.errors import Terminal

V = TypeVar("V")

# What a remembered failure counts, so that failures cannot fill the memory either.
FAILURE_SIZE = 4096


class SingleFlight(Generic[V]):
    """`get(key, make)`: `make` returns a value and its size in bytes, or raises.

    Terminal errors are results, too: what fails for one cluster would fail in the same way for a thousand.
    The work goes on while anyone waits for it, and is cancelled with the last who does.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._size = 0
        self._done: OrderedDict[str, tuple[V | Terminal, int]] = OrderedDict()
        self._running: dict[str, asyncio.Task[V | Terminal]] = {}
        self._waiting: dict[str, int] = {}

    async def get(self, key: str, make: Callable[[], Awaitable[tuple[V, int]]]) -> V:
        if key in self._done:
            self._done.move_to_end(key)
            result = self._done[key][0]
        else:
            result = await self._made(key, make)
        if isinstance(result, Terminal):
            raise Terminal(result.reason, result.message)  # a new one: a shared one would gather tracebacks
        return result

    async def _made(self, key: str, make: Callable[[], Awaitable[tuple[V, int]]]) -> V | Terminal:
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(self._make(key, make))
        self._waiting[key] = self._waiting.get(key, 0) + 1
        try:
            return await asyncio.shield(task)
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]
                await self._abandon(key, task)

    async def _abandon(self, key: str, task: asyncio.Task[V | Terminal]) -> None:
        self._running.pop(key, None)
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()  # seen: nobody is left to be told

    async def _make(self, key: str, make: Callable[[], Awaitable[tuple[V, int]]]) -> V | Terminal:
        result: V | Terminal
        try:
            result, size = await make()
        except Terminal as error:
            result, size = error, FAILURE_SIZE
        self._done[key] = (result, size)
        self._size += size
        while self._size > self._most and len(self._done) > 1:
            self._size -= self._done.popitem(last=False)[1][1]
        return result
