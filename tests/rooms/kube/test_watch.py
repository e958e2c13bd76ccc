"""The endless watch: on a real API server, and on servers that cut, forget, stall and lie (bug class 4)."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import web

from fleet_rollout.kube.client import Resource
from fleet_rollout.kube.watch import Pulse, watch_forever

CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", True)
DEADLINE = 30


class Seen:
    """The events of a watch, as (type, name, resourceVersion); awaits that one arrives."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []
        self._news = asyncio.Event()

    def __call__(self, event) -> None:
        metadata = event.obj.get("metadata", {})
        self.events.append((event.type, metadata.get("name", ""), metadata.get("resourceVersion", "")))
        self._news.set()

    @property
    def short(self) -> list[tuple[str, str]]:
        return [event[:2] for event in self.events]

    async def until(self, wanted) -> None:
        try:
            async with asyncio.timeout(DEADLINE):
                while not wanted(self):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pytest.fail(f"not seen within {DEADLINE} s: {self.events}")


@asynccontextmanager
async def watching(cluster, settings, **options):
    seen = Seen()
    task = asyncio.create_task(watch_forever(cluster, CONFIG_MAPS, settings=settings, on_event=seen, **options))
    try:
        yield seen
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def config_map(name: str, version: int = 0, uid: str = "u") -> dict:
    return {"metadata": {"name": name, "namespace": "n", "uid": uid, "resourceVersion": str(version)}}


async def test_changes_on_a_real_api_server_are_seen(admin, settings, namespace, hub):
    home = await namespace("watch", on=[hub])
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": home}}
    await admin.apply(CONFIG_MAPS, obj, manager="tests")
    async with watching(admin, settings, namespace=home) as seen:
        await seen.until(lambda s: s.short == [("ADDED", "a"), ("SYNCED", "")])
        await admin.apply(CONFIG_MAPS, obj | {"data": {"k": "v"}}, manager="tests")
        await seen.until(lambda s: s.short[2:] == [("MODIFIED", "a")])
        await admin.delete(CONFIG_MAPS, "a", home)
        await seen.until(lambda s: s.short[3:] == [("DELETED", "a")])


async def test_metadata_watches_carry_no_content(admin, settings, namespace, hub):
    home = await namespace("watch", on=[hub])
    objects = []
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": home}, "data": {"k": "v"}}
    synced = asyncio.Event()
    changed = asyncio.Event()

    def note(event) -> None:
        objects.append(event.obj)
        (synced if event.type == "SYNCED" else changed).set()

    task = asyncio.create_task(
        watch_forever(admin, CONFIG_MAPS, settings=settings, namespace=home, metadata_only=True, on_event=note)
    )
    async with asyncio.timeout(DEADLINE):
        await synced.wait()
        await admin.apply(CONFIG_MAPS, obj, manager="tests")
        await changed.wait()
    task.cancel()
    assert [(o["kind"], "data" in o) for o in objects[1:]] == [("ConfigMap", False)]


async def test_what_happened_during_an_outage_is_told_after_it(spare, connection, open_cluster, settings, namespace):
    home = await namespace("watch", on=[spare])
    cluster = open_cluster(connection(spare))
    for name in ("kept", "lost"):
        obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": home}}
        await cluster.apply(CONFIG_MAPS, obj, manager="tests")
    async with watching(cluster, settings, namespace=home) as seen:
        await seen.until(lambda s: ("SYNCED", "") in s.short)
        await spare.kill()
        await spare.start()
        await cluster.delete(CONFIG_MAPS, "lost", home)
        await seen.until(lambda s: ("DELETED", "lost") in s.short)
        assert s_count(seen, "ADDED", "kept") == 1


def s_count(seen: Seen, kind: str, name: str) -> int:
    return seen.short.count((kind, name))


