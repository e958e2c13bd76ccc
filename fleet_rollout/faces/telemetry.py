"""What operators watch: structured logs, and /healthz, /readyz and /metrics over HTTP.

Logs carry the fields of log_fields. Whatever looks like a credential is masked on the way out, as a second
lock: nothing of ours should log one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from pythonjsonlogger.json import JsonFormatter

from fleet_rollout.errors import Terminal
from fleet_rollout.log_fields import current
from fleet_rollout.measures import REGISTRY, TASKS

MASK = "***"
# Credentials by their shape: in URLs, in headers, in key-value text and JSON; JSON Web Tokens; private keys.
SECRETS = (
    (re.compile(r"(://)[^/\s:@\"']*:?[^/\s@\"']*@"), rf"\1{MASK}@"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}"), rf"\1 {MASK}"),
    (
        re.compile(
            r"(?i)\b((?:access_|id_|refresh_)?token|password|passwd|client_secret|api[_-]?key)(\\*[\"']?\s*[=:]\s*\\*[\"']?)[^\s\"'&,;\\}]+"
        ),
        rf"\1\2{MASK}",
    ),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"), MASK),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL), MASK),
)
SECRET_NAME = re.compile(r"(?i)^(?:authorization|.*token|.*password|client_?secret|.*private_?key)$")
# Control and direction characters: a log line must not rewrite the terminal it is read on.
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")

# Libraries that narrate every request or event at info.
QUIET = ("kopf", "aiohttp", "kubernetes", "asyncio", "git", "urllib3", "charset_normalizer")

Probe = Callable[[], str | None]


@dataclass(frozen=True)
class Probes:
    """Each returns None while all is well, else what is wrong."""

    healthy: Probe
    ready: Probe


def masked(text: str) -> str:
    """`text` without what looks like a credential."""
    for pattern, replacement in SECRETS:
        text = pattern.sub(replacement, text)
    return text


class _Fields(logging.Filter):
    """Puts the fields of the running work on the record, where the call itself gave none."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in current().items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


class _Retries(logging.Filter):
    """A request that kopf sends again has not failed yet: the last attempt is told as an error."""

    def filter(self, record: logging.LogRecord) -> bool:
        is_again = record.name.split(".")[0] == "kopf" and record.getMessage().startswith("Request attempt")
        if is_again and "; will " in record.getMessage():
            record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
        return True


class _Json(JsonFormatter):
    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        masked_data: dict[str, Any] = _masked_value(super().process_log_record(log_data))
        return masked_data


def _masked_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: MASK if SECRET_NAME.match(str(name)) else _masked_value(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [_masked_value(each) for each in value]
    return value if isinstance(value, bool | int | float | None) else masked(str(value))


class _Text(logging.Formatter):
    """For people: time, level, message, then the fields."""

    _standard = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        extra = "".join(f" {k}={v}" for k, v in vars(record).items() if k not in self._standard)
        first, newline, rest = masked(super().format(record)).partition("\n")
        return UNPRINTABLE.sub("?", first + masked(extra) + newline + rest)


def configure_logging(format: str, level: str) -> None:
    """Send all logs to stderr as `json` or `text`, from `level` (debug, info, warning or error) up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_Fields())
    handler.addFilter(_Retries())
    handler.setFormatter(_json() if format == "json" else _Text("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.NOTSET if level == "debug" else logging.WARNING)


def _json() -> logging.Formatter:
    names = {"levelname": "level", "name": "logger", "asctime": "time", "exc_info": "exception"}
    form = "%(asctime)s %(levelname)s %(name)s %(message)s"
    return _Json(form, datefmt="%Y-%m-%dT%H:%M:%S%z", rename_fields=names)


@contextlib.asynccontextmanager
async def serve(address: str, probes: Probes) -> AsyncIterator[str]:
    """Answer /healthz, /readyz and /metrics on `address` (`host:port`) while inside; yields the URL."""
    host, _, port = address.rpartition(":")
    # What nobody asked for is read to its end before its connection ends, but never unpacked.
    runner = web.AppRunner(application(probes), access_log=None, auto_decompress=False)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host.strip("[]") or None, int(port)).start()
        except (OSError, ValueError) as error:
            raise Terminal("ListenFailed", f"telemetry address {address}: {error}") from None
        bound = runner.addresses[0]
        yield f"http://{host or '127.0.0.1'}:{bound[1]}"
    finally:
        await runner.cleanup()


def application(probes: Probes) -> web.Application:
    """The three pages."""
    app = web.Application()
    app.add_routes(
        [
            web.get("/healthz", _probe(probes.healthy)),
            web.get("/readyz", _probe(probes.ready)),
            web.get("/metrics", _metrics),
        ]
    )
    return app


def _probe(probe: Probe) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        complaint = probe()
        return web.Response(text=complaint or "ok", status=503 if complaint else 200)

    return answer


async def _metrics(request: web.Request) -> web.Response:
    """In a thread, for the series of a thousand members take a second to write, and ticks are due meanwhile."""
    TASKS.set(len(asyncio.all_tasks()))
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    body = await asyncio.to_thread(encode, REGISTRY)
    return web.Response(body=body, headers={"Content-Type": content_type})


for _collector in (ProcessCollector, PlatformCollector, GCCollector):
    _collector(registry=REGISTRY)
