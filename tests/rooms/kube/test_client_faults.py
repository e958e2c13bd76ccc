"""What the client makes of servers that refuse, hang, cut, redirect, or are no Kubernetes API (trust.md 2, class 7)."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from typing import Any

import pytest
from aiohttp import web

from fleet_rollout.kube import connector, errors, transport
from fleet_rollout.kube.breaker import Breaker
from fleet_rollout.kube.client import ApiError, Cluster, Connection, NoSuchKind, Resource, Unreachable
from fleet_rollout.kube.errors import Unread
from fleet_rollout.lab.certificates import Authority

CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", True)
CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n"}}


async def fails(cluster: Cluster, *, write: bool = False) -> Unreachable:
    create = cluster.create(CONFIG_MAPS, CONFIG_MAP, manager="tests")
    with pytest.raises(Unreachable) as caught:
        await (create if write else cluster.get(CONFIG_MAPS, "a", "n"))
    create.close()
    assert caught.value.message.startswith("AttachedCluster/odd: ")
    return caught.value


def cut(request: web.Request) -> None:
    """Close the connection with a reset."""
    sock = request.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()


async def test_a_refused_connection_was_never_sent(open_cluster, quick):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{held.getsockname()[1]}"
        error = await fails(open_cluster(Connection("AttachedCluster/odd", address), quick), write=True)
    assert (error.fact, error.maybe_sent) == ("could not connect: Connection refused", False)


async def test_an_address_that_does_not_resolve_is_named(open_cluster, quick):
    error = await fails(open_cluster(Connection("AttachedCluster/odd", "https://nowhere.invalid"), quick))
    assert (error.fact, error.maybe_sent) == ("the address nowhere.invalid does not resolve", False)


async def test_a_server_that_hangs_ends_at_the_time_out(serve, open_cluster, quick):
    async def hang(request: web.Request) -> web.Response:
        await asyncio.Event().wait()

    error = await fails(open_cluster(await serve(hang), quick), write=True)
    assert (error.fact, error.maybe_sent) == ("no answer within 0.5 s", True)


async def test_a_write_cut_after_it_was_sent_may_have_been_carried_out_and_is_not_repeated(serve, open_cluster, quick):
    seen = []

    async def reset(request: web.Request) -> web.Response:
        seen.append(request.method)
        cut(request)
        return web.Response()

    cluster = open_cluster(await serve(reset), quick)
    error = await fails(cluster, write=True)
    assert (error.fact, error.maybe_sent) == ("the connection was cut", True)
    with pytest.raises(Unreachable):
        await cluster.delete(CONFIG_MAPS, "a", "n")
    assert seen == ["POST", "DELETE"]


async def test_an_answer_that_breaks_off_is_no_answer(serve, open_cluster, quick):
    async def half(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "1000"})
        await answer.prepare(request)
        await answer.write(b'{"kind":')
        request.transport.close()
        return answer

    assert (await fails(open_cluster(await serve(half), quick))).fact == "the answer broke off"


async def test_a_login_page_is_not_taken_for_an_object(serve, open_cluster, quick):
    async def page(request: web.Request) -> web.Response:
        return web.Response(text="<html>log in</html>", content_type="text/html")

    error = await fails(open_cluster(await serve(page), quick))
    assert error.fact == "answered 200 with text/html, which is not a Kubernetes API; check the address"


async def test_broken_json_is_no_answer(serve, open_cluster, quick):
    async def broken(request: web.Request) -> web.Response:
        return web.Response(text='{"kind": ', content_type="application/json")

    assert (await fails(open_cluster(await serve(broken), quick))).fact == "answered 200 with broken JSON"


async def test_after_a_busy_moment_one_connection_is_used_and_the_others_idle_out(serve, open_cluster, quick):
    together, ports = asyncio.Barrier(2), []

    async def answer(request: web.Request) -> web.Response:
        ports.append(request.transport.get_extra_info("peername")[1])
        if len(ports) <= 2:
            await together.wait()
        return web.json_response({"gitVersion": "v1"})

    cluster = open_cluster(await serve(answer), quick)
    await asyncio.gather(cluster.server_version(), cluster.server_version())
    for _ in range(4):
        await cluster.server_version()
    assert len(set(ports[:2])) == 2
    assert len(set(ports[2:])) == 1


async def test_the_further_connections_of_a_busy_moment_end_soon_after_it(
    serve, open_cluster, quick, eventually, monkeypatch
):
    monkeypatch.setattr(connector, "SPARE_KEEP_ALIVE", 0.05)
    together, transports = asyncio.Barrier(2), []

    async def answer(request: web.Request) -> web.Response:
        transports.append(request.transport)
        if len(transports) <= 2:
            await together.wait()
        return web.json_response({"gitVersion": "v1"})

    async def one_is_left() -> bool:
        return sum(not transport.is_closing() for transport in transports[:2]) == 1

    cluster = open_cluster(await serve(answer), quick)
    await asyncio.gather(cluster.server_version(), cluster.server_version())
    await eventually(one_is_left)
    await cluster.server_version()
    assert transports[2] in transports[:2]


async def test_an_endless_body_is_cut_at_the_cap(serve, open_cluster, settings):
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        while True:
            await answer.write(b" " * 2**20)
            sent += 1

    error = await fails(open_cluster(await serve(endless), settings))
    assert error.fact == "the answer is larger than 8 MiB"
    assert sent < 64


async def test_a_redirect_is_not_followed_and_no_credential_goes_there(serve, open_cluster, quick):
    followed = []

    async def elsewhere(request: web.Request) -> web.Response:
        followed.append(request.headers.get("Authorization"))
        return web.json_response({})

    target = await serve(elsewhere)

    async def redirect(request: web.Request) -> web.Response:
        raise web.HTTPFound(target.server)

    start = await serve(redirect)
    error = await fails(
        open_cluster(Connection(start.name, start.server, headers={"Authorization": "Bearer t"}), quick)
    )
    assert error.fact.startswith("answered 302 (redirects are not followed)")
    assert followed == []


async def test_an_unknown_authority_is_named(hub, connection, open_cluster, quick):
    other = Authority.create("other").pair.certificate
    cluster = open_cluster(connection(hub, ca=other), quick)
    with pytest.raises(Unreachable, match="its certificate is not trusted: ") as caught:
        await cluster.server_version()
    assert not caught.value.maybe_sent


async def test_a_server_without_tls_is_named(serve, open_cluster, quick):
    async def any_answer(request: web.Request) -> web.Response:
        return web.json_response({})

    plain = await serve(any_answer)
    secure = Connection(plain.name, plain.server.replace("http:", "https:"), ssl=ssl.create_default_context())
    error = await fails(open_cluster(secure, quick))
    assert error.fact.startswith("TLS failed: ")
    assert not error.maybe_sent


async def test_throttling_is_obeyed_for_a_moment_and_then_told(serve, open_cluster, quick):
    answers = [429, 429, 200]

    async def throttle(request: web.Request) -> web.Response:
        status = answers.pop(0)
        return web.json_response({"kind": "ConfigMap", "metadata": {}}, status=status, headers={"Retry-After": "0"})

    cluster = open_cluster(await serve(throttle), quick)
    assert await cluster.get(CONFIG_MAPS, "a", "n") == {"kind": "ConfigMap", "metadata": {}}
    answers += [429, 429, 429, 200]
    with pytest.raises(ApiError) as caught:
        await cluster.get(CONFIG_MAPS, "a", "n")
    assert (caught.value.status, caught.value.retry_after, answers) == (429, 0.0, [200])


async def test_a_create_is_not_repeated_on_503_since_it_may_have_happened(serve, open_cluster, quick):
    seen = []

    async def busy(request: web.Request) -> web.Response:
        seen.append(request.method)
        return web.Response(status=503, text="busy", headers={"Retry-After": "0"})

    cluster = open_cluster(await serve(busy), quick)
    with pytest.raises(ApiError, match="busy"):
        await cluster.create(CONFIG_MAPS, CONFIG_MAP, manager="tests")
    assert seen == ["POST"]
    with pytest.raises(ApiError, match="busy"):
        await cluster.apply(CONFIG_MAPS, CONFIG_MAP, manager="tests")
    assert seen == ["POST", "PATCH", "PATCH", "PATCH"]


@pytest.fixture
def broken_off(serve, open_cluster, settings, monkeypatch):
    """A cluster whose first requests are lost in some way, and the methods of all that it was sent."""
    monkeypatch.setattr(transport, "BREATH", 0.0)

    async def make(how: str, times: int, **more: Any) -> tuple[Cluster, list[str]]:
        seen: list[str] = []

        async def answer(request: web.Request) -> web.Response:
            seen.append(request.method)
            if len(seen) > times:
                return web.json_response(CONFIG_MAP)
            if how == "cut":
                cut(request)
                return web.Response()
            status, content_type = how.split()
            return web.Response(status=int(status), text="{}", content_type=content_type)

        return open_cluster(await serve(answer), settings, **more), seen

    return make


LOSSES = ["cut", "503 application/json", "503 text/plain", "502 text/html"]
QUESTIONS = {
    "get": lambda cluster: cluster.get(CONFIG_MAPS, "a", "n"),
    "dry run": lambda cluster: cluster.apply(CONFIG_MAPS, CONFIG_MAP, manager="tests", dry_run=True),
}
WRITES = {
    "apply": lambda cluster: cluster.apply(CONFIG_MAPS, CONFIG_MAP, manager="tests"),
    "create": lambda cluster: cluster.create(CONFIG_MAPS, CONFIG_MAP, manager="tests"),
    "patch": lambda cluster: cluster.patch(CONFIG_MAPS, "a", "n", {}, kind="merge"),
    "replace": lambda cluster: cluster.replace(CONFIG_MAPS, CONFIG_MAP, manager="tests"),
    "delete": lambda cluster: cluster.delete(CONFIG_MAPS, "a", "n", uid="1"),
}


@pytest.mark.parametrize("how", LOSSES)
@pytest.mark.parametrize("request_of", QUESTIONS.values(), ids=QUESTIONS)
async def test_a_question_that_is_lost_is_asked_once_more(broken_off, request_of, how):
    cluster, seen = await broken_off(how, 1)
    await request_of(cluster)
    assert len(seen) == 2
    cluster, seen = await broken_off(how, 9)
    with pytest.raises((ApiError, Unreachable)):
        await request_of(cluster)
    assert len(seen) == 2


@pytest.mark.parametrize("how", LOSSES)
@pytest.mark.parametrize("request_of", WRITES.values(), ids=WRITES)
async def test_a_write_that_is_lost_is_its_callers_to_look_after(broken_off, request_of, how):
    cluster, seen = await broken_off(how, 1)
    with pytest.raises((ApiError, Unreachable)):
        await request_of(cluster)
    assert len(seen) == 1


async def test_other_answers_and_silence_are_no_loss(serve, open_cluster, quick):
    seen = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.path)
        if len(seen) == 1:
            return web.json_response({}, status=500)
        if len(seen) == 3:
            await asyncio.Event().wait()
        return web.Response(text="<html>", content_type="text/html")

    cluster = open_cluster(await serve(answer), quick)
    for _ in range(3):
        with pytest.raises((ApiError, Unreachable)):
            await cluster.get(CONFIG_MAPS, "a", "n")
    assert len(seen) == 3


async def test_a_repeated_dry_run_asks_the_fence_again(broken_off):
    class NotLeading(Exception):
        pass

    seen: list[str] = []

    def fence() -> None:
        if seen:
            raise NotLeading

    cluster, seen = await broken_off("cut", 1, fence=fence)
    with pytest.raises(NotLeading):
        await cluster.apply(CONFIG_MAPS, CONFIG_MAP, manager="tests", dry_run=True)
    assert seen == ["PATCH"]


async def test_the_breaker_hears_of_a_lost_question_once(broken_off, settings):
    breaker = Breaker("m1", settings)
    cluster, seen = await broken_off("cut", 99, attempt=breaker.attempt)
    for failures in range(1, settings.member_breaker_failures + 1):
        assert not breaker.is_open
        with pytest.raises(Unreachable):
            await cluster.server_version()
        assert len(seen) == 2 * failures
    assert breaker.is_open


async def test_a_long_retry_after_is_the_callers_to_wait(serve, open_cluster, quick):
    async def busy(request: web.Request) -> web.Response:
        return web.json_response({"message": "later"}, status=429, headers={"Retry-After": "60"})

    with pytest.raises(ApiError) as caught:
        await open_cluster(await serve(busy), quick).get(CONFIG_MAPS, "a", "n")
    assert caught.value.retry_after == 60


async def test_the_fence_stops_what_changes_and_lets_reads_pass(serve, open_cluster, quick):
    class NotLeading(Exception):
        pass

    seen = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.method)
        return web.json_response({"kind": "ConfigMap", "metadata": {}})

    def fence() -> None:
        raise NotLeading

    cluster = open_cluster(await serve(answer), quick, fence=fence)
    await cluster.get(CONFIG_MAPS, "a", "n")
    for write in (
        cluster.create(CONFIG_MAPS, CONFIG_MAP, manager="tests"),
        cluster.apply(CONFIG_MAPS, CONFIG_MAP, manager="tests"),
        cluster.patch(CONFIG_MAPS, "a", "n", {}, kind="merge"),
        cluster.replace(CONFIG_MAPS, CONFIG_MAP, manager="tests"),
        cluster.delete(CONFIG_MAPS, "a", "n"),
    ):
        with pytest.raises(NotLeading):
            await write
    assert seen == ["GET"]


async def test_no_more_requests_are_in_flight_than_allowed(serve, open_cluster, settings):
    running = most = 0

    async def count(request: web.Request) -> web.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return web.json_response({"kind": "ConfigMap", "metadata": {}})

    cluster = open_cluster(await serve(count), settings)
    await asyncio.gather(*(cluster.get(CONFIG_MAPS, str(i), "n") for i in range(200)))
    assert most <= settings.member_in_flight


async def test_old_servers_without_aggregated_discovery_are_read_group_by_group(serve, open_cluster, quick):
    answers = {
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/api/v1": {"resources": [{"name": "configmaps", "kind": "ConfigMap", "namespaced": True}]},
        "/apis": {"kind": "APIGroupList", "groups": [{"versions": [{"groupVersion": v} for v in ("apps/v1", "x/v1")]}]},
        "/apis/apps/v1": {
            "resources": [
                {"name": "deployments", "kind": "Deployment", "namespaced": True},
                {"name": "deployments/scale", "kind": "Scale", "namespaced": True},
            ]
        },
    }

    async def old(request: web.Request) -> web.Response:
        if request.path not in answers:
            return web.Response(status=503, text="the group's server is down")
        return web.json_response(answers[request.path])

    cluster = open_cluster(await serve(old), quick)
    assert await cluster.resource_for("v1", "ConfigMap") == CONFIG_MAPS
    assert (await cluster.resource_for("apps/v1", "Deployment")).plural == "deployments"
    with pytest.raises(Unread, match="the server of x/v1 gives no answer"):
        await cluster.resource_for("x/v1", "Thing")
    with pytest.raises(NoSuchKind):
        await cluster.resource_for("apps/v1", "Thing")


async def test_a_kind_is_absent_only_where_its_group_was_read(serve, open_cluster, settings):
    """A control plane that was just started serves an extension's group without kinds until the extension is there."""
    version = {"version": "v1", "resources": [], "freshness": "Stale"}
    thing = {"resource": "things", "responseKind": {"kind": "Thing"}, "scope": "Namespaced"}

    async def answer(request: web.Request) -> web.Response:
        items = [{"metadata": {"name": "x"}, "versions": [version]}] if request.path == "/apis" else []
        return web.json_response({"kind": "APIGroupDiscoveryList", "items": items})

    cluster = open_cluster(await serve(answer), settings)
    for api_version in ("x/v1", "x/v2"):
        with pytest.raises(Unread) as caught:
            await cluster.resource_for(api_version, "Thing")
        assert type(as_condition(caught.value)) is errors.Transient
    with pytest.raises(NoSuchKind):
        await cluster.resource_for("y/v1", "Thing")
    version |= {"resources": [thing], "freshness": "Current"}
    assert (await cluster.resource_for("x/v1", "Thing")).plural == "things"
    with pytest.raises(NoSuchKind):
        await cluster.resource_for("x/v2", "Thing")


def as_condition(error: Exception) -> errors.Transient | errors.Terminal:
    with pytest.raises((errors.Transient, errors.Terminal)) as caught, errors.kube_errors("Failed", "ConfigMap/n/a"):
        raise error
    assert caught.value.reason == "Failed"
    return caught.value


def test_refusals_become_conditions_that_name_who_refused():
    invalid = as_condition(ApiError(422, "Invalid", "bad field"))
    assert (type(invalid), invalid.message) == (errors.Terminal, "ConfigMap/n/a: bad field")
    throttled = as_condition(ApiError(429, "", "slow down", retry_after=7))
    assert (type(throttled), throttled.retry_after) == (errors.Transient, 7)
    lost = as_condition(Unreachable("AttachedCluster/m1", "the connection was cut", maybe_sent=True))
    assert (type(lost), lost.message) == (
        errors.Transient,
        "ConfigMap/n/a: AttachedCluster/m1: the connection was cut",
    )
