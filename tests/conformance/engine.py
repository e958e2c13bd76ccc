"""Our engine, one tick at a time: the service's own parts, on the same API server and the same scripted world.

Its clock stands still: a tick happens when it is asked for. Each looks at everything anew, so that nothing depends on
when a watch has told of a scenario's change.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

from fleet_rollout.control.engine.dialing import DirectDial
from fleet_rollout.control.engine.driven import Driven
from fleet_rollout.control.engine.outside import Default, Outside
from fleet_rollout.control.engine.sight import Sight
from fleet_rollout.control.engine.tick import CANARIES
from fleet_rollout.decide.canary import alerts, hooks
from fleet_rollout.decide.canary.addresses import read_reach
from fleet_rollout.decide.canary.effects import Emit, Notify
from fleet_rollout.decide.canary.subject import EngineOptions, Subject
from fleet_rollout.kube.access import connection_from_kubeconfig
from fleet_rollout.kube.client import Cluster
from fleet_rollout.lab.children import LOCALHOST
from fleet_rollout.metrics.bulkheads import Bulkheads
from fleet_rollout.settings import Settings
from tests.conformance.scenario import Scenario
from tests.conformance.server import Server
from tests.conformance.servers import Servers

DELIVERY_LIMIT = 30.0


class CountingOutside(Outside):
    """Counts what is to be told to hooks and chats in the background, so that a tick's end can wait for it."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.promised: Counter[str] = Counter()

    def emit(self, subject: Subject, effect: Emit) -> None:
        self.promised[subject.namespace] += len(hooks.event_hooks(subject))
        super().emit(subject, effect)

    def notify(self, subject: Subject, effect: Notify) -> None:
        is_own = alerts.has_own_alerts(subject)
        self.promised[subject.namespace] += len(alerts.recipients(subject, effect.severity)) if is_own else 1
        super().notify(subject, effect)


class EngineDriver:
    """Our engine, paced by whoever asks for its ticks."""

    name = "engine"
    at_once = 6  # on few cores more of them run into each other's time-outs

    def __init__(self, server: Server, servers: Servers, folder: Path) -> None:
        self._servers = servers
        self._settings = Settings()
        connection = connection_from_kubeconfig("engine", server.kubeconfig.read_bytes(), allow_insecure=False)
        self._cluster = Cluster(connection, self._settings)
        self._sight = Sight(self._cluster, self._settings)
        self._driven: dict[str, Driven] = {}
        self._options = EngineOptions(
            metrics_server=f"{servers.url}/unused/metrics", event_webhook=servers.event_webhook
        )

    async def start(self) -> None:
        reach = read_reach([LOCALHOST])
        self._bulkheads = Bulkheads()
        self._direct = DirectDial(reach, self._bulkheads)
        chat = alerts.Destination("slack", self._servers.chat)

        async def find() -> alerts.Destination:
            return chat

        self._outside = CountingOutside(
            self._cluster,
            self._sight,
            dial=lambda _: self._direct,
            bulkheads=self._bulkheads,
            alert_reach=reach,
            reach=lambda: reach,
            default=lambda: Default(find, "info"),
        )
        self._running = asyncio.create_task(self._outside.run())

    async def expect(self, scenario: Scenario, namespace: str) -> None:
        """Nothing has to be known before a Canary is there."""

    async def tick(self, namespace: str, name: str) -> None:
        raw = await self._cluster.get(CANARIES, name, namespace)
        assert raw is not None
        if namespace in self._driven:
            self._driven[namespace].show(raw)
        else:
            self._driven[namespace] = Driven(
                self._cluster, self._sight, self._outside, lambda: self._options, raw, clock=lambda: 0.0
            )
        driven = self._driven[namespace]
        self._sight.use(driven, ())  # forget what the last tick has seen
        assert await driven.tick() is not None, f"{namespace}: {driven.rival or 'the log has the exception'}"
        await self._delivered(namespace)

    async def _delivered(self, namespace: str) -> None:
        """What was told in the background has arrived."""
        promised, asked = self._outside.promised.pop(namespace, 0), self._servers.script(namespace).asked
        async with asyncio.timeout(DELIVERY_LIMIT):
            while len(asked.events) + len(asked.alerts) + asked.told_by_hooks < promised:
                assert not self._running.done(), self._running
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        await self._sight.close()
        await self._direct.close()
        self._bulkheads.close()
        await self._cluster.close()
