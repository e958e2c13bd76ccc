"""What stories about our own engine share: a Fleet in mode Hub, quick rollouts, live traffic, events of a Canary."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fleet_rollout.lab import mesh
from fleet_rollout.lab.load import Load
from tests.stories.rollouts import FLAGGER, Object, Place, files, metric, policy, rollout

SAMPLE = "lab.local/sample"
# The shortest analyses that a Prometheus with a scrape a second can judge.
TICK = 1.0
LONG = 180.0
# Where errors are to be seen: a rate needs two scrapes of a new version's first error, and until then the one before
# it, which ran as the same workload, may still answer for it. Two steps of a second would be over by then; and so would
# three failed checks before a version that is the first of all has a rate.
STEPS = {"stepWeight": 10, "maxWeight": 50}
FAILURES = 10


def quick(story: Any, name: str = "podinfo", **changes: Any) -> Object:
    """A rollout in two steps of a second each, judged by both built-in metrics."""
    analysis = {
        "checkIntervalSeconds": 1,
        "checkFailedTimes": 3,
        "metrics": [
            metric("request-success-rate", intervalSeconds=5),
            metric("request-duration", intervalSeconds=5, thresholdRange={"max": 900}),
        ],
        **changes.pop("analysis", {}),
    }
    routing = {
        "hosts": [host(story, name)],
        "canaryStrategy": {"stepWeight": 25, "maxWeight": 50},
        **changes.pop("routing", {}),
    }
    return rollout(story, name, analysis=analysis, routing=routing, **changes)


def host(story: Any, name: str = "podinfo") -> str:
    return f"{name}.{story.namespace}"


async def begin(story: Any, *members: str, **changes: Any) -> Any:
    """Version 1.0.0 initialised by the hub's engine in these members; the repository."""
    await story.start(shortest_interval=TICK, status_interval=0.1)
    repository = await apply_application(story, *members, **changes)
    await story.condition("Ready", "True", timeout=LONG)
    return repository


async def apply_application(story: Any, *members: str, mode: str = "Hub", **changes: Any) -> Any:
    """A Fleet of these members and an Application of version 1.0.0, whoever works on them; the repository."""
    repository = await story.git_repo(files(image=SAMPLE, tag="1.0.0"))
    await story.attach(*members)
    await story.set_fleet(members, rolloutEngine={"mode": mode})
    await story.application(repository, policy(story, quick(story, **changes)))
    return repository


@contextlib.asynccontextmanager
async def visitors(story: Any, *members: str, name: str = "podinfo", rate: float = 40.0) -> AsyncIterator[list[Load]]:
    """Live requests through the gateway of each member."""
    async with contextlib.AsyncExitStack() as stack:
        loads = []
        for member in members:
            address = await mesh.gateway_address(story.members[member])
            loads.append(await stack.enter_async_context(Load(address, host(story, name), rate=rate)))
        yield loads


async def status_of(place: Place, name: str = "podinfo") -> Object:
    """What the Canary says; {} where there is none, or nobody has looked at it."""
    found = await place.canary(name)
    status: Object = (found or {}).get("status") or {}
    return status


async def messages(place: Place, name: str = "podinfo") -> list[str]:
    """The events about a Canary, oldest first."""
    events = await place.cluster.api.items(f"/api/v1/namespaces/{place.namespace}/events")
    about = [each for each in events if each["involvedObject"]["name"] == name]
    return [each["message"] for each in sorted(about, key=lambda each: str(each.get("lastTimestamp")))]


async def says(story: Any, place: Place, *words: str) -> list[str]:
    """Wait until each of these words is in an event, which is written after the status; all messages then."""

    async def are_said() -> list[str] | None:
        said = await messages(place)
        return said if all(any(each in message for message in said) for each in words) else None

    found: list[str] = await story.until(are_said)
    return found


async def counted(place: Place, words: str) -> int:
    """How often an event has been told, over all its copies."""
    events = await place.cluster.api.items(f"/api/v1/namespaces/{place.namespace}/events")
    return sum(each.get("count") or 1 for each in events if words in each["message"])


async def weights(place: Place, name: str = "podinfo") -> list[int]:
    """What the VirtualService says: the primary's share, and the canary's."""
    found = await place.find("/apis/networking.istio.io/v1", "virtualservices", name)
    assert found is not None
    return [route.get("weight", 0) for route in found["spec"]["http"][0]["route"]]


async def image_of(place: Place, name: str = "podinfo") -> str:
    found = await place.deployment(name)
    assert found is not None
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"])


Course = list[tuple[str, int]]


@contextlib.asynccontextmanager
async def course(place: Place, name: str = "podinfo") -> AsyncIterator[Course]:
    """What a Canary goes through in the block, as `kubectl get canary -w` shows it: phase and weight at each change."""
    seen: Course = []
    path = place.path(FLAGGER, "canaries", "")
    version = (await place.cluster.api.get(path))["metadata"]["resourceVersion"]

    async def follow() -> None:
        events = place.cluster.api.watch(path, version, fieldSelector=f"metadata.name={name}")
        async with contextlib.aclosing(events):
            async for event in events:
                status = event["object"].get("status") or {}
                shown = (str(status.get("phase", "")), int(status.get("canaryWeight", 0)))
                if event["type"] != "BOOKMARK" and seen[-1:] != [shown]:
                    seen.append(shown)

    following = asyncio.create_task(follow())
    try:
        yield seen
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
