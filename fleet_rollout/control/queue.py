"""A queue of keys: never of events, so that any number of changes to one object is one piece of work.

A key that is added twice keeps the earlier time and the higher priority. One worker has a key at a
time; a key added while it is worked on is handed out again afterwards. Keys may share a lane, of which only
so many are handed out at a time: work that waits for one slow member leaves workers for the others.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

LIVE = 1
BACKGROUND = 0  # first listings and periodic work: a restart must not delay a live change


class Closed(Exception):
    """The queue hands out nothing more."""


@dataclass
class _Entry:
    due: float
    priority: int
    added: float


class Queue(Generic[K]):
    """`clock` gives seconds on a monotonic scale; every method but `get` returns at once.

    `lane` tells what a key shares with others, None for nothing; `width` is how many keys of a lane are out at a time.
    """

    def __init__(
        self, clock: Callable[[], float], lane: Callable[[K], Hashable | None] = lambda _: None, width: int = 1
    ) -> None:
        self._clock = clock
        self._lane = lane
        self._width = width
        self._entries: dict[K, _Entry] = {}
        self._later: list[tuple[float, int, K]] = []
        self._now: list[tuple[int, float, int, K]] = []
        self._busy: dict[K, tuple[float, Hashable | None]] = {}
        self._out: Counter[Hashable] = Counter()  # keys handed out, by lane
        self._held: dict[Hashable, list[tuple[int, float, int, K]]] = {}  # what is due while its lane is full
        self._again: dict[K, _Entry] = {}
        self._numbers = itertools.count()
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()  # one waits for a key, the others for their turn: a change wakes one of them
        self._is_closed = False

    def close(self) -> None:
        """Hand out nothing more: whoever asks from now on, or is waiting now, gets Closed."""
        self._is_closed = True
        self._changed.set()

    def add(self, key: K, *, delay: float = 0.0, priority: int = LIVE) -> None:
        """Ask for `key` to be worked on in `delay` seconds, or earlier if that was asked before."""
        now = self._clock()
        pool = self._again if key in self._busy else self._entries
        wanted = _Entry(now + delay, priority, now)
        entry = pool.get(key)
        if entry is not None:
            wanted = _Entry(min(entry.due, wanted.due), max(entry.priority, priority), entry.added)
            if wanted == entry:
                return
        pool[key] = wanted
        if pool is self._entries:
            self._push(key, wanted)

    def _push(self, key: K, entry: _Entry) -> None:
        heapq.heappush(self._later, (entry.due, next(self._numbers), key))
        self._changed.set()

    def forget(self, key: K) -> None:
        """Drop what was asked for `key`; a worker that has it now finishes."""
        self._entries.pop(key, None)
        self._again.pop(key, None)

    async def get(self) -> K:
        """Wait for the next key that is due. The caller answers with `done(key)`. Raises Closed after `close`."""
        async with self._turn:
            while True:
                if self._is_closed:
                    raise Closed
                self._promote()
                while self._now:
                    row = heapq.heappop(self._now)
                    _, due, _, key = row
                    entry = self._entries.get(key)
                    if entry is not None and entry.due == due and self._enters(row):
                        del self._entries[key]
                        return key
                await self._wait()

    def _enters(self, row: tuple[int, float, int, K]) -> bool:
        """Whether the key is handed out now; where its lane is full the row is held until one of the lane is done."""
        key = row[-1]
        lane = self._lane(key)
        if lane is not None and self._out[lane] >= self._width:
            self._held.setdefault(lane, []).append(row)
            return False
        if lane is not None:
            self._out[lane] += 1
        self._busy[key] = (self._clock(), lane)
        return True

    def _promote(self) -> None:
        now = self._clock()
        while self._later and self._later[0][0] <= now:
            due, number, key = heapq.heappop(self._later)
            entry = self._entries.get(key)
            if entry is not None and entry.due == due:
                heapq.heappush(self._now, (-entry.priority, due, number, key))

    async def _wait(self) -> None:
        self._changed.clear()
        delay = self._later[0][0] - self._clock() if self._later else None
        try:
            async with asyncio.timeout(delay):
                await self._changed.wait()
        except TimeoutError:
            return

    def done(self, key: K) -> None:
        """Give `key` back; what was asked for it meanwhile comes into force."""
        self._leaves(key)
        entry = self._again.pop(key, None)
        if entry is not None:
            self._entries[key] = entry
            self._push(key, entry)

    def _leaves(self, key: K) -> None:
        _, lane = self._busy.pop(key, (0.0, None))
        if lane is None:
            return
        self._out[lane] -= 1
        if not self._out[lane]:
            del self._out[lane]
        for row in self._held.pop(lane, ()):
            heapq.heappush(self._now, row)
        self._changed.set()

    def __len__(self) -> int:
        return len(self._entries) + len(self._again)

    def overdue(self) -> float:
        """Seconds by which the oldest key that is due, or being worked on, is late: the stuck-key measure."""
        now = self._clock()
        # Of copies, for whoever writes the metrics page does it in a thread.
        late = [now - entry.due for entry in list(self._entries.values()) if entry.due <= now]
        late += [now - since for since, _ in list(self._busy.values())]
        return max(late, default=0.0)
