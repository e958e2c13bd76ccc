"""Lets callers that ask for the same thing at the same time share one answer.

Never one that began before they asked: it may not show the push that made them ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any


class Flights:
    """At most one call per key is under way, and at most one waits for it to end; newcomers join the waiting one."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, asyncio.Task[Any]] = {}
        self._last: dict[Hashable, asyncio.Task[Any]] = {}
        self._all: set[asyncio.Task[Any]] = set()

    async def share(self, key: Hashable, call: Callable[[], Awaitable[Any]]) -> Any:
        """The answer of `call`, or of an equal call that had not begun either. Cancelling one caller ends no call."""
        task = self._waiting.get(key)
        if task is None:
            task = asyncio.create_task(self._fly(key, call, self._last.get(key)))
            self._waiting[key] = self._last[key] = task
            self._all.add(task)
            task.add_done_callback(lambda done: self._land(key, done))
        return await asyncio.shield(task)

    @property
    def is_busy(self) -> bool:
        """Whether anything is under way or about to begin."""
        return bool(self._all)

    async def close(self) -> None:
        """Wait for what is under way; cancel what has not begun."""
        for task in self._waiting.values():
            task.cancel()
        while self._all:
            await asyncio.wait(self._all)

    async def _fly(self, key: Hashable, call: Callable[[], Awaitable[Any]], before: asyncio.Task[Any] | None) -> Any:
        if before is not None:
            await asyncio.wait([before])
        self._waiting.pop(key, None)
        return await call()

    def _land(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        self._all.discard(task)
        if self._last.get(key) is task:
            del self._last[key]
        if self._waiting.get(key) is task:
            del self._waiting[key]
        if not task.cancelled():
            task.exception()  # retrieved here, as every caller may have gone
