"""Real Flagger, one tick at a time: a proxy before the API server holds its first read of the Canary in each tick.

A tick has ended when the next one's read arrives, ten seconds after the last; it stays held until the next tick is
asked for. So nothing changes while a tick's result is looked at and the next one's inputs are set.
"""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

from fleet_rollout.lab import binaries, children
from fleet_rollout.lab.children import Child
from tests.conformance.scenario import Scenario
from tests.conformance.server import Server
from tests.conformance.servers import Servers
from tests.faults.proxy import FaultProxy
from tests.faults.rules import Action, Asked, Faults, Hold

TICK_LIMIT = 90.0
# A read within a tick follows the one before at once; a new tick's comes ten seconds after the last tick's.
WITHIN_A_TICK = 4.0
CANARIES = "canaries.flagger.app"
BEFORE_A_ROLLOUT = ("Initialized", "Waiting", "Succeeded", "Failed")
ROUTING = ("virtualservices", "ingresses", "httproutes")
WORKERS = 20


class Gate:
    """Lets one Canary's ticks pass one by one.

    Flagger reads a Canary again within a tick: after a conflict, when it has initialised it, and before it starts a
    rollout, which is right after it has read the routes (without a mesh: the primary). Those reads pass.
    """

    def __init__(self, name: str, *, has_routes: bool) -> None:
        self._name = name
        self._has_routes = has_routes
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._hold: Hold | None = None
        self._phase = ""
        self._last: Asked | None = None
        self._last_at = 0.0

    def asked(self, asked: Asked) -> Action | None:
        """What to do to a request about this Canary's namespace; runs in the proxy's thread."""
        now = time.monotonic()
        last, gap = self._last, now - self._last_at
        self._last, self._last_at = asked, now
        key = asked.key
        if key.resource == CANARIES and key.subresource == "status":
            self._phase = _phase(asked)
        is_read = key.verb == "get" and key.resource == CANARIES and key.name == self._name
        if not is_read or (last is not None and self._is_within_tick(last, gap)):
            return None
        self._hold = Hold()
        self._loop.call_soon_threadsafe(self._arrived.set)
        return self._hold

    def _is_within_tick(self, last: Asked, gap: float) -> bool:
        key = last.key
        if key.resource == CANARIES and key.subresource == "status":
            is_initialised = _phase(last) == "Initialized" and last.status == 200
            return is_initialised or last.status == 409
        if key.verb != "get" or last.status != 200 or self._phase not in BEFORE_A_ROLLOUT or gap > WITHIN_A_TICK:
            return False
        resource = key.resource.split(".")[0]
        return resource in ROUTING if self._has_routes else key.name == f"{self._name}-primary"

    async def pass_one(self) -> None:
        """Let the held tick run, and return when the next one is held."""
        await self._wait()
        assert self._hold is not None
        self._arrived.clear()
        self._hold.release()
        await self._wait()

    async def _wait(self) -> None:
        async with asyncio.timeout(TICK_LIMIT):
            await self._arrived.wait()


def _phase(asked: Asked) -> str:
    status = asked.body.get("status") if isinstance(asked.body, dict) else None
    return str((status or {}).get("phase") or "")


class Gates(Faults):
    """The gates of all Canaries, by namespace."""

    def __init__(self) -> None:
        super().__init__()
        self._gates: dict[str, Gate] = {}
        self._turn = threading.Lock()

    def add(self, namespace: str, gate: Gate) -> None:
        with self._turn:
            self._gates[namespace] = gate

    def gate(self, namespace: str) -> Gate:
        return self._gates[namespace]

    def arrived(self, asked: Asked) -> Action | None:
        gate = self._gates.get(asked.key.namespace)
        # Watches and lists keep informers up to date, and events are sent behind a tick's back.
        if gate is None or asked.key.verb in ("watch", "list") or asked.key.resource.startswith("events"):
            return None
        with self._turn:
            return gate.asked(asked)


class FlaggerDriver:
    """One Flagger for all scenarios, with as many workers as they need."""

    name = "flagger"
    at_once = 1000  # each tick is ten seconds of waiting

    def __init__(self, server: Server, servers: Servers, folder: Path) -> None:
        self._server = server
        self._servers = servers
        self._folder = folder
        self._gates = Gates()
        self._proxy = FaultProxy("flagger", server.server, server.ca, self._gates)
        self._child: Child | None = None

    async def start(self) -> None:
        self._proxy.__enter__()
        kubeconfig = self._folder / "kubeconfig"
        kubeconfig.write_bytes(self._proxy.kubeconfig(self._server.kubeconfig.read_bytes()))
        flags = {
            "kubeconfig": kubeconfig,
            "kubeconfig-qps": 2000,
            "kubeconfig-burst": 4000,
            "control-loop-interval": "1s",
            "threadiness": WORKERS,
            "mesh-provider": "istio",
            "metrics-server": f"{self._servers.url}/unused/metrics",
            "event-webhook": self._servers.event_webhook,
            "slack-url": self._servers.chat,
            "slack-channel": "general",
            "port": children.free_port(),
            "log-level": "info",
        }
        argv = [binaries.require("flagger"), *(f"-{name}={value}" for name, value in flags.items())]
        self._child = await children.start("flagger", argv, log=self._folder / "flagger.log")

    async def expect(self, scenario: Scenario, namespace: str) -> None:
        self._gates.add(namespace, Gate("podinfo", has_routes=scenario.has_routes))

    async def tick(self, namespace: str, name: str) -> None:
        try:
            await self._gates.gate(namespace).pass_one()
        except TimeoutError:
            assert self._child is not None
            raise AssertionError(f"no tick of {namespace}/{name}: {self._child.last_words()}") from None

    async def stop(self) -> None:
        if self._child is not None:
            await self._child.end()
        self._proxy.__exit__()
