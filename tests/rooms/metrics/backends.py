"""A metrics backend on the loopback that records what it is asked, and the Secrets of templates."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

NOW = 1_700_000_000.5

SECRETS = {
    "prometheus": {"token": b"s3cret-token"},
    "datadog": {"datadog_api_key": b"s3cret-api", "datadog_application_key": b"s3cret-app"},
    "newrelic": {"newrelic_account_id": b"51312", "newrelic_query_key": b"s3cret-key"},
    "dynatrace": {"dynatrace_token": b"s3cret-token"},
    "graphite": {"username": b"me", "password": b"s3cret-pass"},
    "influxdb": {"token": b"s3cret-token", "org": b"my org"},
    "externalmetrics": {"token": b"s3cret-token"},
    "splunk": {"sf_token_key": b"s3cret-token"},
}


@dataclass
class Seen:
    """A request as it came."""

    method: str
    path: str
    query: dict[str, str]
    raw_query: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """Answers with `status` and `answer`, or hangs; `seen` holds the requests."""

    answer: Any = field(default_factory=dict)
    status: int = 200
    hangs: bool = False
    handler: Callable[[web.Request], Any] | None = None
    url: str = ""
    seen: list[Seen] = field(default_factory=list)

    @property
    def last(self) -> Seen:
        return self.seen[-1]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.seen.append(
            Seen(
                request.method,
                request.raw_path.partition("?")[0],
                dict(request.query),
                request.rel_url.raw_query_string,
                dict(request.headers),
                body,
            )
        )
        if self.handler is not None:
            return await self.handler(request)
        if self.hangs:
            await asyncio.sleep(60)
        if isinstance(self.answer, str | bytes):
            text = self.answer.encode() if isinstance(self.answer, str) else self.answer
            return web.Response(status=self.status, body=text, content_type="text/plain")
        return web.json_response(self.answer, status=self.status)
