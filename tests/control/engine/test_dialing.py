"""Direct dials: looked up once, every answer checked, redirects too (trust rows 21, 25, 26)."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from fleet_rollout.control.engine import dialing
from fleet_rollout.control.engine.dialing import DirectDial
from fleet_rollout.decide.canary.addresses import AddressRefused, NotReached, read_reach
from fleet_rollout.decide.canary.objects import Unasked
from fleet_rollout.lab.certificates import Authority
from fleet_rollout.metrics import turns
from fleet_rollout.metrics.bulkheads import Bulkheads


@dataclass
class Server:
    """`handler` answers; `seen` holds the requests' methods, paths, headers and bodies."""

    handler: object = None
    url: str = ""
    port: int = 0
    seen: list = field(default_factory=list)

    async def handle(self, request):
        self.seen.append((request.method, request.path_qs, dict(request.headers), await request.read()))
        return await self.handler(request) if self.handler else web.Response(text="ok")

    async def start(self, tls=None):
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0, ssl_context=tls).start()
        self.port = self.runner.addresses[0][1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        return self


@pytest.fixture
async def servers():
    """Two of them."""
    found = [await Server().start(), await Server().start()]
    yield found
    for server in found:
        await server.runner.cleanup()


@pytest.fixture
def server(servers):
    return servers[0]


@pytest.fixture
def other(servers):
    return servers[1]


@pytest.fixture
async def make():
    """`make("127.0.0.1", answers={"name": [...]})`: a dialer that may reach what is named, with names of the test's."""
    made, threads = [], Bulkheads()

    def dialer(*allowed, answers=None, own=()):
        asked = []

        async def look_up(host, port):
            asked.append(host)
            if answers is None or host not in answers:
                raise OSError("no such host")
            return answers[host]

        dial = DirectDial(read_reach(allowed, own_ranges=own), threads, resolver=look_up)
        dial.asked = asked
        made.append(dial)
        return dial

    yield dialer
    for dial in made:
        await dial.close()
    threads.close()


def ask(dial, url, method="GET", **given):
    given = {"headers": {}, "timeout": 5, **given}
    return dial.request(method, url, **given)


async def test_an_allowed_address_answers(make, server):
    dial = make("127.0.0.1")
    answer = await ask(dial, f"{server.url}/a%2Fb?q=%2B+x", "POST", headers={"X-A": "b"}, body=b"{}")
    assert answer == (200, b"ok")
    method, path, headers, body = server.seen[0]
    assert (method, path, body) == ("POST", "/a%2Fb?q=%2B+x", b"{}")
    assert headers["X-A"] == "b"
    assert headers["User-Agent"] == "fleet-rollout"


async def test_t25_nothing_of_ours_goes_along(make, server, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login hub password hubs-own\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    async def give_cookie(request):
        answer = web.Response()
        answer.set_cookie("a", "b")
        return answer

    server.handler = give_cookie
    dial = make("127.0.0.1")
    for _ in range(2):
        await ask(dial, server.url)
    for _, _, headers, _ in server.seen:
        assert set(headers) == {"Host", "User-Agent", "Accept", "Accept-Encoding"}


REFUSED = ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "127.1", "0x7f.1", "2130706433", "localhost"]
REFUSED += ["127.0.0.1.", "127.1.", "0x7f.1.", "2130706433.", "169.254.169.254", "169.254.169.254."]


@pytest.mark.parametrize("host", REFUSED)
async def test_t26_the_own_machine_is_not_dialled_in_any_spelling(make, server, host):
    dial = make(answers={"localhost": ["127.0.0.1"]})
    with pytest.raises(AddressRefused):
        await ask(dial, f"http://{host}:{server.port}/")
    assert server.seen == []


async def test_t26_a_name_is_looked_up_once_and_its_answer_dialled(make, server):
    """A second look-up could answer otherwise; the name does not even exist."""
    dial = make("127.0.0.1", answers={"pinned.example.com": ["127.0.0.1"]})
    url = f"http://pinned.example.com:{server.port}/"
    assert (await ask(dial, url)).status == 200
    assert dial.asked == ["pinned.example.com"]
    assert server.seen[0][2]["Host"] == f"pinned.example.com:{server.port}"


async def test_t26_one_bad_answer_among_good_ones_is_enough(make, server):
    dial = make(answers={"mixed.example.com": ["93.184.215.14", "127.0.0.1"]})
    with pytest.raises(AddressRefused, match=r"mixed\.example\.com leads to a loopback"):
        await ask(dial, f"http://mixed.example.com:{server.port}/")
    assert server.seen == []


async def test_t26_the_engines_own_cluster_is_not_dialled(make):
    dial = make(answers={"inside.example.com": ["10.96.0.10"]}, own=["10.96.0.0/16"])
    with pytest.raises(AddressRefused, match="own cluster"):
        await ask(dial, "http://inside.example.com/")


@pytest.mark.parametrize("url", ["http://hook.shop/", "http://hook.shop.svc.cluster.local/", "http://hook/"])
async def test_services_of_the_member_are_not_dialled_from_outside(make, url):
    dial = make("shop")
    with pytest.raises(AddressRefused):
        await ask(dial, url)
    assert dial.asked == []


async def test_a_name_that_does_not_exist(make):
    with pytest.raises(NotReached, match=r"host gone\.example\.com does not resolve"):
        await ask(make(), "http://gone.example.com/")


# Redirects


def redirect(server, location, status=302):
    async def handle(request):
        if request.path != "/start":
            return web.Response(text="there")
        return web.Response(status=status, headers={"Location": location})

    server.handler = handle


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest",
        "http://169.254.169.254./latest",
        "http://[::ffff:169.254.169.254]/",
        "http://0x7f.1/",
        "http://rebound.example.com/",
    ],
)
async def test_t26_a_redirect_passes_the_same_checks(make, server, location):
    redirect(server, location)
    dial = make("127.0.0.1", answers={"rebound.example.com": ["10.96.0.1"]}, own=["10.96.0.0/16"])
    with pytest.raises(AddressRefused):
        await ask(dial, f"{server.url}/start")
    assert len(server.seen) == 1


