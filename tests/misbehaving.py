"""A server in the place of a member's API server that misbehaves in one way, over TLS with an authority of its own.

The ways are those of trust.md section 2, class 10 and beside it; each is a function that answers one request.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import itertools
import json
import socket
import ssl
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from fleet_rollout.lab.certificates import LIFETIME, Authority

TEN_GIGABYTES = 10 * 1024**3
PIECE = b" " * 2**16
# Between the bytes of a slow answer: a second in the field, and less than any time-out of a test.
PAUSE = 0.02

Way = Callable[["Request"], Awaitable[None]]


class Misbehaving:
    """Answers every request in `way`. `requests` counts them, `sent` the bytes of the answers."""

    def __init__(
        self, folder: Path, way: Way, *, lifetime: datetime.timedelta = LIFETIME, host: str = "127.0.0.1"
    ) -> None:
        """`lifetime` and `host` are those of its certificate."""
        self.requests = self.sent = 0
        self.authorizations: set[str] = set()
        self.address = ""
        self.ca = b""
        self._way = way
        folder.mkdir(parents=True, exist_ok=True)
        authority = Authority.create("misbehaving")
        self.ca = authority.pair.certificate
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(*authority.serving([host], lifetime).write(folder, "member"))
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Misbehaving:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls)
        self.address = f"https://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        """From now on connections are refused."""
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def kubeconfig(self) -> bytes:
        """How a hub reaches it: by its authority and with a token."""
        authority = base64.b64encode(self.ca).decode()
        content = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": {"server": self.address, "certificate-authority-data": authority}}],
            "users": [{"name": "u", "user": {"token": "member-token"}}],
        }
        return json.dumps(content).encode()  # which is YAML, too

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            # A cancelled connection ends without a word: asyncio's streams would log it.
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while True:
                    await self._way(await self._request(reader, writer))
        finally:
            writer.transport.abort()
            self._connections.discard(task)

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request:
        start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        await reader.readexactly(int(headers.get("content-length", 0)))
        self.requests += 1
        self.authorizations.add(headers.get("authorization", ""))
        return Request(self, writer, start.split(" ")[1])


class Request:
    """One request, and the connection to answer on."""

    def __init__(self, server: Misbehaving, writer: asyncio.StreamWriter, target: str) -> None:
        self.target = target
        self.is_watch = "watch=1" in target
        self._server = server
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        self._server.sent += len(data)
        await self._writer.drain()
        await asyncio.sleep(0)  # the client is in the same loop

    async def begin(self, status: str, content_type: str, *headers: str) -> None:
        await self.send("\r\n".join((f"HTTP/1.1 {status}", f"Content-Type: {content_type}", *headers, "", "")).encode())

    async def answer(self, body: Any, status: str = "200 OK") -> None:
        """A whole answer in JSON."""
        content = json.dumps(body).encode()
        await self.begin(status, "application/json", f"Content-Length: {len(content)}")
        await self.send(content)

    def reset(self) -> None:
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


async def hangs(_: Request) -> None:
    await asyncio.Event().wait()


async def resets(request: Request) -> None:
    request.reset()


async def trickles(request: Request) -> None:
    """A byte at a time, of an answer that would be well formed in the end."""
    await request.begin("200 OK", "application/json", "Content-Length: 1000000")
    for _ in range(1000000):
        await request.send(b" ")
        await asyncio.sleep(PAUSE)


async def shows_a_page(request: Request) -> None:
    """What a login portal or a proxy answers."""
    page = b"<html>log in</html>"
    await request.begin("200 OK", "text/html", f"Content-Length: {len(page)}")
    await request.send(page)


async def sends_ten_gigabytes(request: Request) -> None:
    await request.begin("200 OK", "application/json", f"Content-Length: {TEN_GIGABYTES}")
    for _ in range(TEN_GIGABYTES // len(PIECE)):
        await request.send(PIECE)


async def sends_ten_gigabytes_in_ten_megabytes(request: Request) -> None:
    """The same compressed. Once the window is full of blanks, every further piece is packed into the same bytes."""
    await request.begin("200 OK", "application/json", "Content-Encoding: gzip", "Connection: close")
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    first, other = (packer.compress(PIECE) + packer.flush(zlib.Z_SYNC_FLUSH) for _ in range(2))
    await request.send(first)
    for _ in range(TEN_GIGABYTES // len(PIECE)):
        await request.send(other)


def sends_without_end(size: int) -> Way:
    """So many bytes of an answer whose length nobody knows, and then nothing more."""

    async def way(request: Request) -> None:
        await request.begin("200 OK", "application/json", "Connection: close")
        for _ in range(size // len(PIECE)):
            await request.send(PIECE)
        await asyncio.Event().wait()

    return way


def sends_more_values_than_bytes_would_tell(item: bytes) -> Way:
    """Small to send and large to keep: millions of empty objects or lists, as many of `item` as it takes."""
    items = b",".join([item] * (5_000_000 // (item.count(b"[") or 1)))
    content = b'{"kind":"ConfigMapList","metadata":{},"items":[' + items + b"]}"

    async def way(request: Request) -> None:
        await request.begin("200 OK", "application/json", f"Content-Length: {len(content)}")
        await request.send(content)

    return way


def lists_without_end(items: int) -> Way:
    """Every page has `items` objects and tells of another page."""
    pages = itertools.count()

    async def way(request: Request) -> None:
        page = next(pages)
        names = (f"c{page}-{number}" for number in range(items))
        found = [{"metadata": {"name": name, "namespace": "n", "uid": name, "resourceVersion": "1"}} for name in names]
        await request.answer({"kind": "ConfigMapList", "metadata": {"continue": f"page-{page}"}, "items": found})

    return way


def answers(body: Any, status: str = "200 OK") -> Way:
    """Always the same JSON."""

    async def way(request: Request) -> None:
        await request.answer(body, status)

    return way


def redirects(address: str) -> Way:
    """To another server, which would be glad of the credentials."""

    async def way(request: Request) -> None:
        await request.begin("307 Temporary Redirect", "application/json", f"Location: {address}", "Content-Length: 0")

    return way


def watched(way: Way) -> Way:
    """Lists nothing, as a healthy server would, and answers watches in this way."""

    async def answer(request: Request) -> None:
        if request.is_watch:
            await way(request)
        else:
            await request.answer({"kind": "ConfigMapList", "metadata": {"resourceVersion": "1"}, "items": []})

    return answer


def at_a_glance_well(way: Way) -> Way:
    """Passes the check of a member, and answers all else in this way."""

    async def answer(request: Request) -> None:
        if request.target.endswith("/namespaces/kube-system"):
            metadata = {"name": "kube-system", "uid": "u", "resourceVersion": "1"}
            await request.answer({"kind": "Namespace", "apiVersion": "v1", "metadata": metadata})
        else:
            await way(request)

    return answer


def events(*content: Any) -> Way:
    """A watch with these events, and then nothing more."""

    async def way(request: Request) -> None:
        await request.begin("200 OK", "application/json", "Connection: close")
        for event in content:
            await request.send(json.dumps(event).encode() + b"\n")
        await asyncio.Event().wait()

    return way


async def tells_of_objects_without_end(request: Request) -> None:
    """A watch in which every event is about an object that nobody has heard of."""
    await request.begin("200 OK", "application/json", "Connection: close")
    for number in itertools.count():
        name = f"c{number}"
        metadata = {"name": name, "namespace": "n", "uid": name, "resourceVersion": str(number + 2)}
        await request.send(json.dumps({"type": "ADDED", "object": {"metadata": metadata}}).encode() + b"\n")


# By the name of the member: how it answers, and how its certificate is made.
MEMBERS: dict[str, tuple[Way, dict[str, Any]]] = {
    "hanging": (hangs, {}),
    "resetting": (resets, {}),
    "trickling": (trickles, {}),
    "page": (shows_a_page, {}),
    "huge": (sends_ten_gigabytes, {}),
    "endless": (lists_without_end(1), {}),
    "otherkind": (answers({"kind": "Pod"}), {}),
    "redirecting": (redirects("https://127.0.0.1:9/"), {}),
    "expired": (hangs, {"lifetime": datetime.timedelta(days=-1)}),
    "later-hanging": (at_a_glance_well(hangs), {}),
    "later-resetting": (at_a_glance_well(resets), {}),
    "later-trickling": (at_a_glance_well(trickles), {}),
    "later-page": (at_a_glance_well(shows_a_page), {}),
    "later-huge": (at_a_glance_well(sends_ten_gigabytes), {}),
    "later-endless": (at_a_glance_well(lists_without_end(1)), {}),
    "later-redirecting": (at_a_glance_well(redirects("https://127.0.0.1:9/")), {}),
}


@contextlib.asynccontextmanager
async def misbehaving(folder: Path) -> AsyncIterator[dict[str, bytes]]:
    """A member for each way: its kubeconfig by its name. Nobody listens at the address of `refused`."""
    async with contextlib.AsyncExitStack() as stack:
        taken = stack.enter_context(socket.socket())
        taken.bind(("127.0.0.1", 0))
        refused = Misbehaving(folder / "refused", hangs)
        refused.address = f"https://127.0.0.1:{taken.getsockname()[1]}"
        found = {"refused": refused.kubeconfig()}
        for name, (way, options) in MEMBERS.items():
            server = await stack.enter_async_context(Misbehaving(folder / name, way, **options))
            found[name] = server.kubeconfig()
        yield found