class Scripted:
    """A server with a list and, per connection, a scripted watch: lines to send, then how it ends."""

    def __init__(self, *watches) -> None:
        self.objects: list[dict] = []
        self.version = "10"
        self.watches = list(watches)
        self.asked: list[str] = []
        self.lists = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            self.lists += 1
            return web.json_response({"items": self.objects, "metadata": {"resourceVersion": self.version}})
        self.asked.append(request.query["resourceVersion"])
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        lines, ending = self.watches.pop(0) if self.watches else ((), "hang")
        for line in lines:
            await answer.write(json.dumps(line).encode() + b"\n")
        if ending == "hang":
            await asyncio.Event().wait()
        if ending == "cut":
            request.transport.abort()
        return answer


def line(kind: str, obj: dict) -> dict:
    return {"type": kind, "object": obj}


def bookmark(version: int) -> dict:
    return line("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})


GONE = line("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"})


@pytest.mark.parametrize("ending", ["end", "cut"])
async def test_a_watch_resumes_where_it_was_without_listing_again(serve, open_cluster, quick, ending):
    server = Scripted(
        ((line("ADDED", config_map("a", 11)), bookmark(15)), ending), ((line("ADDED", config_map("b", 16)),), "hang")
    )
    async with watching(open_cluster(await serve(server.answer), quick), quick) as seen:
        await seen.until(lambda s: ("ADDED", "b") in s.short)
    assert seen.short == [("SYNCED", ""), ("ADDED", "a"), ("ADDED", "b")]
    assert (server.asked[:2], server.lists) == (["10", "15"], 1)


async def test_a_forgotten_version_is_listed_anew_and_what_vanished_is_told(serve, open_cluster, quick):
    server = Scripted(((GONE,), "end"))
    server.objects = [config_map("kept", 1), config_map("lost", 2, "u2"), config_map("new", 3, "old-uid")]
    async with watching(open_cluster(await serve(server.answer), quick), quick) as seen:
        await seen.until(lambda s: s.short.count(("SYNCED", "")) == 1)
        server.objects, server.version = [config_map("kept", 1), config_map("new", 21, "new-uid")], "21"
        await seen.until(lambda s: s.short.count(("SYNCED", "")) == 2)
    assert seen.events[4:] == [
        ("DELETED", "lost", "2"),
        ("DELETED", "new", "3"),
        ("ADDED", "new", "21"),
        ("SYNCED", "", ""),
    ]


async def test_silence_is_taken_for_a_lost_connection(serve, open_cluster, quick):
    server = Scripted(((bookmark(12),), "hang"), ((line("ADDED", config_map("a", 13)),), "hang"))
    async with watching(open_cluster(await serve(server.answer), quick), quick) as seen:
        await seen.until(lambda s: ("ADDED", "a") in s.short)
    assert server.asked[:2] == ["10", "12"]


async def test_a_storm_of_410_is_answered_with_longer_and_longer_pauses(serve, open_cluster, quick):
    server = Scripted(*[((GONE,), "end")] * 1000)
    pulse = Pulse()
    async with watching(open_cluster(await serve(server.answer), quick), quick, age=pulse) as seen:
        await seen.until(lambda s: s.short.count(("SYNCED", "")) == 3)
    assert server.lists == 3
    assert pulse.age < DEADLINE


async def test_a_server_that_ends_every_watch_at_once_is_not_asked_at_full_speed(
    serve, open_cluster, quick, eventually
):
    server = Scripted(*[((), "end")] * 1000)

    async def was_asked_thrice():
        return len(server.asked) >= 3

    async with watching(open_cluster(await serve(server.answer), quick), quick):
        await eventually(was_asked_thrice)
    assert len(server.asked) == 3


async def test_lines_that_are_no_events_and_absent_kinds_end_nothing(serve, open_cluster, quick):
    answers = [404, 403, "junk", "fine"]

    async def odd(request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            status = answers.pop(0) if isinstance(answers[0], int) else 200
            body = {"items": [], "metadata": {"resourceVersion": "5"}} if status == 200 else {"message": "no"}
            return web.json_response(body, status=status)
        if answers.pop(0) == "junk":
            return web.Response(text='{"what": 1}\n', content_type="application/json")
        return web.Response(text=json.dumps(line("ADDED", config_map("a", 6))) + "\n", content_type="application/json")

    async with watching(open_cluster(await serve(odd), quick), quick) as seen:
        await seen.until(lambda s: ("ADDED", "a") in s.short)
