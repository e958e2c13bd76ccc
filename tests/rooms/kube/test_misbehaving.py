"""Members that misbehave (trust.md section 2, class 10): each way ends in an error that names member, fact and fix.

What they make us read and keep is bounded: the caps are asserted in bytes and counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime

import pytest

from fleet_rollout.kube import client, watch
from fleet_rollout.kube.client import ApiError, Cluster, Connection, Resource, Unreachable
from fleet_rollout.kube.member import Member
from fleet_rollout.kube.transport import LIST_LIMIT, OBJECT_LIMIT
from fleet_rollout.kube.watch import watch_forever
from tests import misbehaving
from tests.misbehaving import Misbehaving

CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", True)
CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n"}}
NAME = "AttachedCluster/odd"
DEADLINE = 120
YESTERDAY = datetime.timedelta(days=-1)
# What is under way in sockets, TLS and the client's buffer when a cap is reached.
UNDER_WAY = 16 * 1024**2


@pytest.fixture
async def odd(tmp_path):
    """Starts a misbehaving server; gives it and the connection to it."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(way, **options):
            folder = tmp_path / str(len(list(tmp_path.iterdir())))
            server = await stack.enter_async_context(Misbehaving(folder, way, **options))
            return server, Connection(NAME, server.address, server.ca, {"Authorization": "Bearer member-token"})

        yield start


@pytest.fixture
async def checked(quick):
    """What the check of a member at this connection finds wrong: it becomes its AttachedCluster's condition."""
    async with contextlib.AsyncExitStack() as stack:

        async def check(connection: Connection) -> str:
            member = Member(connection, quick)
            stack.push_async_callback(member.close)
            async with asyncio.timeout(DEADLINE):
                found = await member.check()
            assert found is not None
            assert member.state == "unreachable"
            return found

        yield check


async def fails(request) -> Unreachable:
    with pytest.raises(Unreachable) as caught:
        async with asyncio.timeout(DEADLINE):
            await request
    assert caught.value.message.startswith(f"{NAME}: ")
    return caught.value


REACH = "; check that its API server runs and that the hub reaches it"
CERTIFICATE = "; renew it, or put its authority into the kubeconfig's certificate-authority-data"
ADDRESS = "check the kubeconfig's server"


@pytest.mark.parametrize(
    ("way", "options", "said"),
    [
        (misbehaving.hangs, {}, "no answer within 0.5 s" + REACH),
        (misbehaving.resets, {}, "the connection was cut" + REACH),
        (misbehaving.trickles, {}, "no answer within 0.5 s" + REACH),
        (misbehaving.shows_a_page, {}, "answered 200 with text/html, which is not a Kubernetes API; check the address"),
        (misbehaving.sends_ten_gigabytes, {}, "the answer is larger than 8 MiB"),
        (misbehaving.answers(["a", "list"]), {}, f"answered with something that is no Namespace; {ADDRESS}"),
        (misbehaving.answers({"kind": "Pod"}), {}, f"answered with something that is no Namespace; {ADDRESS}"),
        (
            misbehaving.answers({"kind": "Namespace", "metadata": 1}),
            {},
            f"answered with something that is no Namespace; {ADDRESS}",
        ),
        (
            misbehaving.hangs,
            {"lifetime": YESTERDAY},
            "its certificate is not trusted: certificate has expired" + CERTIFICATE,
        ),
    ],
    ids=["hangs", "resets", "1 byte at a time", "HTML", "10 GB", "list", "other kind", "no metadata", "expired"],
)
async def test_each_way_is_named_with_its_fix(odd, checked, way, options, said):
    _, connection = await odd(way, **options)
    assert await checked(connection) == said


async def test_a_refused_connection_is_named_with_its_fix(odd, checked):
    server, connection = await odd(misbehaving.hangs)
    await server.__aexit__()
    assert await checked(connection) == "could not connect: Connection refused" + REACH


async def test_another_s_certificate_is_named_with_its_fix(odd, checked):
    _, connection = await odd(misbehaving.hangs, host="other.example.com")
    found = await checked(connection)
    assert found.startswith("its certificate is not trusted: ")
    assert found.endswith(CERTIFICATE)


async def test_a_redirect_is_named_and_the_token_stays_here(odd, checked):
    other, _ = await odd(misbehaving.answers({}))
    server, connection = await odd(misbehaving.redirects(other.address))
    said = "answered 307 (redirects are not followed); put the final address into the kubeconfig"
    assert await checked(connection) == said
    assert (server.authorizations, other.requests) == ({"Bearer member-token"}, 0)


