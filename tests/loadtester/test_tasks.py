"""Tasks with real processes: what is started, what is not, and what their callers are told."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil

import pytest
from aiohttp import web

from fleet_rollout.loadtester.gates import MemoryGates
from fleet_rollout.loadtester.options import EXTRA_TASKS, Options
from fleet_rollout.loadtester.server import serve

SECRET = "s3cr3t"


@pytest.fixture
def lines(tmp_path):
    """What the test's programs have written down."""
    path = tmp_path / "lines"
    path.touch()

    def read() -> list[str]:
        return path.read_text().splitlines()

    read.path = path
    return read


async def written(eventually, lines, count: int) -> list[str]:
    async def all_there() -> bool:
        return len(lines()) >= count

    await eventually(all_there, every=0.02)
    return lines()


def is_alive(pid: str) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# Load in the background


async def test_a_command_is_started_with_its_words_and_its_caller_does_not_wait(tester, program, lines, eventually):
    program("wrk", f'for word in "$@"; do echo "$word" >> {lines.path}; done; echo end >> {lines.path}')
    assert await tester.task("wrk -H 'Cookie: a=b; c' \"two words\" http://h/?x=1") == (202, "")
    assert await written(eventually, lines, 5) == ["-H", "Cookie: a=b; c", "two words", "http://h/?x=1", "end"]


async def test_no_shell_reads_a_command(tester, program, lines, tmp_path, eventually):
    program("wrk", f'echo "$*" >> {lines.path}')
    marker = tmp_path / "marker"
    for command in (f"wrk $(touch {marker})", f"wrk; touch {marker}", f"wrk `touch {marker}`", f"wrk > {marker}"):
        said = await tester.task(command)
        assert said.status == 400
        assert said.text.startswith("shell syntax is not supported: ")
    assert (await tester.task(f"wrk '$(touch {marker})'")).status == 202
    assert await written(eventually, lines, 1) == [f"$(touch {marker})"]
    assert not marker.exists()


@pytest.mark.parametrize("command", ["sh -c id", "curl http://h/", "/bin/sh", "python3 -c 1"])
async def test_only_programs_on_the_list_are_started(tester, command):
    status, text = await tester.task(command)
    assert status == 400
    assert "is not an allowed program; allowed are ghz, grpc_health_probe, hey, k6, wrk" in text


async def test_a_program_may_be_added_to_the_list(open_tester, program, lines, eventually):
    program("mine", f"echo ran >> {lines.path}")
    tester = await open_tester(allowed=frozenset({"mine"}))
    assert (await tester.task("mine")).status == 202
    assert await written(eventually, lines, 1) == ["ran"]
    assert (await tester.task("hey http://h/")).status == 400


