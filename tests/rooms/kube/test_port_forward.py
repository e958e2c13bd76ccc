"""Port-forwards through servers that refuse, cut, hang and mislead; on a real API server: tests/control/engine."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import web

from fleet_rollout.decide.canary.addresses import NotReached, Proxied
from fleet_rollout.errors import Transient
from fleet_rollout.kube.breaker import Breaker
from fleet_rollout.kube.client import Connection, Unreachable
from fleet_rollout.kube.port_forward import FRAME, PROTOCOL, Tunnel, forwarded

ROUTE = Proxied("web", "shop", 80, "http", "/path?a=b", by_port_forward=True)
SERVICE = {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"ports": [{"port": 80}]}}
TARGET = {"kind": "Pod", "name": "web-1", "namespace": "shop"}
SLICES = [{"ports": [{"port": 8080}], "endpoints": [{"targetRef": TARGET}]}]
HEADS = [b"\0\x90\x1f", b"\1\x90\x1f"]
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntext"
WHERE = "Pod shop/web-1, port 8080: "


def call(cluster, *, method="GET", body=None, timeout=5.0):
    return forwarded(cluster, ROUTE, SERVICE, SLICES, method, {}, body, timeout=timeout)


async def told(cluster, **options):
    with pytest.raises(NotReached) as caught:
        await call(cluster, **options)
    return str(caught.value)


@pytest.fixture
def kubelet(serve, open_cluster, quick):
    """A cluster whose every port-forward sends these messages once it was asked something."""

    async def start(*messages, seen=None, after=1):
        async def play(request):
            websocket = web.WebSocketResponse(protocols=(PROTOCOL,), timeout=0.1)
            await websocket.prepare(request)
            for _ in range(after):
                message = await websocket.receive()
                if seen is not None:
                    seen.append((request.path_qs, message.data))
            for message in messages:
                if message is None:
                    request.transport.abort()
                else:
                    await websocket.send_bytes(message)
            await websocket.close()
            return websocket

        return open_cluster(await serve(play), quick)

    return start


async def test_an_answer_comes_in_messages_of_its_channel(kubelet):
    seen = []
    cluster = await kubelet(*HEADS, b"\0" + ANSWER[:9], b"", b"\7what", b"\1", b"\0" + ANSWER[9:], seen=seen)
    assert await call(cluster) == (200, b"text")
    [(path, sent)] = seen
    assert path == "/api/v1/namespaces/shop/pods/web-1/portforward?ports=8080"
    assert sent.startswith(b"\0GET /path?a=b HTTP/1.1\r\nHost: web.shop\r\n")


async def test_the_port_before_the_data_may_come_along_with_it(kubelet):
    assert await call(await kubelet(b"\0\x90", b"\0\x1f" + ANSWER)) == (200, b"text")


async def test_a_large_body_goes_in_frames(kubelet):
    seen = []
    body = bytes(3 * FRAME)
    cluster = await kubelet(*HEADS, b"\0" + ANSWER, seen=seen, after=4)
    assert await call(cluster, method="POST", body=body) == (200, b"text")
    assert {len(sent) for _, sent in seen[:-1]} == {FRAME + 1}
    assert b"".join(sent[1:] for _, sent in seen).endswith(body)


async def test_an_answer_counts_that_came_before_all_was_read(kubelet):
    body = bytes(2**24)
    assert await call(await kubelet(*HEADS, b"\0" + ANSWER), method="POST", body=body) == (200, b"text")


async def test_writing_to_a_pod_that_has_closed_leaves_its_answer_to_be_read():
    class Closed:
        async def send_bytes(self, data):
            raise aiohttp.ClientConnectionResetError

        async def receive(self):
            return aiohttp.WSMessage(aiohttp.WSMsgType.BINARY, b"\0\x90\x1ftext", None)

    tunnel = Tunnel(Closed())
    await tunnel.write(b"request")
    assert await tunnel.read() == b"text"


async def test_the_words_of_the_kubelet_are_told_shortened(kubelet):
    cluster = await kubelet(*HEADS, b"\1error forwarding port: " + b"x" * 1000)
    assert await told(cluster) == f"{WHERE}error forwarding port: {'x' * 177}"


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([*HEADS], "the connection was closed before there was an answer"),
        ([*HEADS, b"\0HTTP/1.0 200 OK\r\n\r\nhalf of it", None], "the connection was cut"),
    ],
    ids=["closed", "cut"],
)
async def test_a_connection_that_ends_is_told(kubelet, messages, words):
    assert await told(await kubelet(*messages)) == WHERE + words


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "Pod shop/web-1: is gone"),
        (403, "Pod shop/web-1: may not be reached; grant get and create of pods/portforward"),
        (500, "Pod shop/web-1: port-forward was refused with status 500"),
        (200, "Pod shop/web-1: port-forward was refused with status 200"),
    ],
)
async def test_refusals_are_told_in_words(serve, open_cluster, quick, status, words):
    async def refuse(request):
        return web.json_response({"kind": "Status"}, status=status)

    assert await told(open_cluster(await serve(refuse), quick)) == words


async def test_a_redirect_is_not_followed(serve, open_cluster, quick):
    seen = []

    async def redirect(request):
        seen.append(request.path)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    assert await told(open_cluster(await serve(redirect), quick)) == (
        "Pod shop/web-1: port-forward was refused with status 307"
    )
    assert len(seen) == 1


async def test_silence_ends_at_the_time_out(kubelet):
    assert await told(await kubelet(after=2), timeout=2) == f"{WHERE}no answer within 2 s"


async def hang(request):
    await asyncio.Event().wait()


async def test_a_websocket_that_is_not_opened_ends_at_the_time_out(serve, open_cluster, quick):
    with pytest.raises(Unreachable, match=r"no answer within 0\.3 s"):
        await call(open_cluster(await serve(hang), quick), timeout=0.3)


async def test_what_hangs_behind_an_api_server_does_not_make_the_cluster_unreachable(serve, open_cluster, quick):
    """A hook that takes long would otherwise keep the whole member from being synced."""
    breaker = Breaker("odd", quick)
    cluster = open_cluster(await serve(hang), quick, attempt=breaker.attempt)
    for _ in range(2 * quick.member_breaker_failures):
        with pytest.raises(Unreachable):
            await call(cluster, timeout=0.05)
        with pytest.raises(Unreachable):
            await cluster.relay("GET", "/slow", headers={}, timeout=0.05)
    assert not breaker.is_open


async def test_an_api_server_that_is_away_makes_the_cluster_unreachable(open_cluster, quick):
    breaker = Breaker("odd", quick)
    cluster = open_cluster(Connection("odd", "http://127.0.0.1:9"), quick, attempt=breaker.attempt)
    for _ in range(quick.member_breaker_failures):
        with pytest.raises(Unreachable, match="could not connect"):
            await call(cluster)
    with pytest.raises(Transient):
        await call(cluster)
    assert breaker.is_open


async def test_a_connection_that_was_given_up_opens_no_websocket(kubelet):
    cluster = await kubelet(*HEADS)
    await cluster.close()
    with pytest.raises(Unreachable, match="the connection was given up"):
        await call(cluster)
