"""The lab's network: what a proxy request means, and names of Services reaching local processes."""

from __future__ import annotations

import aiohttp
import pytest

from fleet_rollout.lab.network import Head, NotFound, _service_name

SAMPLE = "ghcr.io/stefanprodan/podinfo:6.1.0"


def test_connect_has_nothing_to_send_first():
    assert Head.parse(b"CONNECT 10.200.0.7:9090 HTTP/1.1\r\nHost: x\r\n\r\n") == Head("10.200.0.7", 9090, b"")


def test_a_plain_request_is_rewritten_and_closes_its_connection():
    head = Head.parse(b"GET http://a.b:81/x?y=1 HTTP/1.1\r\nHost: a.b:81\r\nProxy-Connection: keep-alive\r\n\r\n")
    assert (head.host, head.port) == ("a.b", 81)
    assert head.first == b"GET /x?y=1 HTTP/1.1\r\nHost: a.b:81\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("raw", [b"GET / HTTP/1.1\r\n\r\n", b"nonsense\r\n\r\n", b"CONNECT host HTTP/1.1\r\n\r\n"])
def test_other_requests_are_refused(raw):
    with pytest.raises(ValueError):  # noqa: PT011 - unpacking and our own both count
        Head.parse(raw)


@pytest.mark.parametrize("host", ["a.b", "a.b.", "a.b.svc", "a.b.svc.cluster.local"])
def test_names_of_services(host):
    assert _service_name(host) == ("a", "b")


@pytest.mark.parametrize("host", ["a", "example.org.uk", "a.b.c.svc"])
def test_other_names_lead_nowhere(host):
    with pytest.raises(NotFound):
        _service_name(host)


async def test_a_service_name_reaches_its_process_through_the_http_proxy(
    member, namespace, deployment, service, eventually
):
    name = await namespace(on=[member])
    await member.api.create(f"/api/v1/namespaces/{name}/services", service(name))
    await member.api.create(f"/apis/apps/v1/namespaces/{name}/deployments", deployment(name, SAMPLE))
    async with aiohttp.ClientSession() as session:
        url = f"http://web.{name}/path"

        async def reached() -> bool:
            async with session.get(url, proxy=member.proxy) as answer:
                return answer.status == 200 and (await answer.json())["version"] == "6.1.0"

        await eventually(reached)
        async with session.get(f"http://web.{name}:81/", proxy=member.proxy) as answer:
            assert (answer.status, await answer.text()) == (502, f"Service {name}/web has no port 81\n")
        async with session.get(f"http://absent.{name}/", proxy=member.proxy) as answer:
            assert (answer.status, await answer.text()) == (502, f"no Service {name}/absent\n")
