"""How many requests one API server gets at the same time: one while few wait, more the longer the queue.

Each request in flight is a connection of its own, and a TLS handshake costs more than ten requests: one small sync is
not to open sixteen connections to each of a thousand members.
"""

from __future__ import annotations

import asyncio
from collections import deque

# One, or two where nothing moves for so long (s), for a slow request must not hold up the next, or where so many follow
# each other; and one more for each of so many that wait.
SLOW, FEW = 0.2, 2
WORTH_A_CONNECTION = 32
# A second look, so long after (s): the loop itself may have been held up.
LOOK_AGAIN = 0.05


class Slots:
    """`async with slots:` around each request; at most `most` are inside. First come, first served.

    `always` may be inside whatever it costs: there is but one hub, and everything waits for it.
    """

    def __init__(self, most: int, *, always: int = 1) -> None:
        self._most = most
        self._always = always
        self._used = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._idle = asyncio.Event()
        self._is_slow = False
        self._followed = 0  # how many have come in since nobody was inside
        self._moved = 0.0  # when somebody came in or left, by the loop's clock
        self._look: asyncio.TimerHandle | None = None

    @property
    def _allowed(self) -> int:
        is_worth_it = self._is_slow or self._followed >= WORTH_A_CONNECTION
        always = max(self._always, FEW) if is_worth_it else self._always
        return min(self._most, always + len(self._waiting) // WORTH_A_CONNECTION)

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        if not self._waiting and self._used < self._allowed:
            self._enter(loop)
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        self._admit()
        if self._look is None:
            self._look = loop.call_later(SLOW, self._watch, loop, False)
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

    def _watch(self, loop: asyncio.AbstractEventLoop, is_second: bool) -> None:
        """As long as somebody waits: let one more in where nothing moves."""
        self._look = None
        if not self._waiting or self._is_slow:
            return
        rest = self._moved + SLOW - loop.time()
        if rest <= 0 and is_second:
            self._is_slow = True
            self._admit()
        else:
            self._look = loop.call_later(max(rest, LOOK_AGAIN), self._watch, loop, rest <= 0)

    def _enter(self, loop: asyncio.AbstractEventLoop) -> None:
        self._used += 1
        self._followed += 1
        self._moved = loop.time()

    def _leave(self) -> None:
        self._used -= 1
        self._moved = asyncio.get_running_loop().time()
        self._admit()
        if not self._used:
            self._is_slow, self._followed = False, 0
            self._idle.set()

    def _admit(self) -> None:
        while self._waiting and self._used < self._allowed:
            turn = self._waiting.popleft()
            if not turn.done():
                self._enter(turn.get_loop())
                turn.set_result(None)

    async def drain(self) -> None:
        """Wait until every request that is inside or waits now is done."""
        self._admit()
        while self._used:
            self._idle.clear()
            await self._idle.wait()
