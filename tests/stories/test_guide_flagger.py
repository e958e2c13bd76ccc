"""Flagger's guide to SMI and Istio, step by step: its files as they are, its commands, and what it promises.

Flagger itself and the adapter are this service: the Fleet says so where the guide says it to Helm.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fleet_rollout import processes
from fleet_rollout.lab import mesh
from fleet_rollout.lab.load import Load, send
from tests.stories.engines import LONG, course, image_of, says, status_of
from tests.stories.rollouts import APPS, Object, Place

pytestmark = pytest.mark.conformance  # minutes of whole analyses

ROOT = Path(__file__).parents[2]
GUIDE = Path(__file__).with_name("guides") / "flagger"
SPLITS_CRD = ROOT / "tests" / "rooms" / "traffic" / "crds" / "smi.yaml"
ISTIO = "/apis/networking.istio.io/v1"
SMI = "/apis/split.smi-spec.io/v1alpha1"
TESTER = "/api/v1/namespaces/test/services/http:flagger-loadtester:80/proxy"
NAMESPACE = "/api/v1/namespaces/test"
DOMAIN = "app.example.com"
# Its own words: helm upgrade -i flagger … --set meshProvider=smi:istio, beside the SMI adapter.
ENGINE = {"mode": "Hub", "meshProvider": "smi:istio", "smiAdapter": True, "plainCanaries": "Adopt"}


@pytest.fixture
async def cluster(spare: Any) -> AsyncIterator[Any]:
    """Istio with its public gateway, the CRDs, and a new namespace `test`."""
    await mesh.install(spare)
    await spare.kubectl("apply", "-f", str(GUIDE / "public-gateway.yaml"))
    await spare.kubectl("apply", "-f", str(SPLITS_CRD))
    await spare.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "config" / "crd" / "member"))
    await spare.crds_established()
    await gone(spare)
    await spare.kubectl("create", "namespace", "test")
    yield spare
    await spare.api.delete(NAMESPACE)


async def gone(cluster: Any) -> None:
    async with asyncio.timeout(LONG):
        while await cluster.api.find(NAMESPACE) is not None:
            await asyncio.sleep(0.2)


async def bootstrap(cluster: Any, folder: Path) -> None:
    """ "Workloads bootstrap": deployment, autoscaler, load tester."""
    await cluster.kubectl("apply", "-f", str(GUIDE / "deployment.yaml"))
    argv = [sys.executable, "-m", "fleet_rollout", "migrate", str(GUIDE / "hpa.yaml")]
    migrated = await processes.run(argv, timeout=60)
    assert migrated.returncode == 0, migrated.stderr
    await cluster.kubectl("apply", "-f", "-", stdin=migrated.stdout)
    await cluster.kubectl("apply", "-k", str(ROOT / "config" / "loadtester"))
    await cluster.kubectl("-n", "test", "rollout", "status", "deployment/flagger-loadtester", "--timeout=120s")


async def set_image(cluster: Any, tag: str) -> None:
    image = f"podinfod=quay.io/stefanprodan/podinfo:{tag}"
    await cluster.kubectl("-n", "test", "set", "image", "deployment/podinfo", image)


async def shares(place: Place) -> tuple[dict[str, int], list[int]]:
    """What TrafficSplit and VirtualService say: the first one's weights are quantities."""
    split = await place.find(SMI, "trafficsplits", "podinfo")
    service = await place.find(ISTIO, "virtualservices", "podinfo-vs")
    assert split is not None
    assert service is not None
    backends = {each["service"]: int(each["weight"]) for each in split["spec"]["backends"]}
    return backends, [route["weight"] for route in service["spec"]["http"][0]["route"]]


async def reaches(story: Any, place: Place, phase: str, weight: int = 0) -> Object:
    async def has() -> Object | None:
        status = await status_of(place)
        return status if status.get("phase") == phase and status.get("canaryWeight", 0) >= weight else None

    found: Object = await story.until(has, LONG)
    return found


