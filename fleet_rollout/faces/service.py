"""Controller and agent as processes: logs, signals, the telemetry listener, and an exit code."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import uvloop

from fleet_rollout.errors import FleetRolloutError
from fleet_rollout.faces import telemetry
from fleet_rollout.kube.lease import Leadership
from fleet_rollout.settings import Settings

log = logging.getLogger(__name__)

# Objects of the hub live long and are many, requests leave few cycles behind: with Python's own thresholds (700, 10,
# 10) a third of the CPU time of a large commit went into looking at them again.
GC_THRESHOLDS = (50_000, 20, 50)

# uvloop reads through buffers of 256 KiB, one for each connection and one for each read. Once glibc has seen one freed,
# it takes them from its heap, where they hold pages that others have touched; apart from it they hold their own.
M_MMAP_THRESHOLD, LARGE = -3, 128 * 1024
# The few threads beside the loop get no heaps of their own, which would keep what was freed in them.
M_ARENA_MAX, ARENAS = -8, 1


CLOSED = "the handler is closed"


class Health(Protocol):
    """What the listener answers from."""

    @property
    def leadership(self) -> Leadership | None:
        """None until the process stands by, or leads."""
        ...

    def complaint(self) -> str | None:
        """Why the process should be restarted; None while it works."""
        ...


# Works until the event is set.
Work = Callable[[asyncio.Event], Awaitable[None]]


def serve(settings: Settings, health: Health, work: Work) -> int:
    """Run until SIGTERM or SIGINT; the process's exit code."""
    telemetry.configure_logging(settings.log_format, settings.log_level)
    gc.set_threshold(*GC_THRESHOLDS)
    _keep_buffers_apart()
    try:
        uvloop.run(_serve(settings, health, work))
    except FleetRolloutError as error:
        log.error(error.message, extra={"reason": error.reason})
        return 1
    return 0


def _keep_buffers_apart() -> None:
    with contextlib.suppress(AttributeError):  # other C libraries have no such setting
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, LARGE)
        library.mallopt(M_ARENA_MAX, ARENAS)


async def _serve(settings: Settings, health: Health, work: Work) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(told)

    def end() -> None:
        if not stop.is_set():
            log.info("stopping")
            _exit_in(settings.shutdown_timeout)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    async with telemetry.serve(settings.telemetry_address, probes(health)):
        await work(stop)
    log.info("stopped")


def told(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody waited for is logged; but not that uvloop could not finish with a connection that was cut already."""
    transport, error = context.get("transport"), context.get("exception")
    # A transport of uvloop's that was cut between two steps of its end is closed without ever having been closing.
    is_closed = transport is not None and (transport.is_closing() or str(error).endswith(CLOSED))
    if isinstance(error, RuntimeError) and is_closed:
        log.debug("a connection was cut: %s", error)
        return
    loop.default_exception_handler(context)


def _exit_in(seconds: float) -> None:
    """End the process then, whatever still runs: nothing is kept in memory alone, and the next one goes on."""

    def exit_now() -> None:
        log.warning("work did not end within the shutdown time-out; it is cut off")
        logging.shutdown()
        os._exit(0)

    timer = threading.Timer(seconds, exit_now)
    timer.daemon = True
    timer.start()


def probes(health: Health) -> telemetry.Probes:
    """What the listener answers from: alive while no key is stuck, ready when it stands by or leads."""
    return telemetry.Probes(
        healthy=health.complaint, ready=lambda: None if health.leadership is not None else "starting"
    )
