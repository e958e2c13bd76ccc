"""The load tester over HTTP: paths, statuses and bodies of Flagger's, with 400 where Flagger's drops the connection.

Every method is taken on every path, as there. Bodies are limited before they are read, in size and in time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from fleet_rollout.errors import Terminal
from fleet_rollout.loadtester import measures
from fleet_rollout.loadtester.gates import Gates, GatesUnavailable
from fleet_rollout.loadtester.options import Options
from fleet_rollout.loadtester.payload import Payload, Refused, read_payload
from fleet_rollout.loadtester.runner import Runner
from fleet_rollout.loadtester.tasks import read_task

log = logging.getLogger(__name__)

LARGEST_BODY = 1024 * 1024
BODY_SECONDS = 10.0
LONGEST_NAMESPACE = 253
ROLLBACK = "rollback."

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def serve(options: Options, gates: Gates) -> AsyncIterator[str]:
    """Listen while inside, and end every task with it; yields the base URL. Port 0 takes a free one."""
    async with Runner(options.most_tasks, options.timeout) as runner:
        app = LoadTester(options, gates, runner).app
        listener = web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=1.0)
        await listener.setup()
        try:
            try:
                await web.TCPSite(listener, options.host or None, options.port).start()
            except (OSError, OverflowError) as error:
                raise Terminal("ListenFailed", f"port {options.port}: {error}; name one that is free") from None
            yield f"http://{options.host or '127.0.0.1'}:{listener.addresses[0][1]}"
        finally:
            await listener.cleanup()


class LoadTester:
    """The web application, as `app`."""

    def __init__(self, options: Options, gates: Gates, runner: Runner) -> None:
        self._options = options
        self._gates = gates
        self._runner = runner
        self.app = web.Application(client_max_size=LARGEST_BODY, middlewares=[_refusals])
        routes: dict[str, Answer] = {
            "/healthz": _constant(200, "OK"),
            "/metrics": _metrics,
            "/gate/approve": _constant(200, "OK"),
            "/gate/halt": _constant(403, "Forbidden"),
            "/gate/check": self._check("gate", ""),
            "/gate/open": self._set("", is_open=True),
            "/gate/close": self._set("", is_open=False),
            "/rollback/check": self._check("rollback", ROLLBACK),
            "/rollback/open": self._set(ROLLBACK, is_open=True),
            "/rollback/close": self._set(ROLLBACK, is_open=False),
            "/{anything:.*}": self._task,
        }
        for path, answer in routes.items():
            self.app.router.add_route("*", path, answer)

    def _check(self, gate: str, prefix: str) -> Answer:
        async def answer(request: web.Request) -> web.Response:
            payload = await self._payload(request)
            is_open = await self._gates.is_open(payload.gate(prefix))
            measures.CHECKS.labels(gate=gate, answer="open" if is_open else "closed").inc()
            return web.Response(text="Approved") if is_open else web.Response(text="Forbidden", status=403)

        return answer

    def _set(self, prefix: str, *, is_open: bool) -> Answer:
        async def answer(request: web.Request) -> web.Response:
            key = (await self._payload(request)).gate(prefix)
            await self._gates.set(key, is_open=is_open)
            log.info("%s %s", key, "opened" if is_open else "closed")
            return web.Response(status=202)

        return answer

    async def _task(self, request: web.Request) -> web.Response:
        task = read_task(await self._payload(request), self._options)
        running = self._runner.start(task)
        if not task.is_awaited:
            return web.Response(status=202)
        outcome = await asyncio.shield(running)  # a caller that gives up does not end what others may wait for
        if outcome.problem:
            return web.Response(status=500, text=outcome.answer or outcome.problem)
        return web.Response(text=outcome.output if task.returns_output else "")

    async def _payload(self, request: web.Request) -> Payload:
        payload = read_payload(await _body(request))
        allowed, namespace = self._options.namespaces, payload.namespace
        # A short text keeps any expression quick.
        if allowed is not None and not (len(namespace) <= LONGEST_NAMESPACE and allowed.search(namespace)):
            raise Refused("Forbidden", status=403)
        return payload


async def _body(request: web.Request) -> bytes:
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refused("send the body without Content-Encoding", status=415)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        raise Refused("the body took too long", status=408) from None


@web.middleware
async def _refusals(request: web.Request, handler: Answer) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refused as refused:
        return web.Response(status=refused.status, text=refused.message)
    except GatesUnavailable as error:
        log.warning("%s", error)
        return web.Response(status=503, text=str(error))


def _constant(status: int, text: str) -> Answer:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text=text)

    return answer


async def _metrics(request: web.Request) -> web.Response:
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return web.Response(body=encode(measures.REGISTRY), headers={"Content-Type": content_type})
