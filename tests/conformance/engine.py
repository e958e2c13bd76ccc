"""Our engine, one tick at a time. `opened` is the only place that knows how it is put together."""

from __future__ import annotations

import importlib.util
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.conformance.scenario import Scenario
from tests.conformance.server import Server
from tests.conformance.servers import Servers

ENGINE = "fleet_rollout.control.engine.driver"
Tick = Callable[[str, str], Awaitable[None]]


def is_there() -> bool:
    """Whether the engine can be driven at all; nothing is claimed of one that cannot."""
    return importlib.util.find_spec(ENGINE) is not None


async def opened(server: Server, servers: Servers, folder: Path) -> tuple[Tick, Callable[[], Awaitable[None]]]:
    """How to make one tick of a Canary (by namespace and name) happen, and how to close the engine again."""
    raise LookupError(ENGINE)


class EngineDriver:
    """Our engine, paced by whoever asks for its ticks."""

    name = "engine"

    def __init__(self, server: Server, servers: Servers, folder: Path) -> None:
        self._parts: Any = (server, servers, folder)

    async def start(self) -> None:
        self._tick, self._close = await opened(*self._parts)

    async def expect(self, scenario: Scenario, namespace: str) -> None:
        """Nothing has to be known before a Canary is there."""

    async def tick(self, namespace: str, name: str) -> None:
        await self._tick(namespace, name)

    async def stop(self) -> None:
        await self._close()
