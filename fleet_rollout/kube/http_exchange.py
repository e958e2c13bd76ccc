"""One HTTP/1.1 request and its answer over any two-way stream of bytes, with TLS where it is wanted.

For streams that no socket is behind. Follows no redirect, reads no answer without a cap.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple, Protocol

import h11

CHUNK = 2**16
HEAD_LIMIT = 2**16
# What says how a connection is used is not for the caller to say.
OWN_HEADERS = frozenset({"host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "expect"})


class BrokenAnswer(Exception):
    """What came back cannot be used; the text says why."""


class Stream(Protocol):
    """Bytes in both directions."""

    async def read(self) -> bytes:
        """Some bytes; b"" at the end."""
        ...

    async def write(self, data: bytes) -> None:
        """Does not fail where the other side has stopped reading: it may have answered before."""
        ...


class Call(NamedTuple):
    """What is asked; `host` is the value of the header, `target` path and query."""

    method: str
    host: str
    target: str
    headers: Mapping[str, str]
    body: bytes | None


async def exchange(stream: Stream, call: Call, *, limit: int) -> tuple[int, bytes]:
    """Status and body. Raises BrokenAnswer."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT)
    try:
        await stream.write(_written(connection, call))
        return await _answer(stream, connection, limit)
    except h11.LocalProtocolError as error:
        raise BrokenAnswer(f"the request is not valid HTTP: {error}") from None
    except UnicodeError:
        raise BrokenAnswer("the request is not valid HTTP: characters other than ASCII in its path") from None
    except h11.RemoteProtocolError as error:
        raise BrokenAnswer(f"the answer is not valid HTTP: {error}") from None


def _written(connection: h11.Connection, call: Call) -> bytes:
    body = call.body or b""
    kept = [(name, value) for name, value in call.headers.items() if name.lower() not in OWN_HEADERS]
    length = [("Content-Length", str(len(body)))] if call.body is not None else []
    headers = [("Host", call.host), ("Connection", "close"), *length, *kept]
    if not any(name.lower() == "user-agent" for name, _ in kept):
        headers.append(("User-Agent", "fleet-rollout"))
    sent = [(name.encode(), value.encode()) for name, value in headers]  # values as UTF-8, as aiohttp and Go send them
    parts: list[h11.Event] = [h11.Request(method=call.method, target=call.target, headers=sent)]
    if body:
        parts.append(h11.Data(data=body))
    return b"".join(connection.send(part) or b"" for part in (*parts, h11.EndOfMessage()))


async def _answer(stream: Stream, connection: h11.Connection, limit: int) -> tuple[int, bytes]:
    status = 0
    chunks: list[bytes] = []
    size = 0
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            data = await stream.read()
            if not data and connection.their_state is h11.SEND_RESPONSE:
                raise BrokenAnswer("the connection was closed before there was an answer")
            connection.receive_data(data)
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            chunks.append(bytes(event.data))
            size += len(event.data)
            if size > limit:
                raise BrokenAnswer(f"the answer is larger than {limit >> 20} MiB")
        elif isinstance(event, h11.EndOfMessage):
            return status, b"".join(chunks)


@lru_cache(maxsize=1)
def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


class Tls:
    """TLS over a stream that already ends at the right place: certificates are not looked at."""

    def __init__(self, stream: Stream, host: str) -> None:
        self._stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = _unverified().wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    async def shake_hands(self) -> None:
        """Before anything else. Raises ssl.SSLError, as the other methods do."""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._feed()
        await self._flush()

    async def write(self, data: bytes) -> None:
        self._tls.write(data)
        await self._flush()

    async def read(self) -> bytes:
        while True:
            try:
                return self._tls.read(CHUNK)
            except ssl.SSLWantReadError:
                await self._feed()

    async def _feed(self) -> None:
        await self._flush()
        data = await self._stream.read()
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        if data := self._outgoing.read():
            await self._stream.write(data)
