"""How a process of ours ends: at once where it stands by, in its own time where it works, never later than it may."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from fleet_rollout.settings import Settings

# Of the shutdown time-out; the rest is for closing watches and listeners.
SHARE_OF_WORK = 0.6


async def until_stopped(
    serving: Coroutine[Any, Any, None], stop: asyncio.Event, is_working: Callable[[], bool], settings: Settings
) -> None:
    """Serve; at `stop` a leader may finish what it has begun, anybody else ends at once."""
    task = asyncio.create_task(serving)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done() and is_working():
            await asyncio.wait({task}, timeout=settings.shutdown_timeout * SHARE_OF_WORK)
    finally:
        stopping.cancel()
        task.cancel()
        await asyncio.wait({task, stopping})
    if not task.cancelled():
        task.result()
