"""A load generator: requests to one host through an Envoy (or any HTTP address), at a bounded rate, counted.

Runs until it is stopped or its time is over. What fails is kept with its reason, so that a test can
say which request was lost.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Self

import aiohttp

REQUEST_TIMEOUT = 10.0
FAILURES_KEPT = 20


@dataclass
class Tally:
    """What came back. `versions` counts the sample program's answers by their version."""

    ok: int = 0
    failed: int = 0
    versions: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.ok + self.failed

    def succeeded(self, version: str) -> None:
        self.ok += 1
        self.versions[version] += 1

    def lost(self, reason: str) -> None:
        self.failed += 1
        if len(self.failures) < FAILURES_KEPT:
            self.failures.append(reason)


class Load:
    """`async with Load(address, host, rate=50) as load:` sends until the block is left; `load.tally` is live."""

    def __init__(self, address: str, host: str, *, rate: float = 20.0, workers: int = 4, path: str = "/") -> None:
        self._url = f"http://{address}{path}"
        self._host = host
        self._pause = workers / rate
        self._workers = workers
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Condition()
        self.tally = Tally()

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._work(index)) for index in range(self._workers)]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Lets requests in flight be answered, so that none counts as lost by the end itself."""
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def until(self, requests: int) -> None:
        """Returns when that many more requests have been answered or lost."""
        goal = self.tally.total + requests
        async with self._changed:
            await self._changed.wait_for(lambda: self.tally.total >= goal)

    async def _work(self, index: int) -> None:
        # Each worker keeps to a grid of its own, so a slow answer does not lower the rate for long.
        due = time.monotonic() + self._pause * index / self._workers
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT)
        async with aiohttp.ClientSession(timeout=timeout, headers={"Host": self._host}) as session:
            while not await self._stopped(due - time.monotonic()):
                await self._send(session)
                due = max(due + self._pause, time.monotonic())

    async def _stopped(self, seconds: float) -> bool:
        if seconds > 0 and not self._stop.is_set():
            try:
                await asyncio.wait_for(self._stop.wait(), seconds)
            except TimeoutError:
                return False
        return self._stop.is_set()

    async def _send(self, session: aiohttp.ClientSession) -> None:
        try:
            async with session.get(self._url) as answer:
                await answer.read()
                if answer.status < 400:
                    self.tally.succeeded(answer.headers.get("X-Version", ""))
                else:
                    self.tally.lost(f"status {answer.status}")
        except (aiohttp.ClientError, TimeoutError) as error:
            self.tally.lost(f"{type(error).__name__}: {error}")
        async with self._changed:
            self._changed.notify_all()


async def send(address: str, host: str, requests: int, *, rate: float = 200.0) -> Tally:
    """Send that many requests (a few more may be in flight at the end) and count the answers."""
    async with Load(address, host, rate=rate) as load:
        await load.until(requests)
    return load.tally
