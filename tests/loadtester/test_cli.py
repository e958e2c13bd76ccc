"""`fleet-rollout loadtester` as a process: its flags, its signals, its exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from click.testing import CliRunner

from fleet_rollout.faces.cli.loadtester import loadtester
from fleet_rollout.faces.cli.main import main
from fleet_rollout.loadtester.options import ALLOWED, EXTRA_TASKS
from tests.loadtester.conftest import CANARY, Client

COMMAND = [
    sys.executable,
    "-m",
    "fleet_rollout",
    "loadtester",
    "--host",
    "127.0.0.1",
    "--port",
    "0",
    "--no-persistence",
]


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Awaitable[tuple[Client, asyncio.subprocess.Process]]]]:
    started: list[asyncio.subprocess.Process] = []
    session = aiohttp.ClientSession()

    async def run(*flags: str, env: dict[str, str] | None = None) -> tuple[Client, asyncio.subprocess.Process]:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, *flags, stderr=asyncio.subprocess.PIPE, env={**os.environ, **(env or {})}
        )
        started.append(process)
        assert process.stderr is not None
        async with asyncio.timeout(60):
            line = json.loads(await process.stderr.readline())
        return Client(line["url"], session), process

    yield run
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.wait()
    await session.close()


async def test_it_serves_until_sigterm_and_ends_its_tasks(start, program, tmp_path, eventually):
    pids = tmp_path / "pids"
    program("wrk", f"echo $$ > {pids}; head -c 200000 /dev/zero; echo ready >> {pids}; exec sleep 600")
    tester, process = await start()
    assert await tester.ask("/gate/open") == (202, "")
    assert (await tester.task("wrk http://h/")).status == 202

    async def running() -> bool:
        return pids.exists() and "ready" in pids.read_text()

    await eventually(running)
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(60):
        assert await process.wait() == 0

    async def gone() -> bool:
        return not os.path.exists(f"/proc/{pids.read_text().split()[0]}")

    await eventually(gone)


async def test_flags_reach_the_service(start, program):
    program("mine", "exit 0")
    tester, _ = await start(
        "--namespace-regexp", "^team-", "--allow", "mine", "--enable-task", "helm", "--max-tasks", "1"
    )
    assert (await tester.ask("/gate/open")).status == 403
    team = CANARY | {"namespace": "team-a"}
    assert (await tester.ask("/", team | {"metadata": {"cmd": "mine"}})).status == 202
    assert (await tester.ask("/", team | {"metadata": {"type": "helm"}})).text == "cmd not found in metadata"
    assert (await tester.ask("/", team | {"metadata": {"type": "bash", "cmd": "x"}})).status == 403


async def test_variables_that_kubernetes_makes_of_a_service_change_nothing(start):
    tester, _ = await start(env={"FLEET_ROLLOUT_LOADTESTER_PORT": "tcp://10.0.0.1:80", "LOADTESTER_PORT": "x"})
    assert await tester.ask("/healthz") == (200, "OK")


async def test_a_port_that_is_taken_is_said_in_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        process = await asyncio.create_subprocess_exec(*COMMAND, "--port", port, stderr=asyncio.subprocess.PIPE)
        _, errors = await process.communicate()
    assert process.returncode == 1
    (line,) = errors.splitlines()
    assert json.loads(line)["message"].startswith(f"port {port}: ")


async def test_outside_of_a_pod_the_missing_kubeconfig_is_named():
    command = [*COMMAND[:-1], "--persistence"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("KUBERNETES_")}
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE, env=env)
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert "not running in a Pod; name a kubeconfig with --kubeconfig" in json.loads(errors)["message"]


def invoke(*arguments: str) -> str:
    return CliRunner().invoke(loadtester, list(arguments), terminal_width=200).output


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--timeout", "soon"], "not a duration such as 30s"),
        (["--namespace-regexp", "("], "not a regular expression"),
        (["--enable-task", "conquer"], "'conquer' is not one of"),
        (["--port", "70000"], "not in the range"),
        (["--concord-keys", "/nonexistent"], "does not exist"),
    ],
)
def test_a_wrong_flag_is_said(flags, said):
    assert said in invoke(*flags)


def test_help_names_what_is_allowed_and_what_may_be_added():
    text = re.sub(r"\s+", " ", invoke("--help"))
    for word in (*ALLOWED, *EXTRA_TASKS, "--allow-shell", "--no-persistence"):
        assert word in text
    assert "loadtester" in CliRunner().invoke(main, ["--help"]).output