async def test_a_program_that_is_not_installed_is_named(tester, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert await tester.task("ghz -z 1m h:9") == (400, "ghz is not installed here")


async def test_the_same_command_of_the_same_canary_is_not_started_twice(tester, program, lines, eventually):
    program("wrk", f"echo $$ >> {lines.path}; exec sleep 600")
    for _ in range(3):
        assert (await tester.task("wrk a")).status == 202
    assert (await tester.task("wrk b")).status == 202
    assert (await tester.task("wrk a", canary="other")).status == 202
    pids = await written(eventually, lines, 3)
    assert len(pids) == 3
    _, text = await tester.ask("/metrics", b"", "GET")
    assert "fleet_rollout_loadtester_tasks_running 3.0" in text


async def test_once_it_has_ended_it_is_started_again(tester, program, lines, eventually):
    program("wrk", f"echo ran >> {lines.path}")

    async def ran_twice() -> bool:
        await tester.task("wrk a")
        return len(lines()) >= 2

    await eventually(ran_twice, every=0.05)


async def test_a_task_that_takes_too_long_ends_with_its_whole_group(open_tester, program, lines, eventually, caplog):
    program("wrk", f"sleep 600 & echo $! >> {lines.path}; echo $$ >> {lines.path}; wait")
    tester = await open_tester(timeout=0.5)
    await tester.task("wrk a")
    pids = await written(eventually, lines, 2)

    async def all_gone() -> bool:
        return not any(is_alive(pid) for pid in pids)

    await eventually(all_gone)

    async def said() -> bool:
        return "did not finish within 0.5s" in caplog.text or "not finished within 0.5s" in caplog.text

    await eventually(said)


async def test_a_program_that_floods_is_ended(open_tester, program, lines, eventually, caplog):
    program("wrk", f"echo $$ >> {lines.path}; exec yes")
    tester = await open_tester(output_cap=10_000)
    await tester.task("wrk a")

    async def ended() -> bool:
        return "output is larger than 10000 bytes" in caplog.text

    await eventually(ended)
    assert not is_alive(lines()[0])


async def test_tasks_end_with_the_load_tester(open_tester, program, lines, eventually):
    # More than a pipe holds: once the line is written, somebody reads the program's output.
    program("wrk", f"head -c 200000 /dev/zero; sleep 600 & echo $! >> {lines.path}; wait")
    client = await open_tester()
    async with serve(Options(host="127.0.0.1", port=0), MemoryGates()) as url:
        client.url = url
        await client.task("wrk a")
        (pid,) = await written(eventually, lines, 1)
        assert is_alive(pid)

    async def gone() -> bool:
        return not is_alive(pid)

    await eventually(gone)


async def test_there_is_room_for_so_many_tasks_and_no_more(open_tester, program):
    program("wrk", "exec sleep 600")
    tester = await open_tester(most_tasks=2)
    said = [await tester.task(f"wrk {number}") for number in range(3)]
    assert [each.status for each in said] == [202, 202, 503]
    assert said[2].text == "2 tasks are running already"
    assert (await tester.ask("/healthz")).status == 200


async def test_t22_a_child_sees_nothing_of_our_environment(tester, program, lines, eventually, monkeypatch):
    monkeypatch.setenv("FLEET_SECRET", SECRET)
    program("wrk", f"env >> {lines.path}; echo end >> {lines.path}")
    await tester.task("wrk a")
    seen = await written(eventually, lines, 2)

    async def ended() -> bool:
        return "end" in lines()

    await eventually(ended)
    assert {line.partition("=")[0] for line in seen} - {"PWD", "SHLVL", "_", "OLDPWD", "end"} <= {
        "PATH",
        "LANG",
        "LC_ALL",
        "HOME",
    }


async def test_output_is_logged_where_asked_for_or_where_the_program_failed(tester, program, eventually, caplog):
    caplog.set_level(logging.DEBUG)
    program("wrk", 'echo "said by $1"; test "$1" != bad')
    await tester.task("wrk quiet")
    await tester.task("wrk loud", logCmdOutput="true")
    await tester.task("wrk bad")

    async def ended() -> bool:
        return "said by loud" in caplog.text and "said by bad" in caplog.text and "exit status 1" in caplog.text

    await eventually(ended)
    assert "said by quiet" not in caplog.text


async def test_t21_no_log_holds_the_arguments_of_a_command(tester, program, eventually, caplog):
    caplog.set_level(logging.DEBUG)
    program("wrk", 'test "$2" = ok')
    await tester.task(f"wrk {SECRET} ok")
    await tester.task(f"wrk {SECRET} bad")
    await tester.task(f"wrk {SECRET} ok")

    async def ended() -> bool:
        return "wrk failed" in caplog.text and "wrk finished" in caplog.text

    await eventually(ended)
    assert SECRET not in caplog.text


# What is asked for wrongly


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "metadata not found in payload"),
        ({"type": "cmd"}, "cmd not found in metadata"),
        ({"cmd": ""}, "the command is empty"),
        ({"cmd": "hey \0"}, "the command holds a NUL character"),
        ({"type": "conquer"}, "unknown task type conquer"),
        ({"type": "CMD"}, "unknown task type CMD"),
    ],
)
async def test_what_is_asked_for_wrongly_is_a_bad_request(tester, metadata, message):
    assert await tester.task(**metadata) == (400, message)


@pytest.mark.parametrize("type", [*EXTRA_TASKS, "helmv3"])
async def test_what_acts_on_more_than_the_workload_is_off_until_it_is_asked_for(tester, type):
    flag = "--allow-shell" if type == "bash" else f"--enable-task {type.removesuffix('v3')}"
    said = await tester.task("anything", type=type)
    assert said == (403, f"task type {type} is off; start the load tester with {flag}")


# With the shell


async def test_with_a_shell_commands_are_flaggers(open_tester, lines, eventually):
    tester = await open_tester(allow_shell=True)
    assert (await tester.task(f"echo a; echo b | tee -a {lines.path}")).status == 202
    assert await written(eventually, lines, 1) == ["b"]


async def test_a_bash_task_is_awaited_and_its_output_given_where_asked_for(open_tester):
    tester = await open_tester(allow_shell=True)
    assert await tester.task("echo some | cat", type="bash") == (200, "")
    assert await tester.task("echo some | cat", type="bash", returnCmdOutput="true") == (200, "some\n")
    assert await tester.task("echo out; echo err >&2", type="bash", returnCmdOutput="1") == (200, "out\nerr\n")
    assert await tester.task("false", type="bash") == (500, "command false failed: : exit status 1")
    assert await tester.task("echo no; exit 3", type="bash") == (
        500,
        "command echo no; exit 3 failed: no\n: exit status 3",
    )
    assert await tester.task("kill -9 $$", type="bash") == (500, "command kill -9 $$ failed: : signal: killed")


