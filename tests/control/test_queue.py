"""The queue hands out keys, not events: one worker a key, earliest time, highest priority."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_rollout.control.queue import BACKGROUND, LIVE, Closed, Queue


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> Queue[str]:
    return Queue(clock)


async def test_a_key_added_many_times_is_one_piece_of_work(queue: Queue[str]) -> None:
    for _ in range(5):
        queue.add("a")
    assert await queue.get() == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_a_key_added_while_worked_on_is_handed_out_again_and_not_before(queue: Queue[str]) -> None:
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    waiting = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.done("a")
    assert await waiting == "a"


async def test_the_earlier_of_two_times_holds(queue: Queue[str], clock: Clock) -> None:
    queue.add("a", delay=60)
    queue.add("a", delay=5)
    queue.add("a", delay=30)
    clock.now = 5.0
    assert await asyncio.wait_for(queue.get(), 1) == "a"


async def test_a_live_change_overtakes_the_first_listing(queue: Queue[str], clock: Clock) -> None:
    for name in ("x", "y", "z"):
        queue.add(name, priority=BACKGROUND)
    clock.now = 1.0
    queue.add("y", priority=LIVE)
    assert await queue.get() == "y"


async def test_a_waiting_worker_sees_a_key_that_comes_later(queue: Queue[str]) -> None:
    queue.add("later", delay=3600)
    waiting = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    queue.add("now")
    assert await asyncio.wait_for(waiting, 1) == "now"


async def test_forgotten_keys_are_not_handed_out(queue: Queue[str]) -> None:
    queue.add("a")
    queue.add("b")
    queue.forget("a")
    assert await queue.get() == "b"


async def test_a_key_that_is_worked_on_for_long_is_measured(queue: Queue[str], clock: Clock) -> None:
    queue.add("a")
    await queue.get()
    clock.now = 40.0
    queue.add("b", delay=-10.0)
    assert queue.overdue() == 40.0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 10), st.sampled_from([LIVE, BACKGROUND])), max_size=30))
def test_every_key_comes_out_exactly_once_at_its_earliest_time(adds: list[tuple[str, float, int]]) -> None:
    clock = Clock()
    queue: Queue[str] = Queue(clock)
    for key, delay, priority in adds:
        queue.add(key, delay=delay, priority=priority)
    clock.now = 10.0

    async def drain() -> list[str]:
        out = []
        while len(queue):
            out.append(await asyncio.wait_for(queue.get(), 1))
            queue.done(out[-1])
        return out

    assert sorted(asyncio.run(drain())) == sorted({key for key, _, _ in adds})


async def test_a_closed_queue_hands_out_nothing_and_lets_waiting_workers_go(queue: Queue[str]) -> None:
    queue.add("busy")
    assert await queue.get() == "busy"
    waiting = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    queue.add("new")
    queue.close()
    with pytest.raises(Closed):
        await asyncio.wait_for(waiting, 1)
    with pytest.raises(Closed):
        await queue.get()
    queue.done("busy")


async def test_a_full_lane_leaves_the_workers_to_the_others(clock: Clock) -> None:
    queue: Queue[str] = Queue(clock, lane=lambda key: key[0], width=2)
    for key in ("a1", "a2", "a3", "a4", "b1"):
        queue.add(key)
    assert [await queue.get() for _ in range(3)] == ["a1", "a2", "b1"]
    waiting = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.done("a1")
    assert await asyncio.wait_for(waiting, 1) == "a3"
    queue.done("a2")
    assert await asyncio.wait_for(queue.get(), 1) == "a4"


async def test_what_is_held_back_keeps_its_priority_and_can_be_forgotten(clock: Clock) -> None:
    queue: Queue[str] = Queue(clock, lane=lambda _: "all")
    queue.add("first")
    assert await queue.get() == "first"
    for key in ("slow", "gone"):
        queue.add(key, priority=BACKGROUND)
    waiting = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    queue.add("live")
    queue.forget("gone")
    queue.done("first")
    assert await asyncio.wait_for(waiting, 1) == "live"
    queue.done("live")
    assert await asyncio.wait_for(queue.get(), 1) == "slow"
    queue.done("slow")
    assert len(queue) == 0


async def test_a_key_that_moves_to_another_lane_leaves_the_one_it_entered(clock: Clock) -> None:
    lanes = {"a": 1, "b": 1}
    queue: Queue[str] = Queue(clock, lane=lanes.get)
    queue.add("a")
    assert await queue.get() == "a"
    lanes["a"] = 2
    queue.add("b")
    queue.done("a")
    assert await asyncio.wait_for(queue.get(), 1) == "b"