async def test_smi_istio_canary_deployments(story: Any, cluster: Any, tmp_path: Path) -> None:
    story.members["spare"] = cluster
    place = Place(story, "spare", "test")
    await story.attach("spare")
    await story.set_fleet(["spare"], rolloutEngine=ENGINE)
    await story.start()
    await bootstrap(cluster, tmp_path)
    await cluster.kubectl("apply", "-f", str(GUIDE / "podinfo-canary.yaml"))
    await reaches(story, place, "Initialized")
    await generated(place)
    address = await mesh.gateway_address(cluster)

    async def is_served() -> bool:
        return (await send(address, DOMAIN, 1)).failed == 0

    await story.until(is_served)
    async with Load(address, DOMAIN, rate=20) as users:
        await users.until(20)
        await promoted(story, place, users)
        await rolled_back(story, place, address)
        await story.until(lambda: load_tests(cluster), LONG)
        assert users.tally.failures == []


async def generated(place: Place) -> None:
    """ "After a couple of seconds Flagger will create the canary objects"."""
    for group, plural, name in (
        (APPS, "deployments", "podinfo-primary"),
        ("/apis/autoscaling/v2", "horizontalpodautoscalers", "podinfo-primary"),
        ("/api/v1", "services", "podinfo"),
        ("/api/v1", "services", "podinfo-canary"),
        ("/api/v1", "services", "podinfo-primary"),
        (SMI, "trafficsplits", "podinfo"),
    ):
        assert await place.find(group, plural, name) is not None, f"{plural}/{name}"
    assert await shares(place) == ({"podinfo-canary": 0, "podinfo-primary": 100}, [0, 100])


async def promoted(story: Any, place: Place, users: Load) -> None:
    """ "Automated canary promotion"."""
    async with course(place) as seen:
        await set_image(place.cluster, "1.7.1")
        await reaches(story, place, "Progressing", 30)
        split, routes = await shares(place)
        assert split["podinfo-canary"] in (30, 40)
        assert routes == [split["podinfo-canary"], split["podinfo-primary"]]
        await reaches(story, place, "Succeeded")

        async def is_seen() -> bool:
            return seen[-1] == ("Succeeded", 0)

        await story.until(is_seen)
    steps = [("Progressing", weight) for weight in (0, 10, 20, 30, 40, 50)]
    assert seen[-9:] == [*steps, ("Promoting", 50), ("Finalising", 0), ("Succeeded", 0)]
    await says(
        story,
        place,
        "New revision detected! Scaling up podinfo.test",
        *(f"Advance podinfo.test canary weight {weight}" for weight in (10, 20, 30, 40, 50)),
        "Copying podinfo.test template spec to podinfo-primary.test",
        "Promotion completed! Scaling down podinfo.test",
    )
    assert await image_of(place, "podinfo-primary") == "quay.io/stefanprodan/podinfo:1.7.1"
    assert set(users.tally.versions) == {"1.7.0", "1.7.1"}


async def load_tests(cluster: Any) -> float:
    """How many of the Canary's commands the load tester has carried out."""
    text = (await cluster.api.get(f"{TESTER}/metrics"))["text"]
    series = 'fleet_rollout_loadtester_tasks_total{result="success",type="cmd"} '
    return sum(float(line.removeprefix(series)) for line in text.splitlines() if line.startswith(series))


async def rolled_back(story: Any, place: Place, address: str) -> None:
    """ "Automated rollback": errors that somebody generates in the canary, by its own name."""
    await place.cluster.kubectl(
        "-n", "test", "run", "tester", "--image=quay.io/stefanprodan/podinfo:1.2.1", "--", "./podinfo", "--port=9898"
    )
    await set_image(place.cluster, "1.7.2")
    await reaches(story, place, "Progressing", 10)
    async with Load(address, "podinfo-canary.test", rate=20, path="/status/500"):
        status = await reaches(story, place, "Failed")
    assert status["canaryWeight"] == 0
    assert await shares(place) == ({"podinfo-canary": 0, "podinfo-primary": 100}, [0, 100])
    await says(
        story,
        place,
        "Halt podinfo.test advancement success rate ",
        "Rolling back podinfo.test failed checks threshold reached 5",
        "Canary failed! Scaling down podinfo.test",
    )
    target = await place.deployment()
    assert target is not None
    assert target["spec"]["replicas"] == 0
    assert await image_of(place, "podinfo-primary") == "quay.io/stefanprodan/podinfo:1.7.1"
