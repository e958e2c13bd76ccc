"""The thread in which kopf runs: whatever kopf leaves behind, its watches can be started again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp
import kopf
import pytest

from fleet_rollout.control import hub
from fleet_rollout.control.hub import HubEvents, Stop, run_bounded


def test_what_takes_no_cancellation_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As kopf's watches do whose pause is cancelled with them."""
    monkeypatch.setattr(hub, "END_SECONDS", 0.1)
    is_released = False
    left: list[asyncio.Task[None]] = []

    async def stubborn() -> None:
        while not is_released:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)

    async def work() -> None:
        left.append(asyncio.create_task(stubborn()))
        await asyncio.sleep(0)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        run_bounded(work())
    assert not left[0].done()
    is_released = True


async def drained(stream: AsyncGenerator[None]) -> None:
    async for _ in stream:
        pass


def test_a_stream_that_does_not_end_is_no_error_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    """As a watch of kopf's whose pause cannot be closed: the loop, which is over, says so of it."""
    left: list[AsyncGenerator[None]] = []

    async def stubborn() -> AsyncGenerator[None]:
        for _ in range(2):
            with contextlib.suppress(GeneratorExit):
                yield

    async def work() -> None:
        left.append(stubborn())
        await anext(left[0])

    run_bounded(work())
    asyncio.run(drained(left[0]))
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_loop_that_begins_after_the_stop_is_stopped() -> None:
    stop = Stop()
    stop.set()

    async def work() -> None:
        await stop.of_loop().wait()

    run_bounded(work())
    stop.set()
    assert stop.is_set()


async def test_what_waits_for_ever_when_another_has_failed_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch whose connection was cut as the others failed: it takes no cancellation, and kopf would wait for it."""
    monkeypatch.setattr(hub, "LAST_SECONDS", 0.2)
    over = asyncio.Event()

    async def fails() -> None:
        raise RuntimeError("the watch was refused")

    async def waits() -> None:
        while not over.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await over.wait()

    async with asyncio.timeout(60):
        with pytest.raises(RuntimeError, match="refused"):
            await hub.run_to_the_end([asyncio.create_task(fails())])
        stubborn = asyncio.create_task(waits())
        with pytest.raises(TimeoutError, match="kopf has not ended"):
            await hub.run_to_the_end([asyncio.create_task(fails()), stubborn])
        over.set()
        await stubborn


async def test_nobody_needs_to_know_the_name_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may run as a uid that no passwd file has."""

    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 65532")

    monkeypatch.setattr("getpass.getuser", unknown)
    begun: list[str] = []

    async def spawned(**given: Any) -> list[asyncio.Task[Any]]:
        tasks = await spawn_tasks(**given)
        begun.append("kopf")
        for task in tasks:
            task.cancel()
        return list(tasks)

    spawn_tasks = kopf.spawn_tasks
    monkeypatch.setattr(kopf, "spawn_tasks", spawned)
    events = HubEvents(
        "https://127.0.0.1:1",
        lambda _: aiohttp.ClientSession(),
        lambda *_: None,
        namespace=None,
        watch_timeout=1.0,
        served=frozenset(),
    )
    with contextlib.suppress(asyncio.CancelledError):
        await events._operate(asyncio.get_running_loop(), Stop())
    assert begun == ["kopf"]