@pytest.mark.parametrize("way", [misbehaving.sends_ten_gigabytes, misbehaving.sends_ten_gigabytes_in_ten_megabytes])
async def test_of_ten_gigabytes_little_more_than_the_cap_is_taken(odd, open_cluster, settings, way):
    server, connection = await odd(way)
    error = await fails(open_cluster(connection, settings).get(CONFIG_MAPS, "a", "n"))
    assert error.fact == "the answer is larger than 8 MiB"
    assert server.sent < OBJECT_LIMIT + UNDER_WAY


async def test_of_a_length_that_is_too_large_nothing_is_read(odd, open_cluster, settings):
    server, connection = await odd(misbehaving.sends_ten_gigabytes)
    error = await fails(open_cluster(connection, settings).list(CONFIG_MAPS))
    assert error.fact == "the answer is larger than 64 MiB"
    assert server.sent < UNDER_WAY


async def test_large_answers_of_one_member_are_read_one_after_another(odd, open_cluster, settings):
    """Two lists at once, each of which may grow: the memory of one, and the beginning of the other."""
    large = LIST_LIMIT - 4 * 1024**2
    server, connection = await odd(misbehaving.sends_without_end(large))
    cluster = open_cluster(connection, settings)
    lists = [asyncio.create_task(cluster.list(CONFIG_MAPS)) for _ in range(2)]
    async with asyncio.timeout(DEADLINE):
        sent = -1
        while server.requests < 2 or server.sent != sent:
            sent = server.sent
            await asyncio.sleep(0.5)
    assert large + OBJECT_LIMIT < sent < large + OBJECT_LIMIT + UNDER_WAY
    for each in lists:
        each.cancel()
    await asyncio.gather(*lists, return_exceptions=True)


@pytest.mark.parametrize("item", [b"{}", b"[" * 1000 + b"]" * 1000], ids=["empty objects", "lists in lists"])
async def test_a_list_of_more_values_than_are_kept_is_not_parsed(odd, open_cluster, settings, item):
    server, connection = await odd(misbehaving.sends_more_values_than_bytes_would_tell(item))
    error = await fails(open_cluster(connection, settings).list(CONFIG_MAPS))
    assert error.fact == "the answer holds more than 4000000 values"
    assert server.sent < LIST_LIMIT


@pytest.mark.parametrize("items", [0, 500])
async def test_a_list_without_end_ends(odd, open_cluster, settings, monkeypatch, items):
    monkeypatch.setattr(client, "MOST_PAGES", 20)
    server, connection = await odd(misbehaving.lists_without_end(items))
    error = await fails(open_cluster(connection, settings).list(CONFIG_MAPS, "n"))
    assert error.fact == f"its list of configmaps does not end after 20 pages; {ADDRESS}"
    assert server.requests == 20


async def test_a_list_of_large_pages_ends_at_the_cap_of_the_whole(odd, open_cluster, settings, monkeypatch):
    monkeypatch.setattr(client, "LISTING_LIMIT", 1024**2)
    server, connection = await odd(misbehaving.lists_without_end(500))
    error = await fails(open_cluster(connection, settings).list(CONFIG_MAPS, "n"))
    assert error.fact == "its list of configmaps is larger than 1 MiB"
    assert server.sent < 2 * 1024**2


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"items": {"a": 1}},
        {"items": ["text"]},
        {"items": [{}]},
        {"items": [{"metadata": []}]},
        {"items": [{"metadata": {}}]},
        {"items": [{"metadata": {"name": 7}}]},
        {"items": [], "metadata": "text"},
        {"kind": "ConfigMap", "metadata": {}},
    ],
    ids=str,
)
async def test_a_list_of_something_else_is_no_list(odd, open_cluster, settings, body):
    _, connection = await odd(misbehaving.answers(body))
    error = await fails(open_cluster(connection, settings).list(CONFIG_MAPS, "n"))
    assert error.fact == f"answered with something that is no list of configmaps; {ADDRESS}"


async def test_a_list_s_kind_is_as_its_crd_names_it(odd, open_cluster, settings):
    body = {"kind": "ConfigCollection", "metadata": {"resourceVersion": "5"}, "items": None}
    _, connection = await odd(misbehaving.answers(body))
    assert await open_cluster(connection, settings).list(CONFIG_MAPS, "n") == ([], "5")


@pytest.mark.parametrize("write", ["create", "apply", "replace", "patch"])
async def test_a_write_answered_with_another_kind_may_have_happened(odd, open_cluster, settings, write):
    _, connection = await odd(misbehaving.answers({"kind": "Pod", "metadata": {"name": "a"}}))
    cluster: Cluster = open_cluster(connection, settings)
    requests = {
        "create": lambda: cluster.create(CONFIG_MAPS, CONFIG_MAP, manager="tests"),
        "apply": lambda: cluster.apply(CONFIG_MAPS, CONFIG_MAP, manager="tests"),
        "replace": lambda: cluster.replace(CONFIG_MAPS, CONFIG_MAP, manager="tests"),
        "patch": lambda: cluster.patch(CONFIG_MAPS, "a", "n", {}, kind="merge"),
    }
    error = await fails(requests[write]())
    assert error.fact == f"answered with something that is no ConfigMap; {ADDRESS}"
    assert error.maybe_sent


