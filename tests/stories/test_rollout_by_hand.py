"""Somebody changes a workload under a rollout with kubectl, and real Flagger takes it for a new version."""

from __future__ import annotations

from typing import Any

from tests.stories.rollouts import Place, canary_row, deployment, files, policy, rollout

ROW = "web-0-attachedcluster-m1"
TIME = 240.0
IMAGE = "example.com/web"


async def test_a_change_by_hand_starts_a_canary_and_survives_a_restart_of_the_hub(story: Any, mesh: Any) -> None:
    """Ruling "Intervals": with 0s nothing brings Git's image back but the next commit."""
    repository = await story.git_repo(files(replicas=1))
    await story.fleet("m1")
    await story.start(status_interval=0.1)
    analysis = {"checkIntervalSeconds": 5, "metrics": []}
    routing = {"canaryStrategy": {"stepWeights": [20, 40, 60]}}
    rolled_out = rollout(story, routing=routing, analysis=analysis)
    await story.application(repository, policy(story, rolled_out, interval="0s"))
    await story.condition("Ready", "True", timeout=TIME)
    place = Place(story, "m1")
    await place.cluster.kubectl("set", "image", "deployment/podinfo", f"web={IMAGE}:by-hand", "-n", place.namespace)

    async def row_says(phase: str) -> bool:
        (row,) = (await story.read())["status"]["syncStatus"]
        return canary_row(row).get("phase") == phase

    async def image(name: str) -> str:
        found = await place.deployment(name)
        assert found is not None
        return str(found["spec"]["template"]["spec"]["containers"][0]["image"])

    await story.until(lambda: row_says("Progressing"), timeout=TIME)
    await story.stop()
    await story.start(status_interval=0.1)
    await story.until(lambda: row_says("Succeeded"), timeout=TIME)
    for name in ("podinfo", "podinfo-primary"):
        assert await image(name) == f"{IMAGE}:by-hand"
    await story.condition("Ready", "True")

    second = await repository.commit({"deployment.yaml": deployment("podinfo", tag="2", replicas=1)})
    await story.request("second")
    await story.applied(second)
    assert await image("podinfo") == f"{IMAGE}:2"
    await story.condition("Ready", "True", timeout=TIME)
    assert await image("podinfo-primary") == f"{IMAGE}:2"
