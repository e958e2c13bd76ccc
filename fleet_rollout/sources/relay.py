"""What a replica that stands by sends of artifacts that the leader has made.

The hub decides, not the leader's address: only what an Application's status names is passed on, and only with the
digest that stands there. So nobody who has that address by now can put other content in its place.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import aiohttp
from aiohttp import web

from fleet_rollout.errors import FleetRolloutError
from fleet_rollout.sources.artifact import Artifact
from fleet_rollout.sources.store import HASH, NAME

log = logging.getLogger(__name__)

PATH = re.compile(rf"gitrepository/({NAME.pattern})/({NAME.pattern})/{HASH.pattern}\.tar\.gz")
# Marks a request of another replica, which is never relayed again: two that take each other for the leader would go on.
VIA = "Via"
# What a flood may cost: so many copies on disk and requests to the hub at a time, each for so long.
AT_ONCE = 8
ASK_SECONDS = 60.0
CHUNK = 256 * 1024


class Guide(Protocol):
    """What a replica knows of its leader; the control loops tell."""

    @property
    def leads(self) -> bool:
        """Whether this replica leads, so that there is nobody to ask."""

    @property
    def address(self) -> str | None:
        """`host:port` of the leader's artifacts; None while that is not known."""

    async def named(self, namespace: str, name: str) -> Artifact | None:
        """The artifact in the status of this Application."""


class Relay:
    """Copies live for one answer, in `scratch`: nothing is kept, so nothing has to be collected."""

    def __init__(self, guide: Guide, scratch: Path) -> None:
        self._guide = guide
        self._scratch = scratch
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._session = aiohttp.ClientSession(trust_env=False, auto_decompress=False)

    async def close(self) -> None:
        await self._session.close()

    def is_needed(self, path: str, request: web.BaseRequest) -> bool:
        """Whether this replica's own word is not enough."""
        return not self._guide.leads and VIA not in request.headers and PATH.fullmatch(path) is not None

    @asynccontextmanager
    async def newer(self, path: str, own: Artifact | None) -> AsyncIterator[tuple[Artifact, BinaryIO] | None]:
        """What the hub names under `path`, open to be read; None where that is `own`, or nothing.

        Raises web.HTTPException.
        """
        async with self._turn():
            named = await self._named(path)
            if named is None or (own is not None and own.digest == named.digest):
                yield None
                return
            with tempfile.TemporaryFile(dir=self._scratch) as file:
                await self._copy(named, file)
                file.seek(0)
                yield named, file

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                await self._turns.acquire()
        except TimeoutError:
            raise _try_again("too many ask for artifacts") from None
        try:
            yield
        finally:
            self._turns.release()

    async def _named(self, path: str) -> Artifact | None:
        found = PATH.fullmatch(path)
        assert found is not None
        try:
            async with asyncio.timeout(ASK_SECONDS):
                artifact = await self._guide.named(found[1], found[2])
        except (FleetRolloutError, TimeoutError):
            raise _try_again("the hub does not answer") from None
        return artifact if artifact is not None and artifact.path == path else None

    async def _copy(self, artifact: Artifact, into: BinaryIO) -> None:
        """The leader's file, whole and with the right digest."""
        address = self._guide.address
        if address is None:
            raise _try_again("it is not known who leads")
        try:
            async with asyncio.timeout(ASK_SECONDS):
                digest = await self._fetch(f"http://{address}/{artifact.path}", artifact.size, into)
        except (aiohttp.ClientError, OSError, TimeoutError):
            raise _try_again("the leader does not answer") from None
        if digest != artifact.digest:
            log.warning("%s: the leader sent other content than the hub names", artifact.path)
            raise web.HTTPBadGateway(text="the leader sent other content than the hub names\n")

    async def _fetch(self, url: str, size: int, into: BinaryIO) -> str:
        """The digest of what was sent, as far as it was read: never more than `size` bytes and a chunk."""
        hashed, left = hashlib.sha256(), size
        async with self._session.get(url, headers={VIA: "1.1 fleet-rollout"}, allow_redirects=False) as answer:
            if answer.status == 404:
                raise web.HTTPNotFound(text="no such artifact\n")
            if answer.status != 200:
                raise web.HTTPBadGateway(text="the leader answers with an error\n")
            async for chunk in answer.content.iter_chunked(CHUNK):
                hashed.update(chunk)
                left -= len(chunk)
                if left < 0:
                    break
                await asyncio.to_thread(into.write, chunk)
        return f"sha256:{hashed.hexdigest()}"


def _try_again(fact: str) -> web.HTTPServiceUnavailable:
    return web.HTTPServiceUnavailable(headers={"Retry-After": "5"}, text=f"{fact}; try again\n")
