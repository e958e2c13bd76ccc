"""The receiver over real HTTP: who may announce, what is read of it, and what bad requests cost."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import hmac
import io
import json
import time
from dataclasses import replace
from datetime import UTC, datetime

import aiohttp
import pytest
from yarl import URL

from fleet_rollout.errors import Transient
from fleet_rollout.sources import receiver as receiver_module
from fleet_rollout.sources.receiver import (
    AT_ONCE_A_PATH,
    BURST,
    LARGEST_BODY,
    READ_BURST,
    Receiver,
    serve_receiver,
)

KEY = b"correct horse battery staple"
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
GENERIC = {"url": "https://git.example/acme/shop.git", "ref": "refs/heads/main"}


class World:
    """What the receiver is given: Secrets to read, and a list of what it announced."""

    def __init__(self):
        self.secrets = {("apps", "hook"): {"token": KEY}, ("apps", "other"): {"token": b"another"}, ("apps", "x"): {}}
        self.announced = []
        self.reads = 0
        self.error = None
        self.monotonic = 1000.0

    async def read_secret(self, namespace, name):
        self.reads += 1
        if self.error:
            raise self.error
        return self.secrets.get((namespace, name))

    async def announce(self, namespace, urls, ref, now):
        self.announced.append((namespace, urls, ref, now))


@pytest.fixture
def world():
    return World()


@pytest.fixture
async def address(world, settings):
    receiver = Receiver(world.read_secret, world.announce, clock=lambda: NOW, monotonic=lambda: world.monotonic)
    runner, url = await serve_receiver(receiver, replace(settings, receiver_address="127.0.0.1:0"))
    yield url
    await runner.cleanup()


@pytest.fixture
async def post(address):
    """`await post(body, headers, path=…)`: status and text of the answer."""
    async with aiohttp.ClientSession(address, auto_decompress=False) as session:

        async def send(body, headers, path="/hook/apps/hook", method="POST"):
            data = json.dumps(body).encode() if isinstance(body, dict | list | str | int | None) else body
            async with session.request(method, path, data=data, headers=headers) as answer:
                return answer.status, await answer.text()

        yield send


def mac(body, key=KEY):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return hmac.new(key, data, hashlib.sha256).hexdigest()


def signed(body, key=KEY):
    return {"X-Signature": f"sha256={mac(body, key)}"}


GITHUB = {
    "ref": "refs/heads/main",
    "repository": {
        "clone_url": "https://git.example/acme/shop.git",
        "ssh_url": "git@git.example:acme/shop.git",
        "html_url": "https://git.example/acme/shop",
    },
}
GITLAB = {
    "ref": "refs/heads/main",
    "project": {"git_http_url": "https://git.example/acme/shop.git", "git_ssh_url": "git@git.example:acme/shop.git"},
    "repository": {"homepage": "https://git.example/acme/shop"},
}
HOSTS = [
    pytest.param(GITHUB, lambda b: {"X-GitHub-Event": "push", "X-Hub-Signature-256": f"sha256={mac(b)}"}, id="GitHub"),
    pytest.param(GITHUB, lambda b: {"X-Gitea-Event": "push", "X-Gitea-Signature": mac(b)}, id="Gitea"),
    pytest.param(GITLAB, lambda b: {"X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": KEY.decode()}, id="GitLab token"),
    pytest.param(GITLAB, lambda b: {"X-Gitlab-Event": "Push Hook"} | standard(b), id="GitLab signed"),
    pytest.param(GENERIC, signed, id="generic"),
    pytest.param({"urls": [GENERIC["url"]], "ref": "refs/heads/main"}, signed, id="generic list"),
    pytest.param(GENERIC, lambda b: timed(b, NOW.timestamp()), id="generic with time"),
]


def standard(body, key=KEY, at=None):
    at = int(NOW.timestamp() if at is None else at)
    text = f"id1.{at}.".encode() + json.dumps(body).encode()
    signature = base64.b64encode(hmac.digest(key, text, "sha256")).decode()
    return {"webhook-id": "id1", "webhook-timestamp": str(at), "webhook-signature": f"v1,{signature}"}


def timed(body, at):
    at = str(int(at))
    text = at.encode() + b"." + json.dumps(body).encode()
    return {"X-Signature": f"sha256={mac(text)}", "X-Signature-Timestamp": at}


@pytest.mark.parametrize(("body", "headers"), HOSTS)
async def test_a_signed_push_is_announced(world, post, body, headers):
    assert await post(body, headers(body)) == (202, "accepted\n")
    assert world.announced == [("apps", ("git.example/acme/shop",), "refs/heads/main", NOW)]


async def test_a_standard_webhooks_key_with_prefix(world, post):
    world.secrets["apps", "hook"] = {"token": b"whsec_" + base64.b64encode(b"raw key") + b"\n"}
    status, _ = await post(GITLAB, {"X-Gitlab-Event": "Push Hook"} | standard(GITLAB, b"raw key"))
    assert status == 202


@pytest.mark.parametrize("token", [b"whsec_", b"whsec_\n"])
async def test_t40_a_prefix_alone_is_no_key(world, post, token):
    world.secrets["apps", "hook"] = {"token": token}
    assert (await post(GITLAB, {"X-Gitlab-Event": "Push Hook"} | standard(GITLAB, b"")))[0] == 401
    assert world.announced == []


async def test_a_ping_is_accepted_and_announces_nothing(world, post):
    body = {"zen": "Keep it logically awesome."}
    assert (await post(body, {"X-GitHub-Event": "ping", "X-Hub-Signature-256": f"sha256={mac(body)}"}))[0] == 202
    assert world.announced == []


@pytest.mark.parametrize(
    "path", ["/hook/apps/none", "/hook/apps/x", "/hook/none/hook", "/hook/apps/..", "/", "/hook/apps/A"]
)
async def test_t40_without_a_secret_there_is_nothing(world, post, path):
    assert (await post(GENERIC, signed(GENERIC), path=path))[0] == 404
    assert world.announced == []


async def test_t37_what_may_not_be_seen_is_answered_as_what_is_not_there(world, post):
    """No Secret, one without a key, one of a namespace that is not served: which of them cannot be told."""
    paths = ("/hook/apps/none", "/hook/apps/x", "/hook/none/hook", "/hook/apps/A")
    answers = {await post(GENERIC, signed(GENERIC), path=path) for path in paths}
    assert answers == {(404, "no such hook\n")}


async def test_t37_a_repository_that_nobody_uses_is_answered_as_one_that_is(world, post):
    known, unknown = GENERIC, GENERIC | {"url": "https://git.example/acme/none.git"}
    assert await post(known, signed(known)) == await post(unknown, signed(unknown))


UNSIGNED = [
    pytest.param({}, id="none"),
    pytest.param({"X-Signature": ""}, id="empty"),
    pytest.param(signed(GENERIC, b"another"), id="other path's key"),
    pytest.param({"X-Signature": mac(GENERIC)}, id="without algorithm"),
    pytest.param({"X-Signature": "sha1=" + hmac.new(KEY, json.dumps(GENERIC).encode(), "sha1").hexdigest()}, id="sha1"),
    pytest.param({"X-Hub-Signature": "sha1=" + hmac.new(KEY, b"", "sha1").hexdigest()}, id="GitHub's sha1"),
    pytest.param({"X-Hub-Signature-256": f"sha256={'0' * 64}"}, id="wrong"),
    pytest.param({"X-Gitlab-Token": "guess"}, id="wrong token"),
    pytest.param({"X-Gitlab-Token": ""}, id="empty token"),
    pytest.param({"X-Gitea-Signature": "x"}, id="wrong Gitea"),
    pytest.param(timed(GENERIC, NOW.timestamp() - 301), id="old"),
    pytest.param(timed(GENERIC, NOW.timestamp() + 301), id="from the future"),
    pytest.param(signed(GENERIC) | {"X-Signature-Timestamp": "0"}, id="time that is not signed"),
    pytest.param(timed(GENERIC, NOW.timestamp()) | {"X-Signature-Timestamp": "now"}, id="time that is none"),
    pytest.param(standard(GENERIC, at=NOW.timestamp() - 301), id="old standard"),
    pytest.param(standard(GENERIC) | {"webhook-id": "id2"}, id="other id"),
    pytest.param(signed(GENERIC) | {"X-Hub-Signature-256": "sha256=0"}, id="two, one wrong"),
]


@pytest.mark.parametrize("headers", UNSIGNED)
async def test_t40_what_is_not_signed_with_the_key_of_the_path_is_refused(world, post, headers):
    assert (await post(GENERIC, headers))[0] == 401
    assert world.announced == []


def broken(payload):
    """`payload` with each of its fields null, missing, and of a wrong type."""
    for field in payload:
        for wrong in (None, 7, [], {}, [None], {"clone_url": None}, "x"):
            yield payload | {field: wrong}
        yield {key: value for key, value in payload.items() if key != field}


@pytest.mark.parametrize("event", ["X-GitHub-Event", "X-Gitea-Event", "X-Gitlab-Event", "X-Generic"])
async def test_t18_t38_odd_bodies_are_refused_and_the_receiver_lives(world, post, event):
    model = {"X-Gitlab-Event": {"ref": "refs/heads/main", "project": GITLAB["project"]}, "X-Generic": GENERIC}
    bodies = list(broken(model.get(event, GITHUB)))
    harmless = [b for b in bodies if isinstance(b.get("ref"), str) and b["ref"] == "x"]
    for body in [[], None, 7, "x", {}, *(b for b in bodies if b not in harmless)]:
        world.monotonic += 1
        status, _ = await post(body, {event: "push"} | signed(body))
        assert 400 <= status < 500, body
    for raw in (b"", b"{", b"\xff", b"[" * 100_000, b'{"a":' * 5000):
        status, _ = await post(raw, {event: "push"} | signed(raw))
        assert 400 <= status < 500
    assert world.announced == []
    assert (await post(GENERIC, signed(GENERIC)))[0] == 202


async def test_the_body_is_authenticated_before_it_is_parsed(post):
    assert (await post(b"{no json", {"X-Signature": "sha256=0"}))[0] == 401


async def test_t17_compressed_bodies_are_refused_without_unpacking(post):
    body = gzip.compress(b"", mtime=0) * (LARGEST_BODY // 20)
    body = body[:LARGEST_BODY]
    before = time.process_time()
    assert (await post(body, signed(body) | {"Content-Encoding": "gzip"}))[0] == 415
    assert time.process_time() - before < 0.5  # client and server together


async def test_t17_the_refusal_comes_before_the_body(world, address):
    """Not a byte of the body is sent, and the answer is there: within 50 ms of CPU it is neither read nor unpacked."""
    url = URL(address)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = f"POST /hook/apps/hook HTTP/1.1\r\nHost: {url.host}\r\nContent-Length: {LARGEST_BODY}\r\n"
    before = time.process_time()
    writer.write(f"{head}X-Signature: sha256={'0' * 64}\r\nContent-Encoding: gzip\r\n\r\n".encode())
    assert (await reader.readline()).split()[1] == b"415"
    assert time.process_time() - before < 0.05
    writer.close()
    assert world.reads == 0


@pytest.mark.parametrize("says_how_long", [True, False])
async def test_more_than_a_mebibyte_is_refused(world, post, says_how_long):
    body = b'"' + b"x" * LARGEST_BODY + b'"'

    async def pieces():
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    assert (await post(io.BytesIO(body) if says_how_long else pieces(), signed(body)))[0] == 413
    assert world.announced == []


async def test_other_methods_are_refused(post):
    assert (await post(b"", {}, method="GET"))[0] == 405


@pytest.mark.parametrize("url", [".*", "(a+)+$", "https://.*/.*", "*", "https://git.example/.*"])
async def test_t39_urls_are_compared_never_matched(world, post, url):
    body = {"url": url, "ref": "main"}
    status, _ = await post(body, signed(body))
    # A path may hold any characters; what is announced is still one exact text.
    assert (status, world.announced) == (422, []) or world.announced[0][1] == ("git.example/.*",)


async def test_a_flood_on_one_path_is_limited_and_leaves_others_alone(world, post):
    statuses = [(await post(GENERIC, {}))[0] for _ in range(BURST + 5)]
    assert statuses == [401] * BURST + [429] * 5
    assert (await post(GENERIC, signed(GENERIC, b"another"), path="/hook/apps/other"))[0] == 202
    world.monotonic += 1
    assert (await post(GENERIC, signed(GENERIC)))[0] == 202


async def test_a_flood_on_many_paths_does_not_become_one_of_secret_reads(world, post):
    assert (await post(GENERIC, signed(GENERIC)))[0] == 202
    world.monotonic += 60
    statuses = [(await post(GENERIC, {}, path=f"/hook/apps/n{i}"))[0] for i in range(READ_BURST + 20)]
    assert statuses.count(429) == 20
    assert world.reads <= READ_BURST + 1
    assert (await post(GENERIC, signed(GENERIC)))[0] == 202


async def test_a_key_is_read_again_after_a_while(world, post):
    assert (await post(GENERIC, signed(GENERIC)))[0] == 202
    world.secrets["apps", "hook"] = {"token": b"new"}
    world.monotonic += 6
    assert (await post(GENERIC, signed(GENERIC)))[0] == 401
    assert (await post(GENERIC, signed(GENERIC, b"new")))[0] == 202


async def test_an_api_server_that_is_away_means_try_again(world, post):
    world.error = Transient("Unreachable", "hub: no answer from https://10.0.0.1")
    status, text = await post(GENERIC, signed(GENERIC))
    assert status == 503
    assert "10.0.0.1" not in text


async def test_many_at_once_are_all_answered(world, post):
    answers = await asyncio.gather(*(post(GENERIC, signed(GENERIC)) for _ in range(BURST)))
    assert {status for status, _ in answers} == {202}
    assert len(world.announced) == BURST


async def begun(address, path="/hook/apps/hook"):
    """A request whose body does not come to its end."""
    reader, writer = await asyncio.open_connection(*address.removeprefix("http://").split(":"))
    writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx".encode())
    await writer.drain()
    return reader, writer


@pytest.fixture
def few_turns(monkeypatch):
    monkeypatch.setattr(receiver_module, "AT_ONCE", AT_ONCE_A_PATH + 1)
    monkeypatch.setattr(receiver_module, "BODY_SECONDS", 3.0)


async def test_t38_slow_bodies_hold_up_their_own_path_alone(few_turns, world, post, address):
    """The names of hooks can be guessed, and nobody has to sign to send slowly."""
    slow = [await begun(address) for _ in range(4 * AT_ONCE_A_PATH)]
    try:
        async with asyncio.timeout(60):
            while world.reads < 1:
                await asyncio.sleep(0.01)
            assert (await post(GENERIC, signed(GENERIC, b"another"), path="/hook/apps/other"))[0] == 202
            heads = [await reader.readline() for reader, _ in slow]
    finally:
        for _, writer in slow:
            writer.close()
            await writer.wait_closed()
    assert {head.split()[1] for head in heads} == {b"408", b"429"}
    world.monotonic += 60
    assert (await post(GENERIC, signed(GENERIC)))[0] == 202


async def test_t38_a_body_that_breaks_off_is_no_error_of_ours(world, post, address, caplog):
    for _ in range(3):
        _, writer = await begun(address)
        while not world.reads:
            await asyncio.sleep(0.01)
        writer.close()
        await writer.wait_closed()
    assert (await post(GENERIC, signed(GENERIC)))[0] == 202
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
