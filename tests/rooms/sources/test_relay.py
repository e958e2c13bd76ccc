"""A replica that stands by sends the leader's artifacts: only those the hub names, and only as the hub names them."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from hashlib import sha256

import aiohttp
import pytest
from aiohttp import web

from fleet_rollout.errors import Transient
from fleet_rollout.sources import artifact_server, relay
from fleet_rollout.sources.artifact_server import reachable
from fleet_rollout.sources.relay import VIA


class Guide:
    """What the control loops would tell: who leads, where, and what the hub's Applications name."""

    def __init__(self):
        self.leads = False
        self.address = None
        self.named_by = {}
        self.error = None
        self.asked = []

    async def named(self, namespace, name):
        self.asked.append((namespace, name))
        if self.error:
            raise self.error
        return self.named_by.get((namespace, name))


@pytest.fixture
async def leader(server, make_sources, spec_of, tmp_path):
    """The sources of the replica that leads, and the artifact it has made."""
    repository = await server.repository()
    await repository.commit({"a.yaml": "a: 1\n"})
    sources = make_sources(data_dir=tmp_path / "leader")
    await sources.start()
    seen = await sources.reconcile("apps", "web", spec_of(repository, branch="main"), None, None)
    return sources, seen.artifact, repository


@pytest.fixture
def guide(leader):
    guide = Guide()
    guide.address = leader[0].address
    guide.named_by["apps", "web"] = leader[1]
    return guide


@pytest.fixture
async def standby(make_sources, guide, tmp_path):
    sources = make_sources(data_dir=tmp_path / "standby")
    await sources.start(guide)
    return sources


async def get(sources, path, method="GET", **headers):
    url = f"{sources.store.base_url}/{path}"
    async with aiohttp.ClientSession() as session, session.request(method, url, headers=headers) as answer:
        return answer.status, await answer.read()


async def test_it_sends_what_the_leader_made(leader, standby):
    _, artifact, _ = leader
    status, content = await get(standby, artifact.path)
    assert status == 200
    assert f"sha256:{sha256(content).hexdigest()}" == artifact.digest
    assert await get(standby, artifact.path, "HEAD") == (200, b"")
    assert list((standby._settings.data_dir / "scratch").iterdir()) == [], "nothing piles up on a standby"


async def test_the_leader_asks_nobody(leader, standby, guide):
    guide.leads = True
    assert (await get(standby, leader[1].path))[0] == 404
    assert guide.asked == []


@pytest.mark.parametrize(
    "path",
    [
        "gitrepository/apps/other/{commit}.tar.gz",
        "gitrepository/other/web/{commit}.tar.gz",
        "gitrepository/apps/web/{zeros}.tar.gz",
    ],
)
async def test_what_the_hub_does_not_name_is_not_sent(leader, standby, path):
    _, artifact, _ = leader
    assert (await get(standby, path.format(commit=artifact.commit, zeros="0" * 40)))[0] == 404


@pytest.mark.parametrize(
    "path",
    ["", "boot-id", "records/apps/web.json", "gitrepository/apps/web/main.tar.gz", "gitrepository/A/web/{c}.tar.gz"],
)
async def test_paths_of_no_artifact_are_not_looked_up(leader, standby, guide, path):
    assert (await get(standby, path.format(c=leader[1].commit)))[0] == 404
    assert (await get(standby, f"{leader[1].path}?x"))[0] == 404
    assert guide.asked == []


async def test_content_with_another_digest_is_not_passed_on(leader, standby, guide):
    """Whoever has the leader's former address cannot put content in its place."""
    _, artifact, _ = leader
    guide.named_by["apps", "web"] = replace(artifact, digest="sha256:" + "0" * 64)
    status, said = await get(standby, artifact.path)
    assert status == 502
    assert said == b"the leader sent other content than the hub names\n"


async def test_its_own_copy_is_sent_where_it_is_the_one_the_hub_names(leader, standby, guide, spec_of):
    """A replica that led before has artifacts of its own; one of the same commit may have another digest by now."""
    sources, artifact, repository = leader
    await standby.reconcile("apps", "web", spec_of(repository, branch="main"), None, None)
    guide.address = None
    assert (await get(standby, artifact.path))[0] == 200
    spec = spec_of(repository, branch="main", ignore="/*\n!/none.yaml")
    other = (await sources.reconcile("apps", "web", spec, None, artifact)).artifact
    assert (other.path, other.digest == artifact.digest) == (artifact.path, False)
    guide.named_by["apps", "web"], guide.address = other, sources.address
    status, content = await get(standby, other.path)
    assert (status, f"sha256:{sha256(content).hexdigest()}") == (200, other.digest)


