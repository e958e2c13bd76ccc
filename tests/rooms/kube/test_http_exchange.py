"""HTTP over a stream that no socket is behind."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest

from fleet_rollout.kube.http_exchange import BrokenAnswer, Call, Tls, exchange
from fleet_rollout.lab.certificates import Authority

CALL = Call("GET", "web.shop", "/a?b=c", {}, None)


class Scripted:
    """Gives these pieces, then the end; keeps what is written."""

    def __init__(self, *pieces):
        self._pieces = list(pieces)
        self.written = b""

    async def read(self):
        return self._pieces.pop(0) if self._pieces else b""

    async def write(self, data):
        self.written += data


async def answer(*pieces, call=CALL, limit=100):
    return await exchange(Scripted(*pieces), call, limit=limit)


async def sent(**changes):
    stream = Scripted(b"HTTP/1.1 204 No Content\r\n\r\n")
    await exchange(stream, CALL._replace(**changes), limit=100)
    head, _, body = stream.written.partition(b"\r\n\r\n")
    return head.decode().split("\r\n"), body


async def test_a_request_closes_its_connection():
    head, body = await sent()
    assert head == ["GET /a?b=c HTTP/1.1", "Host: web.shop", "Connection: close", "User-Agent: fleet-rollout"]
    assert body == b""


async def test_a_body_has_its_length():
    head, body = await sent(method="POST", body=b"text", headers={"Content-Type": "text/plain", "User-Agent": "me"})
    assert head[2:] == ["Connection: close", "Content-Length: 4", "Content-Type: text/plain", "User-Agent: me"]
    assert body == b"text"
    assert "Content-Length: 0" in (await sent(method="POST", body=b""))[0]


async def test_how_the_connection_is_used_is_not_the_callers():
    given = {"Host": "bank", "Content-Length": "9", "transfer-encoding": "chunked", "Connection": "upgrade"}
    assert (await sent(headers=given))[0] == (await sent())[0]


@pytest.mark.parametrize("headers", [{"a": "b\r\nc: d"}, {"a b": "c"}])
async def test_headers_cannot_hold_a_second_request(headers):
    with pytest.raises(BrokenAnswer, match=r"^the request is not valid HTTP: "):
        await answer(b"HTTP/1.1 200 OK\r\n\r\n", call=CALL._replace(headers=headers))


@pytest.mark.parametrize(
    "pieces",
    [
        [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntext"],
        [b"HTTP/1.1 200 OK\r\nConte", b"nt-Length: 4\r\n\r\nte", b"xt", b"and more that nobody asked for"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nte\r\n2\r\nxt\r\n0\r\n\r\n"],
        [b"HTTP/1.0 200 OK\r\n\r\nte", b"xt"],
        [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\ntext"],
    ],
    ids=["length", "in pieces", "chunked", "until the end", "informational"],
)
async def test_answers_end_where_they_say(pieces):
    assert await answer(*pieces) == (200, b"text")


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ([], "closed before there was an answer"),
        ([b"HTTP/1.1 200"], "closed before there was an answer"),
        ([b"220 mail\r\n\r\n"], "not valid HTTP"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nte"], "not valid HTTP: .*received 2 bytes, expected 4"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n"], "not valid HTTP"),
        ([b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000], "not valid HTTP"),
        ([b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 101], "larger than 0 MiB"),
    ],
)
async def test_answers_that_cannot_be_used_are_told(pieces, words):
    with pytest.raises(BrokenAnswer, match=words):
        await answer(*pieces)


class Peer:
    """A TLS server that is fed by hand: answers each whole request with `answer`, then closes as told."""

    def __init__(self, pair, tmp_path, answer, *, politely=True):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair.write(tmp_path, "peer"))
        context.set_alpn_protocols(["h2", "http/1.1"])
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._answer, self._politely = answer, politely
        self.seen = b""
        self._is_shaken = False

    async def write(self, data):
        self._in.write(data)
        try:
            if not self._is_shaken:
                self.tls.do_handshake()
                self._is_shaken = True
            while not self.seen.endswith(b"\r\n\r\n"):
                self.seen += self.tls.read(1000)
        except ssl.SSLWantReadError:
            return
        self.tls.write(self._answer)
        if self._politely:
            with contextlib.suppress(ssl.SSLWantReadError):
                self.tls.unwrap()

    async def read(self):
        return self._out.read(50)  # in small pieces


@pytest.fixture(scope="module")
def pair():
    return Authority.create("unknown").serving(["elsewhere.example.com"])


async def test_tls_is_spoken_with_whoever_is_there(pair, tmp_path):
    peer = Peer(pair, tmp_path, b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 3000)
    tls = Tls(peer, "web.shop.svc")
    await tls.shake_hands()
    assert await exchange(tls, CALL, limit=3000) == (200, b"x" * 3000)
    assert peer.seen.startswith(b"GET /a?b=c HTTP/1.1\r\n")
    assert peer.tls.selected_alpn_protocol() == "http/1.1"


async def test_an_end_that_tls_does_not_know_of_is_no_end(pair, tmp_path):
    peer = Peer(pair, tmp_path, b"HTTP/1.1 200 OK\r\n\r\nhalf of it", politely=False)
    tls = Tls(peer, "web.shop.svc")
    await tls.shake_hands()
    with pytest.raises(ssl.SSLError):
        await exchange(tls, CALL, limit=3000)


@pytest.mark.parametrize("pieces", [[], [b"HTTP/1.1 400 Bad Request\r\n\r\n"]])
async def test_tls_with_what_does_not_speak_it_fails(pieces):
    async with asyncio.timeout(5):
        with pytest.raises(ssl.SSLError):
            await Tls(Scripted(*pieces), "web.shop.svc").shake_hands()


async def test_headers_may_hold_any_text_as_for_go():
    stream = Scripted(b"HTTP/1.1 204 No Content\r\n\r\n")
    await exchange(stream, CALL._replace(headers={"X-Org": "Größe"}), limit=100)
    assert "X-Org: Größe\r\n".encode() in stream.written


async def test_a_path_that_is_no_ascii_is_said():
    with pytest.raises(BrokenAnswer, match="characters other than ASCII in its path"):
        await answer(call=CALL._replace(target="/größe"))
