"""Dials addresses outside of the member for hooks and metrics: looked up once, each answer checked, none else dialled.

Nothing of the engine's own goes along: no credential, no cookie, no proxy. Redirects pass the same checks.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NoReturn
from urllib.parse import urljoin

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from fleet_rollout.decide.canary.addresses import (
    HTTP,
    SOCKETS,
    AddressRefused,
    Answer,
    Direct,
    NotReached,
    Reach,
    Socket,
    Url,
    check_answers,
    parse_url,
    route_of,
)
from fleet_rollout.decide.dialling import literal
from fleet_rollout.kube.transport import describe
from fleet_rollout.metrics.bulkheads import Bulkheads
from fleet_rollout.metrics.turns import Turns
from fleet_rollout.sources.addresses import resolve

Resolve = Callable[[str, int], Awaitable[list[str]]]

MOST_REDIRECTS = 10
REDIRECTS = frozenset({301, 302, 303, 307, 308})
KEEPS_METHOD = frozenset({307, 308})
# All that goes along to another host.
HARMLESS = frozenset({"accept", "content-type", "user-agent"})
MOST_BYTES = 10 * 1024 * 1024
CONNECT_TIMEOUT = 5.0
PER_HOST = 16
NETWORK_ERRORS = (aiohttp.ClientError, OSError, ValueError)


class DirectDial:
    """One for each reach: connections are kept, and must not serve whoever may not open them."""

    def __init__(self, reach: Reach, threads: Bulkheads, *, resolver: Resolve | None = None) -> None:
        self._reach = reach
        self._threads = threads.beneath  # the clients in the others wait for what is looked up in these
        self._resolver = _Checked(reach, resolver or self._look_up)
        self._session: aiohttp.ClientSession | None = None
        # One address may not use up what others need, so that there is a limit only for each.
        self._turns = Turns(PER_HOST)

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        timeout: float,
        verify: bool = True,
    ) -> Answer:
        """The answer after all redirects. Raises NotReached, and Unasked where too many ask that address."""
        with _words(timeout):
            async with asyncio.timeout(timeout) as limit:
                return await self._followed(method, url, dict(headers), body, verify, limit)

    @asynccontextmanager
    async def socket(
        self, url: str, *, headers: Mapping[str, str], timeout: float, verify: bool = True
    ) -> AsyncIterator[Socket]:
        """A websocket, closed after at most `timeout` seconds. Raises NotReached, also out of the block."""
        with _words(timeout):
            async with asyncio.timeout(timeout) as limit:
                address = self._checked(parse_url(url, SOCKETS))
                async with (
                    self._turn(address, limit),
                    self._opened().ws_connect(
                        _encoded(address), headers=authorized(address, headers), ssl=verify, max_msg_size=MOST_BYTES
                    ) as websocket,
                ):
                    yield _WebSocket(websocket)

    async def close(self) -> None:
        """Cut all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _followed(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None, verify: bool, limit: asyncio.Timeout
    ) -> Answer:
        address = parse_url(url)
        for _ in range(MOST_REDIRECTS + 1):
            async with self._turn(address, limit):
                answer, location = await self._once(method, address, headers, body, verify)
            if not location:
                return answer
            before, address = address, parse_url(urljoin(address.text, location), HTTP)
            if address.origin != before.origin:
                headers = {name: value for name, value in headers.items() if name.lower() in HARMLESS}
            if answer.status not in KEEPS_METHOD and method != "HEAD":
                headers = {name: value for name, value in headers.items() if name.lower() != "content-type"}
                method, body = "GET", None
        raise NotReached(f"more than {MOST_REDIRECTS} redirects")

    @asynccontextmanager
    async def _turn(self, address: Url, limit: asyncio.Timeout) -> AsyncIterator[None]:
        """The address's own; the time of `limit` stands still until it comes."""
        loop = asyncio.get_running_loop()
        left = (limit.when() or loop.time()) - loop.time()
        limit.reschedule(None)
        scheme, host, port = address.origin
        async with self._turns.of(f"{scheme}://{host}:{port}", timeout=left):
            limit.reschedule(loop.time() + left)
            yield

    async def _once(
        self, method: str, address: Url, headers: Mapping[str, str], body: bytes | None, verify: bool
    ) -> tuple[Answer, str]:
        """The answer, and where it redirects to."""
        asking = self._opened().request(
            method,
            _encoded(self._checked(address)),
            headers=authorized(address, headers),
            data=body,
            ssl=verify,
            allow_redirects=False,
        )
        async with asking as answer:
            location = answer.headers.get("Location", "") if answer.status in REDIRECTS else ""
            return Answer(answer.status, b"" if location else await _read(answer)), location

    def _checked(self, address: Url) -> Url:
        """Refused by its name, or by the number that it is; other names are checked when they are looked up."""
        if not isinstance(route_of(address, "", self._reach), Direct):
            raise AddressRefused(f"host {address.host} is a Service of the member, and is not dialled from outside")
        if literal(address.host) is not None:
            check_answers(address, [address.host], self._reach)
        return address

    async def _look_up(self, host: str, port: int) -> list[str]:
        return await self._threads.run(host, lambda: resolve(host, port), timeout=CONNECT_TIMEOUT)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            trace = aiohttp.TraceConfig()
            trace.on_request_redirect.append(_refuse_redirect)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=self._resolver, use_dns_cache=False, limit=0),  # turns limit it
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "fleet-rollout"},
                timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT),
                trace_configs=[trace],
                trust_env=False,
            )
        return self._session


class _Checked(AbstractResolver):
    """Gives a connector only addresses that may be dialled."""

    def __init__(self, reach: Reach, look_up: Resolve) -> None:
        self._reach = reach
        self._look_up = look_up

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        try:
            answers = await self._look_up(host, port)
        except (OSError, UnicodeError):
            raise NotReached(f"host {host} does not resolve") from None
        check_answers(Url("http", host, port, "/"), answers, self._reach)
        return [_result(host, port, answer) for answer in answers]

    async def close(self) -> None:
        """Nothing is kept open."""


def _result(host: str, port: int, answer: str) -> ResolveResult:
    family = socket.AF_INET6 if ":" in answer else socket.AF_INET
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return ResolveResult(hostname=host, host=answer, port=port, family=family, proto=0, flags=flags)


class _WebSocket:
    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self._websocket = websocket

    async def send(self, text: str) -> None:
        await self._websocket.send_str(text)

    async def receive(self) -> str | bytes | None:
        message = await self._websocket.receive()
        if message.type is aiohttp.WSMsgType.TEXT or message.type is aiohttp.WSMsgType.BINARY:
            found: str | bytes = message.data
            return found
        return None


class _words:
    """Turns whatever the network does into NotReached."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        if isinstance(error, NETWORK_ERRORS) and not isinstance(error, NotReached):
            raise NotReached(describe(error, CONNECT_TIMEOUT, self._timeout)) from None


async def _refuse_redirect(*_: Any) -> NoReturn:
    raise AddressRefused("a websocket was redirected; write the final address")


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in answer.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > MOST_BYTES:
            raise NotReached(f"the answer is larger than {MOST_BYTES >> 20} MiB")
    return b"".join(chunks)


def authorized(address: Url, headers: Mapping[str, str]) -> dict[str, str]:
    """With user and password of the address, where nothing else stands in their place."""
    if not address.authorization or any(name.lower() == "authorization" for name in headers):
        return dict(headers)
    return {**headers, "Authorization": address.authorization}


def _encoded(address: Url) -> URL:
    return URL(address.text, encoded=True)
