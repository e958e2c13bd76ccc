"""Concord tasks against a small server that speaks its protocol."""

from __future__ import annotations

import pytest
from aiohttp import web
from yarl import URL

from fleet_rollout.loadtester.concord import Process

KEY = "s3cr3t-key"


@pytest.fixture
def keys(tmp_path):
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "api-key").write_text(f"{KEY}\n")
    (tmp_path / "elsewhere").write_text("token of the Pod")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    return folder


@pytest.fixture
async def concord(web_server):
    """What was asked, and what is answered: statuses one after the other, the last for ever."""

    class Concord:
        statuses = ["FINISHED"]
        started: object = {"instanceId": "i-1", "ok": True}
        requests: list[tuple[str, str, str | None, dict[str, str]]] = []

    state = Concord()
    state.requests = []

    async def answer(request: web.BaseRequest) -> web.Response:
        form = {}
        if request.method == "POST":
            assert request.content_type == "multipart/form-data"
            form = {name: str(value) for name, value in (await request.post()).items()}
        state.requests.append((request.method, request.path, request.headers.get("Authorization"), form))
        if request.method == "POST":
            return web.json_response(state.started)
        status = state.statuses.pop(0) if len(state.statuses) > 1 else state.statuses[0]
        return web.json_response({"instanceId": "i-1", "status": status})

    state.url = await web_server(answer)
    return state


@pytest.fixture
def asked(concord, keys):
    return {
        "type": "concord",
        "server": concord.url,
        "org": "o",
        "project": "p",
        "repo": "r",
        "entrypoint": "default",
        "apiKeyPath": str(keys / "api-key"),
        "endpoint": "http://podinfo-canary.test:9898/",
        "pollInterval": "1",
        "arguments.depth": "3",
    }


@pytest.fixture
async def tester(open_tester, keys):
    return await open_tester(extra_tasks=frozenset({"concord"}), concord_keys=keys)


async def test_a_process_is_started_and_awaited(tester, concord, asked):
    concord.statuses = ["RUNNING", "FINISHED"]
    assert await tester.task(**asked) == (200, "")
    assert [(method, path) for method, path, *_ in concord.requests] == [
        ("POST", "/api/v1/process"),
        ("GET", "/api/v1/process/i-1"),
        ("GET", "/api/v1/process/i-1"),
    ]
    assert {authorization for _, _, authorization, _ in concord.requests} == {KEY}
    assert concord.requests[0][3] == {
        "org": "o",
        "project": "p",
        "repo": "r",
        "entryPoint": "default",
        "arguments.endpoint": "http://podinfo-canary.test:9898/",
        "arguments.depth": "3",
    }


async def test_a_failed_process_is_a_failed_task(tester, concord, asked):
    concord.statuses = ["FAILED"]
    assert await tester.task(**asked) == (500, "concord instanceID: i-1 failed")


async def test_patience_ends(concord):
    concord.statuses = ["RUNNING"]
    outcome = await Process(URL(concord.url), KEY, interval=0.01, patience=0.05).run({"org": "o"})
    assert outcome.problem == "concord process timed out, after 0.05 seconds"


@pytest.mark.parametrize("started", [{}, {"instanceId": 1}, [], "x"])
async def test_an_answer_that_names_no_process_is_a_failure(tester, concord, asked, started):
    concord.started = started
    assert await tester.task(**asked) == (500, "concord started no process")


async def test_a_server_that_is_not_there_is_a_failure_without_its_key(tester, asked):
    said = await tester.task(**asked | {"server": "http://127.0.0.1:1"})
    assert said == (500, "concord does not answer as expected: ClientConnectorError")


async def test_t8_the_key_does_not_follow_a_redirect(tester, asked, web_server, concord):
    async def away(request: web.BaseRequest) -> web.Response:
        return web.Response(status=307, headers={"Location": concord.url + request.path})

    said = await tester.task(**asked | {"server": await web_server(away)})
    assert said.status == 500
    assert concord.requests == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *[
            ({field: ""}, f"`{field}` is required with type concord")
            for field in ("server", "org", "project", "repo", "entrypoint", "apiKeyPath", "endpoint")
        ],
        ({"arguments.endpoint": "x"}, "arguments.endpoint cannot be given; write endpoint"),
        ({"pollInterval": "x"}, "`pollInterval` is not a number of seconds from 1 to 3600"),
        ({"pollTimeout": "0"}, "`pollTimeout` is not a number of seconds from 1 to 3600"),
        ({"server": "ftp://h"}, "`server` is not an http:// or https:// URL"),
        ({"server": "http://h:x"}, "`server` is not a URL"),
        ({"apiKeyPath": "/etc/passwd"}, "`apiKeyPath` is not below the folder that --concord-keys names"),
        ({"apiKeyPath": "KEYS/../elsewhere"}, "`apiKeyPath` is not below the folder that --concord-keys names"),
        ({"apiKeyPath": "KEYS/link"}, "`apiKeyPath` is not below the folder that --concord-keys names"),
        ({"apiKeyPath": "KEYS/missing"}, "`apiKeyPath` cannot be read"),
    ],
)
async def test_what_is_asked_for_wrongly_is_named_and_no_other_file_is_sent(
    tester, asked, keys, concord, change, message
):
    change = {field: value.replace("KEYS", str(keys)) for field, value in change.items()}
    assert await tester.task(**asked | change) == (400, message)
    assert concord.requests == []
