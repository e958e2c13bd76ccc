"""Logs, health and metrics as an operator sees them."""

from __future__ import annotations

import asyncio
import json
import logging
import threading

import aiohttp
import pytest

from fleet_rollout import measures
from fleet_rollout.errors import Terminal
from fleet_rollout.faces.telemetry import Probes, configure_logging, masked, serve
from fleet_rollout.log_fields import current, log_fields


@pytest.fixture
def logs(capsys):
    """Configures logging and returns a function that reads the lines written since; restores what was there."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in ("kopf", "aiohttp", "asyncio", "kubernetes", "git")}

    def start(format: str = "json", level: str = "info"):
        configure_logging(format, level)
        return lambda: capsys.readouterr().err.splitlines()

    yield start
    root.handlers[:] = before
    root.setLevel(level)
    for name, value in levels.items():
        logging.getLogger(name).setLevel(value)


def test_a_line_of_json_carries_the_fields_of_the_work(logs):
    lines = logs()
    with log_fields(application="apps/web", cluster="m1", revision=None):
        logging.getLogger("fleet_rollout.x").warning("not %s", "ready", extra={"reason": "R"})
    (line,) = lines()
    entry = json.loads(line)
    assert entry.pop("time").startswith("20")
    assert entry == {
        "level": "WARNING",
        "logger": "fleet_rollout.x",
        "message": "not ready",
        "reason": "R",
        "application": "apps/web",
        "cluster": "m1",
    }


def test_fields_of_the_call_win_over_those_of_the_work(logs):
    lines = logs()
    with log_fields(cluster="m1"):
        logging.getLogger("x").warning("m", extra={"cluster": "m2"})
    assert json.loads(lines()[0])["cluster"] == "m2"


def test_a_traceback_stays_one_line_of_json(logs):
    lines = logs()
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger("x").exception("failed")
    (line,) = lines()
    assert "ValueError: boom" in json.loads(line)["exception"]


@pytest.mark.parametrize(
    ("message", "level"),
    [
        (
            "Request attempt #1/5 failed; will retry: GET /apis -> ClientConnectionError('Connector is closed.')",
            "WARNING",
        ),
        ("Request attempt #1/5 failed; TCP closed; will re-authenticate: GET /apis", "WARNING"),
        ("Request attempt #5/5 failed; escalating: GET /apis -> TimeoutError()", "ERROR"),
        ("Something else has failed", "ERROR"),
    ],
)
def test_what_kopf_tries_again_is_no_error(logs, message, level):
    lines = logs()
    logging.getLogger("kopf.objects").error(message)
    (line,) = lines()
    assert json.loads(line)["level"] == level


def test_text_is_for_people(logs):
    lines = logs("text")
    with log_fields(cluster="m1"):
        logging.getLogger("x").warning("bad \x1b[31m\u202ename", extra={"reason": "R"})
    (line,) = lines()
    assert line.endswith("WARNING bad ?[31m?name reason=R cluster=m1")


@pytest.mark.parametrize(("level", "seen"), [("info", ["ours", "warn"]), ("debug", ["ours", "warn", "talk", "deep"])])
def test_libraries_are_quiet_unless_asked(logs, level, seen):
    lines = logs("json", level)
    logging.getLogger("fleet_rollout").info("ours")
    logging.getLogger("kopf.objects").warning("warn")
    logging.getLogger("kopf.objects").info("talk")
    logging.getLogger("fleet_rollout").debug("deep")
    assert [json.loads(line)["message"] for line in lines()] == seen


async def test_fields_follow_a_task_and_not_its_neighbours():
    async def work(name: str) -> dict[str, str]:
        with log_fields(cluster=name):
            await asyncio.sleep(0)
            with log_fields(revision="r"):
                await asyncio.sleep(0)
                return current()

    assert await asyncio.gather(work("a"), work("b")) == [
        {"cluster": "a", "revision": "r"},
        {"cluster": "b", "revision": "r"},
    ]
    assert current() == {}


SECRET = "s3cr3tvalue"


@pytest.mark.parametrize(
    "text",
    [
        f"fetch https://user:{SECRET}@h/x.git failed",
        f"fetch https://{SECRET}@h/x.git failed",
        f"Authorization: Bearer {SECRET}",
        f"Authorization: Basic {SECRET}=",
        f"GET /x?access_token={SECRET}&y=1",
        f'{{"password": "{SECRET}"}}',
        f'{{\\"token\\": \\"{SECRET}\\"}}',
        f"password={SECRET}",
        f"api-key: {SECRET}",
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN OPENSSH PRIVATE KEY-----\\n{SECRET}",
        f"eyJhbGciOiJSUzI1NiJ9.eyJzdWIi{SECRET}.{SECRET}",
    ],
)
@pytest.mark.parametrize("format", ["json", "text"])
def test_t21_nothing_that_looks_like_a_credential_is_logged(logs, text, format):
    lines = logs(format)
    logging.getLogger("x").error("answer: %s", text, extra={"detail": text})
    assert SECRET not in "\n".join(lines())


def test_t21_nor_is_a_field_with_the_name_of_one(logs):
    lines = logs()
    logging.getLogger("x").error("m", extra={"answer": {"bearerToken": SECRET, "list": [{"password": SECRET}], "n": 1}})
    (line,) = lines()
    assert json.loads(line)["answer"] == {"bearerToken": "***", "list": [{"password": "***"}], "n": 1}


@pytest.mark.parametrize(
    "text",
    [
        "Secret/apps/token not found",
        "fetching https://h/x.git revision main@sha1:abc",
        "no key `token` in Secret web",
        "ssh://h:22/x",
    ],
)
def test_ordinary_text_is_left_alone(text):
    assert masked(text) == text


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def test_the_probes_say_what_is_wrong():
    complaints = {"healthy": None, "ready": "starting"}
    probes = Probes(healthy=lambda: complaints["healthy"], ready=lambda: complaints["ready"])
    async with serve("127.0.0.1:0", probes) as url:
        assert await get(f"{url}/healthz") == (200, "ok")
        assert await get(f"{url}/readyz") == (503, "starting")
        complaints |= {"healthy": "a key has waited for 900s", "ready": None}
        assert await get(f"{url}/healthz") == (503, "a key has waited for 900s")
        assert await get(f"{url}/readyz") == (200, "ok")
        assert (await get(f"{url}/"))[0] == 404


async def test_metrics_are_served_and_a_lost_cluster_leaves_them():
    measures.reconciled("ClusterSync", "success", 0.2)
    measures.MEMBER_UP.labels(cluster="gone").set(1)
    async with serve("127.0.0.1:0", Probes(lambda: None, lambda: None)) as url:
        _, text = await get(f"{url}/metrics")
        assert 'fleet_rollout_reconcile_duration_seconds_count{kind="ClusterSync",result="success"}' in text
        assert 'fleet_rollout_member_up{cluster="gone"} 1.0' in text
        assert "process_resident_memory_bytes" in text
        measures.forget_cluster("gone")
        measures.forget_cluster("gone")
        _, text = await get(f"{url}/metrics")
        assert 'cluster="gone"' not in text


async def test_a_long_page_of_metrics_holds_nothing_else_up():
    is_going_on = threading.Event()

    def slow() -> float:
        return float(is_going_on.wait(10))

    measures.WATCH_AGE.labels(cluster="slow").set_function(slow)
    async with serve("127.0.0.1:0", Probes(lambda: None, lambda: None)) as url:
        page = asyncio.create_task(get(f"{url}/metrics"))
        assert await get(f"{url}/healthz") == (200, "ok")
        is_going_on.set()
        assert 'fleet_rollout_watch_age_seconds{cluster="slow"} 1.0' in (await page)[1]
    measures.forget_cluster("slow")


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:none", "203.0.113.1:1"])
async def test_an_address_that_cannot_be_had_is_said(address):
    with pytest.raises(Terminal) as failure:
        async with serve(address, Probes(lambda: None, lambda: None)):
            pass
    assert failure.value.reason == "ListenFailed"
    assert failure.value.message.startswith(f"telemetry address {address}: ")
