"""A rollout is taken away while requests keep coming, with real Flagger, Envoy and Prometheus in the member."""

from __future__ import annotations

from typing import Any

from fleet_rollout.lab import flagger
from fleet_rollout.lab.load import Load
from tests.stories.rollouts import Place, files, policy, rollout

SYNC = "web-0-attachedcluster-m1"
SAMPLE = "lab.local/sample"


async def test_removing_a_rollout_under_live_traffic_fails_no_request(story: Any, mesh: Any) -> None:
    """Design section 7, removal without an outage: first the rollout alone, then the Application without prune."""
    host = f"podinfo.{story.namespace}"
    repository = await story.git_repo(files(image=SAMPLE, tag="1.0.0", replicas=2))
    await story.fleet("m1")
    await story.start()
    rolled_out = rollout(story, routing={"hosts": [host]})
    place = Place(story, "m1")

    async def no_primary() -> bool:
        return await place.deployment("podinfo-primary") is None and await place.canary() is None

    await story.application(repository, policy(story, rolled_out, prune=False))
    await story.condition("Ready", "True", timeout=120)
    assert await place.deployment("podinfo-primary") is not None
    async with Load(await flagger.gateway_address(mesh), host, rate=100) as load:
        await load.until(50)
        await story.application(repository, policy(story, None, prune=False))
        await story.until(no_primary)
        await load.until(200)
        await story.condition("Ready", "True")
        assert load.tally.failures == []

        await story.application(repository, policy(story, rolled_out, prune=False))
        await story.until(lambda: place.deployment("podinfo-primary"))
        await story.condition("Ready", "True", timeout=120)
        await load.until(50)
        assert load.tally.failures == []
        await story.delete("applications", "web")
        await story.gone("applications", "web")
        await story.until(no_primary)
        await load.until(200)
    assert load.tally.failures == []
    live = await place.deployment()
    assert live is not None
    assert live["status"]["availableReplicas"] == 2
