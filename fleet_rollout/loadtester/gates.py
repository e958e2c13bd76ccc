"""The switches that people set while an analysis waits: gates, and rollbacks. What is not known is closed."""

from __future__ import annotations

from typing import Protocol

from fleet_rollout.loadtester.payload import Refused

MOST_OPEN = 5000


class GatesUnavailable(Exception):
    """The switches cannot be read or kept; the text says why, and what to do."""


class Gates(Protocol):
    """Keeps switches by key. Both raise GatesUnavailable; `set` returns once a restart would not lose it."""

    async def is_open(self, key: str) -> bool: ...

    async def set(self, key: str, *, is_open: bool) -> None: ...


class MemoryGates:
    """Lost with the process."""

    def __init__(self) -> None:
        self._open: set[str] = set()

    async def is_open(self, key: str) -> bool:
        return key in self._open

    async def set(self, key: str, *, is_open: bool) -> None:
        if not is_open:
            self._open.discard(key)
        elif len(self._open) >= MOST_OPEN:
            raise Refused("too many gates are open; close some", status=503)
        else:
            self._open.add(key)