@pytest.mark.parametrize("location", ["ftp://h.example.com/", "http://a b/", "http://hook.shop/", "gopher:x"])
async def test_a_redirect_out_of_http_is_refused(make, server, location):
    redirect(server, location)
    with pytest.raises(AddressRefused):
        await ask(make("127.0.0.1"), f"{server.url}/start")


@pytest.mark.parametrize(
    ("status", "method", "then", "body"),
    [
        (301, "POST", "GET", b""),
        (302, "POST", "GET", b""),
        (303, "PUT", "GET", b""),
        (307, "POST", "POST", b"{}"),
        (308, "POST", "POST", b"{}"),
        (302, "HEAD", "HEAD", b""),
    ],
)
async def test_a_redirect_keeps_or_changes_the_method_as_go_does(make, server, status, method, then, body):
    redirect(server, "/there", status)
    sent = b"{}" if method != "HEAD" else None
    headers = {"Content-Type": "application/json", "X-Key": "k"}
    await ask(make("127.0.0.1"), f"{server.url}/start", method, headers=headers, body=sent)
    found, path, seen, got = server.seen[1]
    assert (found, path, got) == (then, "/there", body)
    assert seen["X-Key"] == "k"
    assert (seen.get("Content-Type") == "application/json") is (then == method)


async def test_credentials_do_not_follow_to_another_host(make, server, other):
    redirect(server, f"{other.url}/there", 307)
    headers = {"Authorization": "Bearer t", "X-SF-Token": "t", "Cookie": "a=b", "Content-Type": "text/plain"}
    await ask(make("127.0.0.1"), f"{server.url}/start", "POST", headers=headers, body=b"x")
    assert {"Authorization", "X-SF-Token", "Cookie"}.isdisjoint(other.seen[0][2])
    assert other.seen[0][2]["Content-Type"] == "text/plain"


async def test_user_and_password_of_an_address_go_to_it_alone(make, server, other):
    redirect(server, f"{other.url}/there")
    dial = make("127.0.0.1")
    await ask(dial, server.url.replace("://", "://me:pw@") + "/start")
    assert server.seen[0][2]["Authorization"] == "Basic bWU6cHc="
    assert "Authorization" not in other.seen[0][2]
    await ask(dial, server.url.replace("://", "://me:pw@") + "/", headers={"authorization": "Bearer own"})
    assert server.seen[1][2]["Authorization"] == "Bearer own"


async def test_redirects_end(make, server):
    redirect(server, "/start")
    with pytest.raises(NotReached, match="more than 10 redirects"):
        await ask(make("127.0.0.1"), f"{server.url}/start")
    assert len(server.seen) == 11


async def test_a_redirect_without_location_is_an_answer(make, server):
    async def handle(request):
        return web.Response(status=302, text="where?")

    server.handler = handle
    assert await ask(make("127.0.0.1"), server.url) == (302, b"where?")


# Limits and failures


async def test_an_answer_has_a_time_limit(make, server):
    async def drip(request):
        answer = web.StreamResponse()
        await answer.prepare(request)
        for _ in range(100):
            await answer.write(b".")
            await asyncio.sleep(0.05)
        return answer

    server.handler = drip
    with pytest.raises(NotReached, match=r"no answer within 0\.2 s"):
        await ask(make("127.0.0.1"), server.url, timeout=0.2)


async def test_an_answer_has_a_size_limit_also_when_it_is_compressed(make, server, monkeypatch):
    monkeypatch.setattr(dialing, "MOST_BYTES", 2 * 1024 * 1024)

    async def handle(request):
        answer = web.Response(body=bytes(20 * 1024 * 1024))
        answer.enable_compression()
        return answer

    server.handler = handle
    with pytest.raises(NotReached, match="larger than 2 MiB"):
        await ask(make("127.0.0.1"), server.url)


