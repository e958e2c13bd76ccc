"""The controller as a process: logs, signals, the telemetry listener, and an exit code."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal

import uvloop

from fleet_rollout.control.run import Health, run
from fleet_rollout.errors import FleetRolloutError
from fleet_rollout.faces import telemetry
from fleet_rollout.settings import Settings

log = logging.getLogger(__name__)


def serve(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; the process's exit code."""
    telemetry.configure_logging(settings.log_format, settings.log_level)
    try:
        uvloop.run(_serve(settings))
    except FleetRolloutError as error:
        log.error(error.message, extra={"reason": error.reason})
        return 1
    return 0


async def _serve(settings: Settings) -> None:
    health = Health()
    work = asyncio.current_task()
    assert work is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, work.cancel)
    async with telemetry.serve(settings.telemetry_address, probes(health)):
        with contextlib.suppress(asyncio.CancelledError):
            await run(settings, health=health)
    log.info("stopped")


def probes(health: Health) -> telemetry.Probes:
    """What the listener answers from: alive while no key is stuck, ready when it stands by or leads."""
    return telemetry.Probes(
        healthy=health.complaint, ready=lambda: None if health.leadership is not None else "starting"
    )
