"""Where Git hosts announce pushes: `POST /hook/<namespace>/<name>`, the HMAC key being `token` of that Secret.

Its one effect is the callback `announce`. Bodies are limited, then authenticated as raw bytes, and only then parsed;
answers never tell whether anything listens to the repository.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from weakref import WeakValueDictionary

import orjson
from aiohttp import web

from fleet_rollout.errors import FleetRolloutError
from fleet_rollout.settings import Settings
from fleet_rollout.sources.hook_payloads import InvalidPayload, read_payload
from fleet_rollout.sources.listening import listen
from fleet_rollout.sources.signatures import is_signed
from fleet_rollout.sources.store import NAME

LARGEST_BODY = 1024 * 1024
BODY_SECONDS = 10.0
KEY = "token"
# Per path and caller: a burst, then this many a second. A host that sends more loses nothing: polling stays, and any
# accepted announcement makes the source look again.
BURST, PER_SECOND = 30, 5.0
MOST_BUCKETS = 4096
# How long the key of a path is taken as it was, and how often keys are read at all: a flood of requests must not
# become one of API requests. During a flood, keys that were right a while ago still are.
KEY_SECONDS = 5.0
STALE_KEY_SECONDS = 600.0
READ_BURST, READS_PER_SECOND = 100, 50.0
SECRET_READS = ("", None)
# Bodies that are read at once, of one path and of all: whoever sends slowly to a path that exists holds up that path.
AT_ONCE_A_PATH, AT_ONCE = 8, 128

# The Secret's data, decoded; None where there is no such Secret.
ReadSecret = Callable[[str, str], Awaitable[Mapping[str, bytes] | None]]
# (namespace, canonical URLs, ref, now); compare with decide.gitrefs.canonical_repository(url) in urls.
Announce = Callable[[str, tuple[str, ...], str, datetime], Awaitable[None]]


@dataclass
class Bucket:
    """Tokens of one caller of one path."""

    tokens: float
    at: float


class Receiver:
    """The web application; `app` is run by the caller with auto_decompress off, or by `serve_receiver`."""

    def __init__(
        self,
        read_secret: ReadSecret,
        announce: Announce,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read_secret = read_secret
        self._announce = announce
        self._clock = clock
        self._monotonic = monotonic
        self._buckets: OrderedDict[tuple[str, str | None], Bucket] = OrderedDict()
        self._keys: OrderedDict[tuple[str, str], tuple[float, bytes | None]] = OrderedDict()
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Semaphore] = WeakValueDictionary()
        self.app = web.Application(client_max_size=LARGEST_BODY)
        self.app.router.add_post("/hook/{namespace}/{name}", self._receive)

    async def _receive(self, request: web.Request) -> web.Response:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        self._admit(request)
        key = await self._key(namespace, name)
        body = await self._body(request, (namespace, name))
        now = self._clock()
        if not is_signed(key, request.headers, body, now):
            raise web.HTTPUnauthorized(text="signature missing or wrong\n")
        try:
            announcement = read_payload(request.headers, orjson.loads(body))
        except orjson.JSONDecodeError:
            raise web.HTTPBadRequest(text="the body is no JSON\n") from None
        except InvalidPayload as error:
            raise web.HTTPUnprocessableEntity(text=f"{error}\n") from None
        if announcement is not None:
            await self._tell(namespace, announcement.urls, announcement.ref, now)
        return web.Response(status=202, text="accepted\n")

    def _admit(self, request: web.Request) -> None:
        """Before anything is read."""
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise web.HTTPUnsupportedMediaType(text="send the body without Content-Encoding\n")
        if (request.content_length or 0) > LARGEST_BODY:
            raise web.HTTPRequestEntityTooLarge(max_size=LARGEST_BODY, actual_size=request.content_length or 0)
        if not self._take_token((request.path, request.remote), BURST, PER_SECOND):
            raise _too_many()

    async def _body(self, request: web.Request, path: tuple[str, str]) -> bytes:
        """At most LARGEST_BODY bytes (aiohttp answers 413 itself), within BODY_SECONDS with the wait for a turn."""
        turn = self._turns.setdefault(path, asyncio.Semaphore(AT_ONCE_A_PATH))
        try:
            async with asyncio.timeout(BODY_SECONDS), turn, self._at_once:
                return await request.read()
        except TimeoutError:
            raise web.HTTPRequestTimeout(text="the body took too long\n") from None
        except (ConnectionError, web.RequestPayloadError):
            raise web.HTTPBadRequest(text="the body broke off\n") from None

    def _take_token(self, caller: tuple[str, str | None], burst: int, per_second: float) -> bool:
        now = self._monotonic()
        bucket = self._buckets.pop(caller, None) or Bucket(burst, now)
        bucket.tokens = min(float(burst), bucket.tokens + (now - bucket.at) * per_second)
        bucket.at = now
        self._buckets[caller] = bucket
        if len(self._buckets) > MOST_BUCKETS:
            self._buckets.popitem(last=False)
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    async def _key(self, namespace: str, name: str) -> bytes:
        """The path's HMAC key. No Secret, no key in it and no valid name all look the same: 404."""
        if not (NAME.fullmatch(namespace) and NAME.fullmatch(name)):
            raise web.HTTPNotFound(text="no such hook\n")
        read_at, key = self._keys.get((namespace, name), (float("-inf"), None))
        age = self._monotonic() - read_at
        if age > KEY_SECONDS:
            if self._take_token(SECRET_READS, READ_BURST, READS_PER_SECOND):
                key = await self._read_key(namespace, name)
                self._keep_key(namespace, name, key)
            elif key is None or age > STALE_KEY_SECONDS:
                raise _too_many()
        if not key:
            raise web.HTTPNotFound(text="no such hook\n")
        return key

    def _keep_key(self, namespace: str, name: str, key: bytes | None) -> None:
        self._keys[(namespace, name)] = (self._monotonic(), key)
        self._keys.move_to_end((namespace, name))
        if len(self._keys) > MOST_BUCKETS:
            self._keys.popitem(last=False)

    async def _read_key(self, namespace: str, name: str) -> bytes | None:
        try:
            secret = await self._read_secret(namespace, name)
        except FleetRolloutError:
            raise web.HTTPServiceUnavailable(headers={"Retry-After": "5"}, text="try again\n") from None
        return (secret or {}).get(KEY, b"").strip(b"\r\n") or None

    async def _tell(self, namespace: str, urls: tuple[str, ...], ref: str, now: datetime) -> None:
        try:
            await self._announce(namespace, urls, ref, now)
        except FleetRolloutError:
            raise web.HTTPServiceUnavailable(headers={"Retry-After": "5"}, text="try again\n") from None


def _too_many() -> web.HTTPTooManyRequests:
    return web.HTTPTooManyRequests(headers={"Retry-After": "1"}, text="too many requests\n")


async def serve_receiver(receiver: Receiver, settings: Settings) -> tuple[web.AppRunner, str]:
    """Listen on `settings.receiver_address`; port 0 takes a free one. Also returns the base URL.

    Bodies are never unpacked, not even before a handler sees them.
    """
    runner = web.AppRunner(receiver.app, access_log=None, auto_decompress=False)
    return runner, await listen(runner, "--receiver-address", settings.receiver_address)
