"""Threads are kept apart: what hangs at one address delays no other."""

from __future__ import annotations

import asyncio
import gc
import threading
import time

import pytest

from fleet_rollout.metrics.bulkheads import Bulkheads


@pytest.fixture
def hang():
    """Work that does not end before the test does."""
    ended = threading.Event()
    yield lambda: ended.wait(60)
    ended.set()


async def test_work_gives_its_result_or_its_error(bulkheads):
    assert await bulkheads.run("a", lambda: 7, timeout=5) == 7
    with pytest.raises(ValueError, match="no"):
        await bulkheads.run("a", lambda: int("no"), timeout=5)
    assert bulkheads._places == {}


async def test_an_address_that_hangs_delays_no_other(bulkheads, hang):
    stuck = [asyncio.create_task(bulkheads.run("a", hang, timeout=5)) for _ in range(10)]
    await asyncio.sleep(0)
    started = time.monotonic()
    results = await asyncio.gather(*(bulkheads.run(f"b{n}", lambda: "ok", timeout=5) for n in range(100)))
    assert results == ["ok"] * 100
    assert time.monotonic() - started < 2
    for task in stuck:
        task.cancel()
    await asyncio.gather(*stuck, return_exceptions=True)


async def test_no_address_has_more_threads_than_its_share():
    bulkheads = Bulkheads(per_address=2, total=64)
    running, most, lock = 0, 0, threading.Lock()

    def work():
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1

    await asyncio.gather(*(bulkheads.run("a", work, timeout=30) for _ in range(20)))
    assert most == 2
    bulkheads.close()


async def test_all_addresses_together_have_a_limit(hang):
    bulkheads = Bulkheads(per_address=2, total=3)
    stuck = [asyncio.create_task(bulkheads.run(address, hang, timeout=5)) for address in "aabb"]
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        await bulkheads.run("c", lambda: 1, timeout=0.05)
    for task in stuck:
        task.cancel()
    await asyncio.gather(*stuck, return_exceptions=True)
    bulkheads.close()


async def test_a_full_bulkhead_is_a_time_out_for_whoever_waits(bulkheads, hang):
    stuck = [asyncio.create_task(bulkheads.run("a", hang, timeout=60)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        await bulkheads.run("a", lambda: 1, timeout=0.05)
    assert bulkheads._places["a"].users == 2
    for task in stuck:
        task.cancel()
    await asyncio.gather(*stuck, return_exceptions=True)


async def test_a_thread_is_free_again_only_when_its_work_has_ended(bulkheads):
    ended = threading.Event()
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await bulkheads.run("a", lambda: ended.wait(60), timeout=0.02)
    with pytest.raises(TimeoutError):
        await bulkheads.run("a", lambda: 1, timeout=0.02)
    ended.set()
    assert await bulkheads.run("a", lambda: 1, timeout=5) == 1


async def test_an_error_that_nobody_waits_for_is_no_news(bulkheads, caplog):
    ended = threading.Event()

    def fail():
        ended.wait(60)
        raise ValueError("late")

    with pytest.raises(TimeoutError):
        await bulkheads.run("a", fail, timeout=0.02)
    ended.set()
    async with asyncio.timeout(5):
        while bulkheads._places:
            await asyncio.sleep(0)
    gc.collect()
    assert "late" not in caplog.text, "what other tests left behind is collected here too, and no matter"


async def test_work_that_waits_for_a_thread_gets_it(bulkheads):
    ended = threading.Event()
    first = [asyncio.create_task(bulkheads.run("a", lambda: ended.wait(60), timeout=30)) for _ in range(2)]
    second = asyncio.create_task(bulkheads.run("a", lambda: 1, timeout=30))
    await asyncio.sleep(0)
    ended.set()
    assert await second == 1
    assert await asyncio.gather(*first) == [True, True]
    assert bulkheads._places == {}


async def test_work_that_waits_for_other_work_in_threads_does_not_wait_for_itself():
    bulkheads = Bulkheads(per_address=2, total=2)
    loop = asyncio.get_running_loop()

    def ask():
        beneath = bulkheads.beneath.run("host", lambda: "address", timeout=5)
        return asyncio.run_coroutine_threadsafe(beneath, loop).result(10)

    asked = (bulkheads.run(address, ask, timeout=10) for address in "abcd")
    assert await asyncio.gather(*asked) == ["address"] * 4
    bulkheads.close()
