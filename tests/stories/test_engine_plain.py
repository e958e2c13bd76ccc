"""A plain Canary that somebody applies in a member: driven where its Fleet says so, left alone where it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fleet_rollout.lab import mesh
from tests.stories.engines import (
    FAILURES,
    LONG,
    SAMPLE,
    STEPS,
    TICK,
    host,
    image_of,
    says,
    status_of,
    visitors,
    weights,
)
from tests.stories.rollouts import Object, Place, files

MEMBER_CRDS = Path(__file__).parents[2] / "config" / "crd" / "member"


def plain(story: Any) -> Object:
    metrics = [
        {"name": "request-success-rate", "interval": "5s", "thresholdRange": {"min": 99}},
        {"name": "request-duration", "interval": "5s", "thresholdRange": {"max": 5000}},
    ]
    return {
        "apiVersion": "flagger.app/v1beta1",
        "kind": "Canary",
        "metadata": {"name": "podinfo", "namespace": story.namespace},
        "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo"},
            "service": {"port": 9898, "targetPort": "http", "hosts": [host(story)]},
            "analysis": {"interval": "1s", "threshold": FAILURES, **STEPS, "metrics": metrics},
        },
    }


@pytest.fixture
async def place(story: Any, spare: Any) -> Place:
    """A cluster with the mesh and the CRDs, and a workload in the story's namespace."""
    await mesh.install(spare)
    await spare.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(MEMBER_CRDS))
    await spare.crds_established()
    await story.join(spare)
    for text in files(image=SAMPLE, tag="1.0.0").values():
        await story.apply(text, spare)
    return Place(story, "spare")


async def reaches(story: Any, place: Place, phase: str) -> None:
    async def has() -> bool:
        return bool((await status_of(place)).get("phase") == phase)

    await story.until(has, LONG)


async def test_a_plain_canary_is_adopted_where_the_fleet_says_so(story: Any, place: Place) -> None:
    """Design section 2: without the annotation it is left alone, unless plainCanaries is Adopt."""
    await story.apply(plain(story), place.cluster)
    await story.attach("spare")
    await story.set_fleet(["spare"], rolloutEngine={"mode": "Hub"})
    await story.start(shortest_interval=TICK, member_check_interval=1.0)

    async def is_ready() -> bool:
        found = await story.hub.api.get(story.path("attachedclusters", "spare"))
        return bool((found.get("status") or {}).get("ready"))

    await story.until(is_ready)
    assert await status_of(place) == {}

    await story.set_fleet(["spare"], rolloutEngine={"mode": "Hub", "plainCanaries": "Adopt"})
    await reaches(story, place, "Initialized")
    async with visitors(story, "spare") as [load]:
        await place.cluster.kubectl("set", "image", "deployment/podinfo", f"web={SAMPLE}:2.0.0", "-n", story.namespace)
        await reaches(story, place, "Succeeded")
        await place.cluster.kubectl(
            "set", "image", "deployment/podinfo", f"web={SAMPLE}:3.0.0-bad", "-n", story.namespace
        )
        await reaches(story, place, "Failed")
        assert set(load.tally.versions) >= {"1.0.0", "2.0.0"}
    assert await weights(place) == [100, 0]
    assert await image_of(place, "podinfo-primary") == f"{SAMPLE}:2.0.0"
    await says(story, place, f"Promotion completed! Scaling down podinfo.{story.namespace}")
