"""Events for hooks: in order for each Canary, and never held up by the hook of another one."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fleet_rollout.control.engine import telling as module
from fleet_rollout.control.engine.telling import Telling, Told
from fleet_rollout.decide.canary.addresses import Answer
from fleet_rollout.decide.canary.hooks import Hook
from fleet_rollout.decide.canary.objects import Unasked

HANGS, FAILS, ODD = "http://hangs", "http://fails", "http://odd /"


class Hooks:
    """Everybody's hooks: what they have heard, and how many are being told at once."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.at_once = self.most = 0

    async def request(self, method: str, url: str, *, body: bytes, **_: Any) -> Answer:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            if url.startswith(HANGS):
                await asyncio.sleep(3600)
            await asyncio.sleep(0)
        finally:
            self.at_once -= 1
        if url == FAILS:
            raise Unasked("no turn")
        if url == ODD:
            raise RuntimeError("odd")
        self.heard.append((url, json.loads(body)["n"]))
        return Answer(200, b"")


@pytest.fixture
def hooks() -> Hooks:
    return Hooks()


@contextlib.asynccontextmanager
async def begun(telling: Telling) -> AsyncIterator[None]:
    async def run() -> None:
        async with asyncio.TaskGroup() as tasks:
            telling.begin(tasks)
            await asyncio.Event().wait()

    running = asyncio.create_task(run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait([running])


def told(name: str, url: str, number: int) -> Told:
    return Told(("shop", name), Hook("h", url, timeout=7200.0, retries=10**6), {"n": number})


async def test_many_dead_hooks_hold_up_nobody_else(hooks: Hooks) -> None:
    telling = Telling(lambda _: hooks)
    for number in range(100):
        telling.leave(told(f"dead-{number}", f"{HANGS}/{number % 50}", 0))
    async with begun(telling):
        for number in range(5):
            telling.leave(told("web", "http://works", number))
        async with asyncio.timeout(5):
            while len(hooks.heard) < 5:
                await asyncio.sleep(0)
    assert hooks.heard == [("http://works", number) for number in range(5)]


async def test_one_event_takes_no_longer_than_its_bound_whatever_the_hook_says(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST", 0.05)
    telling = Telling(lambda _: hooks)
    async with begun(telling), asyncio.timeout(5):
        telling.leave(told("web", HANGS, 0))
        telling.leave(told("web", "http://works", 1))
        await telling.finished()
    assert hooks.heard == [("http://works", 1)]


@pytest.mark.parametrize("url", ["http://works", "http://works/events?canary={}", "http://works:80/{}"])
async def test_one_server_is_not_told_of_all_canaries_at_once(hooks: Hooks, url: str) -> None:
    """It may be asked for gates and checks, too, which have to get their turn."""
    telling = Telling(lambda _: hooks)
    for number in range(50):
        telling.leave(told(f"web-{number}", url.format(number), number))
    async with begun(telling), asyncio.timeout(5):
        await telling.finished()
    assert len(hooks.heard) == 50
    assert hooks.most == module.AT_ONCE


async def test_nothing_that_goes_wrong_ends_the_telling(hooks: Hooks, caplog: pytest.LogCaptureFixture) -> None:
    telling = Telling(lambda _: hooks)
    async with begun(telling), asyncio.timeout(5):
        for number, url in enumerate((FAILS, ODD, "http://works")):
            telling.leave(told("web", url, number))
        await telling.finished()
    assert hooks.heard == [("http://works", 2)]
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_what_waits_is_bounded_and_the_oldest_of_whoever_has_most_is_dropped(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_OF_ONE", 10)
    monkeypatch.setattr(module, "MOST_TOLD", 12)
    telling = Telling(lambda _: hooks)
    for number in range(15):
        telling.leave(told("web", "http://web", number))
    for number in range(4):
        telling.leave(told("other", "http://other", number))
    async with begun(telling), asyncio.timeout(5):
        await telling.finished()
        assert not telling._lanes
        assert not telling._turns
    assert sorted(hooks.heard) == [
        *(("http://other", number) for number in range(4)),
        *(("http://web", number) for number in range(7, 15)),
    ]
    assert telling._waiting == 0
