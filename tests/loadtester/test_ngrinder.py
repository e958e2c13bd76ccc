"""nGrinder tasks against a small server that speaks its protocol."""

from __future__ import annotations

import asyncio
import base64

import pytest
from aiohttp import web
from yarl import URL

from fleet_rollout.loadtester.ngrinder import Test, _interval
from fleet_rollout.loadtester.runner import Outcome

PASSWORD = base64.b64encode(b"s3cr3t").decode()


@pytest.fixture
async def ngrinder(web_server):
    """What was asked, and what is answered: statuses one after the other, the last for ever."""

    class Grinder:
        started: object = {"id": 42, "success": True}

    state = Grinder()
    state.statuses = ["FINISHED"]
    state.requests = []
    state.asked = asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.Response:
        state.requests.append((request.method, request.path_qs, request.headers.get("Authorization")))
        state.asked.set()
        if request.method == "POST":
            return web.json_response(state.started)
        status = state.statuses.pop(0) if len(state.statuses) > 1 else state.statuses[0]
        return web.json_response({"status": [{"status_id": status}] if status else []})

    state.url = await web_server(answer)
    return state


@pytest.fixture
def asked(ngrinder):
    return {"type": "ngrinder", "server": ngrinder.url, "clone": "7", "username": "admin", "passwd": PASSWORD}


def of(ngrinder) -> Test:
    return Test(URL(ngrinder.url), "7", "Basic x", 0.01)


async def test_a_test_is_cloned_started_and_looked_at_until_it_has_ended(ngrinder):
    ngrinder.statuses = ["TESTING", "", "FINISHED"]
    assert await of(ngrinder).run() == Outcome()
    assert [request[:2] for request in ngrinder.requests] == [
        ("POST", "/perftest/api/7/clone_and_start"),
        *[("GET", "/perftest/api/42/status")] * 3,
    ]


@pytest.mark.parametrize("status", ["STOP_BY_ERROR", "CANCELED", "UNKNOWN"])
async def test_a_bad_end_is_a_failure(ngrinder, status):
    ngrinder.statuses = [status]
    assert (await of(ngrinder).run()).problem == f"the test ended as {status}"


@pytest.mark.parametrize("started", [{"success": False}, {}, {"id": None}, []])
async def test_a_test_that_was_not_started_is_a_failure(ngrinder, started):
    ngrinder.started = started
    assert (await of(ngrinder).run()).problem.startswith("the test was not started: ")


async def test_what_is_cut_off_here_is_stopped_there(ngrinder):
    ngrinder.statuses = ["TESTING"]
    running = asyncio.create_task(of(ngrinder).run())
    await ngrinder.asked.wait()
    while len(ngrinder.requests) < 2:
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ngrinder.requests[-1][:2] == ("PUT", "/perftest/api/42?action=stop")


async def test_its_caller_does_not_wait_and_the_password_is_decoded(open_tester, ngrinder, asked):
    tester = await open_tester(extra_tasks=frozenset({"ngrinder"}))
    assert await tester.task(**asked) == (202, "")
    await asyncio.wait_for(ngrinder.asked.wait(), 60)
    assert ngrinder.requests[0][2] == f"Basic {base64.b64encode(b'admin:s3cr3t').decode()}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *[
            ({field: ""}, "server, clone, username and passwd are required metadata")
            for field in ("server", "clone", "username", "passwd")
        ],
        ({"clone": "x"}, "metadata clone must be integer"),
        ({"clone": "7/../../x"}, "metadata clone must be integer"),
        ({"passwd": "%"}, "metadata passwd is no base64, or server is no URL"),
        ({"server": "h"}, "metadata server is not an http:// or https:// URL"),
    ],
)
async def test_what_is_asked_for_wrongly_is_named(open_tester, asked, change, message):
    tester = await open_tester(extra_tasks=frozenset({"ngrinder"}))
    assert await tester.task(**asked | change) == (400, message)


@pytest.mark.parametrize(("text", "seconds"), [("", 1.0), ("x", 1.0), ("5s", 5.0), ("1ms", 1.0), ("24h", 600.0)])
async def test_the_interval_is_what_is_written_within_reason(text, seconds):
    assert _interval({"pollInterval": text}) == seconds
