"""A receiver that answers as it is told and keeps what it was sent, and a plain way to reach it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from fleet_rollout.decide.canary.addresses import Answer, NotReached


@dataclass
class Receiver:
    """`answers` are given one after the other, the last one for ever; None hangs up."""

    url: str = ""
    answers: list[tuple[int, str] | None] = field(default_factory=lambda: [(200, "")])
    received: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    silent: asyncio.Event = field(default_factory=asyncio.Event)
    is_silent: bool = False

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        target = request.path_qs if request.url.host in (None, "127.0.0.1") else str(request.url)
        self.received.append((target, dict(request.headers), await request.json()))
        if self.is_silent:
            await self.silent.wait()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        status, text = answer
        return web.Response(status=status, text=text, headers={"Location": "/elsewhere"} if status == 302 else {})


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    state = Receiver()
    runner = web.ServerRunner(web.Server(state.answer, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    state.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield state
    state.silent.set()
    await runner.cleanup()


class Straight:
    """Dials without asking whether it may."""

    def __init__(self) -> None:
        self.verified: list[bool] = []

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
        self.verified.append(verify)
        try:
            async with (
                asyncio.timeout(timeout),
                aiohttp.ClientSession() as session,
                session.request(method, url, headers=headers, data=body) as answer,
            ):
                return Answer(answer.status, await answer.read())
        except TimeoutError:
            raise NotReached(f"no answer within {timeout:g}s") from None
        except aiohttp.ClientError as error:
            raise NotReached(type(error).__name__) from None

    def socket(self, url: str, *, headers: Mapping[str, str], timeout: float, verify: bool = True) -> Any:
        raise AssertionError("hooks and alerts need no websocket")


@pytest.fixture
def dial() -> Straight:
    return Straight()


class Naps:
    """A sleep that only notes how long it would have been."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def naps() -> Naps:
    return Naps()
