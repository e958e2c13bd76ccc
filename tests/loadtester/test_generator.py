"""The built-in load generator: hey's command line, real requests, hey's summary."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import subprocess
import sys
import time
from collections import Counter

import pytest
from aiohttp import web

from fleet_rollout.lab import binaries
from fleet_rollout.loadtester import generator_summary
from fleet_rollout.loadtester.generator import generate
from fleet_rollout.loadtester.generator_flags import UsageError, read_plan
from fleet_rollout.loadtester.generator_summary import Report

# Flags


def test_the_defaults_are_heys():
    plan = read_plan(["http://h:9898/x"])
    assert str(plan.url) == "http://h:9898/x"
    assert (plan.method, plan.workers, plan.requests, plan.duration, plan.rate, plan.timeout) == (
        "GET",
        50,
        200,
        0.0,
        0.0,
        20.0,
    )
    assert (plan.keep_alive, plan.follows_redirects, plan.body, plan.proxy) == (True, True, None, None)
    assert dict(plan.headers) == {
        "User-Agent": "hey/fleet-rollout",
        "Content-Type": "text/html",
        "Accept-Encoding": "gzip",
    }
    assert plan.per_worker == 4


def test_every_common_flag_is_understood():
    command = (
        "-z 1m30s -q=10.5 --c 2 -n 7 -m post -host app.example.com -T application/json -A text/html -U ua -t 3 "
        "-disable-keepalive -disable-redirects=true -disable-compression -x proxy:3128 -cpus 4 "
        "-H 'Cookie: type=insider; a=b' -H X-Empty:y -d '{\"a\": 1}' -a user:pass:word http://h/"
    )
    plan = read_plan(shlex.split(command))
    assert (plan.duration, plan.rate, plan.workers, plan.method, plan.timeout) == (90.0, 10.5, 2, "POST", 3.0)
    assert (plan.keep_alive, plan.follows_redirects, plan.body) == (False, False, b'{"a": 1}')
    assert plan.proxy == "http://proxy:3128"
    assert plan.per_worker is None
    assert dict(plan.headers) == {
        "User-Agent": "ua",
        "Content-Type": "application/json",
        "Accept": "text/html",
        "Accept-Encoding": "identity",
        "Cookie": "type=insider; a=b",
        "X-Empty": "y",
        "Host": "app.example.com",
        "Authorization": "Basic dXNlcjpwYXNzOndvcmQ=",
    }


@pytest.mark.parametrize(
    ("arguments", "url"),
    [("h:9898/x", "http://h:9898/x"), ("https://h", "https://h"), ("-disable-keepalive=false -- h", "http://h")],
)
def test_an_address_without_a_scheme_is_http(arguments, url):
    plan = read_plan(arguments.split())
    assert str(plan.url).rstrip("/") == url
    assert plan.keep_alive


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "one address is needed, after all flags"),
        ("-z 1m", "one address is needed, after all flags"),
        ("http://h/ -z 1m", "'-z' follows the address"),
        ("-z", "-z needs a value"),
        ("-z x http://h/", "-z is not a duration such as 10s or 3m"),
        ("-z -1s http://h/", "-z is not a duration such as 10s or 3m"),
        ("-n x http://h/", "-n is not a number"),
        ("-n -5 http://h/", "-n must not be negative"),
        ("-q x http://h/", "-q is not a number"),
        ("-q inf http://h/", "-q must not be negative"),
        ("-q nan http://h/", "-q must not be negative"),
        ("-c 0 http://h/", "-c must be from 1 to 1000"),
        ("-c 1001 http://h/", "-c must be from 1 to 1000"),
        ("-n 5 -c 6 http://h/", "-n must not be less than -c"),
        ("-m BREW http://h/", "-m must be one of GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"),
        ("-H nonsense http://h/", "-H is not of the form 'Name: value'"),
        ("-a user http://h/", "-a is not of the form user:password"),
        ("-h2 http://h/", "-h2: HTTP/2 is spoken by hey itself alone; install it"),
        ("-D /etc/passwd http://h/", "-D: files are not read; give the body with -d"),
        ("-o csv http://h/", "-o: only the summary is printed"),
        ("-h http://h/", "flag -h is not known"),
        ("file:///etc/passwd", "the address is not an http:// or https:// URL"),
        ("http://", "the address is not an http:// or https:// URL"),
        ("http://h:x/", "the address is not a URL"),
        ("-x ftp://h http://h/", "the address is not an http:// or https:// URL"),
    ],
)
def test_what_cannot_be_done_is_named_by_its_flag(arguments, message):
    with pytest.raises(UsageError) as caught:
        read_plan(arguments.split())
    assert str(caught.value) == message


@pytest.mark.parametrize("flag", ["-H", "-host", "-U", "-T"])
def test_no_header_can_smuggle_another(flag):
    value = "X: a\r\nX-Evil: b" if flag == "-H" else "a\r\nX-Evil: b"
    with pytest.raises(UsageError):
        read_plan([flag, value, "http://h/"])


def test_t21_a_plans_repr_shows_neither_headers_nor_body():
    assert "s3cr3t" not in repr(read_plan(["-a", "u:s3cr3t", "-d", "s3cr3t", "http://h/"]))


# Requests


@pytest.fixture
def seen():
    return []


@pytest.fixture
async def url(web_server, seen):
    async def answer(request: web.BaseRequest) -> web.Response:
        seen.append((request, await request.read()))
        if request.path == "/hang":
            await asyncio.sleep(600)
        if request.path == "/moved":
            return web.Response(status=302, headers={"Location": "/"})
        return web.Response(status=int(request.path[1:] or 200), text="four")

    return await web_server(answer)


async def test_as_many_requests_are_sent_as_asked_for(url, seen):
    report, _ = await generate(read_plan(["-n", "10", "-c", "3", url]))
    assert (len(seen), report.answers) == (9, 9)  # hey, too, gives each worker the same number


async def test_requests_are_as_asked_for(url, seen):
    arguments = ["-n", "1", "-c", "1", "-m", "PUT", "-d", "body", "-host", "app.example.com", "-H", "X-Test: yes"]
    await generate(read_plan([*arguments, f"{url}/201?a=1"]))
    ((request, body),) = seen
    assert (request.method, request.path_qs, body) == ("PUT", "/201?a=1", b"body")
    assert (request.headers["Host"], request.headers["X-Test"]) == ("app.example.com", "yes")


async def test_a_rate_is_kept_by_each_worker_for_the_duration(url, seen):
    begin = time.monotonic()
    _, seconds = await generate(read_plan(["-z", "1s", "-q", "10", "-c", "2", url]))
    assert 0.9 <= seconds <= time.monotonic() - begin
    assert 2 <= len(seen) <= 20  # at most; a busy machine sends fewer


async def test_without_keep_alive_every_request_has_its_own_connection(url, seen):
    await generate(read_plan(["-n", "4", "-c", "1", url]))
    assert len({id(request.transport) for request, _ in seen}) == 1
    seen.clear()
    await generate(read_plan(["-n", "4", "-c", "1", "-disable-keepalive", url]))
    assert {request.headers.get("Connection", "").lower() for request, _ in seen} == {"close"}


async def test_redirects_are_followed_unless_told_otherwise(url, seen):
    await generate(read_plan(["-n", "1", "-c", "1", f"{url}/moved"]))
    assert [request.path for request, _ in seen] == ["/moved", "/"]
    seen.clear()
    report, seconds = await generate(read_plan(["-n", "1", "-c", "1", "-disable-redirects", f"{url}/moved"]))
    assert [request.path for request, _ in seen] == ["/moved"]
    assert "[302]\t1 responses" in report.text(seconds)


async def test_what_gets_no_answer_is_counted_with_its_reason(url):
    plan = read_plan(["-n", "2", "-c", "2", "-t", "1", f"{url}/hang"])
    report, seconds = await generate(plan)
    assert report.text(seconds) == "\nError distribution:\n  [2]\tno answer within 1s\n"
    report, seconds = await generate(read_plan(["-n", "2", "-c", "2", "http://127.0.0.1:1/"]))
    assert "[2]\tConnect call failed ('127.0.0.1', 1)" in report.text(seconds)


async def test_what_fails_at_once_is_not_tried_at_full_speed():
    report, seconds = await generate(read_plan(["-z", "1s", "-c", "1", "http://127.0.0.1:1/"]))
    (count,) = re.findall(r"\[(\d+)\]", report.text(seconds))
    assert int(count) <= 21


async def test_a_server_that_speaks_something_else_is_an_error_and_not_an_end():
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"SSH-2.0\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(nonsense, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        report, seconds = await generate(read_plan(["-n", "2", "-c", "1", f"127.0.0.1:{port}"]))
        assert report.answers == 0
        assert "Error distribution" in report.text(seconds)


# The summary


def test_the_summary_is_heys():
    report = Report()
    for number in range(1, 101):
        report.answered(200 if number % 10 else 500, number / 1000, 50)
    report.failed("connection refused")
    lines = report.text(2.0).splitlines()
    assert lines[:8] == [
        "Summary:",
        "  Total:\t2.0000 secs",
        "  Slowest:\t0.1000 secs",
        "  Fastest:\t0.0010 secs",
        "  Average:\t0.0505 secs",
        "  Requests/sec:\t50.0000",
        "  Total data:\t5000 bytes",
        "  Size/request:\t50 bytes",
    ]
    bars = lines[lines.index("Response time histogram:") + 1 :][:11]
    assert sum(int(re.findall(r"\[(\d+)\]", bar)[0]) for bar in bars) == 100
    assert "  50% in 0.0510 secs" in lines
    assert "  99% in 0.1000 secs" in lines
    assert lines[lines.index("Status code distribution:") + 1 :] == [
        "  [200]\t90 responses",
        "  [500]\t10 responses",
        "",
        "Error distribution:",
        "  [1]\tconnection refused",
    ]


@pytest.mark.parametrize("samples", [[0.5], [0.5, 0.5], [0.0, 0.0]])
def test_equal_times_are_one_bar(samples):
    report = Report()
    for each in samples:
        report.answered(204, each, 0)
    text = report.text(1.0)
    assert f"[{len(samples)}]\t|{'■' * 40}" in text
    assert "Total data" not in text


def test_a_long_run_and_many_kinds_of_errors_stay_small(monkeypatch):
    monkeypatch.setattr(generator_summary, "MOST_SAMPLES", 10)
    report = Report()
    for number in range(100):
        report.answered(200, 0.1, 1)
        report.failed(f"error {number}")
    text = report.text(1.0)
    assert "  Requests/sec:\t100.0000" in text
    assert "  [80]\tother errors" in text
    assert len(text.splitlines()) < 60


def test_nothing_sent_is_nothing_said():
    assert Report().text(1.0).strip() == ""


# The program


async def run_program(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-m", "fleet_rollout.loadtester.generator", *arguments]
    return await asyncio.to_thread(subprocess.run, command, input=stdin, capture_output=True, text=True, timeout=60)


async def test_the_program_reads_its_arguments_from_its_input(url, seen):
    done = await run_program(stdin=json.dumps(["-n", "2", "-c", "1", url]))
    assert (done.returncode, done.stderr) == (0, "")
    assert "  [200]\t2 responses" in done.stdout
    assert len(seen) == 2


async def test_a_wrong_flag_is_an_error_of_one_line():
    done = await run_program("-c", "0", "http://h/")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "hey: -c must be from 1 to 1000\n")


async def test_hey_itself_prints_the_same_lines(url):
    arguments = ["-n", "200", "-c", "2", url]
    real = await asyncio.to_thread(
        subprocess.run, [binaries.require("hey"), *arguments], capture_output=True, text=True, timeout=60
    )
    ours = await run_program(*arguments)

    def labels(text: str) -> Counter[str]:
        found = re.findall(r"^ *([A-Za-z][\w /]*):|\[(\d+)\]\t\d+ responses|^  (\d+%)%? in", text, re.MULTILINE)
        return Counter(next(filter(None, groups)) for groups in found)

    missing = labels(real.stdout) - labels(ours.stdout)
    assert set(missing) <= {"DNS+dialup", "dialup", "DNS-lookup", "lookup", "req write", "resp wait", "resp read"}
    assert not labels(ours.stdout) - labels(real.stdout)
