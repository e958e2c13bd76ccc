"""The world around the engines, scripted: a metrics server, webhooks, an event webhook and a chat, all in one.

Every scenario has its own script and sees its own addresses; what is asked of it is kept until `take`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from fleet_rollout.lab.children import LOCALHOST
from tests.conformance.scenario import Http, Sample

Payload = dict[str, Any]
# What every metrics backend is asked, to see whether it is there.
PROBE = "vector(1)"


@dataclass
class Asked:
    """What one engine has asked of the world within a tick."""

    queries: list[str] = field(default_factory=list)
    hooks: list[tuple[str, Payload]] = field(default_factory=list)
    events: list[Payload] = field(default_factory=list)
    alerts: list[Payload] = field(default_factory=list)

    @property
    def told_by_hooks(self) -> int:
        """Events that a Canary's own hooks were told of."""
        return sum("eventMessage" in (payload.get("metadata") or {}) for _, payload in self.hooks)


@dataclass
class Script:
    """What one scenario's world answers."""

    metric: Sample = 100.0
    answers: dict[str, int] = field(default_factory=dict)
    asked: Asked = field(default_factory=Asked)

    def take(self) -> Asked:
        """What was asked since the last time."""
        found, self.asked = self.asked, Asked()
        return found


class Servers:
    """`async with Servers.running() as servers:`, then a script and addresses for each namespace."""

    def __init__(self) -> None:
        self._scripts: dict[str, Script] = {}
        self.url = ""

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls) -> AsyncIterator[Servers]:
        servers = cls()
        app = web.Application()
        app.router.add_get("/{namespace}/metrics/api/v1/query", servers._query)
        app.router.add_post("/{namespace}/hooks/{name}", servers._hook)
        app.router.add_post("/{namespace}/alerts", servers._alert)
        app.router.add_post("/events", servers._event)
        app.router.add_post("/chat", servers._chat)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, LOCALHOST, 0).start()
            servers.url = f"http://{LOCALHOST}:{runner.addresses[0][1]}"
            yield servers
        finally:
            await runner.cleanup()

    def script(self, namespace: str) -> Script:
        return self._scripts.setdefault(namespace, Script())

    def addresses(self, namespace: str) -> dict[str, str]:
        """What `$METRICS` and the like stand for in the manifests."""
        return {name: f"{self.url}/{namespace}/{name.lower()}" for name in ("METRICS", "HOOKS", "ALERTS")}

    @property
    def event_webhook(self) -> str:
        return f"{self.url}/events"

    @property
    def chat(self) -> str:
        return f"{self.url}/chat"

    async def _query(self, request: web.Request) -> web.Response:
        script = self.script(request.match_info["namespace"])
        query = request.query["query"]
        script.asked.queries.append(query)
        sample = 1.0 if query == PROBE else script.metric
        if isinstance(sample, Http):
            return web.Response(status=sample.status, text="out of order")
        values = sample if isinstance(sample, tuple) else (sample,)
        result = [{"metric": {}, "value": [1700000000, f"{value:.10g}"]} for value in values]
        return web.json_response({"status": "success", "data": {"resultType": "vector", "result": result}})

    async def _hook(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        script = self.script(request.match_info["namespace"])
        script.asked.hooks.append((name, await request.json()))
        status = script.answers.get(name, 200)
        return web.Response(status=status, text="" if status == 204 else f"{name} answers {status}")

    async def _event(self, request: web.Request) -> web.Response:
        payload = await request.json()
        self.script(payload["namespace"]).asked.events.append(payload)
        return web.Response()

    async def _alert(self, request: web.Request) -> web.Response:
        self.script(request.match_info["namespace"]).asked.alerts.append(await request.json())
        return web.Response()

    async def _chat(self, request: web.Request) -> web.Response:
        payload = await request.json()
        namespace = payload["attachments"][0]["author_name"].partition(".")[2]
        self.script(namespace).asked.alerts.append(payload)
        return web.Response()
