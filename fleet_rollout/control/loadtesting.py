"""The load tester as a service: its gates, its listener, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from fleet_rollout.loadtester.gates import Gates, MemoryGates
from fleet_rollout.loadtester.options import Options
from fleet_rollout.loadtester.server import serve

log = logging.getLogger(__name__)

CONFIG_MAP = "loadtester-gates"


@dataclass(frozen=True)
class Persistence:
    """Where gates are kept; `namespace` None is the Pod's own."""

    kubeconfig: Path | None = None
    namespace: str | None = None
    name: str = CONFIG_MAP


async def run(options: Options, persistence: Persistence | None, stop: asyncio.Event) -> None:
    """Serve until `stop` is set. Without persistence, gates last as long as the process."""
    async with gates(persistence) as kept, serve(options, kept) as url:
        log.info("serving", extra={"url": url})
        await stop.wait()
    log.info("stopped")


@contextlib.asynccontextmanager
async def gates(persistence: Persistence | None) -> AsyncIterator[Gates]:
    """The gates that `persistence` names, for as long as the block lasts."""
    if persistence is None:
        yield MemoryGates()
        return
    # Imported when needed: the Kubernetes client is half of this process's memory.
    from fleet_rollout.control.loadtester_gates import connect

    cluster, kept = connect(persistence)
    try:
        yield kept
    finally:
        await cluster.close()
