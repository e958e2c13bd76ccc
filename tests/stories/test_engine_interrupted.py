"""What an analysis survives: the hub is killed, the member goes away, another engine takes a hand in the Canary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fleet_rollout.lab import mesh
from tests.stories.engines import (
    LONG,
    SAMPLE,
    TICK,
    apply_application,
    begin,
    counted,
    image_of,
    messages,
    says,
    status_of,
    visitors,
    weights,
)
from tests.stories.replicas import Launcher, Replica
from tests.stories.rollouts import FLAGGER, Object, Place, deployment

LEASE = "/apis/coordination.k8s.io/v1/namespaces/{}/leases/fleet-rollout"
# Slow enough that something can happen between two steps.
SLOW = {
    "analysis": {"checkIntervalSeconds": 3},
    "routing": {"canaryStrategy": {"stepWeights": [20, 40, 60]}},
}


@pytest.fixture
async def live(members: Any) -> None:
    await mesh.install(members["m3"])


@pytest.fixture
async def launcher(tmp_path: Path) -> Any:
    made = Launcher(tmp_path)
    yield made
    await made.close()


async def release(story: Any, repository: Any, tag: str = "2.0.0") -> None:
    await repository.commit({"deployment.yaml": deployment("podinfo", tag=tag, image=SAMPLE)})
    await story.request(tag)


async def moved(story: Any, place: Place) -> Object:
    """Wait until the canary gets traffic, and that is told; the status."""

    async def has_weight() -> Object | None:
        status = await status_of(place)
        return status if status.get("canaryWeight", 0) > 0 else None

    found: Object = await story.until(has_weight, LONG)
    await says(story, place, "canary weight 20")
    return found


async def resumed(place: Place) -> None:
    """The analysis went on where it was: it was started once, and no step was taken twice."""
    said = await messages(place)
    for once in ("Starting canary analysis for", "New revision detected! Scaling up", "canary weight 20"):
        assert sum(each.count(once) for each in said) == 1, (once, said)
    assert await counted(place, "canary weight 20") == 1
    assert not [each for each in said if "Restarting" in each or "Rolling back" in each]


async def test_a_killed_hub_leaves_the_routes_and_the_next_one_goes_on(
    story: Any, live: None, launcher: Launcher
) -> None:
    """Part 10: routes stay as they are while nobody drives, users are served, and the analysis is resumed."""
    place = Place(story, "m3")
    first = await forked(story, launcher)
    repository = await apply_application(story, "m3", **SLOW)
    await story.condition("Ready", "True", timeout=LONG)
    async with visitors(story, "m3") as [load]:
        await release(story, repository)
        await moved(story, place)
        first.kill()
        await first.ended()
        before, routes = await status_of(place), await weights(place)
        load.tally.versions.clear()
        await load.until(300)
        assert (await status_of(place), await weights(place)) == (before, routes)
        assert set(load.tally.versions) == {"1.0.0", "2.0.0"}
        await story.hub.api.merge(LEASE.format(story.namespace), {"spec": {"holderIdentity": ""}})
        second = await forked(story, launcher)
        try:
            await story.condition("Ready", "True", timeout=LONG)
        finally:
            await second.close()
        assert load.tally.failures == []
    assert await image_of(place, "podinfo-primary") == f"{SAMPLE}:2.0.0"
    await resumed(place)


async def forked(story: Any, launcher: Launcher) -> Replica:
    return await launcher.fork(
        kubeconfig=story.hub.kubeconfig,
        namespace=story.namespace,
        own_namespace=story.namespace,
        data_dir=story.folder / "data",
        shortest_interval=TICK,
    )


async def test_a_member_that_goes_away_in_the_analysis_and_comes_back(story: Any, spare: Any) -> None:
    """Its Envoy goes on with the routes it has; its row says that it is away; then the analysis is resumed."""
    await mesh.install(spare)
    await story.join(spare)
    place = Place(story, "spare")
    repository = await begin(story, "spare", **SLOW)
    async with visitors(story, "spare") as [load]:
        await release(story, repository)
        before = await moved(story, place)
        await spare.stop()
        await story.row("web-0-attachedcluster-spare", message="AttachedCluster/spare")
        load.tally.versions.clear()
        await load.until(200)
        assert set(load.tally.versions) == {"1.0.0", "2.0.0"}
        await spare.start()
        after = await status_of(place)
        assert after["canaryWeight"] >= before["canaryWeight"]
        await story.condition("Ready", "True", timeout=LONG)
        assert load.tally.failures == []
    assert (await status_of(place))["phase"] == "Succeeded"
    await resumed(place)


async def test_another_engine_that_writes_the_status_stops_ours(story: Any, live: None) -> None:
    """Design section 2: two engines never act on one Canary; the condition names the other and the fix."""
    await begin(story, "m3")
    place = Place(story, "m3")
    path = place.path(FLAGGER, "canaries", "podinfo", "status")

    status = {**await status_of(place), "phase": "Progressing", "canaryWeight": 0, "failedChecks": 0}
    await place.cluster.api.request(
        "PATCH",
        path,
        {"status": status},
        params={"fieldManager": "flagger"},
        content_type="application/merge-patch+json",
    )
    sync = "web-0-attachedcluster-m3"
    found = await story.sync_condition(sync, "RolloutReady", "False", "EngineConflict")
    assert "flagger writes the status of Canary" in found["message"]
    assert "apps.kurator.dev/engine: flagger" in found["message"]
    await story.row(sync, message="flagger writes the status of Canary")
    written = (await place.canary() or {})["metadata"]["resourceVersion"]
    await deploy(story, place)
    assert (await place.canary() or {})["metadata"]["resourceVersion"] == written

    # The other one has been stopped, and somebody says so on the Canary.
    annotated = {"metadata": {"annotations": {"example.com/flagger": "stopped"}}}
    await place.cluster.api.merge(place.path(FLAGGER, "canaries", "podinfo"), annotated)
    async with visitors(story, "m3"):

        async def is_over() -> bool:
            return (await status_of(place))["phase"] == "Succeeded"

        await story.until(is_over, LONG)
    await story.sync_condition(sync, "RolloutReady", "True")
    await story.condition("Ready", "True")


async def deploy(story: Any, place: Place) -> None:
    """A new image by hand, and time for several ticks: the new Pods are ready before it returns."""
    container = {"name": "web", "image": f"{SAMPLE}:2.0.0"}
    body = {"spec": {"replicas": 1, "template": {"spec": {"containers": [container]}}}}
    await place.cluster.kubectl(
        "patch", "deployment", "podinfo", "-n", place.namespace, "--type=strategic", "-p", json.dumps(body)
    )

    async def is_ready() -> bool:
        live = await place.deployment()
        assert live is not None
        told = live.get("status") or {}
        return told.get("observedGeneration") == live["metadata"]["generation"] and told.get("readyReplicas") == 1

    await story.until(is_ready)