async def test_an_address_that_hangs_delays_no_other(make, server, other):
    async def hang(request):
        await asyncio.sleep(60)

    server.handler = hang
    dial = make("127.0.0.1")
    stuck = [asyncio.create_task(ask(dial, server.url, timeout=2)) for _ in range(200)]
    await asyncio.sleep(0.1)
    started = time.monotonic()
    await asyncio.gather(*(ask(dial, other.url) for _ in range(50)))
    assert time.monotonic() - started < 1.5
    for failure in await asyncio.gather(*stuck, return_exceptions=True):
        assert isinstance(failure, NotReached)


async def test_a_queue_before_one_host_costs_nothing_of_the_time_for_an_answer(make, server):
    async def handle(request):
        await asyncio.sleep(0.05)
        return web.Response(text="ok")

    server.handler = handle
    dial = make("127.0.0.1")
    began = time.monotonic()
    answers = await asyncio.gather(*(ask(dial, server.url, timeout=0.5) for _ in range(15 * dialing.PER_HOST)))
    assert {answer.status for answer in answers} == {200}
    assert time.monotonic() - began > 0.7


async def test_a_turn_at_a_host_that_does_not_come_is_no_answer_of_it(make, server, monkeypatch):
    async def handle(request):
        await asyncio.sleep(0.2)
        return web.Response(text="ok")

    server.handler = handle
    monkeypatch.setattr(turns, "PATIENCE", 0.5)
    dial = make("127.0.0.1")
    asked = [ask(dial, server.url, timeout=0.4) for _ in range(6 * dialing.PER_HOST)]
    found = await asyncio.gather(*asked, return_exceptions=True)
    unasked = [each for each in found if isinstance(each, Unasked)]
    assert unasked
    assert f"{server.url} is asked by too many at once" in unasked[0].message
    assert all(isinstance(each, Unasked) or each.status == 200 for each in found)


async def test_nothing_listens(make):
    with pytest.raises(NotReached, match="could not connect"):
        await ask(make("127.0.0.1"), "http://127.0.0.1:1/")


async def test_t21_no_error_names_a_credential(make):
    with pytest.raises(NotReached) as caught:
        await ask(make("127.0.0.1"), "http://me:s3cret@127.0.0.1:1/?key=s3cret", headers={"X-Key": "s3cret\n"})
    assert "s3cret" not in str(caught.value)


@pytest.fixture
async def secure(tmp_path):
    """A server whose certificate nobody has signed that the machine trusts."""
    certificate, key = Authority.create("nobody").serving(["127.0.0.1"]).write(tmp_path, "server")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server = await Server().start(context)
    yield server
    await server.runner.cleanup()


async def test_certificates_are_verified_unless_the_user_says_no(make, secure):
    dial = make("127.0.0.1")
    with pytest.raises(NotReached, match="certificate is not trusted"):
        await ask(dial, secure.url)
    assert (await ask(dial, secure.url, verify=False)).status == 200


async def test_the_machines_own_resolver_is_asked_in_a_thread():
    threads = Bulkheads()
    dial = DirectDial(read_reach(["localhost"]), threads)
    assert "127.0.0.1" in await dial._look_up("localhost", 80)
    with pytest.raises(NotReached, match="does not resolve"):
        await ask(dial, "http://no-such-host.invalid./")
    await dial.close()
    threads.close()


# Websockets


async def test_a_websocket_is_dialled_by_the_same_rules(make, server):
    async def echo(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str((await socket.receive()).data)
        await socket.send_bytes(b"\x00")
        await socket.close()
        return socket

    server.handler = echo
    url = server.url.replace("http", "ws")
    async with make("127.0.0.1").socket(url, headers={"X-A": "b"}, timeout=5) as socket:
        await socket.send("hello")
        assert [await socket.receive() for _ in range(3)] == ["hello", b"\x00", None]
    assert server.seen[0][2]["X-A"] == "b"
    with pytest.raises(AddressRefused):
        async with make().socket(url, headers={}, timeout=5):
            pytest.fail("it was dialled")
    assert len(server.seen) == 1


async def test_t26_a_websocket_follows_no_redirect(make, server, other):
    redirect(server, f"{other.url}/there")
    with pytest.raises(AddressRefused, match="redirected"):
        async with make("127.0.0.1").socket(server.url.replace("http", "ws") + "/start", headers={}, timeout=5):
            pytest.fail("it was followed")
    assert other.seen == []


async def test_a_websocket_has_a_time_limit(make, server):
    async def hang(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive()
        return socket

    server.handler = hang
    with pytest.raises(NotReached, match=r"no answer within 0\.2 s"):
        async with make("127.0.0.1").socket(server.url.replace("http", "ws"), headers={}, timeout=0.2) as socket:
            await socket.receive()
