"""A rollout that is under way is taken away while requests keep coming."""

from __future__ import annotations

from typing import Any

import pytest

from fleet_rollout.lab import flagger
from fleet_rollout.lab.load import Load
from tests.stories.rollouts import Place, deployment, files, metric, policy, rollout

pytestmark = pytest.mark.conformance

SAMPLE = "lab.local/sample"


async def progressing(story: Any, mesh: Any, host: str) -> tuple[Any, Place]:
    """A canary that has half of the traffic."""
    repository = await story.git_repo(files(image=SAMPLE, tag="1.0.0", replicas=2))
    await story.fleet("m1")
    await story.start()
    analysis = {"checkFailedTimes": 20, "metrics": [metric("request-success-rate", intervalSeconds=10)]}
    routing = {"hosts": [host], "canaryStrategy": {"stepWeights": [50, 60, 70, 80, 90]}}
    rolled_out = rollout(story, routing=routing, analysis=analysis)
    await story.application(repository, policy(story, rolled_out, prune=False))
    await story.condition("Ready", "True", timeout=120)
    await repository.commit({"deployment.yaml": deployment("podinfo", tag="2.0.0", image=SAMPLE, replicas=2)})
    await story.request("second")
    place = Place(story, "m1")

    async def has_half() -> bool:
        canary = await place.canary()
        return canary is not None and canary.get("status", {}).get("canaryWeight", 0) >= 50

    await story.until(has_half, timeout=120)
    return repository, place


@pytest.mark.parametrize("how", ["the rollout", "the Application"])
async def test_removing_a_rollout_that_is_under_way_fails_no_request(story: Any, mesh: Any, how: str) -> None:
    """Design section 7, removal without an outage, while the canary has half of the traffic."""
    host = f"podinfo.{story.namespace}"
    repository, place = await progressing(story, mesh, host)
    async with Load(await flagger.gateway_address(mesh), host, rate=100) as load:
        await load.until(100)
        assert set(load.tally.versions) == {"1.0.0", "2.0.0"}
        if how == "the rollout":
            await story.application(repository, policy(story, None, prune=False))
        else:
            await story.delete("applications", "web")

        async def is_gone() -> bool:
            return await place.canary() is None and await place.deployment("podinfo-primary") is None

        await story.until(is_gone)
        await load.until(20)
        before = load.tally.versions["1.0.0"]
        await load.until(300)
        assert load.tally.versions["1.0.0"] == before
    assert load.tally.failures == []
    live = await place.deployment()
    assert live is not None
    assert live["status"]["availableReplicas"] == 2
