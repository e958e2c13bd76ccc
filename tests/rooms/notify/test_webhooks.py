"""Hooks over real HTTP: who passes, who is asked again, and what is said of the others."""

from __future__ import annotations

import pytest

from fleet_rollout.decide.canary.addresses import AddressRefused
from fleet_rollout.decide.canary.hooks import Hook
from fleet_rollout.notify.webhooks import call

PAYLOAD = {"name": "podinfo", "namespace": "test", "phase": "Progressing", "checksum": "758df7c9fc"}


async def test_a_hook_is_posted_as_json(receiver, dial):
    assert await call(Hook("h", f"{receiver.url}/gate?x=1"), PAYLOAD, dial) is None
    ((target, headers, body),) = receiver.received
    assert (target, headers["Content-Type"], body) == ("/gate?x=1", "application/json", PAYLOAD)


@pytest.mark.parametrize("status", [200, 201, 202, 203, 204, 206])
async def test_q15_any_2xx_lets_the_analysis_go_on(receiver, dial, status):
    receiver.answers = [(status, "")]
    assert await call(Hook("h", receiver.url), PAYLOAD, dial) is None


@pytest.mark.parametrize("status", [400, 403, 404, 501])
async def test_a_refusal_is_quoted_and_not_asked_again(receiver, dial, naps, status):
    receiver.answers = [(status, "Forbidden\n")]
    assert await call(Hook("h", receiver.url, retries=5), PAYLOAD, dial, sleep=naps) == "Forbidden"
    assert (len(receiver.received), naps.taken) == (1, [])


async def test_a_refusal_without_words_is_still_one(receiver, dial):
    receiver.answers = [(403, "")]
    assert await call(Hook("h", receiver.url), PAYLOAD, dial) == "status 403"


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_s44_without_retries_a_failing_server_is_given_up_at_once(receiver, dial, naps, status):
    receiver.answers = [(status, "secret stack trace")]
    said = await call(Hook("h", f"{receiver.url}/x"), PAYLOAD, dial, sleep=naps)
    assert said == f"POST {receiver.url}/x giving up after 1 attempt(s)"
    assert naps.taken == []


async def test_retries_are_attempts_beside_the_first_and_waits_double(receiver, dial, naps):
    receiver.answers = [(500, "")]
    said = await call(Hook("h", receiver.url, retries=6), PAYLOAD, dial, sleep=naps)
    assert said == f"POST {receiver.url} giving up after 7 attempt(s)"
    assert len(receiver.received) == 7
    assert naps.taken == [1, 2, 4, 8, 16, 30]


async def test_a_server_that_recovers_is_believed(receiver, dial, naps):
    receiver.answers = [(503, ""), None, (202, "")]
    assert await call(Hook("h", receiver.url, retries=3), PAYLOAD, dial, sleep=naps) is None
    assert naps.taken == [1, 2]


async def test_a_server_that_refuses_in_the_end_is_quoted(receiver, dial, naps):
    receiver.answers = [(503, ""), (403, "no")]
    assert await call(Hook("h", receiver.url, retries=3), PAYLOAD, dial, sleep=naps) == "no"


async def test_no_answer_is_told_with_its_reason(receiver, dial, naps):
    receiver.is_silent = True
    said = await call(Hook("h", receiver.url, timeout=0.05, retries=1), PAYLOAD, dial, sleep=naps)
    assert said == f"POST {receiver.url} giving up after 2 attempt(s): no answer within 0.05s"


async def test_an_address_that_may_not_be_dialled_is_not_tried_again(naps):
    class Closed:
        async def request(self, *_, **__):
            raise AddressRefused("host h leads to a loopback, link-local or metadata address")

    said = await call(Hook("h", "http://h", retries=5), PAYLOAD, Closed(), sleep=naps)
    assert said == "host h leads to a loopback, link-local or metadata address"
    assert naps.taken == []


async def test_a_hook_with_an_unreadable_field_is_not_called(receiver, dial):
    said = await call(Hook("h", receiver.url, problem="timeout x is not a duration"), PAYLOAD, dial)
    assert (said, receiver.received) == ("timeout x is not a duration", [])


async def test_disable_tls_reaches_the_dial(receiver, dial):
    await call(Hook("h", receiver.url, verify=False), PAYLOAD, dial)
    await call(Hook("h", receiver.url), PAYLOAD, dial)
    assert dial.verified == [False, True]


async def test_t21_t42_what_a_server_says_is_cut_and_escaped_and_the_address_is_shown_without_its_token(receiver, dial):
    receiver.answers = [(403, "\x1b[31m\u202e" + "x" * 1000)]
    said = await call(Hook("h", receiver.url), PAYLOAD, dial)
    assert said.startswith("\\x1b[31m\\u202exxx")
    assert len(said) == 200
    receiver.answers = [(500, "")]
    said = await call(Hook("h", f"{receiver.url}/?token=s3cr3t"), PAYLOAD, dial)
    assert said == f"POST {receiver.url}/?*** giving up after 1 attempt(s)"
