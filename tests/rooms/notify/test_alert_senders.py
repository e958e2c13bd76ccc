"""Alerts: the payload of each chat system as a golden file, and delivery over real HTTP."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from pathlib import Path

import aiohttp
import pytest

from fleet_rollout.decide.canary.addresses import Answer, read_reach
from fleet_rollout.decide.canary.alerts import Destination, Fact, Unsendable
from fleet_rollout.notify import alerts
from fleet_rollout.notify.alerts import ALERTS_DROPPED, Letter, Sender
from fleet_rollout.notify.chats import CHATS, Message, posting

GOLDENS = Path(__file__).parents[2] / "goldens/alerts"
INFO = Message(
    "podinfo.test",
    "info",
    "New revision detected, progressing canary analysis.",
    (
        Fact("Cluster", "paris"),
        Fact("Target", "Deployment/podinfo.test"),
        Fact("Failed checks threshold", "2"),
        Fact("Progress deadline", "60s"),
        Fact("Traffic routing", "Weight step: 20 max: 60"),
    ),
)
ERROR = Message("podinfo.test", "error", "Failed checks threshold reached 2")
HERE = read_reach(["127.0.0.0/8"])


# Payloads


@pytest.mark.parametrize("chat", sorted(CHATS))
@pytest.mark.parametrize("message", [INFO, ERROR], ids=lambda message: message.severity)
def test_a_payload_is_the_golden_one(chat, message):
    golden = json.loads((GOLDENS / f"{chat}.json").read_text())
    assert posting(Destination(chat, "https://chat/x"), message).body == golden[message.severity]


def test_every_golden_is_of_a_known_chat_system():
    assert {path.stem for path in GOLDENS.glob("*.json")} == set(CHATS)


@pytest.mark.parametrize("severity", ["info", "warn"])
def test_only_errors_are_red(severity):
    body = posting(Destination("slack", "a"), ERROR._replace(severity=severity)).body
    assert body["attachments"][0]["color"] == "good"


def test_channel_and_user_are_the_providers():
    body = posting(Destination("rocket", "a", username="ci", channel="ops"), INFO).body
    assert (body["username"], body["channel"]) == ("ci", "ops")


def test_only_slack_gets_the_token():
    sent = {chat: posting(Destination(chat, "https://chat/x", token="t0k3n"), INFO) for chat in CHATS}
    assert {chat: dict(each.headers) for chat, each in sent.items() if each.headers} == {
        "slack": {"Authorization": "Bearer t0k3n"}
    }


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("https://discord.com/api/webhooks/1/x", "https://discord.com/api/webhooks/1/x/slack"),
        ("https://discord.com/api/webhooks/1/x/", "https://discord.com/api/webhooks/1/x/slack"),
        ("https://discord.com/api/webhooks/1/x/slack", "https://discord.com/api/webhooks/1/x/slack"),
        ("https://discord.com/x?thread_id=1", "https://discord.com/x/slack?thread_id=1"),
    ],
)
def test_discord_is_asked_at_the_address_that_takes_slacks_form(address, url):
    assert posting(Destination("discord", address), INFO).url == url


def test_google_chat_shows_angle_brackets_and_does_not_obey_them():
    body = posting(Destination("gchat", "a"), ERROR._replace(text="a <b> & c")).body
    (section,) = body["cards"][0]["sections"]
    assert "a &lt;b&gt; &amp; c" in section["widgets"][0]["textParagraph"]["text"]


# Delivery


@pytest.fixture
async def office(naps):
    """A sender at work; `problems` are what it could not deliver."""

    class Office:
        def __init__(self) -> None:
            self.problems: list[tuple[str, str]] = []
            self.naps = naps
            self.options: dict[str, object] = {}
            self.tasks: list[asyncio.Task[None]] = []

        def open(self, reach=HERE, **options) -> Sender:
            def failed(letter: Letter, problem: str) -> None:
                self.problems.append((letter.who, problem))

            options = {"failed": failed, "sleep": naps, "random01": lambda: 0.0} | options
            sender = Sender(reach, **options)
            self.tasks.append(asyncio.create_task(sender.run()))
            return sender

    state = Office()
    yield state
    for task in state.tasks:
        task.cancel()
    await asyncio.gather(*state.tasks, return_exceptions=True)


def letter(to: Destination | Exception, who: str = "alert provider on-call.test", **fields) -> Letter:
    async def find() -> Destination:
        if isinstance(to, Exception):
            raise to
        return to

    return Letter(who, find, fields.pop("message", INFO), **fields)


async def has_come(eventually, items: list, count: int = 1) -> None:
    async def arrived() -> bool:
        return len(items) >= count

    await eventually(arrived, every=0.01)


async def test_an_alert_reaches_the_chat_system(receiver, office, eventually):
    office.open().post(letter(Destination("slack", f"{receiver.url}/hook", token="t0k3n")))
    await has_come(eventually, receiver.received)
    ((target, headers, body),) = receiver.received
    assert (target, headers["Content-Type"], headers["Authorization"]) == ("/hook", "application/json", "Bearer t0k3n")
    assert body == json.loads((GOLDENS / "slack.json").read_text())["info"]


async def test_t25_the_request_carries_nothing_of_ours(receiver, office, eventually):
    office.open().post(letter(Destination("msteams", receiver.url)))
    await has_come(eventually, receiver.received)
    ((_, headers, _),) = receiver.received
    assert "Authorization" not in headers
    assert "Cookie" not in headers


async def test_alerts_of_one_recipient_keep_their_order(receiver, office, eventually):
    receiver.answers = [(500, ""), (200, "")]
    sender = office.open()
    for number in range(5):
        sender.post(letter(Destination("slack", receiver.url), message=INFO._replace(text=str(number))))
    await has_come(eventually, receiver.received, 6)
    assert [body["attachments"][0]["text"] for *_, body in receiver.received] == ["0", "0", "1", "2", "3", "4"]


async def test_a_failing_chat_system_is_asked_three_times_with_growing_pauses(receiver, office, eventually):
    receiver.answers = [(503, "later"), None, (429, "too many")]
    before = ALERTS_DROPPED._value.get()
    office.open().post(letter(Destination("slack", receiver.url)))
    await has_come(eventually, office.problems)
    assert office.problems == [("alert provider on-call.test", "answered 429 too many (3 attempt(s))")]
    assert len(receiver.received) == 3
    assert len(office.naps.taken) == 2
    assert 1 <= office.naps.taken[0] < office.naps.taken[1]
    assert ALERTS_DROPPED._value.get() == before + 1


async def test_pauses_differ_from_sender_to_sender(receiver, office, eventually):
    receiver.answers = [(500, "")]
    office.open(random01=lambda: 0.9).post(letter(Destination("slack", receiver.url)))
    await has_come(eventually, office.problems)
    assert office.naps.taken[0] > 1.1


async def test_a_refusal_is_final(receiver, office, eventually):
    receiver.answers = [(404, "no_service")]
    office.open().post(letter(Destination("slack", receiver.url)))
    await has_come(eventually, office.problems)
    assert [problem for _, problem in office.problems] == ["answered 404 no_service (1 attempt(s))"]


async def test_a_redirect_is_not_followed(receiver, office, eventually):
    receiver.answers = [(302, "")]
    office.open().post(letter(Destination("slack", receiver.url)))
    await has_come(eventually, office.problems)
    assert office.problems[0][1] == "answered 302 (1 attempt(s))"
    assert len(receiver.received) == 1


async def test_a_silent_chat_system_costs_the_time_out_and_holds_up_nobody_else(receiver, office, eventually):
    receiver.is_silent = True
    sender = office.open(timeout=600.0)
    sender.post(letter(Destination("slack", f"{receiver.url}/silent")))
    await has_come(eventually, receiver.received)
    receiver.is_silent = False
    sender.post(letter(Destination("slack", f"{receiver.url}/other"), who="another"))
    await has_come(eventually, receiver.received, 2)
    assert receiver.received[-1][0] == "/other"
    assert office.problems == []


async def test_no_answer_in_time_is_said(receiver, office, eventually):
    receiver.is_silent = True
    office.open(timeout=0.05).post(letter(Destination("slack", receiver.url)))
    await has_come(eventually, office.problems)
    assert office.problems[0][1] == "no answer within 0.05s (3 attempt(s))"


async def test_posting_never_waits_and_too_much_is_dropped_and_counted(monkeypatch):
    monkeypatch.setattr(alerts, "MOST_WAITING", 130)
    sender, before = Sender(HERE), ALERTS_DROPPED._value.get()  # nobody delivers
    for _ in range(120):
        sender.post(letter(Destination("slack", "http://127.0.0.1:1")))
    assert ALERTS_DROPPED._value.get() - before == 20
    for number in range(40):
        sender.post(letter(Destination("slack", "http://127.0.0.1:1"), who=str(number)))
    assert ALERTS_DROPPED._value.get() - before == 30


async def test_recipients_that_hang_leave_their_turn_to_others_letter_by_letter(
    receiver, office, eventually, monkeypatch
):
    monkeypatch.setattr(alerts, "LANES_AT_ONCE", 2)
    receiver.is_silent = True
    sender = office.open(timeout=0.05)
    for _ in range(50):
        for name in "abc":
            sender.post(letter(Destination("slack", f"{receiver.url}/silent"), who=name))
    await has_come(eventually, receiver.received)
    sender.post(letter(Destination("slack", f"{receiver.url}/works"), who="works"))

    async def is_asked() -> bool:
        return any(path == "/works" for path, *_ in receiver.received)

    await eventually(is_asked, every=0.01)
    assert len(receiver.received) < 30


async def test_a_backlog_leaves_room_for_those_who_have_none(monkeypatch):
    monkeypatch.setattr(alerts, "MOST_WAITING", 100)
    sender = Sender(HERE)  # nobody delivers
    for _ in range(100):
        sender.post(letter(Destination("slack", "http://127.0.0.1:1"), who="hangs"))
    for _ in range(10):
        sender.post(letter(Destination("slack", "http://127.0.0.1:1"), who="works"))
    assert {who: len(lane) for who, lane in sender._lanes.items()} == {"hangs": 90, "works": 10}


async def test_a_proxy_is_asked_in_place_of_the_chat_system(receiver, office, eventually):
    to = Destination("rocket", "http://rocket.example.com/hook", proxy=receiver.url)
    office.open().post(letter(to))
    await has_come(eventually, receiver.received)
    assert receiver.received[0][0] == "http://rocket.example.com/hook"


async def test_a_chat_system_in_the_member_is_reached_through_its_dial(office, eventually):
    seen: list[tuple[str, str]] = []

    class InMember:
        async def request(self, method, url, **_):
            seen.append((method, url))
            return Answer(200, b"")

    to = Destination("rocket", "http://rocket.chat.svc:3000/hook")
    office.open().post(letter(to, dial=InMember()))
    await has_come(eventually, seen)
    assert seen == [("POST", "http://rocket.chat.svc:3000/hook")]
    assert office.problems == []


async def test_a_provider_that_is_missing_or_unreadable_is_told_and_stops_nothing(receiver, office, eventually):
    sender = office.open()
    sender.post(letter(Unsendable("Secret s not found"), who="a"))
    sender.post(letter(RuntimeError("s3cr3t"), who="b"))
    sender.post(letter(Destination("pager", receiver.url), who="c"))
    sender.post(letter(Destination("slack", receiver.url), who="d"))
    await has_come(eventually, office.problems, 3)
    await has_come(eventually, receiver.received)
    assert sorted(office.problems) == [
        ("a", "Secret s not found"),
        ("b", "RuntimeError"),
        ("c", "spec.type 'pager' is not one of slack, msteams, discord, rocket, gchat"),
    ]


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254/s3cr3t",
        "http://[::ffff:169.254.169.254]/s3cr3t",
        "http://[::1]/s3cr3t",
        "http://0x7f.1/s3cr3t",
        "http://127.0.0.1:1/s3cr3t",
        "http://localhost:1/s3cr3t",
        "http://rebound.example.com/s3cr3t",
        "ftp://chat.example.com/s3cr3t",
        "s3cr3t",
    ],
)
async def test_t26_no_address_leads_to_this_machine_or_its_metadata(office, eventually, address):
    async def resolve(host: str, port: int) -> list[str]:
        return ["203.0.113.1", "127.0.0.1"] if host == "rebound.example.com" else ["127.0.0.1"]

    office.open(read_reach([]), resolve=resolve).post(letter(Destination("slack", address)))
    await has_come(eventually, office.problems)
    ((_, problem),) = office.problems
    assert "s3cr3t" not in problem
    assert any(word in problem for word in ("leads to", "no plain IPv4", "not a URL")), problem


async def test_t26_nor_does_a_proxy(office, eventually):
    to = Destination("slack", "http://chat.example.com/x", proxy="http://127.0.0.1:1")
    office.open(read_reach([])).post(letter(to))
    await has_come(eventually, office.problems)
    assert "leads to a loopback" in office.problems[0][1]


async def test_t26_a_name_is_resolved_once_and_its_checked_address_is_dialled(receiver, office, eventually):
    asked: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    url = receiver.url.replace("127.0.0.1", "chat.example.com")
    office.open(resolve=resolve).post(letter(Destination("slack", url)))
    await has_come(eventually, receiver.received)
    assert asked == ["chat.example.com"]


async def test_t21_neither_address_nor_token_is_in_any_message_or_log(receiver, office, eventually, caplog):
    caplog.set_level(logging.DEBUG)
    to = Destination("slack", f"{receiver.url}/s3cr3t", token="t0k3n", proxy=receiver.url)
    receiver.answers = [(404, f"no such hook: {to.address} (/s3cr3t), Bearer t0k3n " + "x" * 110 + " t0k3n /s3cr3t")]
    office.open().post(letter(to))
    office.open(failed=alerts.only_log).post(letter(dataclasses.replace(to, proxy="")))
    office.open(failed=alerts.only_log).post(letter(dataclasses.replace(to, address="http://127.0.0.1:1/s3cr3t")))
    await has_come(eventually, office.problems)

    async def all_logged() -> bool:
        return len([r for r in caplog.records if r.name == alerts.__name__]) >= 2

    await eventually(all_logged, every=0.01)
    told = [problem for _, problem in office.problems] + [record.getMessage() for record in caplog.records]
    assert not [text for text in told if "s3cr3t" in text or "t0k3n" in text]
    assert office.problems[0][1].startswith("answered 404 no such hook: *** (***), Bearer ***")


async def test_a_certificate_or_connection_problem_is_named_without_the_address(office, eventually):
    office.open().post(letter(Destination("slack", "http://127.0.0.1:1/s3cr3t")))
    await has_come(eventually, office.problems)
    assert office.problems[0][1] == "not reached: Connect call failed ('127.0.0.1', 1) (3 attempt(s))"


async def test_a_stopped_sender_leaves_nothing_behind_and_may_run_again(receiver, eventually):
    sender = Sender(HERE)
    task = asyncio.create_task(sender.run())
    receiver.is_silent = True
    sender.post(letter(Destination("slack", receiver.url)))
    await has_come(eventually, receiver.received)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    receiver.is_silent = False
    again = asyncio.create_task(sender.run())
    sender.post(letter(Destination("slack", receiver.url)))
    await has_come(eventually, receiver.received, 2)
    again.cancel()
    with pytest.raises(asyncio.CancelledError):
        await again


def test_the_guards_session_trusts_no_environment():
    async def look() -> bool:
        async with alerts.Guard(HERE, alerts.resolve).session() as session:
            return session.trust_env or not isinstance(session.cookie_jar, aiohttp.DummyCookieJar)

    assert not asyncio.run(look())
