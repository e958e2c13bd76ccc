"""Bytes to and from one API server: the session, its limits, and what each kind of network failure means.

Knows HTTP and Kubernetes' `Status`, no kinds and no verbs. Asks `fence` directly before anything that
changes the cluster leaves this process. Never follows a redirect, never reads an answer without a cap.
"""

from __future__ import annotations

import asyncio
import os
import random
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

import aiohttp
import orjson
from aiohttp import ClientWebSocketResponse
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from multidict import CIMultiDictProxy
from prometheus_client import Counter
from yarl import URL

from fleet_rollout import measures
from fleet_rollout.kube.answers import MOST_VALUES, holds_too_much, refusal
from fleet_rollout.kube.connector import Connector, shared_trust
from fleet_rollout.kube.errors import NOBODY_THERE, ApiError, Unreachable
from fleet_rollout.kube.slots import Slots

HUB = "hub"  # the name of the hub's connection
JSON = "application/json"
READS = frozenset({"GET", "HEAD"})
OBJECT_LIMIT = 8 * 1024**2  # etcd takes about 1.5 MiB; aggregated discovery of a large cluster needs more
LIST_LIMIT = 64 * 1024**2
ERROR_TEXT_LIMIT = 200
READ_BUFFER = 2**18
# A websocket's other side may be gone; then nobody answers our goodbye.
WEBSOCKET_CLOSE = 0.5
REDIRECTED = "answered {} (redirects are not followed); put the final address into the kubeconfig"
REACH = "check that its API server runs and that the hub reaches it"
CERTIFICATE = "renew it, or put its authority into the kubeconfig's certificate-authority-data"

# How often, and for how long at most, a server's own "try again" is obeyed before the caller hears of it.
ATTEMPTS = 3
LONGEST_PAUSE = 5.0
# Seconds, at most, until a question that was lost without a word is asked once more.
BREATH = 0.3

# Raised before the request's first byte was written.
NEVER_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientConnectorCertificateError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.InvalidURL,
)

NETWORK_ERRORS = (aiohttp.ClientError, TimeoutError, OSError)

Fence = Callable[[], None]


@dataclass(frozen=True)
class Connection:
    """How one API server is reached, and as whom. Made by access.py; its repr shows no credential."""

    name: str
    server: str
    ca: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ssl: ssl.SSLContext | None = field(default=None, repr=False)
    proxy: str | None = field(default=None, repr=False)
    server_name: str | None = None
    expires: datetime | None = None  # of the client certificate

    def open_session(self) -> aiohttp.ClientSession:
        """A session of the caller's own, with today's credentials in it, for the running event loop."""
        return open_session(self, None, dict(self.headers))


@dataclass(frozen=True)
class Limits:
    """Seconds to connect, for one request, of silence in a stream; requests in flight."""

    connect: float
    request: float
    silence: float
    in_flight: int


