"""Real Flagger in a member: it moves live traffic on live metrics, promotes what is good and rolls back the rest."""

from __future__ import annotations

import json

import pytest

from fleet_rollout.lab import flagger
from fleet_rollout.lab.load import Load

CANARIES = "/apis/flagger.app/v1beta1/namespaces/{}/canaries/backend"
VIRTUAL_SERVICES = "/apis/networking.istio.io/v1/namespaces/{}/virtualservices/backend"
DEPLOYMENTS = "/apis/apps/v1/namespaces/{}/deployments/{}"


def canary(namespace):
    """As the translation writes it for Kurator's guide, with the shortest interval that Flagger takes."""
    metrics = [
        {"name": "request-success-rate", "interval": "10s", "thresholdRange": {"min": 99}},
        {"name": "request-duration", "interval": "10s", "thresholdRange": {"max": 500}},
    ]
    command = {"type": "cmd", "cmd": f"hey -z 1m -q 10 -c 2 http://backend-canary.{namespace}:9898/"}
    webhook = {"name": "load", "url": f"http://backend-testloader.{namespace}/", "timeout": "5s", "metadata": command}
    return {
        "apiVersion": "flagger.app/v1beta1",
        "kind": "Canary",
        "metadata": {"name": "backend"},
        "spec": {
            "provider": "istio",
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "backend"},
            "progressDeadlineSeconds": 60,
            "service": {"name": "backend", "port": 9898, "targetPort": "http", "hosts": [f"backend.{namespace}"]},
            "analysis": {
                "interval": "10s",
                "threshold": 3,
                "maxWeight": 50,
                "stepWeight": 50,
                "metrics": metrics,
                "webhooks": [webhook],
            },
        },
    }


@pytest.fixture
async def rollout(mesh, namespace, eventually, deployment, service):
    """The namespace of an initialised Canary of version 1.0.0."""
    name = await namespace("webapp", on=[mesh])
    tester = "ghcr.io/fluxcd/flagger-loadtester:0.29.0"
    items = [
        deployment("backend", "lab.local/sample:1.0.0", port=9898),
        service("backend", 9898),
        deployment("backend-testloader", tester, port=8080, command=["-port=8080", "-timeout=1h"]),
        service("backend-testloader", 80),
        canary(name),
    ]
    listing = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    await mesh.kubectl("apply", "-n", name, "-f", "-", stdin=listing)

    async def initialised():
        return await phase(mesh, name) == "Initialized"

    await eventually(initialised, timeout=120)
    return name


async def phase(cluster, namespace):
    return (await cluster.api.get(CANARIES.format(namespace))).get("status", {}).get("phase")


async def weights(cluster, namespace):
    found = await cluster.api.get(VIRTUAL_SERVICES.format(namespace))
    return [route["weight"] for route in found["spec"]["http"][0]["route"]]


async def image_of(cluster, namespace, name):
    found = await cluster.api.get(DEPLOYMENTS.format(namespace, name))
    return found["spec"]["template"]["spec"]["containers"][0]["image"]


async def release(cluster, namespace, tag):
    container = {"name": "main", "image": f"lab.local/sample:{tag}"}
    await cluster.kubectl(
        "patch",
        "deployment",
        "backend",
        "-n",
        namespace,
        "-p",
        json.dumps({"spec": {"template": {"spec": {"containers": [container]}}}}),
    )


@pytest.mark.conformance
async def test_a_good_version_is_promoted_and_no_request_is_lost(mesh, rollout, eventually):
    async with Load(await flagger.gateway_address(mesh), f"backend.{rollout}", rate=50) as load:
        await load.until(50)
        assert set(load.tally.versions) == {"1.0.0"}
        await release(mesh, rollout, "2.0.0")

        async def half_is_new():
            return await weights(mesh, rollout) == [50, 50]

        await eventually(half_is_new, timeout=60)
        before = load.tally.versions["2.0.0"]
        await load.until(200)
        assert 50 < load.tally.versions["2.0.0"] - before < 150

        async def succeeded():
            assert await phase(mesh, rollout) != "Failed", await events(mesh, rollout)
            return await phase(mesh, rollout) == "Succeeded"

        await eventually(succeeded, timeout=120)
        await load.until(50)
    assert load.tally.failures == []
    assert await image_of(mesh, rollout, "backend-primary") == "lab.local/sample:2.0.0"


@pytest.mark.conformance
async def test_a_bad_version_is_rolled_back_on_its_errors(mesh, rollout, eventually):
    await release(mesh, rollout, "2.0.0-bad")

    async def failed():
        assert await phase(mesh, rollout) != "Succeeded", await events(mesh, rollout)
        return await phase(mesh, rollout) == "Failed"

    await eventually(failed, timeout=120)
    assert await weights(mesh, rollout) == [100, 0]
    assert await image_of(mesh, rollout, "backend-primary") == "lab.local/sample:1.0.0"
    assert "success rate" in await events(mesh, rollout)


@pytest.mark.conformance
async def test_removing_a_canary_under_load_loses_no_request(mesh, rollout, eventually):
    """In the order that the service keeps: workload ready, its Service back to it, then the Canary."""
    async with Load(await flagger.gateway_address(mesh), f"backend.{rollout}", rate=100) as load:
        await load.until(50)
        await mesh.kubectl("scale", "deployment", "backend", "--replicas=1", "-n", rollout)
        await mesh.kubectl("rollout", "status", "deployment", "backend", "-n", rollout, "--timeout=60s")
        await mesh.api.merge(
            f"/api/v1/namespaces/{rollout}/services/backend",
            {
                "metadata": {"ownerReferences": []},
                "spec": {"selector": {"app": "backend"}},
            },
        )
        await mesh.api.delete(CANARIES.format(rollout))

        async def primary_is_gone():
            return await mesh.api.find(DEPLOYMENTS.format(rollout, "backend-primary")) is None

        await eventually(primary_is_gone, timeout=60)
        await load.until(300)
    assert load.tally.failures == []


async def events(cluster, namespace):
    found = await cluster.api.items(f"/api/v1/namespaces/{namespace}/events")
    return "\n".join(event.get("message", "") for event in found)
