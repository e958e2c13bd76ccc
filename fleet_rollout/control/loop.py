"""The one loop around every reconciler, and the one tail that turns an outcome into the next time.

A reconciler returns the seconds until it wants to be called again, or raises an error of
`fleet_rollout.errors`; nothing else decides about retries.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from fleet_rollout import measures
from fleet_rollout.control.queue import BACKGROUND, Closed, Queue
from fleet_rollout.decide.intervals import backoff
from fleet_rollout.errors import FleetRolloutError, Terminal, Transient, Waiting
from fleet_rollout.kube.errors import ApiError, Unreachable
from fleet_rollout.log_fields import log_fields
from fleet_rollout.settings import Settings

log = logging.getLogger(__name__)

# Longer than what is done at the end of a piece of work takes (s).
CANCEL_AGAIN = 5.0


class Key(NamedTuple):
    """An object of the hub."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Reconciler(Protocol):
    """Brings one object to what its spec says. Safe to stop at any line and to run twice."""

    kind: str

    async def reconcile(self, key: Key) -> float | None:
        """Do the work; seconds until the next look, None to wait for a change."""

    async def report(self, key: Key, error: FleetRolloutError, again_in: float) -> None:
        """Show `error` in the object's status and as an event; it is tried again in `again_in` seconds."""


class Loop:
    """`workers` tasks that take keys from `queue` and hand them to `reconciler`."""

    def __init__(self, reconciler: Reconciler, queue: Queue[Key], settings: Settings, *, workers: int) -> None:
        self._reconciler = reconciler
        self._queue = queue
        self._settings = settings
        self._workers = workers
        self._failures: dict[Key, int] = {}

    async def run(self) -> None:
        """Work until cancelled, or until the queue is closed and what had been begun is done."""
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(self._work()) for _ in range(self._workers)]
            try:
                await asyncio.wait(workers)
            finally:
                await _ended(workers)

    async def _work(self) -> None:
        while True:
            try:
                key = await self._queue.get()
            except Closed:
                return
            started = time.monotonic()
            result = "error"
            try:
                with log_fields(kind=self._reconciler.kind, object=str(key)):
                    result = await self._one(key)
            finally:
                self._queue.done(key)
                measures.reconciled(self._reconciler.kind, result, time.monotonic() - started)

    async def _one(self, key: Key) -> str:
        try:
            again = await self._reconciler.reconcile(key)
        except FleetRolloutError as error:
            return await self._failed(key, error)
        except (ApiError, Unreachable) as error:
            return await self._failed(key, Transient("HubRequestFailed", f"the hub: {error}"))
        except Exception as error:  # a bug of ours must not end the process: set this key aside, say so
            log.exception("reconcile failed unexpectedly")
            message = f"internal error ({type(error).__name__}); the controller's log has the details"
            return await self._failed(key, Transient("InternalError", message))
        self._failures.pop(key, None)
        if again is not None:
            self._queue.add(key, delay=again, priority=BACKGROUND)
        return "success"

    async def _failed(self, key: Key, error: FleetRolloutError) -> str:
        if not isinstance(error, Waiting):
            log.warning(error.message, extra={"reason": error.reason})
        again_in, result = self._again(key, error)
        try:
            await self._reconciler.report(key, error, again_in)
        except FleetRolloutError as second:
            log.warning(second.message, extra={"reason": second.reason})
        except (ApiError, Unreachable) as second:
            log.warning("status could not be written: %s", second)
        except Exception:
            log.exception("status could not be written")
        self._queue.add(key, delay=again_in, priority=BACKGROUND)
        return result

    def _again(self, key: Key, error: FleetRolloutError) -> tuple[float, str]:
        if isinstance(error, Terminal):
            # Looked at again now and then: what it refers to (a Secret, a CRD) may have been mended without an event.
            return self._settings.retry_max, "stalled"
        waiting = isinstance(error, Waiting)
        failures = self._failures.get(key, 0) + (not waiting)
        self._failures[key] = failures
        delay = error.retry_after if isinstance(error, Transient) else None
        if delay is None:
            delay = backoff(failures, self._settings.retry_min, self._settings.retry_max, random.random())  # noqa: S311
        return delay, "waiting" if waiting else "retry"


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel until all have ended.

    Where one of several requests fails at the very moment of a cancellation, Python 3.11's TaskGroup takes that for its
    own and raises the failure: who is cancelled once would go on for ever.
    """
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=CANCEL_AGAIN)
