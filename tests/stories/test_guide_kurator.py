"""Kurator's guide to canaries with Istio, step by step: its files as they are, its commands, and what it promises.

Its files check every ninety seconds. They are applied as they are and looked at; then an operator in a hurry edits
these numbers, and nothing else.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fleet_rollout.lab import mesh
from fleet_rollout.lab.demo_acts import source
from tests.stories.engines import LONG, TICK, course, image_of, status_of
from tests.stories.rollouts import FLAGGER, Object, Place

pytestmark = pytest.mark.conformance  # minutes of whole analyses

GUIDE = Path(__file__).with_name("guides") / "kurator"
MEMBER = "kurator-member1"
URL = "https://github.com/stefanprodan/podinfo"
IMAGE = "ghcr.io/stefanprodan/podinfo"
ROWS = (f"rollout-demo-0-attachedcluster-{MEMBER}", f"rollout-demo-1-attachedcluster-{MEMBER}")
ANALYSIS = "/spec/syncPolicies/0/rollout/rolloutPolicy/trafficAnalysis"
HURRY = [
    {"op": "replace", "path": f"{ANALYSIS}/checkIntervalSeconds", "value": 3},
    {"op": "replace", "path": f"{ANALYSIS}/metrics/0/intervalSeconds", "value": 5},
    {"op": "replace", "path": f"{ANALYSIS}/metrics/1/intervalSeconds", "value": 5},
]


@pytest.fixture
async def cluster(story: Any, spare: Any) -> Any:
    """kurator-member1: Istio, Prometheus and the public gateway."""
    await mesh.install(spare)
    await spare.kubectl("apply", "-f", str(GUIDE / "gateway.yaml"))
    assert "public-gateway" in await spare.kubectl("get", "gateway", "-n", "istio-system")
    story.members[MEMBER] = spare
    return spare


async def test_istio_canary_deployment(story: Any, cluster: Any) -> None:
    place = Place(story, MEMBER, "webapp")
    files = source() | {"kustomize/hpa.yaml": (GUIDE / "hpa.yaml").read_text()}
    files["kustomize/kustomization.yaml"] += "  - hpa.yaml\n"
    repository = await story.git_repo()
    await repository.commit(files, branch="master")
    await story.fleet(MEMBER, name="quickstart")
    await story.set_fleet([MEMBER], name="quickstart", rolloutEngine={})
    await story.start(shortest_interval=TICK)
    written = (GUIDE / "application.yaml").read_text().replace(URL, repository.url)
    await story.apply(written.replace("namespace: default\n", f"namespace: {story.namespace}\n", 1))
    await initialised(story, place)
    await story.hub.kubectl(
        "patch", "application", "rollout-demo", "-n", story.namespace, "--type=json", "-p", json.dumps(HURRY)
    )
    await promoted(story, place)
    await cleaned_up(story, place)


async def initialised(story: Any, place: Place) -> None:
    """ "If the status shows as Initialized": the Canary is that of the file, and the Application too."""
    await story.condition("Ready", "True", name="rollout-demo", timeout=LONG)
    canary = await place.canary("backend")
    assert canary is not None
    analysis = canary["spec"]["analysis"]
    assert (analysis["interval"], analysis["threshold"]) == ("90s", 2)
    assert (analysis["stepWeight"], analysis["maxWeight"]) == (10, 50)
    assert [metric["interval"] for metric in analysis["metrics"]] == ["90s", "90s"]
    assert canary["spec"]["service"]["gateways"] == ["istio-system/public-gateway"]
    rows = (await story.read("rollout-demo"))["status"]["syncStatus"]
    assert [row["name"] for row in rows] == list(ROWS)
    shown = rows[0]["rolloutStatus"]
    assert (shown["clusterName"], shown["rolloutNameInCluster"]) == (MEMBER, "backend")
    status = shown["rolloutStatusInCluster"]
    assert (status["phase"], status["canaryWeight"], status["failedChecks"], status["iterations"]) == (
        "Initialized",
        0,
        0,
        0,
    )
    assert status["conditions"][0]["message"] == "Deployment initialization completed."
    assert status["lastAppliedSpec"] == status["lastPromotedSpec"]
    assert [entry["id"] for entry in rows[1]["kustomizationStatus"]["inventory"]["entries"]] == [
        "default_podinfo__Service",
        "default_podinfo_apps_Deployment",
        "default_podinfo_autoscaling_HorizontalPodAutoscaler",
    ]
    assert rows[1]["kustomizationStatus"]["conditions"][0]["reason"] == "ReconciliationSucceeded"


async def promoted(story: Any, place: Place) -> None:
    """ "Trigger Rollout", in the second of the two ways: the image of the Deployment, locally in the cluster."""

    async def is_in_a_hurry() -> bool:
        found = await place.canary("backend")
        return found is not None and found["spec"]["analysis"]["interval"] == "3s"

    await story.until(is_in_a_hurry)
    async with course(place, "backend") as seen:
        await place.cluster.kubectl("-n", "webapp", "set", "image", "deployment/backend", f"backend={IMAGE}:6.6.0")

        async def is_over() -> bool:
            is_shown = seen[-1:] == [("Succeeded", 0)]
            return is_shown and (await status_of(place, "backend")).get("phase") == "Succeeded"

        await story.until(is_over, LONG)
    steps = [("Progressing", weight) for weight in (0, 10, 20, 30, 40, 50)]
    assert seen[-9:] == [*steps, ("Promoting", 50), ("Finalising", 0), ("Succeeded", 0)]
    assert await image_of(place, "backend-primary") == f"{IMAGE}:6.6.0"

    async def is_shown() -> Object | None:
        row = next(row for row in (await story.read("rollout-demo"))["status"]["syncStatus"] if row["name"] == ROWS[0])
        status: Object = row["rolloutStatus"]["rolloutStatusInCluster"]
        return status if status["phase"] == "Succeeded" else None

    status = await story.until(is_shown)
    assert status["conditions"][0]["message"] == "Canary analysis completed successfully, promotion finished."
    assert status["lastAppliedSpec"] == status["lastPromotedSpec"]


async def cleaned_up(story: Any, place: Place) -> None:
    """ "Cleanup": the rollout alone, then the Application."""
    remove = [{"op": "remove", "path": "/spec/syncPolicies/0/rollout"}]
    await story.hub.kubectl(
        "patch", "application", "rollout-demo", "-n", story.namespace, "--type=json", "-p", json.dumps(remove)
    )

    async def is_removed() -> bool:
        names = [await place.deployment(name) for name in ("backend-primary", "backend-testloader")]
        return names == [None, None] and await place.find(FLAGGER, "canaries", "backend") is None

    await story.until(is_removed, LONG)
    live = await place.deployment("backend")
    assert live is not None
    assert live["status"]["availableReplicas"] == 1
    await story.delete("applications", "rollout-demo")
    await story.gone("applications", "rollout-demo", timeout=LONG)
    assert await place.deployment("backend") is None
    assert await Place(story, MEMBER, "default").deployment("podinfo") is None
