"""Members: made from Secrets, replaced on rotation, each on its own (design rule 3), each failure named."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import datetime
import json
import time

import pytest
import yaml
from aiohttp import web

from fleet_rollout.errors import Terminal, Transient, Waiting
from fleet_rollout.kube.client import Resource, Unreachable
from fleet_rollout.kube.member import Members

CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", True)
KIND, NAMESPACE = "AttachedCluster", "fleet"
DEADLINE = 30


def secret(kubeconfig: bytes, key: str = "value") -> dict:
    data = {key: base64.b64encode(kubeconfig).decode()}
    return {"metadata": {"name": "m", "namespace": NAMESPACE}, "data": data}


def plain(server: str, token: str = "t") -> dict:
    """The Secret of a plain HTTP server, for faults."""
    document = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": token}}],
    }
    return secret(yaml.safe_dump(document).encode())


@pytest.fixture
async def fleet(settings):
    members = Members(settings)
    yield members
    await members.close()


@pytest.fixture
async def hasty(quick):
    """Members with short time-outs, that take plain HTTP."""
    members = Members(dataclasses.replace(quick, allow_insecure_kubeconfig=True, member_breaker_min=30.0))
    yield members
    await members.close()


async def test_a_member_is_made_from_its_secret_and_answers(fleet, member):
    with pytest.raises(Waiting, match="AttachedCluster/m1: not connected yet"):
        fleet.ready(KIND, "m1", NAMESPACE)
    assert fleet.state(KIND, "m1", NAMESPACE) == "unknown"
    made = await fleet.update(KIND, "m1", NAMESPACE, secret(member.kubeconfig.read_bytes()), "value")
    assert await made.check() is None
    assert fleet.ready(KIND, "m1", NAMESPACE) is made
    assert (made.name, made.state, made.since) == ("AttachedCluster/m1", "ready", None)


async def test_a_rotated_kubeconfig_replaces_the_member_and_requests_under_way_end_well(hasty, serve):
    arrived, go = asyncio.Event(), asyncio.Event()
    tokens = []

    async def answer(request: web.Request) -> web.Response:
        tokens.append(request.headers["Authorization"])
        arrived.set()
        await go.wait()
        return web.json_response({"kind": "ConfigMap", "metadata": {}})

    server = (await serve(answer)).server
    old = await hasty.update(KIND, "m", NAMESPACE, plain(server, "old"), "value")
    assert await hasty.update(KIND, "m", NAMESPACE, plain(server, "old"), "value") is old
    under_way = asyncio.create_task(old.cluster.get(CONFIG_MAPS, "a", "n"))
    await asyncio.wait_for(arrived.wait(), DEADLINE)
    new = await hasty.update(KIND, "m", NAMESPACE, plain(server, "new"), "value")
    assert hasty.ready(KIND, "m", NAMESPACE) is new is not old
    go.set()
    assert await under_way == {"kind": "ConfigMap", "metadata": {}}
    await new.cluster.get(CONFIG_MAPS, "a", "n")
    assert tokens == ["Bearer old", "Bearer new"]


async def test_closing_right_after_a_rotation_leaves_no_connection_open(hasty, serve):
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"kind": "ConfigMap", "metadata": {}})

    server = (await serve(answer)).server
    both = [await hasty.update(KIND, "m", NAMESPACE, plain(server, "old"), "value")]
    await both[0].cluster.get(CONFIG_MAPS, "a", "n")
    both.append(await hasty.update(KIND, "m", NAMESPACE, plain(server, "new"), "value"))
    await hasty.close()
    for member in both:
        with pytest.raises(Unreachable, match="the connection was given up"):
            await member.cluster.get(CONFIG_MAPS, "a", "n")


async def test_who_still_holds_a_replaced_member_is_told(hasty, serve, eventually):
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"kind": "ConfigMap", "metadata": {}})

    server = (await serve(answer)).server
    old = await hasty.update(KIND, "m", NAMESPACE, plain(server, "old"), "value")
    await hasty.update(KIND, "m", NAMESPACE, plain(server, "new"), "value")

    async def is_given_up():
        try:
            return not await old.cluster.get(CONFIG_MAPS, "a", "n")
        except Unreachable as error:
            return error.fact == "the connection was given up" and not error.maybe_sent

    await eventually(is_given_up)


@pytest.mark.parametrize(
    ("content", "reason", "fact"),
    [
        (secret(b"{}"), "KubeconfigInvalid", "current-context is empty"),
        (secret(b"", "value"), "KubeconfigMissing", "Secret fleet/m has no key value; put the kubeconfig there"),
        (secret(b"{}", "other"), "KubeconfigMissing", "has no key value"),
        (plain("http://10.0.0.1"), "KubeconfigRefused", "cluster.server"),
    ],
)
async def test_a_secret_of_no_use_gives_the_member_up_and_says_why(fleet, member, content, reason, fact):
    await fleet.update(KIND, "m1", NAMESPACE, secret(member.kubeconfig.read_bytes()), "value")
    with pytest.raises(Terminal, match=fact) as caught:
        await fleet.update(KIND, "m1", NAMESPACE, content, "value")
    assert caught.value.reason == reason
    assert fleet.state(KIND, "m1", NAMESPACE) == "refused"
    with pytest.raises(Transient, match=fact) as later:
        fleet.ready(KIND, "m1", NAMESPACE)
    assert later.value.reason == reason
    await fleet.update(KIND, "m1", NAMESPACE, secret(member.kubeconfig.read_bytes()), "value")
    assert await fleet.ready(KIND, "m1", NAMESPACE).check() is None


async def test_flux_second_default_key_is_found(fleet, member):
    content = secret(member.kubeconfig.read_bytes(), "value.yaml")
    assert await (await fleet.update(KIND, "m1", NAMESPACE, content, "value")).check() is None


async def test_a_passing_problem_with_the_secret_keeps_the_member(fleet, member):
    made = await fleet.update(KIND, "m1", NAMESPACE, secret(member.kubeconfig.read_bytes()), "value")
    fleet.refuse(KIND, "m1", NAMESPACE, Transient("HubRequestFailed", "the hub hangs"))
    assert fleet.ready(KIND, "m1", NAMESPACE) is made


async def test_credentials_that_are_not_accepted_are_named(fleet, member):
    document = json.loads(member.kubeconfig.read_bytes())
    document["users"][0]["user"]["token"] = "expired"
    made = await fleet.update(KIND, "m1", NAMESPACE, secret(json.dumps(document).encode()), "value")
    assert await made.check() == "refused the kubeconfig's credentials (401); put fresh ones into its Secret"
    assert made.state == "unreachable"


async def test_missing_rights_are_named(fleet, member):
    made = await fleet.update(KIND, "m1", NAMESPACE, secret(member.kubeconfig_for("nobody")), "value")
    failure = await made.check()
    assert 'User "nobody" cannot get resource "namespaces"' in failure
    assert failure.endswith("grant the rights of config/member/base")


async def test_a_client_certificate_that_ends_while_in_use_is_noticed(fleet, member, eventually):
    soon = member.kubeconfig_for("someone", ["system:masters"], datetime.timedelta(seconds=2))
    made = await fleet.update(KIND, "m1", NAMESPACE, secret(soon), "value")
    assert await made.check() is None

    async def is_refused():
        try:
            await fleet.update(KIND, "m1", NAMESPACE, secret(soon), "value")
        except Terminal as error:
            return "the client certificate expired at" in error.message

    await eventually(is_refused)


async def test_one_hanging_member_holds_up_no_other_and_returns(hasty, fleet, spare, member):
    lost = await hasty.update(KIND, "spare", NAMESPACE, secret(spare.kubeconfig.read_bytes()), "value")
    well = await fleet.update(KIND, "m1", NAMESPACE, secret(member.kubeconfig.read_bytes()), "value")
    assert await lost.check() is await well.check() is None
    await spare.pause()
    requests = [asyncio.create_task(lost.cluster.get(CONFIG_MAPS, str(i), "n")) for i in range(60)]
    started = time.monotonic()
    assert await asyncio.gather(*(well.cluster.get(CONFIG_MAPS, str(i), "n") for i in range(20))) == [None] * 20
    assert time.monotonic() - started < 5
    results = await asyncio.gather(*requests, return_exceptions=True)
    assert {type(result) for result in results} == {Unreachable, Transient}
    with pytest.raises(Transient, match=r"AttachedCluster/spare: no answer within 0.5 s") as caught:
        hasty.ready(KIND, "spare", NAMESPACE)
    assert caught.value.reason == "ClusterUnreachable"
    assert caught.value.retry_after > 0
    assert (await lost.check()).startswith("no answer within 0.5 s; ")
    assert lost.since is not None
    assert hasty.state(KIND, "spare", NAMESPACE) == "unreachable"
    await spare.resume()
    async with asyncio.timeout(DEADLINE):
        while await lost.check() is not None:
            pass
    assert hasty.ready(KIND, "spare", NAMESPACE) is lost
    assert lost.since is None


async def test_closing_cuts_requests_in_flight(hasty, serve):
    arrived = asyncio.Event()

    async def hang(request: web.Request) -> web.Response:
        arrived.set()
        await asyncio.Event().wait()

    slow = Members(dataclasses.replace(hasty._settings, member_request_timeout=600.0))
    made = await slow.update(KIND, "m", NAMESPACE, plain((await serve(hang)).server), "value")
    request = asyncio.create_task(made.cluster.get(CONFIG_MAPS, "a", "n"))
    await asyncio.wait_for(arrived.wait(), DEADLINE)
    await slow.close()
    with pytest.raises(Unreachable):
        await asyncio.wait_for(request, DEADLINE)


class Canaries:
    """A member that serves canaries: counts the open watches by path and sends what it is given."""

    def __init__(self) -> None:
        self.open: list[str] = []
        self.items: list[dict] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            wanted = [i for i in self.items if f"/namespaces/{i['metadata']['namespace']}/" in request.path]
            items = wanted if "/namespaces/" in request.path else self.items
            return web.json_response({"items": items, "metadata": {"resourceVersion": "5"}})
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        path = request.path.removeprefix("/apis/flagger.app/v1beta1/")
        self.open.append(path)
        try:
            while not request.transport.is_closing():
                await asyncio.sleep(0.02)
        finally:
            self.open.remove(path)
        return answer


def canary(namespace: str) -> dict:
    return {"metadata": {"name": "c", "namespace": namespace, "uid": namespace, "resourceVersion": "1"}}


def in_namespaces(*names: str) -> list[str]:
    return [f"namespaces/{name}/canaries" for name in names]


async def test_canaries_are_watched_where_they_are_and_beyond_one_namespace_everywhere(settings, serve, eventually):
    server = Canaries()
    server.items = [canary(namespace) for namespace in ("a", "b", "other")]
    members = Members(dataclasses.replace(settings, allow_insecure_kubeconfig=True))
    seen: list[tuple[str, str]] = []

    def note(event) -> None:
        if event.type != "SYNCED":
            seen.append((event.type, event.obj["metadata"]["namespace"]))

    def watched(*paths: str):
        async def are_open():
            return sorted(server.open) == sorted(paths)

        return eventually(are_open, every=0.02)

    address = (await serve(server.answer)).server
    members.watch_canaries(KIND, "m", NAMESPACE, {"a"}, note)  # before the member is known
    await members.update(KIND, "m", NAMESPACE, plain(address), "value")
    await watched(*in_namespaces("a"))
    assert seen == [("ADDED", "a")]
    members.watch_canaries(KIND, "m", NAMESPACE, {"b"}, note)
    await watched(*in_namespaces("b"))
    seen.clear()
    members.watch_canaries(KIND, "m", NAMESPACE, {"a", "b"}, note)
    await watched("canaries")
    assert sorted(seen) == [("ADDED", name) for name in ("a", "b", "other")]
    await members.update(KIND, "m", NAMESPACE, plain(address, "rotated"), "value")
    await watched("canaries")
    assert members.ready(KIND, "m", NAMESPACE).watch_age < DEADLINE
    members.watch_canaries(KIND, "m", NAMESPACE, set(), note)
    await watched()
    members.watch_canaries(KIND, "m", NAMESPACE, None, note)
    await watched("canaries")
    await members.drop(KIND, "m", NAMESPACE)
    await watched()
    await members.update(KIND, "m", NAMESPACE, plain(address), "value")  # deleted and made again
    await watched("canaries")
    await members.drop(KIND, "m", NAMESPACE)
    members.watch_canaries(KIND, "m", NAMESPACE, set(), note)
    await watched()
    assert members._places == {}, "one that is gone is remembered for nobody"
    await members.close()


@pytest.mark.parametrize("how", ["watched anew", "rotated"])
async def test_what_goes_between_two_watches_is_told_of(settings, serve, eventually, how):
    server = Canaries()
    server.items = [canary(namespace) for namespace in ("a", "b")]
    members = Members(dataclasses.replace(settings, allow_insecure_kubeconfig=True))
    seen: list[tuple[str, str]] = []

    def note(event) -> None:
        seen.append((event.type, event.obj["metadata"]["namespace"] if event.obj else ""))

    async def are_listed():
        return seen[-1:] == [("SYNCED", "")]

    address = (await serve(server.answer)).server
    members.watch_canaries(KIND, "m", NAMESPACE, None, note)
    await members.update(KIND, "m", NAMESPACE, plain(address), "value")
    await eventually(are_listed)
    server.items.pop()
    seen.clear()
    if how == "rotated":
        await members.update(KIND, "m", NAMESPACE, plain(address, "rotated"), "value")
    else:
        members.watch_canaries(KIND, "m", NAMESPACE, set(), note)
        members.watch_canaries(KIND, "m", NAMESPACE, None, note)
    await eventually(are_listed)
    assert seen == [("ADDED", "a"), ("DELETED", "b"), ("SYNCED", "")]
    await members.close()
