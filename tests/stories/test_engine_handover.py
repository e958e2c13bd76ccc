"""A Canary changes hands: from a real Flagger to our engine in the middle of an analysis, and back when it is idle."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fleet_rollout.decide.names import ENGINE_ANNOTATION
from fleet_rollout.lab import flagger, mesh
from tests.stories.engines import (
    LONG,
    SAMPLE,
    TICK,
    begin,
    counted,
    host,
    image_of,
    status_of,
    visitors,
    weights,
)
from tests.stories.rollouts import APPS, Object, Place, deployment, files

pytestmark = pytest.mark.conformance  # minutes of whole analyses

FLAGGER_PATH = "/apis/apps/v1/namespaces/istio-system/deployments/flagger"
PODS = "/api/v1/namespaces/istio-system/pods"
ISTIO = "/apis/networking.istio.io/v1"


@pytest.fixture
async def contested(spare: Any) -> AsyncIterator[Any]:
    """A cluster with the mesh and a Flagger, which is stopped when the story is over."""
    await flagger.install(spare)
    await set_flagger(spare, runs=True)
    yield spare
    await set_flagger(spare, runs=False)


async def set_flagger(cluster: Any, *, runs: bool) -> None:
    """Start or stop Flagger; returns when its Pod is ready, or gone."""
    await cluster.api.merge(FLAGGER_PATH, {"spec": {"replicas": int(runs)}})
    if runs:
        await mesh.bring(cluster, flagger.objects())
        return
    async with asyncio.timeout(LONG):
        while await cluster.api.items(PODS, labelSelector="app=flagger"):
            await asyncio.sleep(0.2)


def plain(story: Any) -> Object:
    """A Canary as a user of Flagger has it. Ten seconds are the shortest interval that Flagger takes."""
    metrics = [
        {"name": "request-success-rate", "interval": "10s", "thresholdRange": {"min": 99}},
        {"name": "request-duration", "interval": "10s", "thresholdRange": {"max": 900}},
    ]
    return {
        "apiVersion": "flagger.app/v1beta1",
        "kind": "Canary",
        "metadata": {"name": "podinfo", "namespace": story.namespace},
        "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo"},
            "service": {"port": 9898, "targetPort": "http", "hosts": [host(story)]},
            "analysis": {
                "interval": "10s",
                "threshold": 3,
                "stepWeights": [20, 40, 60],
                "metrics": metrics,
            },
        },
    }


async def uids(place: Place) -> dict[str, str]:
    """Everything that an engine has made, by what it is."""
    found = {}
    for group, plural, name in (
        (APPS, "deployments", "podinfo-primary"),
        ("/api/v1", "services", "podinfo"),
        ("/api/v1", "services", "podinfo-primary"),
        ("/api/v1", "services", "podinfo-canary"),
        (ISTIO, "virtualservices", "podinfo"),
        (ISTIO, "destinationrules", "podinfo-primary"),
        (ISTIO, "destinationrules", "podinfo-canary"),
    ):
        obj = await place.find(group, plural, name)
        assert obj is not None, (plural, name)
        found[f"{plural}/{name}"] = obj["metadata"]["uid"]
    return found


async def pods(place: Place, app: str) -> set[str]:
    items = await place.cluster.api.items(f"/api/v1/namespaces/{place.namespace}/pods", labelSelector=f"app={app}")
    return {pod["metadata"]["name"] for pod in items}


async def set_image(place: Place, tag: str) -> None:
    """`kubectl set image`."""
    container = {"name": "web", "image": f"{SAMPLE}:{tag}"}
    body = {"spec": {"template": {"spec": {"containers": [container]}}}}
    await place.cluster.kubectl("patch", "deployment", "podinfo", "-n", place.namespace, "-p", json.dumps(body))


async def reaches(story: Any, place: Place, phase: str, weight: int = 0) -> Object:
    async def has() -> Object | None:
        status = await status_of(place)
        return status if status.get("phase") == phase and status.get("canaryWeight", 0) >= weight else None

    found: Object = await story.until(has, LONG)
    return found


async def test_our_engine_takes_over_from_flagger_in_an_analysis_and_gives_back(story: Any, contested: Any) -> None:
    """Part 3 and design section 7: same status, same objects, no restart; after the return at most one more run."""
    await story.join(contested)
    place = Place(story, "spare")
    for text in files(image=SAMPLE, tag="1.0.0").values():
        await story.apply(text, contested)
    await story.apply(plain(story), contested)
    await reaches(story, place, "Initialized")
    async with visitors(story, "spare") as [load]:
        await set_image(place, "2.0.0")
        await reaches(story, place, "Progressing", 20)
        await set_flagger(contested, runs=False)
        before, made, primary = await status_of(place), await uids(place), await pods(place, "podinfo-primary")
        assert not before["lastAppliedSpec"].startswith("v1:")

        await story.attach("spare")
        await story.set_fleet(["spare"], rolloutEngine={"mode": "Hub", "plainCanaries": "Adopt"})
        await story.start(shortest_interval=TICK)
        after = await reaches(story, place, "Progressing", before["canaryWeight"] + 20)
        assert after["failedChecks"] >= before["failedChecks"]
        assert await uids(place) == made
        assert await pods(place, "podinfo-primary") == primary
        done = await reaches(story, place, "Succeeded")
        assert done["lastPromotedSpec"].startswith("v1:")
        assert await image_of(place, "podinfo-primary") == f"{SAMPLE}:2.0.0"
        assert await uids(place) == made
        assert await counted(place, "Starting canary analysis for podinfo.") == 1
        assert await counted(place, "New revision detected!") == 1

        await story.set_fleet(["spare"], rolloutEngine={"mode": "Flagger"})
        await story.stop()
        await set_flagger(contested, runs=True)

        async def is_flagger_s() -> bool:
            status = await status_of(place)
            return status["phase"] == "Succeeded" and not status["lastPromotedSpec"].startswith("v1:")

        await story.until(is_flagger_s, LONG)
        assert load.tally.failures == []
    assert await counted(place, "New revision detected!") <= 2
    assert await image_of(place, "podinfo-primary") == f"{SAMPLE}:2.0.0"
    assert await uids(place) == made


async def test_flagger_gets_a_canary_when_its_rollout_has_come_to_its_end(story: Any, members: Any) -> None:
    """The Fleet is edited in the middle of an analysis: our engine finishes it, then the Canary names Flagger."""
    await mesh.install(members["m3"])
    slow = {"analysis": {"checkIntervalSeconds": 3}, "routing": {"canaryStrategy": {"stepWeights": [20, 40, 60]}}}
    repository = await begin(story, "m3", **slow)
    place = Place(story, "m3")
    async with visitors(story, "m3"):
        await repository.commit({"deployment.yaml": deployment("podinfo", tag="2.0.0", image=SAMPLE)})
        await story.request("2.0.0")
        await reaches(story, place, "Progressing", 20)
        await story.set_fleet(["m3"], rolloutEngine={"mode": "Flagger"})
        await engine_of_sync(story, "flagger")
        assert await engine_of_canary(place) == "hub"
        await reaches(story, place, "Succeeded")

        async def is_flagger_s() -> bool:
            return await engine_of_canary(place) == "flagger"

        await story.until(is_flagger_s)
        await story.condition("Ready", "True")
        assert await image_of(place, "podinfo-primary") == f"{SAMPLE}:2.0.0"
        assert await weights(place) == [100, 0]
        assert await counted(place, "Starting canary analysis for podinfo.") == 1


async def engine_of_sync(story: Any, engine: str) -> None:
    """Wait until the planner has taken note."""

    async def says() -> bool:
        sync = await story.sync("web-0-attachedcluster-m3")
        return bool(sync["spec"]["engine"] == engine and sync["status"]["observedGeneration"] >= 2)

    await story.until(says)


async def engine_of_canary(place: Place) -> str | None:
    found = await place.canary()
    assert found is not None
    engine: str | None = (found["metadata"].get("annotations") or {}).get(ENGINE_ANNOTATION)
    return engine
