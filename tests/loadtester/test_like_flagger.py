"""The same requests to Flagger's own load tester and to ours: same statuses and words, apart from what is listed."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from fleet_rollout.lab import binaries
from tests.loadtester.conftest import CANARY, Client, Said

OTHER = {"name": "other", "namespace": "elsewhere"}


@pytest.fixture
async def flagger(tester) -> AsyncIterator[Client]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        binaries.require("loadtester"),
        f"-port={port}",
        "-log-level=error",
        env={"PATH": os.environ["PATH"]},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    client = Client(f"http://127.0.0.1:{port}", tester.session)
    async with asyncio.timeout(60):
        while True:
            try:
                await client.ask("/healthz")
                break
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)
    yield client
    process.terminate()
    await process.wait()


def task(**metadata: str) -> dict[str, Any]:
    return CANARY | {"metadata": metadata}


# What is asked, in this order: gates keep their state from one to the next.
SAME = [
    ("GET", "/healthz", b""),
    ("POST", "/gate/approve", CANARY),
    ("GET", "/gate/halt", b""),
    ("POST", "/gate/check", CANARY),
    ("POST", "/gate/open", CANARY),
    ("GET", "/gate/check", CANARY),
    ("POST", "/gate/check", OTHER),
    ("POST", "/rollback/check", CANARY),
    ("POST", "/rollback/open", CANARY),
    ("POST", "/rollback/check", CANARY),
    ("PUT", "/gate/close", CANARY),
    ("POST", "/gate/check", CANARY),
    ("POST", "/rollback/close", CANARY),
    ("POST", "/rollback/check", CANARY),
    ("POST", "/", CANARY),
    ("POST", "/", CANARY | {"metadata": {}}),
    ("POST", "/any/other/path", CANARY | {"metadata": None}),
    ("POST", "/", task(type="cmd")),
    ("POST", "/", task(cmd="hey -n 1 -c 1 http://127.0.0.1:1/")),
    ("POST", "/", task(type="cmd", cmd="hey -n 1 -c 1 http://127.0.0.1:1/")),
    ("POST", "/", task(type="bash", cmd="true")),
    ("POST", "/", task(type="bash", cmd="echo said", returnCmdOutput="true")),
    ("POST", "/", task(type="bash", cmd="echo said >&2; exit 3")),
    ("POST", "/", task(type="bash", cmd="false", returnCmdOutput="true")),
    ("POST", "/", task(type="bash")),
]
# Flagger says nothing with these statuses; the words are ours.
ONLY_STATUS = [
    ("POST", "/gate/check", b"{"),
    ("POST", "/gate/open", b""),
    ("POST", "/rollback/close", b"[]"),
    ("POST", "/", b"no json"),
    ("POST", "/", b'{"metadata": {"type": 1}}'),
]
UNLIKE = {
    "an unknown task type is named (Flagger drops the connection)": (
        task(type="conquer"),
        None,
        Said(400, "unknown task type conquer"),
    ),
    "no shell reads a command (Flagger starts it)": (
        task(cmd="true | true"),
        Said(202, ""),
        Said(400, ""),
    ),
    "only load generators are started (Flagger starts everything)": (task(cmd="true"), Said(202, ""), Said(400, "")),
    "kubectl is off (Flagger runs it)": (task(type="kubectl", cmd="version --client"), Said(200, ""), Said(403, "")),
}


async def answers(client: Client, requests: list[tuple[str, str, Any]]) -> list[Said]:
    return [await client.ask(path, body, method) for method, path, body in requests]


async def test_the_same_answers(flagger, open_tester):
    ours = await open_tester(allow_shell=True)
    theirs = await answers(flagger, SAME)
    bash_without_command = theirs.pop()
    assert await answers(ours, SAME[:-1]) == theirs
    # To Flagger a missing cmd is an empty line of shell.
    assert (bash_without_command.status, (await ours.task(type="bash")).status) == (200, 400)


async def test_the_same_statuses(flagger, tester):
    assert [said.status for said in await answers(tester, ONLY_STATUS)] == [
        said.status for said in await answers(flagger, ONLY_STATUS)
    ]


@pytest.mark.parametrize("difference", UNLIKE)
async def test_differences_are_on_purpose(flagger, tester, difference):
    body, theirs, ours = UNLIKE[difference]
    if theirs is None:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await flagger.ask("/", body)
    else:
        assert (await flagger.ask("/", body)).status == theirs.status
    said = await tester.ask("/", body)
    assert said.status == ours.status
    assert not ours.text or said.text == ours.text
