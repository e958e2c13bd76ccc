"""How many requests a member gets at the same time."""

from __future__ import annotations

import asyncio
import time

import pytest

from fleet_rollout.kube.slots import FEW, LOOK_AGAIN, SLOW, WORTH_A_CONNECTION, Slots


async def in_flight(slots: Slots, callers: int) -> tuple[int, list[asyncio.Task[None]], asyncio.Event]:
    """How many of `callers` get in before any of them leaves."""
    entered, leave = 0, asyncio.Event()

    async def call() -> None:
        nonlocal entered
        async with slots:
            entered += 1
            await leave.wait()

    tasks = [asyncio.create_task(call()) for _ in range(callers)]
    for _ in range(3):
        await asyncio.sleep(0)
    return entered, tasks, leave


async def test_one_small_sync_opens_few_connections_and_a_long_queue_opens_all() -> None:
    for callers, expected in ((1, 1), (WORTH_A_CONNECTION, 1), (WORTH_A_CONNECTION + 1, 2), (1000, 16)):
        entered, tasks, leave = await in_flight(Slots(16), callers)
        assert entered == expected
        leave.set()
        await asyncio.gather(*tasks)


@pytest.mark.looptime
@pytest.mark.asyncio(loop_scope="function")
async def test_a_slow_request_does_not_hold_up_the_next_but_quick_ones_share_a_connection() -> None:
    slots, inside, most = Slots(16), 0, 0

    async def call(seconds: float) -> None:
        nonlocal inside, most
        async with slots:
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(seconds)
            inside -= 1

    await asyncio.gather(*(call(SLOW / 2) for _ in range(20)))
    assert most == 1
    began = asyncio.get_running_loop().time()
    slow = asyncio.create_task(call(10))
    await asyncio.gather(*(call(SLOW / 10) for _ in range(10)))
    assert asyncio.get_running_loop().time() - began == pytest.approx(2 * SLOW + LOOK_AGAIN)
    assert most == FEW
    await slow
    most = 0
    await asyncio.gather(call(0), call(0))
    assert most == 1, "it is over"


async def test_many_that_follow_each_other_are_worth_a_second_connection() -> None:
    slots, inside, seen = Slots(16), 0, []

    async def call() -> None:
        nonlocal inside
        async with slots:
            inside += 1
            seen.append(inside)
            await asyncio.sleep(0)
            inside -= 1

    async def worker() -> None:
        for _ in range(10):
            await call()

    await asyncio.gather(*(worker() for _ in range(8)))
    assert set(seen[:WORTH_A_CONNECTION]) == {1}
    assert max(seen) == FEW
    seen.clear()
    await asyncio.gather(*(call() for _ in range(20)))
    assert set(seen) == {1}, "that was another time"


async def test_a_loop_that_was_held_up_is_no_slow_request() -> None:
    slots, most = Slots(16), 0

    async def call() -> None:
        nonlocal most
        async with slots:
            most = max(most, slots._used)
            await asyncio.sleep(SLOW / 10)

    asyncio.get_running_loop().call_later(SLOW / 2, time.sleep, SLOW * 2)
    await asyncio.gather(*(call() for _ in range(20)))
    assert most == 1


async def test_those_who_wait_get_their_turn_in_order() -> None:
    slots, order = Slots(1), []

    async def call(number: int) -> None:
        async with slots:
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(call(number) for number in range(20)))
    assert order == list(range(20))


async def test_a_cancelled_caller_keeps_no_slot() -> None:
    slots = Slots(FEW)
    entered, tasks, leave = await in_flight(slots, 4)
    assert entered == 1
    for task in tasks[:-1]:  # the one inside, and two that wait
        task.cancel()
    leave.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not tasks[-1].cancelled()
    await asyncio.wait_for(slots.drain(), 1)


async def test_a_turn_given_at_the_moment_of_the_cancellation_is_passed_on() -> None:
    slots = Slots(1)
    async with slots:
        first = asyncio.create_task(enter(slots))
        second = asyncio.create_task(enter(slots))
        await asyncio.sleep(0)
    first.cancel()  # its turn has come, but it has not run yet
    await asyncio.wait_for(second, 1)
    await asyncio.wait_for(slots.drain(), 1)


async def enter(slots: Slots) -> None:
    async with slots:
        pass


async def test_draining_waits_for_what_is_in_flight() -> None:
    slots = Slots(FEW)
    _, tasks, leave = await in_flight(slots, FEW + 1)
    draining = asyncio.create_task(slots.drain())
    done, _ = await asyncio.wait([draining], timeout=0.2)
    assert not done
    leave.set()
    await asyncio.wait_for(draining, 2)
    assert all(task.done() for task in tasks)