@dataclass(frozen=True)
class Request:
    """One request; `repeatable` ones are sent again where the server answers 503 with Retry-After."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    content_type: str = JSON
    accept: str = JSON
    impersonate: str | None = None
    repeatable: bool = False
    limit: int = OBJECT_LIMIT

    @property
    def changes_nothing(self) -> bool:
        """Whether it is a read or a dry run."""
        return self.method in READS or "dryRun" in self.params


class Transport:
    """The session of one API server. `attempt` wraps every request, and the opening of every stream (a breaker)."""

    def __init__(
        self,
        connection: Connection,
        limits: Limits,
        *,
        fence: Fence | None = None,
        attempt: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.connection = connection
        self._limits = limits
        self._fence = fence
        self._attempt = attempt
        self._timeout = aiohttp.ClientTimeout(total=limits.request, sock_connect=limits.connect)
        is_hub = connection.name == HUB
        self._in_flight = Slots(limits.in_flight, always=limits.in_flight if is_hub else 1)
        self._large = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None
        self._websockets: aiohttp.ClientSession | None = None
        self._is_closed = False
        self._counters: dict[tuple[str, str], Counter] = {}
        self._target = HUB if is_hub else "member"

    async def send(self, request: Request) -> tuple[int, Any]:
        """Status and parsed body of a 2xx answer; raises ApiError or Unreachable."""
        status, answer, _ = await self.send_sized(request)
        return status, answer

    async def send_sized(self, request: Request) -> tuple[int, Any, int]:
        """As `send`, with the size of the body in bytes."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self._in_flight:
                    with self._attempt():
                        return await self._asked(request)
            except ApiError as error:
                if attempt == ATTEMPTS or not _is_worth_repeating(request, error):
                    raise
                await asyncio.sleep(error.retry_after or 0)
        raise AssertionError("the last attempt returns or raises")

    async def relay(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None, *, timeout: float, limit: int
    ) -> tuple[int, bytes]:
        """Status and bytes of whatever answers behind the API server (a Service, a Pod); nothing is parsed.

        Not for changes of the cluster, so no fence is asked; raises Unreachable.
        """
        request = Request(method, path)
        code = "none"
        try:
            with self._beyond(timeout):
                limits = aiohttp.ClientTimeout(total=timeout, sock_connect=self._limits.connect)
                async with await self._open(request, limits, headers=headers, data=body) as answer:
                    code = f"{answer.status // 100}xx"
                    return answer.status, await self._read(answer, limit)
        finally:
            self._count(method, code)

    @asynccontextmanager
    async def websocket(self, path: str, protocol: str, *, timeout: float) -> AsyncIterator[ClientWebSocketResponse]:
        """A websocket with something behind the API server; `timeout` is for opening it.

        Raises ApiError with a status alone, and Unreachable.
        """
        code = "none"
        try:
            with self._beyond(timeout):
                opened = await self._upgraded(path, protocol, timeout)
            code = "1xx"
        except ApiError as error:
            code = f"{error.status // 100}xx"
            raise
        finally:
            self._count("GET", code)
        async with opened:
            yield opened

    async def _upgraded(self, path: str, protocol: str, timeout: float) -> ClientWebSocketResponse:
        if self._is_closed:
            raise self._unreachable("the connection was given up", maybe_sent=False)
        connection = self.connection
        try:
            async with asyncio.timeout(timeout):
                return await self._opened_for_websockets().ws_connect(
                    URL(connection.server + path, encoded=True),
                    protocols=(protocol,),
                    timeout=aiohttp.ClientWSTimeout(ws_close=WEBSOCKET_CLOSE),
                    headers=connection.headers,
                    proxy=connection.proxy,
                    server_hostname=connection.server_name,
                )
        except aiohttp.WSServerHandshakeError as error:
            raise ApiError(error.status, "", f"answered {error.status} instead of opening a websocket") from error

    @contextmanager
    def _beyond(self, timeout: float) -> Iterator[None]:
        """Around what somebody behind the API server answers, whose silence says nothing about the cluster."""
        try:
            with self._attempt():
                try:
                    yield
                except NEVER_SENT as error:
                    raise self._lost(error, timeout) from error
        except NETWORK_ERRORS as error:
            raise self._lost(error, timeout) from error

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[AsyncGenerator[bytes]]:
        """The lines of an endless answer. Does not count as in flight; ends after `silence` seconds without a byte."""
        timeout = aiohttp.ClientTimeout(sock_connect=self._limits.connect, sock_read=self._limits.silence)
        with self._attempt():
            try:
                async with asyncio.timeout(self._limits.request):
                    answer = await self._open(request, timeout)
                    if answer.status >= 300:
                        async with answer:
                            self._refused(request, answer, await self._read(answer, OBJECT_LIMIT))
            except NETWORK_ERRORS as error:
                raise self._lost(error, self._limits.request) from error
        async with answer:
            yield self._lines(answer)

    async def drain(self) -> None:
        """Wait until nothing is in flight."""
        await self._in_flight.drain()

    async def close(self) -> None:
        """Cut what is in flight. Whoever still holds this gets Unreachable from now on."""
        self._is_closed = True
        sessions = [session for session in (self._session, self._websockets) if session is not None]
        self._session = self._websockets = None
        for session in sessions:
            await session.close()

    async def _asked(self, request: Request) -> tuple[int, Any, int]:
        """A question that is lost without a word is asked once more; the breaker sees what becomes of it in the end.

        Of a pass with forty requests to a member that loses one in a hundred, a third would fail and wait for its
        back-off. Of a write the outcome is read first, by who knows what it was for.
        """
        try:
            return await self._once(request)
        except (ApiError, Unreachable) as error:
            if not (error.is_lost and request.changes_nothing):
                raise
        await asyncio.sleep(random.uniform(0, BREATH))  # noqa: S311
        return await self._once(request)

    async def _once(self, request: Request) -> tuple[int, Any, int]:
        code = "none"
        try:
            async with await self._open(request, self._timeout) as answer:
                code = f"{answer.status // 100}xx"
                body = await self._read(answer, request.limit)
                if answer.status >= 300:
                    self._refused(request, answer, body)
                return answer.status, self._parsed(request, answer, body), len(body)
        except NETWORK_ERRORS as error:
            raise self._lost(error, self._limits.request) from error
        finally:
            self._count(request.method, code)

    def _count(self, verb: str, code: str) -> None:
        counter = self._counters.get((verb, code))
        if counter is None:  # looking it up by its labels each time costs as much as parsing a small answer
            counter = measures.REQUESTS.labels(target=self._target, verb=verb, code=code)
            self._counters[verb, code] = counter
        counter.inc()

    async def _open(
        self,
        request: Request,
        timeout: aiohttp.ClientTimeout,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
    ) -> aiohttp.ClientResponse:
        """`headers` and `data` are those of a relayed request, which are the caller's own."""
        if self._is_closed:
            raise self._unreachable("the connection was given up", maybe_sent=False)
        connection = self.connection
        sent = {"Accept": request.accept, **(headers or {}), **connection.headers}
        if request.impersonate:
            sent["Impersonate-User"] = request.impersonate
        if request.body is not None:
            sent["Content-Type"] = request.content_type
            data = orjson.dumps(request.body)
        return await self._opened().request(
            request.method,
            URL(
                connection.server + request.path + _query(tuple(request.params.items())),
                encoded=True,
            ),
            data=data,
            headers=sent,
            timeout=timeout,
            allow_redirects=False,
            proxy=connection.proxy,
            server_hostname=connection.server_name,
        )

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = open_session(self.connection, self._fence)
        return self._session

    def _opened_for_websockets(self) -> aiohttp.ClientSession:
        """They cannot be asked not to follow a redirect. Tracing, which refuses it, costs every request a tenth."""
        if self._websockets is None:
            trace = aiohttp.TraceConfig()
            trace.on_request_redirect.append(_refuse_redirect)
            self._websockets = open_session(self.connection, self._fence, traces=[trace])
        return self._websockets

    async def _read(self, answer: aiohttp.ClientResponse, limit: int) -> bytes:
        """The body. Of those larger than an object one at a time: a member takes the memory of one, not of many."""
        self._check_size(answer.content_length or 0, limit)
        chunks: list[bytes] = []
        size = await self._more(answer, chunks, 0, min(limit, OBJECT_LIMIT))
        if size > OBJECT_LIMIT:
            async with self._large:
                size = await self._more(answer, chunks, size, limit)
        self._check_size(size, limit)
        return b"".join(chunks)

    async def _more(self, answer: aiohttp.ClientResponse, chunks: list[bytes], size: int, enough: int) -> int:
        """Read to the end, or until there are more than `enough` bytes; how many there are."""
        async for chunk in answer.content.iter_any():
            chunks.append(chunk)
            size += len(chunk)
            if size > enough:
                break
        return size

    def _check_size(self, size: int, limit: int) -> None:
        if size > limit:
            raise self._unreachable(f"the answer is larger than {limit >> 20} MiB", maybe_sent=True)

    async def _lines(self, answer: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
        """Bytes that do not become a line in time are silence, too."""
        rest = b""
        clock = asyncio.get_running_loop().time
        begun = clock()  # waiting for a line since
        chunks = answer.content.iter_any()
        while True:
            try:
                chunk = await anext(chunks, b"")
            except NETWORK_ERRORS as error:
                raise self._lost(error, self._limits.silence) from error
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > OBJECT_LIMIT:
                raise self._unreachable(f"an event is larger than {OBJECT_LIMIT >> 20} MiB", maybe_sent=False)
            if not lines and clock() - begun > self._limits.silence:
                raise self._unreachable(f"no whole event within {self._limits.silence:g} s", maybe_sent=False)
            for line in lines:
                if line:
                    yield line
            if lines or not rest:
                begun = clock()

    def _parsed(self, request: Request, answer: aiohttp.ClientResponse, body: bytes) -> Any:
        changed = request.method not in READS
        if answer.content_type != JSON:
            fact = (
                f"answered {answer.status} with {answer.content_type}, which is not a Kubernetes API; check the address"
            )
            # A proxy before an API server that is down for a moment says so in a page.
            raise self._unreachable(fact, maybe_sent=changed, is_lost=answer.status in NOBODY_THERE)
        if holds_too_much(body):
            raise self._unreachable(f"the answer holds more than {MOST_VALUES} values", maybe_sent=changed)
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise self._unreachable(f"answered {answer.status} with broken JSON", maybe_sent=changed) from error

    def _refused(self, request: Request, answer: aiohttp.ClientResponse, body: bytes) -> None:
        """Raise what an answer outside 2xx means."""
        if answer.status < 400:
            raise self._unreachable(REDIRECTED.format(answer.status), maybe_sent=False)
        retry_after = _seconds(answer.headers)
        if answer.content_type == "text/plain":  # as the API server itself answers outside its handlers
            text = body[:ERROR_TEXT_LIMIT].decode(errors="replace").strip()
            raise ApiError(answer.status, "", text or f"status {answer.status}", None, retry_after)
        raise refusal(answer.status, self._parsed(request, answer, body), retry_after)

    def _lost(self, error: BaseException, seconds: float) -> Unreachable:
        """A network failure as Unreachable; `seconds` is the limit that a time-out stands for."""
        sent = not isinstance(error, NEVER_SENT)
        is_lost = sent and not isinstance(error, TimeoutError) and _tls_cause(error) is None
        fix = CERTIFICATE if isinstance(error, aiohttp.ClientConnectorCertificateError) else REACH
        fact = describe(error, self._limits.connect, seconds)
        return self._unreachable(fact, maybe_sent=sent, is_lost=is_lost, fix=fix)

    def _unreachable(self, fact: str, *, maybe_sent: bool, is_lost: bool = False, fix: str = "") -> Unreachable:
        return Unreachable(self.connection.name, fact, maybe_sent=maybe_sent, is_lost=is_lost, fix=fix)


class _Rest(RESTClientObject):
    """The official client's, with connections that are kept as ours are."""

    def _create_connector(self) -> aiohttp.TCPConnector:
        return Connector(self.ssl_context)


@lru_cache(maxsize=1)
def _pattern() -> _Rest:
    """Each new one would read the platform's authorities, which none of ours uses."""
    return _Rest(Configuration())


def open_session(
    connection: Connection,
    fence: Fence | None,
    headers: Mapping[str, str] | None = None,
    traces: Sequence[aiohttp.TraceConfig] = (),
) -> aiohttp.ClientSession:
    """The official client's session (its TLS, its connector), for bytes of our own."""
    configuration = Configuration(host=connection.server)
    configuration.client_session_kwargs = {
        "trace_configs": list(traces),
        "trust_env": False,  # looking up proxy variables costs more than the request itself
        "read_bufsize": READ_BUFFER,
        "cookie_jar": aiohttp.DummyCookieJar(),
        "request_class": _fenced(fence),
        "headers": headers,
    }
    rest = copy(_pattern())
    rest.configuration, rest.ssl_context = configuration, connection.ssl or shared_trust(connection.ca)
    session: aiohttp.ClientSession = rest._create_pool_manager()
    # A repeated DELETE or PUT would go unnoticed; whoever sent it has to know that the outcome is open.
    session._retry_connection = False
    return session


async def _refuse_redirect(_: object, __: object, redirect: aiohttp.TraceRequestRedirectParams) -> None:
    redirect.response.close()
    raise ApiError(redirect.response.status, "", REDIRECTED.format(redirect.response.status))


def describe(error: BaseException, connect: float, request: float) -> str:
    """A network failure in words that name no path and no credential."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return f"no connection within {connect:g} s"
    if isinstance(error, aiohttp.SocketTimeoutError | TimeoutError):
        return f"no answer within {request:g} s"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"the address {error.host} does not resolve"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        return f"its certificate is not trusted: {getattr(cause, 'verify_message', '') or 'verification failed'}"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return f"TLS failed: {_tls_reason(error.os_error)}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"could not connect: {os.strerror(error.os_error.errno) if error.os_error.errno else 'no route'}"
    if (reason := _tls_cause(error)) is not None:
        return f"TLS failed: {reason}"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the answer broke off"
    return "the connection was cut"


def _tls_cause(error: BaseException | None) -> str | None:
    """TLS 1.3 refuses a client certificate only after the handshake, on the first read."""
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return _tls_reason(error)
        error = error.__cause__
    return None


def _tls_reason(error: OSError) -> str:
    reason = getattr(error, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else "handshake failed"


@lru_cache(maxsize=16)  # a class is some kilobytes, and all members have the same fence
def _fenced(fence: Fence | None) -> type[aiohttp.ClientRequest]:
    """A request that asks `fence` after the connection stands, when nothing is left but to write."""
    if fence is None:
        return aiohttp.ClientRequest
    checked: Fence = fence

    class FencedRequest(aiohttp.ClientRequest):
        async def send(self, conn: Any) -> aiohttp.ClientResponse:
            if self.method not in READS:
                checked()
            return await super().send(conn)

    return FencedRequest


def _is_worth_repeating(request: Request, error: ApiError) -> bool:
    """429 was never carried out; 503 may have been, so only what can be sent twice is."""
    if error.retry_after is None or error.retry_after > LONGEST_PAUSE:
        return False
    return error.status == 429 or (error.status == 503 and request.repeatable)


@lru_cache(maxsize=256)
def _query(params: tuple[tuple[str, str], ...]) -> str:
    """The same few queries go out again and again."""
    return f"?{urlencode(params)}" if params else ""


def _seconds(headers: CIMultiDictProxy[str]) -> float | None:
    value = headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else None
