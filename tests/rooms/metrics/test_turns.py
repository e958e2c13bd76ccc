"""Questions wait for their turn at an address; only the address's own silence is a time-out."""

from __future__ import annotations

import asyncio
import time

import pytest

from fleet_rollout.decide.canary.objects import Unasked
from fleet_rollout.metrics import turns as module
from fleet_rollout.metrics.turns import Turns

MOST = 8


@pytest.fixture
def turns():
    return Turns(MOST)


async def ask(turns, address, seconds, timeout=5.0):
    """A question that takes so long, and is given up after `timeout`."""
    async with turns.of(address, timeout=timeout):
        async with asyncio.timeout(timeout):
            await asyncio.sleep(seconds)


async def test_a_question_waits_for_its_turn_at_its_own_address_alone(turns):
    stuck = [asyncio.create_task(ask(turns, "a", 60, 60)) for _ in range(MOST)]
    await asyncio.sleep(0)
    waiting = asyncio.create_task(ask(turns, "a", 0))
    await ask(turns, "b", 0)
    assert not waiting.done()
    for task in (*stuck, waiting):
        task.cancel()
    await asyncio.gather(*stuck, waiting, return_exceptions=True)
    assert turns._lines == {}


async def test_no_address_is_asked_more_at_once_than_its_share(turns):
    running = most = 0

    async def count():
        nonlocal running, most
        async with turns.of("a", timeout=5):
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.001)
            running -= 1

    await asyncio.gather(*(count() for _ in range(50)))
    assert most == MOST


async def test_a_long_queue_is_no_time_out(turns):
    """Each is answered well in time; the last has waited three times as long as an answer may take."""
    began = time.monotonic()
    await asyncio.gather(*(ask(turns, "a", 0.03, timeout=0.2) for _ in range(20 * MOST)))
    assert time.monotonic() - began > 0.6


async def test_whoever_waits_at_an_address_that_hangs_is_told_so_in_its_own_time(turns):
    began = time.monotonic()
    failures = await asyncio.gather(
        *(ask(turns, "a", 60, timeout=0.2) for _ in range(5 * MOST)), return_exceptions=True
    )
    assert {type(failure) for failure in failures} == {TimeoutError}
    assert time.monotonic() - began < 1.5
    assert turns._lines == {}


async def test_a_turn_that_does_not_come_is_no_answer(turns, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    asked = [asyncio.create_task(ask(turns, "http://prometheus:9090", 0.1, timeout=0.2)) for _ in range(10 * MOST)]
    found = await asyncio.gather(*asked, return_exceptions=True)
    unasked = [each for each in found if isinstance(each, Unasked)]
    assert len(unasked) + found.count(None) == len(found)
    assert found.count(None) >= 2 * MOST
    assert unasked[0].message == "http://prometheus:9090 is asked by too many at once: no turn within 0.3 s"


async def test_those_behind_a_queue_of_others_are_not_told_that_their_address_hangs(turns, monkeypatch):
    """Whoever has a turn here may wait for another one elsewhere."""
    monkeypatch.setattr(module, "PATIENCE", 0.5)

    async def crowded():
        async with turns.of("a", timeout=0.1):
            await asyncio.sleep(0.4)
            raise Unasked("b is asked by too many at once")

    found = await asyncio.gather(*(crowded() for _ in range(3 * MOST)), return_exceptions=True)
    assert {type(each) for each in found} == {Unasked}


@pytest.mark.parametrize("timeout", [1e-9, 0.0, -1.0])
async def test_who_has_no_time_left_waits_without_looking_all_the_time(turns, timeout, monkeypatch):
    looks = []
    is_silent = module._Line._is_silent
    monkeypatch.setattr(module._Line, "_is_silent", lambda *given: looks.append(given) or is_silent(*given))
    stuck = [asyncio.create_task(ask(turns, "a", 60, 60)) for _ in range(MOST)]
    await asyncio.sleep(0)
    waiting = asyncio.create_task(ask(turns, "a", 0, timeout))
    await asyncio.sleep(0.7)
    assert len(looks) <= 5
    for task in (*stuck, waiting):
        task.cancel()
    await asyncio.gather(*stuck, waiting, return_exceptions=True)
