"""Sharing one answer between callers: how many calls are made, and which answer each caller gets."""

from __future__ import annotations

import asyncio

import pytest

from fleet_rollout.sources.flights import Flights


class Counted:
    """A call that waits until it is let go, and answers with its number."""

    def __init__(self):
        self.begun = 0
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()

    async def __call__(self):
        self.begun += 1
        number = self.begun
        self.entered.set()
        await self.gate.wait()
        return number


@pytest.fixture
def call():
    return Counted()


@pytest.fixture
async def flights():
    flights = Flights()
    yield flights
    await flights.close()


async def test_callers_before_the_start_share_and_later_ones_share_the_next(flights, call):
    early = [asyncio.create_task(flights.share("k", call)) for _ in range(3)]
    await call.entered.wait()
    late = [asyncio.create_task(flights.share("k", call)) for _ in range(3)]
    await asyncio.sleep(0)
    call.gate.set()
    assert await asyncio.gather(*early) == [1, 1, 1]
    assert await asyncio.gather(*late) == [2, 2, 2]


async def test_different_keys_do_not_wait_for_each_other(flights, call):
    waiting = asyncio.create_task(flights.share("k", call))
    await call.entered.wait()

    async def other():
        return "other"

    assert await flights.share("l", other) == "other"
    call.gate.set()
    assert await waiting == 1


async def test_a_caller_that_leaves_ends_nothing_for_the_others(flights, call):
    leaving, staying = (asyncio.create_task(flights.share("k", call)) for _ in range(2))
    await call.entered.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    call.gate.set()
    assert await staying == 1


async def test_a_failure_reaches_every_caller_and_not_the_next_one(flights):
    async def fails():
        raise ValueError("no")

    failed = await asyncio.gather(*(flights.share("k", fails) for _ in range(2)), return_exceptions=True)
    assert [type(error) for error in failed] == [ValueError, ValueError]

    async def works():
        return 1

    assert await flights.share("k", works) == 1


async def test_closing_waits_for_what_has_begun_and_drops_what_has_not(call):
    flights = Flights()
    begun = asyncio.create_task(flights.share("k", call))
    await call.entered.wait()
    waiting = asyncio.create_task(flights.share("k", call))
    await asyncio.sleep(0)
    closing = asyncio.create_task(flights.close())
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not closing.done()
    call.gate.set()
    await closing
    assert await begun == 1
    assert call.begun == 1
