"""Traffic in a member follows what the member's objects say, and is measured: gateway, load tester, Prometheus."""

from __future__ import annotations

import json

import pytest

from fleet_rollout.lab import flagger
from fleet_rollout.lab.load import Load, send

PROMETHEUS = "/api/v1/namespaces/istio-system/services/http:prometheus:9090/proxy/api/v1/query"
TESTER = "/api/v1/namespaces/{}/services/http:tester:80/proxy/"


@pytest.fixture
async def web(mesh, namespace, deployment, service):
    """A namespace with the workloads `web` (2.0.0) and `web-primary` (1.0.0), and Services as Flagger has them."""
    name = await namespace("traffic", on=[mesh])
    items = [
        deployment("web", "lab.local/sample:2.0.0", port=9898),
        deployment("web-primary", "lab.local/sample:1.0.0", port=9898),
        service("web", 9898, app="web-primary"),
        service("web-primary", 9898),
        service("web-canary", 9898, app="web"),
    ]
    await apply(mesh, name, *items)
    await available(mesh, name)
    return name


async def apply(cluster, namespace, *items):
    listing = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    await cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=listing)


async def available(cluster, namespace):
    await cluster.kubectl("wait", "--for=condition=Available", "deployment", "--all", "-n", namespace, "--timeout=90s")


def virtual_service(namespace, primary, canary):
    split = [
        {"destination": {"host": "web-primary"}, "weight": primary},
        {"destination": {"host": "web-canary"}, "weight": canary},
    ]
    return {
        "apiVersion": "networking.istio.io/v1beta1",
        "kind": "VirtualService",
        "metadata": {"name": "web"},
        "spec": {"hosts": [f"web.{namespace}", "web"], "http": [{"route": split}]},
    }


def gives(address, host, wanted, requests=40):
    """Do the answers of `host` come from these versions, and from no other?"""

    async def check():
        return {version for version, count in (await send(address, host, requests)).versions.items() if count} == wanted

    return check


async def test_requests_follow_the_service_and_then_the_virtual_service(mesh, web, eventually):
    address, host = await flagger.gateway_address(mesh), f"web.{web}"
    await eventually(gives(address, host, {"1.0.0"}))
    await eventually(gives(address, f"web-canary.{web}:9898", {"2.0.0"}))
    async with Load(address, host, rate=50) as load:
        await load.until(20)
        for weights, versions in (((50, 50), {"1.0.0", "2.0.0"}), ((0, 100), {"2.0.0"}), ((100, 0), {"1.0.0"})):
            await apply(mesh, web, virtual_service(web, *weights))
            await eventually(gives(address, host, versions))
        await mesh.kubectl("delete", "virtualservice", "web", "-n", web)
        await load.until(100)
    assert load.tally.failures == []


async def test_an_update_of_the_workload_loses_no_request(mesh, web, eventually):
    address, host = await flagger.gateway_address(mesh), f"web.{web}"
    await eventually(gives(address, host, {"1.0.0"}))
    async with Load(address, host, rate=100) as load:
        await mesh.kubectl("set", "image", "deployment/web-primary", "main=lab.local/sample:3.0.0", "-n", web)
        await mesh.kubectl("rollout", "status", "deployment/web-primary", "-n", web, "--timeout=90s")
        await eventually(gives(address, host, {"3.0.0"}))
        await load.until(100)
    assert load.tally.failures == []
    assert set(load.tally.versions) == {"1.0.0", "3.0.0"}


async def test_what_the_load_tester_sends_is_measured_for_the_canary(mesh, web, eventually, deployment, service):
    image = "ghcr.io/fluxcd/flagger-loadtester:0.29.0"
    arguments = ["-port=8080", "-log-level=info", "-timeout=1h"]
    await apply(mesh, web, deployment("tester", image, port=8080, command=arguments), service("tester", 80))
    await available(mesh, web)
    command = {"type": "cmd", "cmd": f"hey -z 20s -q 10 -c 2 http://web-canary.{web}:9898/"}
    await mesh.api.create(
        TESTER.format(web), {"name": "web", "namespace": web, "phase": "Progressing", "metadata": command}
    )

    async def rate(workload):
        labels = f'reporter="destination",destination_workload_namespace="{web}",destination_workload=~"{workload}"'
        found = await mesh.api.get(PROMETHEUS, query=f"sum(rate(istio_requests_total{{{labels}}}[10s]))")
        return [float(sample["value"][1]) for sample in found["data"]["result"]]

    async def canary_is_measured():
        return any(value > 5 for value in await rate("web"))

    await eventually(canary_is_measured)
    assert await rate("web-primary") in ([], [0.0])
