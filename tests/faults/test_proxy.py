"""The fault proxy itself: it must change nothing unless told to, and do exactly what it is told."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import warnings

import pytest
from yarl import URL

from fleet_rollout.kube.access import connection_from_kubeconfig
from fleet_rollout.kube.client import ApiError, Cluster, Resource, Unreachable
from fleet_rollout.kube.lease import Leadership
from fleet_rollout.kube.watch import watch_forever
from fleet_rollout.settings import Settings
from tests.faults.proxy import FaultProxy
from tests.faults.rules import (
    Cut,
    CutAfter,
    CutBefore,
    CutInside,
    Delay,
    Events,
    Faults,
    Hold,
    Key,
    Past,
    Reply,
    Slow,
    dropped,
    key_of,
    lost_once,
    refusal,
    repeated,
    without_bookmarks,
)

CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", True)
DEADLINE = 120


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
async def proxy(hub, faults):
    running = FaultProxy("hub", hub.server, hub.ca, faults)
    await asyncio.to_thread(running.__enter__)
    yield running
    await asyncio.to_thread(running.__exit__, None, None, None)


@pytest.fixture
async def behind(proxy, hub):
    """A client whose requests go through the proxy."""
    text = proxy.kubeconfig(hub.kubeconfig.read_bytes())
    cluster = Cluster(connection_from_kubeconfig("hub", text, allow_insecure=False), Settings())
    yield cluster
    await cluster.close()


@pytest.fixture
async def home(namespace, hub):
    return await namespace("faults", on=[hub])


def config_map(namespace: str, name: str = "a", **data: str) -> dict:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}


async def test_without_rules_everything_passes_and_writes_are_counted(behind, faults, home):
    await behind.apply(CONFIG_MAPS, config_map(home, key="1"), manager="tests", dry_run=True)
    await behind.apply(CONFIG_MAPS, config_map(home, key="1"), manager="tests")
    made = await behind.get(CONFIG_MAPS, "a", home)
    assert made["data"] == {"key": "1"}
    await behind.create(CONFIG_MAPS, config_map(home, "b"), manager="tests")
    await behind.patch(CONFIG_MAPS, "a", home, {"data": {"key": "2"}}, kind="merge")
    await behind.replace(CONFIG_MAPS, made | {"metadata": {"name": "a", "namespace": home}}, manager="tests")
    await behind.delete(CONFIG_MAPS, "a", home)
    assert [(asked.number, asked.key.verb, asked.key.name, asked.status) for asked in faults.writes] == [
        (1, "apply", "a", 201),
        (2, "create", "b", 201),
        (3, "patch", "a", 200),
        (4, "update", "a", 200),
        (5, "delete", "a", 200),
    ]
    assert {asked.key.resource for asked in faults.writes} == {"configmaps"}
    assert {asked.key.namespace for asked in faults.writes} == {home}


async def test_cut_before_leaves_the_object_as_it_was(behind, faults, home):
    faults.on(CutBefore(), verb="apply", name="a")
    with pytest.raises(Unreachable, match="the connection was cut") as caught:
        await behind.apply(CONFIG_MAPS, config_map(home), manager="tests")
    assert caught.value.maybe_sent
    assert await behind.get(CONFIG_MAPS, "a", home) is None
    await behind.apply(CONFIG_MAPS, config_map(home), manager="tests")


@pytest.mark.parametrize("verb", ["create", "apply", "patch", "update", "delete"])
async def test_cut_after_loses_the_answer_of_a_write_that_happened(behind, faults, home, admin_view, verb):
    obj = config_map(home, key="new")
    if verb != "create":
        await behind.create(CONFIG_MAPS, config_map(home, key="old"), manager="tests")
    send = {
        "create": lambda: behind.create(CONFIG_MAPS, obj, manager="tests"),
        "apply": lambda: behind.apply(CONFIG_MAPS, obj, manager="tests"),
        "patch": lambda: behind.patch(CONFIG_MAPS, "a", home, {"data": {"key": "new"}}, kind="merge"),
        "update": lambda: behind.replace(CONFIG_MAPS, obj, manager="tests"),
        "delete": lambda: behind.delete(CONFIG_MAPS, "a", home),
    }
    faults.on(CutAfter(), verb=verb)
    with pytest.raises(Unreachable) as caught:
        await send[verb]()
    assert caught.value.maybe_sent
    found = await admin_view(home)
    assert found is None if verb == "delete" else found["data"] == {"key": "new"}
    assert [asked.key.verb for asked in faults.writes].count(verb) == 1


@pytest.fixture
def admin_view(hub):
    async def view(namespace: str) -> dict | None:
        return await hub.api.find(f"/api/v1/namespaces/{namespace}/configmaps/a")

    return view


async def test_replies_come_in_the_api_servers_place(behind, faults, home):
    body = {"kind": "Status", "status": "Failure", "reason": "Conflict", "message": "changed", "code": 409}
    faults.on(Reply(409, body), verb="apply", nth=2)
    await behind.apply(CONFIG_MAPS, config_map(home, key="1"), manager="tests")
    with pytest.raises(ApiError) as caught:
        await behind.apply(CONFIG_MAPS, config_map(home, key="2"), manager="tests")
    assert caught.value.is_conflict
    assert (await behind.get(CONFIG_MAPS, "a", home))["data"] == {"key": "1"}


async def test_a_held_request_goes_on_when_it_is_released(behind, faults, home):
    hold = Hold()
    faults.on(hold, verb="apply")
    sending = asyncio.create_task(behind.apply(CONFIG_MAPS, config_map(home), manager="tests"))
    assert await asyncio.to_thread(hold.arrived.wait, DEADLINE)
    assert await behind.get(CONFIG_MAPS, "a", home) is None
    hold.release()
    assert (await sending)[1] is True


async def test_a_delayed_request_takes_longer_than_the_client_waits_but_lands(proxy, hub, faults, home, eventually):
    text = proxy.kubeconfig(hub.kubeconfig.read_bytes())
    settings = dataclasses.replace(Settings(), member_request_timeout=0.5)
    hasty = Cluster(connection_from_kubeconfig("hub", text, allow_insecure=False), settings)
    faults.on(Delay(1.0), verb="apply")
    with pytest.raises(Unreachable, match=r"no answer within 0\.5 s"):
        await hasty.apply(CONFIG_MAPS, config_map(home), manager="tests")
    await hasty.close()

    async def is_there():
        return await hub.api.find(f"/api/v1/namespaces/{home}/configmaps/a")

    await eventually(is_there)


async def test_watches_pass_event_by_event_and_survive_cuts_and_lost_events(behind, proxy, faults, home, eventually):
    def without_second(event: dict) -> list[dict]:
        return [] if event["object"]["metadata"].get("name") == "second" else [event]

    faults.on(Events(without_second), verb="watch", namespace=home)
    seen = []

    def note(event) -> None:
        seen.append((event.type, event.obj.get("metadata", {}).get("name", "")))

    async def saw(*wanted: tuple[str, str]):
        async def is_seen():
            return [event for event in seen if event[0] != "SYNCED"] == list(wanted)

        await eventually(is_seen)

    task = asyncio.create_task(watch_forever(behind, CONFIG_MAPS, namespace=home, settings=Settings(), on_event=note))

    async def is_watching():
        return any(asked.key.verb == "watch" and asked.status for asked in faults.log)

    await eventually(is_watching)
    await behind.apply(CONFIG_MAPS, config_map(home, "first"), manager="tests")
    await saw(("ADDED", "first"))
    await behind.apply(CONFIG_MAPS, config_map(home, "second"), manager="tests")
    await behind.apply(CONFIG_MAPS, config_map(home, "third"), manager="tests")
    await saw(("ADDED", "first"), ("ADDED", "third"))
    proxy.cut_all()
    await behind_again(behind, home)
    await saw(("ADDED", "first"), ("ADDED", "third"), ("ADDED", "fourth"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_answer_that_is_cut_inside_is_no_answer(behind, faults, home, hub):
    faults.on(CutInside(), verb="apply")
    with pytest.raises(Unreachable) as caught:
        await behind.apply(CONFIG_MAPS, config_map(home), manager="tests")
    assert caught.value.maybe_sent
    assert await hub.api.find(f"/api/v1/namespaces/{home}/configmaps/a")
    cut = faults.on(CutInside(), verb="list", times=2)  # a client asks a lost read once more
    with pytest.raises(Unreachable):
        await behind.list(CONFIG_MAPS, home)
    assert cut.done == 2
    assert (await behind.list(CONFIG_MAPS, home))[0]


async def test_a_slow_answer_comes_whole(behind, faults, home):
    await behind.apply(CONFIG_MAPS, config_map(home, key="1"), manager="tests")
    rule = faults.on(Slow(20_000), verb="get", name="a")
    assert (await behind.get(CONFIG_MAPS, "a", home))["data"] == {"key": "1"}
    assert rule.done == 1


@pytest.mark.parametrize("status", [409, 410, 429, 500, 503])
async def test_refusals_look_like_the_api_servers(behind, faults, home, status):
    faults.on(refusal(status, retry_after=1 if status == 429 else None), verb="create", times=1)
    creating = behind.create(CONFIG_MAPS, config_map(home), manager="tests")
    if status == 429:  # the client waits as long as it is told to, and asks again
        assert (await creating)["metadata"]["name"] == "a"
        return
    with pytest.raises(ApiError) as caught:
        await creating
    assert caught.value.status == status
    assert caught.value.is_conflict == (status == 409)
    assert caught.value.is_expired == (status == 410)


async def test_the_past_is_what_was_true_then(behind, faults, home):
    """Time travel of trust.md 2: LIST, GET and the start of a watch at an older revision."""
    await behind.create(CONFIG_MAPS, config_map(home, "goes", key="1"), manager="tests")
    made = await behind.create(CONFIG_MAPS, config_map(home, "a", key="1"), manager="tests")
    then = made["metadata"]["resourceVersion"]
    await behind.patch(CONFIG_MAPS, "a", home, {"data": {"key": "2"}}, kind="merge")
    await behind.delete(CONFIG_MAPS, "goes", home)
    await behind.create(CONFIG_MAPS, config_map(home, "new"), manager="tests")
    rule = faults.when(lambda asked: asked.key.namespace == home, Past(then), times=None)

    listed, version = await behind.list(CONFIG_MAPS, home)
    data = {obj["metadata"]["name"]: obj.get("data") for obj in listed if obj["metadata"]["name"] in ("a", "goes")}
    assert (data, version) == ({"a": {"key": "1"}, "goes": {"key": "1"}}, then)
    assert (await behind.get(CONFIG_MAPS, "a", home))["data"] == {"key": "1"}
    assert (await behind.get(CONFIG_MAPS, "goes", home, metadata_only=True))["metadata"]["name"] == "goes"
    assert await behind.get(CONFIG_MAPS, "new", home) is None
    changes = []
    async for event in behind.watch(CONFIG_MAPS, namespace=home):
        changes.append((event.type, event.obj["metadata"].get("name")))
        if len(changes) == 3:
            break
    assert changes == [("MODIFIED", "a"), ("DELETED", "goes"), ("ADDED", "new")]
    assert rule.done == 5
    faults.clear()
    assert (await behind.get(CONFIG_MAPS, "a", home))["data"] == {"key": "2"}


async def test_a_rule_of_an_epoch_waits_for_it(behind, faults, home):
    faults.on(refusal(500), verb="create", epoch=1)
    await behind.create(CONFIG_MAPS, config_map(home), manager="tests")
    faults.epoch = 1
    with pytest.raises(ApiError):
        await behind.create(CONFIG_MAPS, config_map(home, "b"), manager="tests")
    assert [asked.epoch for asked in faults.writes] == [0, 1]


@pytest.mark.parametrize("greeted", [True, False])
async def test_clients_that_do_not_say_goodbye_leave_nothing_behind(hub, greeted):
    """What it leaves open would be found by whichever test the garbage collector runs in."""
    gc.collect()
    with warnings.catch_warnings(record=True) as left:
        warnings.simplefilter("always", ResourceWarning)
        proxy = FaultProxy("hub", hub.server, hub.ca)
        await asyncio.to_thread(proxy.__enter__)
        client = await asyncio.to_thread(socket.create_connection, ("127.0.0.1", URL(proxy.url).port))
        if greeted:
            tls = ssl.create_default_context(cadata=proxy.ca.decode())
            client = await asyncio.to_thread(tls.wrap_socket, client, server_hostname="127.0.0.1")
            await asyncio.to_thread(client.sendall, b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await asyncio.to_thread(client.recv, 12)).startswith(b"HTTP/1.1")
        await asyncio.to_thread(proxy.__exit__, None, None, None)
        del proxy
        gc.collect()
        client.close()
    assert [str(each.message) for each in left] == []


def test_events_are_dropped_and_repeated():
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "7"}}}
    added = {"type": "ADDED", "object": {"metadata": {"name": "a"}}}
    assert [dropped("a").change(each) for each in (added, bookmark)] == [[], [bookmark]]
    assert repeated().change(added) == [added, added]
    assert [without_bookmarks().change(each) for each in (added, bookmark)] == [[added], []]
    losing = lost_once()
    assert list(losing.change(bookmark)) == [bookmark]
    with pytest.raises(Cut):
        losing.change(added)
    assert list(losing.change(added)) == [added]


async def behind_again(behind: Cluster, home: str) -> None:
    """The first request after a cut may meet a connection that is just being reset."""
    try:
        await behind.apply(CONFIG_MAPS, config_map(home, "fourth"), manager="tests")
    except Unreachable:
        await behind.apply(CONFIG_MAPS, config_map(home, "fourth"), manager="tests")


CLIENT = """
import asyncio, sys
from pathlib import Path
from fleet_rollout.kube.access import connection_from_file
from fleet_rollout.kube.client import Cluster, Resource
from fleet_rollout.settings import Settings

