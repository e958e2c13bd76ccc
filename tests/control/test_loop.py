"""The loop around the reconcilers ends when it is told to, whatever becomes of one cancellation."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest

from fleet_rollout.control import loop as module
from fleet_rollout.control.loop import Key, Loop
from fleet_rollout.control.queue import Queue
from fleet_rollout.errors import FleetRolloutError
from fleet_rollout.settings import Settings


class Swallowing:
    """Takes its first cancellation for a failure of its own, as Python 3.11's TaskGroup may."""

    kind = "ClusterSync"

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.cancelled = 0

    async def reconcile(self, key: Key) -> float | None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
        return None

    async def report(self, key: Key, error: FleetRolloutError, again_in: float) -> None:
        raise AssertionError(error)


async def test_a_cancellation_that_is_swallowed_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CANCEL_AGAIN", 0.01)
    queue: Queue[Any] = Queue(time.monotonic)
    reconciler = Swallowing()
    running = asyncio.create_task(Loop(reconciler, queue, Settings(), workers=3).run())
    queue.add(Key("shop", "web"))
    async with asyncio.timeout(30):
        await reconciler.began.wait()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    assert running.cancelled()
    assert reconciler.cancelled == 1
