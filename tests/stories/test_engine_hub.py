"""The hub's own engine on live traffic: members hold CRDs and no program of ours, and Envoy follows the analysis."""

from __future__ import annotations

from typing import Any

import pytest

from fleet_rollout.lab import mesh
from tests.stories.engines import FAILURES, LONG, SAMPLE, STEPS, begin, image_of, says, visitors, weights
from tests.stories.rollouts import Place, canary_row, deployment

ROWS = ("web-0-attachedcluster-m2", "web-0-attachedcluster-m3")
MEMBERS = ("m2", "m3")


@pytest.fixture
async def live(members: Any) -> None:
    """Members with gateway and Prometheus, and no engine."""
    for name in MEMBERS:
        await mesh.install(members[name])


async def commit(story: Any, repository: Any, tag: str) -> str:
    content = {"deployment.yaml": deployment("podinfo", tag=tag, image=SAMPLE)}
    made: str = await repository.commit(content, message=tag)
    await story.request(tag)
    return made


async def test_commits_are_promoted_and_rolled_back_by_live_metrics(story: Any, live: None) -> None:
    """Part 10: mode Hub is the default. A good version succeeds in all members, one that errs fails in all."""
    repository = await begin(
        story, *MEMBERS, routing={"canaryStrategy": STEPS}, analysis={"checkFailedTimes": FAILURES}
    )
    places = [Place(story, name) for name in MEMBERS]
    async with visitors(story, *MEMBERS) as loads:
        second = await commit(story, repository, "2.0.0")
        await story.applied(second, *ROWS)
        await story.condition("Ready", "True", timeout=LONG)
        for load in loads:
            assert load.tally.failures == []
            assert set(load.tally.versions) == {"1.0.0", "2.0.0"}
        await told(story, places, "Succeeded")

        third = await commit(story, repository, "3.0.0-bad")
        await story.applied(third, *ROWS)

        async def says_so_of_all() -> bool:
            found = await story.condition("Ready", "False", "RolloutFailed", timeout=LONG)
            return all(f"AttachedCluster/{name}" in found["message"] for name in MEMBERS)

        await story.until(says_so_of_all, LONG)  # they fail one after the other
    await told(story, places, "Failed")
    for place in places:
        assert await weights(place) == [100, 0]
        assert await image_of(place, "podinfo-primary") == f"{SAMPLE}:2.0.0"
        await says(
            story,
            place,
            f"Promotion completed! Scaling down podinfo.{place.namespace}",
            f"Halt podinfo.{place.namespace} advancement success rate",
            f"Canary failed! Scaling down podinfo.{place.namespace}",
        )


async def told(story: Any, places: list[Place], phase: str) -> None:
    """The rows of the Application are the Canaries' statuses."""
    for name, place in zip(ROWS, places, strict=True):
        row = await story.row(name)
        canary = await place.canary()
        assert canary is not None
        assert canary["status"]["phase"] == phase
        shown = canary_row(row)
        assert shown["phase"] == phase
        assert shown["canaryWeight"] == 0
        assert {k: shown[k] for k in ("lastAppliedSpec", "lastPromotedSpec")} == {
            k: canary["status"][k] for k in ("lastAppliedSpec", "lastPromotedSpec")
        }
        assert shown["conditions"] == canary["status"]["conditions"]
        assert row["rolloutStatus"]["clusterName"] == name.rpartition("-")[2]