async def main():
    cluster = Cluster(connection_from_file(Path(sys.argv[1])), Settings())
    maps = Resource("", "v1", "ConfigMap", "configmaps", True)
    for name in ("one", "two", "three"):
        metadata = {"name": name, "namespace": sys.argv[2]}
        await cluster.apply(maps, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}, manager="victim")

asyncio.run(main())
"""


@pytest.mark.parametrize(("cut", "left"), [(CutBefore, ["one"]), (CutAfter, ["one", "two"])])
async def test_the_program_is_killed_before_or_after_the_write_with_a_number(
    proxy, hub, faults, home, tmp_path, cut, left
):
    config = tmp_path / "config"
    config.write_bytes(proxy.kubeconfig(hub.kubeconfig.read_bytes()))
    started = threading.Event()
    pid = 0

    def kill() -> None:
        assert started.wait(DEADLINE)
        os.kill(pid, signal.SIGKILL)

    faults.on_write(2, cut(then=kill))
    victim = subprocess.Popen([sys.executable, "-c", CLIENT, str(config), home])
    pid = victim.pid
    started.set()
    assert await asyncio.to_thread(victim.wait, DEADLINE) == -signal.SIGKILL
    found = await hub.api.items(f"/api/v1/namespaces/{home}/configmaps")
    assert sorted(obj["metadata"]["name"] for obj in found) == left
    assert [asked.key.name for asked in faults.writes] == ["one", "two"]


async def test_a_leader_cut_off_from_the_hub_stops_before_the_other_starts_and_its_late_renewal_is_refused(
    behind, hub, faults, home, eventually
):
    """Bug class 5, on a real API server: two contenders, one of them behind a network that stalls."""
    settings = dataclasses.replace(
        Settings(), own_namespace=home, lease_duration=3.0, lease_renew_deadline=2.0, lease_retry=0.2
    )
    direct = Cluster(connection_from_kubeconfig("hub", hub.kubeconfig.read_bytes(), allow_insecure=False), settings)
    working: list[str] = []
    both: list[list[str]] = []

    def work(name: str):
        async def body() -> None:
            working.append(name)
            both.append(list(working))
            try:
                await asyncio.Event().wait()
            finally:
                working.remove(name)

        return body

    first, second = Leadership(behind, settings), Leadership(direct, settings)

    def leads(leadership: Leadership):
        async def is_leading():
            return leadership.is_leading and working

        return is_leading

    stalled = asyncio.create_task(first.run(work("first")))
    await eventually(leads(first))
    other = asyncio.create_task(second.run(work("second")))
    hold = Hold()
    faults.on(hold, resource="leases.coordination.k8s.io", times=None)
    assert await asyncio.to_thread(hold.arrived.wait, DEADLINE)
    await eventually(leads(second))
    assert not first.is_leading
    hold.release()

    async def was_refused():
        return any(asked.key.verb == "update" and asked.status == 409 for asked in faults.log)

    await eventually(was_refused)
    assert second.is_leading
    assert all(len(names) == 1 for names in both), both
    assert second.epoch == first.epoch + 1  # a busy machine may have lost the Lease once before
    for task in (stalled, other):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await direct.close()


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/version", ("get", "version", "", "", "")),
        ("GET", "/apis", ("get", "apis", "", "", "")),
        ("GET", "/api/v1/namespaces", ("list", "namespaces", "", "", "")),
        ("GET", "/api/v1/namespaces/n", ("get", "namespaces", "", "n", "")),
        ("PUT", "/api/v1/namespaces/n/finalize", ("update", "namespaces", "", "n", "finalize")),
        ("GET", "/api/v1/namespaces/n/pods", ("list", "pods", "n", "", "")),
        ("POST", "/api/v1/namespaces/n/pods", ("create", "pods", "n", "made", "")),
        ("PATCH", "/apis/apps/v1/namespaces/n/deployments/d/status", ("patch", "deployments.apps", "n", "d", "status")),
        ("DELETE", "/apis/apps/v1/namespaces/n/deployments", ("deletecollection", "deployments.apps", "n", "", "")),
    ],
)
def test_keys_of_requests(method, path, expected):
    assert key_of("m1", method, path, {}, "application/merge-patch+json", b'{"metadata": {"name": "made"}}') == Key(
        "m1", *expected
    )