async def test_a_copy_that_the_hub_no_longer_names_stays_served(leader, standby, guide, spec_of):
    """As on the leader, where what is superseded stays for a while: readers may have read the status before."""
    _, artifact, repository = leader
    await standby.reconcile("apps", "web", spec_of(repository, branch="main"), None, None)
    guide.named_by["apps", "web"] = replace(artifact, path=artifact.path.replace(artifact.commit, "0" * 40))
    assert (await get(standby, artifact.path))[0] == 200


async def test_two_replicas_that_take_each_other_for_the_leader_do_not_ask_in_circles(leader, standby, guide):
    guide.address = standby.address
    assert (await get(standby, leader[1].path))[0] == 404
    assert (await get(standby, leader[1].path, **{VIA: "1.1 fleet-rollout"}))[0] == 404


async def test_who_cannot_be_asked_now_may_be_asked_again(leader, standby, guide):
    sources, artifact, _ = leader
    guide.address = None
    assert await get(standby, artifact.path) == (503, b"it is not known who leads; try again\n")
    guide.address = sources.address
    await sources._server.cleanup()
    assert await get(standby, artifact.path) == (503, b"the leader does not answer; try again\n")
    guide.error = Transient("Unreachable", "hub: no answer from https://10.0.0.1")
    assert await get(standby, artifact.path) == (503, b"the hub does not answer; try again\n")


@pytest.fixture
async def odd(guide):
    """A leader that answers everything by one handler."""
    runners = []

    async def start(handler):
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        guide.address = f"127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


async def test_a_leader_that_sends_without_end_is_cut_off(leader, standby, odd):
    sent = []

    async def endless(request):
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
                sent.append(65536)
        except ConnectionError:
            return response

    await odd(endless)
    assert (await get(standby, leader[1].path))[0] == 502
    assert sum(sent) < 50_000_000


async def test_a_redirect_is_not_followed(leader, standby, odd):
    async def elsewhere(request):
        raise web.HTTPFound("http://169.254.169.254/")

    await odd(elsewhere)
    assert (await get(standby, leader[1].path))[0] == 502


async def test_a_leader_that_hangs_is_left(leader, standby, odd, monkeypatch):
    monkeypatch.setattr(relay, "ASK_SECONDS", 0.3)

    async def hang(request):
        await asyncio.Event().wait()

    await odd(hang)
    assert await get(standby, leader[1].path) == (503, b"the leader does not answer; try again\n")


async def test_so_many_are_answered_at_a_time_and_the_others_wait(leader, standby, odd, eventually):
    sources, artifact, _ = leader
    content = (sources.store._artifacts / artifact.path).read_bytes()
    asked, most, gate = 0, 0, asyncio.Event()

    async def slow(request):
        nonlocal asked, most
        asked += 1
        most = max(most, asked)
        await gate.wait()
        asked -= 1
        return web.Response(body=content)

    async def is_full():
        return asked == relay.AT_ONCE

    await odd(slow)
    waiting = [asyncio.create_task(get(standby, artifact.path)) for _ in range(2 * relay.AT_ONCE)]
    await eventually(is_full)
    gate.set()
    assert set(await asyncio.gather(*waiting)) == {(200, content)}
    assert most == relay.AT_ONCE


async def test_a_reader_that_does_not_read_is_cut_off(leader, standby, guide, spec_of, monkeypatch, eventually):
    """It would keep the others waiting."""
    copy = relay.Relay._copy

    async def copied(self, *what):
        await copy(self, *what)  # for which the leader has as long as always
        monkeypatch.setattr(artifact_server, "SEND_SECONDS", 0.3)

    monkeypatch.setattr(relay.Relay, "_copy", copied)
    sources, _, repository = leader
    await repository.commit({"a.bin": secrets.token_bytes(20_000_000)})
    artifact = (await sources.reconcile("apps", "web", spec_of(repository, branch="main"), None, None)).artifact
    guide.named_by["apps", "web"] = artifact
    host, port = standby.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    writer.write(f"GET /{artifact.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await writer.drain()
    assert b" 200 " in await reader.readuntil(b"\r\n\r\n")

    async def is_cut_off():
        return not standby._server.server.connections

    try:
        await eventually(is_cut_off)
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(
    ("address", "pod_ip", "told"),
    [
        ("127.0.0.1:9790", None, "127.0.0.1:1234"),
        ("0.0.0.0:9790", None, None),
        (":9790", None, None),
        ("[::]:9790", None, None),
        ("0.0.0.0:9790", "10.1.2.3", "10.1.2.3:1234"),
        ("[::]:9790", "fd00::7", "[fd00::7]:1234"),
        ("[fd00::8]:9790", None, "[fd00::8]:1234"),
    ],
)
def test_the_address_it_tells_the_others(settings, address, pod_ip, told):
    assert reachable(replace(settings, artifact_address=address, pod_ip=pod_ip), 1234) == told
