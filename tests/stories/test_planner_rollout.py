"""A policy with a rollout changes its name: the Canary and the workload's scale are handed over, too."""

from __future__ import annotations

from typing import Any

from tests.stories.rollouts import TESTER, Place, custom_metric, files, policy, rollout


async def test_a_renamed_policy_hands_its_rollout_over(story: Any) -> None:
    """G34: the Canary, what it needs and the workload are the same ones, and nobody restores the replicas."""
    repository = await story.git_repo(files(replicas=2))
    await story.fleet("m2")
    await story.start(loadtester_image=TESTER)
    rolled_out = rollout(story, analysis={"metrics": [custom_metric("err")]}, testLoader=True)
    await story.application(repository, policy(story, rolled_out, name="old"))
    place = Place(story)
    canary = await place.appears()
    await story.sync_condition("old-attachedcluster-m2", "RolloutReady", "True")
    await place.judge("Initialized", "s1")
    await story.condition("Ready", "True")
    template, workload = await place.template("err"), await place.deployment()
    assert template is not None
    assert workload is not None

    await story.application(repository, policy(story, rolled_out, name="new"))
    await story.gone("clustersyncs", "old-attachedcluster-m2")
    await story.sync_condition("new-attachedcluster-m2", "RolloutReady", "True")
    after = await place.canary()
    assert after is not None
    assert after["metadata"]["uid"] == canary["metadata"]["uid"]
    assert not after["spec"].get("suspend")
    for before, now in ((template, await place.template("err")), (workload, await place.deployment())):
        assert now is not None
        assert now["metadata"]["uid"] == before["metadata"]["uid"]
    await story.condition("Ready", "True")