@pytest.mark.parametrize(
    "body", [{"message": {"a": 1}, "reason": 5, "details": "text"}, {"message": None, "details": [1]}, [], "text"]
)
async def test_a_refusal_in_odd_words_is_a_refusal(odd, open_cluster, settings, body):
    _, connection = await odd(misbehaving.answers(body, "409 Conflict"))
    with pytest.raises(ApiError) as caught:
        await open_cluster(connection, settings).get(CONFIG_MAPS, "a", "n")
    assert caught.value.is_conflict
    assert (caught.value.message, caught.value.details) == ("status 409", {})


@pytest.mark.parametrize(
    "answer",
    [
        {"kind": "APIGroupDiscoveryList", "items": ["text"]},
        {"kind": "APIGroupDiscoveryList", "items": [{"versions": 1}]},
        {"kind": "APIGroupList", "groups": [1]},
        {"kind": "APIVersions", "versions": 1},
        {"kind": "Pod"},
        {},
    ],
    ids=str,
)
async def test_odd_discovery_is_told(odd, open_cluster, settings, answer):
    _, connection = await odd(misbehaving.answers(answer))
    error = await fails(open_cluster(connection, settings).resource_for("v1", "ConfigMap"))
    assert error.fact == f"its list of kinds is not one of a Kubernetes API; {ADDRESS}"


class Watching:
    """A watch of the misbehaving member; `lost` is set whenever it could not be followed."""

    def __init__(self, cluster, settings):
        self.seen: list[str] = []
        self.lost = asyncio.Event()
        self._cluster, self._settings = cluster, settings

    async def __aenter__(self):
        self._task = asyncio.create_task(
            watch_forever(
                self._cluster,
                CONFIG_MAPS,
                settings=self._settings,
                on_event=lambda event: self.seen.append(event.type),
                on_lost=self.lost.set,
            )
        )
        return self

    async def __aexit__(self, *_):
        assert not self._task.done(), "a member's answer ended the watch for good"
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def is_lost(self) -> None:
        async with asyncio.timeout(DEADLINE):
            await self.lost.wait()


@pytest.mark.parametrize(
    "event",
    [
        [],
        {"type": "ADDED", "object": "text"},
        {"type": "ADDED", "object": {}},
        {"type": "ADDED", "object": {"metadata": 1}},
        {"type": "ADDED", "object": {"metadata": {"name": ["a"]}}},
        {"type": "ADDED", "object": {"metadata": {"name": "a", "namespace": {}}}},
        {"type": "ADDED", "object": {"metadata": {"name": "a", "uid": 7}}},
        {"type": "MODIFIED", "object": {"metadata": {"name": "a", "resourceVersion": 7}}},
        {"type": "DELETED", "object": {"metadata": {"name": "a", "labels": ["a"]}}},
        {"type": "ADDED", "object": {"metadata": {"name": "a", "annotations": "a"}}},
        {"type": "BOOKMARK", "object": {"metadata": None}},
        {"type": "INVENTED", "object": {"metadata": {"name": "a"}}},
        {"type": ["ADDED"], "object": {"metadata": {"name": "a"}}},
        {"type": "ERROR", "object": "text"},
        {"type": "ERROR", "object": {"code": "text", "message": 1, "details": "text"}},
    ],
    ids=str,
)
async def test_an_odd_event_ends_the_connection_and_not_the_watch(odd, open_cluster, settings, event):
    _, connection = await odd(misbehaving.watched(misbehaving.events(event)))
    async with Watching(open_cluster(connection, settings), settings) as watching:
        await watching.is_lost()
    assert watching.seen == ["SYNCED"]


async def test_bytes_that_never_become_an_event_are_silence(odd, open_cluster, quick):
    """Class 4: a byte now and then keeps a connection alive, and says nothing."""
    _, connection = await odd(misbehaving.watched(misbehaving.trickles))
    async with Watching(open_cluster(connection, quick), quick) as watching:
        await watching.is_lost()


async def test_of_objects_without_end_a_watch_remembers_so_many(odd, open_cluster, settings, monkeypatch):
    monkeypatch.setattr(watch, "MOST_KNOWN", 100)
    patient = dataclasses.replace(settings, member_breaker_max=3600.0)
    _, connection = await odd(misbehaving.watched(misbehaving.tells_of_objects_without_end))
    async with Watching(open_cluster(connection, patient), patient) as watching:
        await watching.is_lost()
        assert watching.seen == ["SYNCED", *["ADDED"] * 100]
