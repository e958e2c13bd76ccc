"""When a cluster that does not answer is left alone, and how it is found again."""

from __future__ import annotations

import dataclasses

import pytest

from fleet_rollout.errors import Transient
from fleet_rollout.kube.breaker import Breaker
from fleet_rollout.kube.errors import ApiError, Unreachable
from fleet_rollout.settings import Settings

SETTINGS = dataclasses.replace(Settings(), member_breaker_failures=3, member_breaker_min=5.0, member_breaker_max=60.0)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("AttachedCluster/m1", SETTINGS, clock)


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(Unreachable), breaker.attempt():
            raise Unreachable("m1", "no answer within 30 s", maybe_sent=True)


def refused(breaker: Breaker) -> Transient:
    with pytest.raises(Transient) as caught, breaker.attempt():
        pytest.fail("a request was let through")
    return caught.value


def test_it_opens_after_failures_in_a_row_and_says_why(breaker):
    fail(breaker, 2)
    assert not breaker.is_open
    fail(breaker)
    error = refused(breaker)
    assert (error.reason, error.message) == ("ClusterUnreachable", "AttachedCluster/m1: no answer within 30 s")
    assert 5.0 <= error.retry_after <= 6.25


@pytest.mark.parametrize("answer", [None, ApiError(500, "", "etcd is slow"), ApiError(403, "", "no")])
def test_any_answer_starts_the_count_anew(breaker, answer):
    fail(breaker, 2)
    if answer is None:
        with breaker.attempt():
            pass
    else:
        with pytest.raises(ApiError), breaker.attempt():
            raise answer
    fail(breaker, 2)
    assert not breaker.is_open


def test_after_the_pause_one_request_is_let_through_and_the_others_wait_for_it(breaker, clock):
    fail(breaker, 3)
    clock.now += 7
    with breaker.attempt():
        assert refused(breaker).retry_after > 0
    assert not breaker.is_open
    with breaker.attempt():
        pass


def test_a_failed_probe_lengthens_the_pause_up_to_the_longest(breaker, clock):
    fail(breaker, 3)
    pauses = []
    for _ in range(6):
        pauses.append(refused(breaker).retry_after)
        clock.now += pauses[-1] + 0.001
        fail(breaker)
    assert pauses[0] < pauses[1] < pauses[2]
    assert max(pauses) <= 60


def test_a_cancelled_probe_lets_the_next_one_through(breaker, clock):
    fail(breaker, 3)
    clock.now += 7
    with pytest.raises(KeyboardInterrupt), breaker.attempt():
        raise KeyboardInterrupt
    with breaker.attempt():
        pass
    assert not breaker.is_open


def test_failures_of_requests_already_under_way_do_not_lengthen_the_pause(breaker, clock):
    late = [breaker.attempt() for _ in range(5)]
    for attempt in late:
        attempt.__enter__()
    fail(breaker, 3)
    before = refused(breaker).retry_after
    assert before > 0
    for attempt in late:
        assert not attempt.__exit__(*_raised())
    assert refused(breaker).retry_after == before


def _raised() -> tuple:
    error = Unreachable("m1", "no answer within 30 s", maybe_sent=True)
    return type(error), error, None


def test_a_check_may_look_before_the_pause_is_over(breaker):
    fail(breaker, 3)
    breaker.permit_probe()
    with breaker.attempt():
        pass
    assert not breaker.is_open
