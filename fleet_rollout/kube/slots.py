"""How many requests one API server gets at the same time: few while few wait, more the longer the queue.

Each request in flight is a connection of its own, and a TLS handshake costs more than ten requests: one small sync is
not to open sixteen connections to each of a thousand members.
"""

from __future__ import annotations

import asyncio
from collections import deque

# Always so many, for one slow request must not hold up the next; and one more for each of so many that wait.
FEW = 2
WORTH_A_CONNECTION = 32


class Slots:
    """`async with slots:` around each request; at most `most` are inside. First come, first served."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._used = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._idle = asyncio.Event()

    @property
    def _allowed(self) -> int:
        return min(self._most, FEW + len(self._waiting) // WORTH_A_CONNECTION)

    async def __aenter__(self) -> None:
        if not self._waiting and self._used < self._allowed:
            self._used += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                # Where others were passed over in favour of us they are let in now; a turn given up is skipped.
                self._admit()
            else:  # it was our turn at the very moment of the cancellation
                self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        self._used -= 1
        self._admit()
        if not self._used:
            self._idle.set()

    def _admit(self) -> None:
        while self._waiting and self._used < self._allowed:
            turn = self._waiting.popleft()
            if not turn.done():
                self._used += 1
                turn.set_result(None)

    async def drain(self) -> None:
        """Wait until every request that is inside or waits now is done."""
        self._admit()
        while self._used:
            self._idle.clear()
            await self._idle.wait()
