"""A proxy in front of one API server that loses, delays and answers requests as its rules say.

TLS on both sides, so that the program under test is the real one; bearer tokens pass through (client
certificates cannot). It runs in a thread with a loop of its own: what a test does never slows it, and
a test that blocks is no deadlock.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import ssl
import struct
import tempfile
import threading
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
import yaml
from aiohttp import web
from yarl import URL

from fleet_rollout.control.hub import Sockets
from fleet_rollout.lab.certificates import Authority
from tests.faults.rules import (
    Action,
    Asked,
    Cut,
    CutAfter,
    CutBefore,
    CutInside,
    Delay,
    Events,
    Faults,
    Hold,
    Lag,
    Past,
    Reply,
    Slow,
    key_of,
    refusal,
)

HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host", "content-length"}
)
START_TIMEOUT = 30
LARGEST_BODY = 64 * 1024**2
POLL = 0.01
SLOW_PIECES = 10  # a second
# aiohttp would report every connection that is reset on purpose as an error of the handler.
QUIET = logging.getLogger("tests.faults")
QUIET.setLevel(logging.CRITICAL)


class Door(socket.socket):
    """A listening socket that can end the connections it let in, also those whose client says no goodbye."""

    def __init__(self) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_STREAM)
        self.bind(("127.0.0.1", 0))
        self._entered = Sockets()
        self._is_shut = False

    def accept(self) -> tuple[socket.socket, Any]:
        if self._is_shut:
            raise BlockingIOError
        connection, address = super().accept()
        return self._entered.noted(connection), address

    async def shut(self) -> None:
        """Let nobody in any more. Who is in gets a transport first: asyncio cannot make one for a closed server."""
        self._is_shut = True
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def emptied(self) -> None:
        for connection in self._entered.open():
            with contextlib.suppress(OSError):  # the client was faster
                connection.shutdown(socket.SHUT_RDWR)
        await self._entered.closed()


class FaultProxy:
    """`with FaultProxy("hub", hub.server, hub.ca, faults) as proxy:` then use `proxy.url` or `proxy.kubeconfig(…)`."""

    def __init__(self, name: str, upstream: str, upstream_ca: bytes, faults: Faults | None = None) -> None:
        self.name = name
        self.faults = faults or Faults()
        self._upstream = upstream
        self._upstream_tls = ssl.create_default_context(cadata=upstream_ca.decode())
        authority = Authority.create(f"faults-{name}")
        self.ca = authority.pair.certificate
        self._tls = _server_tls(authority)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name=f"faults-{name}", daemon=True)
        self._started = threading.Event()
        self._port = 0
        self._connections: set[asyncio.BaseTransport] = set()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._port}"

    def kubeconfig(self, original: bytes) -> bytes:
        """`original` (with a token, no client certificate), leading here instead."""
        document = yaml.safe_load(original)
        for entry in document["clusters"]:
            entry["cluster"]["server"] = self.url
            entry["cluster"]["certificate-authority-data"] = _base64(self.ca)
        for entry in document["users"]:
            assert "token" in entry["user"], "a client certificate cannot pass through a proxy"
        return json.dumps(document).encode()

    def cut_all(self) -> None:
        """Reset every connection there is now, watches too."""
        self._loop.call_soon_threadsafe(lambda: [_reset(transport) for transport in list(self._connections)])

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(START_TIMEOUT), "the fault proxy did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_TIMEOUT)
        assert not self._thread.is_alive(), "the fault proxy did not end"

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        sockets = Sockets()  # they end a little after the session, and must not outlive the loop
        connector = aiohttp.TCPConnector(ssl=self._upstream_tls, limit=0, socket_factory=sockets.make)
        timeout = aiohttp.ClientTimeout(total=None, connect=10)
        app = web.Application(client_max_size=LARGEST_BODY)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, logger=QUIET, shutdown_timeout=0.1)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False, read_bufsize=2**20
        ) as self._session:
            await runner.setup()
            door = Door()
            await web.SockSite(runner, door, ssl_context=self._tls).start()
            self._port = door.getsockname()[1]
            self._started.set()
            await self._stop.wait()
            await door.shut()
            await runner.cleanup()
            await door.emptied()
        await sockets.closed()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        assert transport is not None
        self._connections.add(transport)
        try:
            return await self._carried_out(request)
        except (Cut, aiohttp.ClientError, ConnectionError):
            # An API server that is down looks to the client like one that resets the connection.
            _reset(transport)
            raise ConnectionResetError from None
        finally:
            self._connections.discard(transport)

    async def _carried_out(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        key = key_of(self.name, request.method, request.path, request.query, request.content_type, body)
        asked = Asked(key, _json(body), dict(request.query), dict(request.headers))
        action = self.faults.arrived(asked)
        match action:
            case Reply():
                return web.json_response(dict(action.body), status=action.status, headers=dict(action.headers))
            case CutBefore():
                action.then()
                raise Cut
            case Delay():
                await asyncio.sleep(action.seconds)
            case Hold():
                action.take(asked)
                while not action.is_released:
                    await asyncio.sleep(POLL)
        if isinstance(action, Past) and (answered := await self._then(request, asked, action)):
            return answered
        async with self._session.request(
            request.method,
            self._upstream + request.raw_path,
            data=body or None,
            headers=_asked(request, is_watch=key.verb == "watch"),
            allow_redirects=False,
        ) as answer:
            asked.status = answer.status
            if key.verb == "watch" and answer.status == 200:
                return await self._stream(request, answer, action)
            content = await answer.read()
        if isinstance(action, CutAfter):
            action.then()
            raise Cut
        if isinstance(action, CutInside | Slow):
            return await self._in_pieces(request, answer, content, action)
        return web.Response(status=answer.status, headers=_passed(answer), body=content)

    async def _then(self, request: web.Request, asked: Asked, past: Past) -> web.StreamResponse | None:
        """The answer of that time; None where the API server does not know it, or it was no read of objects."""
        url = _past_url(self._upstream + request.raw_path, asked, past.revision)
        if url is None:
            return None
        is_watch = asked.key.verb == "watch"
        headers = _asked(request, is_watch=True)
        if asked.key.verb == "get":
            headers["Accept"] = headers["Accept"].replace("as=PartialObjectMetadata;", "as=PartialObjectMetadataList;")
        async with self._session.get(URL(url, encoded=True), headers=headers, allow_redirects=False) as answer:
            if answer.status != 200:
                return None
            asked.status, asked.is_of_the_past = answer.status, True
            if is_watch:
                return await self._stream(request, answer, None)
            content = await answer.read()
        if asked.key.verb == "list":
            return web.Response(status=200, headers=_passed(answer), body=content)
        return _only(json.loads(content))

    @staticmethod
    async def _in_pieces(
        request: web.Request, answer: aiohttp.ClientResponse, content: bytes, action: CutInside | Slow
    ) -> web.StreamResponse:
        passed = web.StreamResponse(status=answer.status, headers=_passed(answer))
        passed.content_length = len(content)
        await passed.prepare(request)
        await _send(passed, content, action)
        await passed.write_eof()
        return passed

    @staticmethod
    async def _stream(
        request: web.Request, answer: aiohttp.ClientResponse, action: Action | None
    ) -> web.StreamResponse:
        passed = web.StreamResponse(status=answer.status, headers=_passed(answer))
        await passed.prepare(request)
        events = action if isinstance(action, Events) else None
        lines = _lines(answer)
        async for line in _late(lines, action.seconds) if isinstance(action, Lag) else lines:
            changed = [line] if events is None else [json.dumps(e).encode() for e in events.change(json.loads(line))]
            for event in changed:
                await _send(passed, event + b"\n", action)
        await passed.write_eof()
        return passed


async def _send(passed: web.StreamResponse, content: bytes, action: Action | None) -> None:
    if isinstance(action, CutInside):
        await passed.write(content[: len(content) // 2])
        raise Cut
    size = max(1, int(action.rate / SLOW_PIECES)) if isinstance(action, Slow) else max(1, len(content))
    for start in range(0, len(content), size):
        await passed.write(content[start : start + size])
        if isinstance(action, Slow):
            await asyncio.sleep(size / action.rate)


def _past_url(url: str, asked: Asked, revision: str) -> str | None:
    """Where that time is asked for: a LIST of exactly that revision, for a GET of one name, or a watch from it."""
    _, verb, _, _, name, subresource = asked.key
    path, query = url.partition("?")[0], dict(asked.query)
    if verb not in ("list", "get", "watch") or subresource or (verb == "get" and not asked.key.name):
        return None
    if "continue" in query:
        return None
    query["resourceVersion"] = revision
    if verb != "watch":
        query["resourceVersionMatch"] = "Exact"
    if verb == "get":
        path, query["fieldSelector"] = path.rpartition("/")[0], f"metadata.name={name}"
    return f"{path}?{urlencode(query)}"


def _only(found: dict[str, Any]) -> web.Response:
    """The answer to a GET, from the LIST of one name."""
    if not found.get("items"):
        return web.json_response(dict(refusal(404).body), status=404)
    kind = str(found["kind"]).removesuffix("List")
    return web.json_response({"apiVersion": found["apiVersion"], "kind": kind, **found["items"][0]})


async def _lines(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in answer.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line


async def _late(lines: AsyncIterator[bytes], seconds: float) -> AsyncIterator[bytes]:
    """The lines, each so many seconds after it came."""
    came: asyncio.Queue[tuple[float, bytes | None]] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    async def take() -> None:
        try:
            async for line in lines:
                came.put_nowait((loop.time(), line))
        finally:
            came.put_nowait((loop.time(), None))

    taking = asyncio.create_task(take())
    try:
        while (each := await came.get())[1] is not None:
            await asyncio.sleep(each[0] + seconds - loop.time())
            yield each[1]
        await taking
    finally:
        taking.cancel()


def _asked(request: web.Request, *, is_watch: bool) -> dict[str, str]:
    """A watch is asked for plainly: some API servers compress its first events, and lines are to be seen here."""
    dropped = HOP_BY_HOP | {"accept-encoding"} if is_watch else HOP_BY_HOP
    asked = {name: value for name, value in request.headers.items() if name.lower() not in dropped}
    return {**asked, "Accept-Encoding": "identity"} if is_watch else asked


def _passed(answer: aiohttp.ClientResponse) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}


def _reset(transport: asyncio.BaseTransport) -> None:
    """Close without a farewell: with linger 0 the kernel sends RST and drops what was not read yet."""
    if transport.is_closing():  # it has no socket to ask for any more
        return
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()  # type: ignore[attr-defined]


def _server_tls(authority: Authority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = authority.serving(["127.0.0.1", "localhost"]).write(Path(folder), "serving")
        context.load_cert_chain(certificate, key)
    return context


def _json(body: bytes) -> object:
    with contextlib.suppress(ValueError):
        return json.loads(body)
    return None


def _base64(content: bytes) -> str:
    return b64encode(content).decode()