async def test_an_awaited_task_that_takes_too_long_is_a_failure(open_tester):
    tester = await open_tester(allow_shell=True, timeout=0.3)
    status, text = await tester.task("sleep 600", type="bash")
    assert status == 500
    assert "within 0.3s" in text


async def test_a_second_caller_gets_the_answer_of_the_run_that_is_under_way(open_tester, lines, tmp_path, eventually):
    tester = await open_tester(allow_shell=True)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    command = f"echo ran >> {lines.path}; cat {fifo}"
    callers = [asyncio.create_task(tester.task(command, type="bash", returnCmdOutput="true")) for _ in range(2)]
    await written(eventually, lines, 1)
    callers[0].cancel()  # its own time-out is over; the run goes on
    with pytest.raises(asyncio.CancelledError):
        await callers[0]
    await asyncio.to_thread(fifo.write_text, "done")
    assert await callers[1] == (200, "done")
    assert lines() == ["ran"]


@pytest.mark.parametrize("type", ["helm", "helmv3"])
async def test_helm_is_run_where_it_is_enabled(open_tester, program, type, monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    program("helm", 'echo "$KUBERNETES_SERVICE_HOST $*"')
    tester = await open_tester(extra_tasks=frozenset({"helm"}))
    said = await tester.task("test podinfo --cleanup", type=type, returnCmdOutput="true")
    assert said == (200, "10.0.0.1 test podinfo --cleanup\n")
    assert (await tester.task("test `x`", type=type)).status == 400


async def test_kubectl_is_run_where_it_is_enabled(open_tester, program):
    program("kubectl", "echo broken >&2; exit 1")
    tester = await open_tester(extra_tasks=frozenset({"kubectl"}))
    said = await tester.task("get pods", type="kubectl")
    assert said == (500, "command get pods failed: broken\n: exit status 1")


async def test_a_program_that_is_missing_is_a_failure_of_an_awaited_task(open_tester, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    tester = await open_tester(extra_tasks=frozenset({"helm"}))
    said = await tester.task("test podinfo", type="helm")
    assert said == (500, "command test podinfo failed: : No such file or directory")


# hey, whether it is installed or not


async def test_hey_itself_is_used_where_it_is_installed(tester, program, lines, eventually):
    program("hey", f'echo "hey $*" >> {lines.path}')
    await tester.task("hey -z 1s http://h/")
    assert await written(eventually, lines, 1) == ["hey -z 1s http://h/"]


@pytest.fixture
def without_hey(monkeypatch):
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, *rest: None if name == "hey" else which(name, *rest))


async def test_where_hey_is_not_installed_its_commands_are_understood(without_hey, tester, eventually):
    command = f"hey -n 6 -c 2 -H 'X-Test: yes' {tester.url}/gate/approve"
    assert (await tester.task(command, logCmdOutput="true")).status == 202

    async def counted() -> bool:
        _, text = await tester.ask("/metrics", b"", "GET")
        return 'tasks_total{result="success",type="cmd"}' in text and "tasks_running 0.0" in text

    await eventually(counted)


async def test_a_flag_that_is_not_known_is_a_bad_request_at_once(without_hey, tester):
    said = await tester.task("hey -h2 http://h/")
    assert said == (400, "hey: -h2: HTTP/2 is spoken by hey itself alone; install it")


async def test_t22_the_built_in_generators_arguments_are_not_in_its_command_line(without_hey, tester, web_server):
    seen: list[str] = []
    done = asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.Response:
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline") as file:
                    seen.append(file.read())
            except OSError:
                continue
        done.set()
        return web.Response()

    url = await web_server(answer)
    await tester.task(f"hey -n 1 -c 1 -a user:{SECRET} {url}")
    await asyncio.wait_for(done.wait(), 60)
    assert any("fleet_rollout.loadtester.generator" in each for each in seen)
    assert not any(SECRET in each for each in seen)


async def test_the_built_in_generator_goes_through_the_load_testers_proxy(without_hey, open_tester, web_server):
    asked: asyncio.Queue[str] = asyncio.Queue()

    async def answer(request: web.BaseRequest) -> web.Response:
        asked.put_nowait(str(request.url))
        return web.Response()

    tester = await open_tester(proxy=(await web_server(answer)).removeprefix("http://"))
    await tester.task("hey -n 1 -c 1 http://podinfo-canary.test:9898/x")
    assert await asyncio.wait_for(asked.get(), 60) == "http://podinfo-canary.test:9898/x"
