"""Real Flagger accepts what Applications are translated to, and runs it to the end, good and bad.

The three strategies run side by side in one member, each in a namespace of its own: an analysis is mostly waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any

import pytest

from fleet_rollout.lab import flagger
from fleet_rollout.lab.load import Load
from tests.stories.rollouts import Place, canary_row, deployment, files, metric, policy, rollout

pytestmark = pytest.mark.conformance

SAMPLE = "lab.local/sample"
DEADLINE = 240.0
INSIDER = [{"headers": {"cookie": {"regex": "^(.*?;)?(type=insider)(;.*)?$"}}}]

Object = dict[str, Any]


@dataclass
class Strategy:
    """One Application with its repository, its namespace in the member, and what its row has said so far."""

    name: str
    routing: Object
    progress: str  # the field of the row that moves
    least: int  # how far it has to be seen to move
    repository: Any = None
    header: str = ""
    seen: list[Object] = field(default_factory=list)

    @property
    def row(self) -> str:
        return f"{self.name}-0-attachedcluster-m1"

    def namespace(self, story: Any) -> str:
        return f"{story.namespace}-{self.name}"

    def furthest(self) -> int:
        return max((row.get(self.progress, 0) for row in self.seen if row.get("phase") == "Progressing"), default=0)

    def phases(self) -> list[str]:
        """The phases in the order in which the row has shown them, each once."""
        return list(dict.fromkeys(row["phase"] for row in self.seen if "phase" in row))


def strategies() -> list[Strategy]:
    return [
        Strategy("weighted", {"canaryStrategy": {"stepWeight": 25, "maxWeight": 50}}, "canaryWeight", 50),
        Strategy("blue-green", {"canaryStrategy": None, "analysisTimes": 2}, "iterations", 2),
        Strategy(
            "ab-testing",
            {"canaryStrategy": None, "analysisTimes": 2, "match": INSIDER},
            "iterations",
            2,
            header="-H 'Cookie: type=insider' ",
        ),
    ]


def rolled_out(story: Any, strategy: Strategy) -> Object:
    """With everything that a translation may hold: load tester, commands, built-in metrics and one of its own."""
    namespace = strategy.namespace(story)
    query = "vector(1) # {{ namespace }}/{{ target }} over {{ interval }}"
    provider = {"type": "prometheus", "address": "http://prometheus.istio-system:9090"}
    own = metric("always-one", thresholdRange={"min": 1}, customMetric={"provider": provider, "query": query})
    analysis = {
        "checkIntervalSeconds": 10,
        "checkFailedTimes": 3,
        "metrics": [
            metric("request-success-rate", intervalSeconds=10),
            metric("request-duration", intervalSeconds=10, thresholdRange={"max": 1000}),
            own,
        ],
        "webhooks": {
            "timeoutSeconds": 10,
            "command": [f"hey -z 1m -q 10 -c 2 {strategy.header}http://podinfo-canary.{namespace}:9898/"],
        },
    }
    routing = {"hosts": [f"podinfo.{namespace}"], "timeoutSeconds": 15, **strategy.routing}
    found = rollout(story, routing=routing, analysis=analysis, testLoader=True)
    found["workload"]["namespace"] = namespace
    return found


async def apply(story: Any, strategy: Strategy) -> None:
    namespace = strategy.namespace(story)
    whole = policy(story, rolled_out(story, strategy), targetNamespace=namespace)
    await story.application(strategy.repository, whole, name=strategy.name)


async def release(story: Any, strategy: Strategy, tag: str) -> str:
    """Commit an image and announce it."""
    content = {"deployment.yaml": deployment("podinfo", tag=tag, image=SAMPLE)}
    commit: str = await strategy.repository.commit(content)
    strategy.seen.clear()
    await story.request(tag, strategy.name)
    return commit


async def watch(story: Any, strategy: Strategy) -> None:
    """Keep every version of the row, as `kubectl get -w` would show it."""
    path, version = story.path("applications"), "0"
    selector = f"metadata.name={strategy.name}"
    async with contextlib.aclosing(story.hub.api.watch(path, version, fieldSelector=selector)) as events:
        async for event in events:
            for row in event["object"].get("status", {}).get("syncStatus", []):
                if event["type"] != "BOOKMARK" and row["name"] == strategy.row:
                    strategy.seen.append(canary_row(row))


async def carry_out(story: Any, mesh: Any, strategy: Strategy) -> None:
    """A first version, a good one and a bad one."""
    namespace = strategy.namespace(story)
    place = Place(story, "m1", namespace)
    strategy.repository = await story.git_repo(files(image=SAMPLE, tag="1.0.0"))
    await apply(story, strategy)
    await story.condition("Ready", "True", name=strategy.name, timeout=DEADLINE)

    host = f"podinfo.{namespace}"
    async with Load(await flagger.gateway_address(mesh), host, rate=10, workers=1) as load:
        good = await release(story, strategy, "2.0.0")
        await revision(story, strategy, good)
        await story.condition("Ready", "True", name=strategy.name, timeout=DEADLINE)
    assert load.tally.failures == []
    phases = await ended(story, strategy, "Succeeded")
    assert phases.index("Progressing") < phases.index("Succeeded")
    assert strategy.furthest() >= strategy.least
    assert await image(place, "podinfo-primary") == f"{SAMPLE}:2.0.0"

    bad = await release(story, strategy, "3.0.0-bad")
    await revision(story, strategy, bad)
    ready = await story.condition("Ready", "False", "RolloutFailed", name=strategy.name, timeout=DEADLINE)
    assert ready["message"].startswith("AttachedCluster/m1: ")
    assert "Canary analysis failed" in ready["message"]
    await story.condition("Stalled", "True", "RolloutFailed", name=strategy.name)
    phases = await ended(story, strategy, "Failed")
    assert "Progressing" in phases
    assert max(row.get("failedChecks", 0) for row in strategy.seen) >= 1
    assert (await story.read(strategy.name))["status"]["summary"]["rollout"] == "1 Failed"
    assert await image(place, "podinfo-primary") == f"{SAMPLE}:2.0.0"


async def ended(story: Any, strategy: Strategy, phase: str) -> list[str]:
    """The phases that the row has shown, once the watch has told the last one, too."""

    async def is_told() -> bool:
        return strategy.phases()[-1:] == [phase]

    await story.until(is_told)
    return strategy.phases()


async def revision(story: Any, strategy: Strategy, commit: str) -> None:
    """Wait until the Application is about this commit; what it says from then on is about it."""

    async def is_shown() -> bool:
        return commit in (await story.read(strategy.name))["status"].get("revision", "")

    await story.until(is_shown)


async def image(place: Place, name: str) -> str:
    found = await place.deployment(name)
    assert found is not None
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"])


async def test_every_strategy_succeeds_with_a_good_image_and_fails_with_a_bad_one(story: Any, mesh: Any) -> None:
    """Part 9 and Done when 4: weighted, blue/green and A/B, each to Succeeded and to Failed, mirrored on the hub."""
    await story.fleet("m1")
    await story.start()
    chosen = strategies()
    watches = [asyncio.create_task(watch(story, strategy)) for strategy in chosen]
    try:
        async with asyncio.TaskGroup() as group:
            for strategy in chosen:
                group.create_task(carry_out(story, mesh, strategy), name=strategy.name)
    finally:
        for each in watches:
            each.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
        for strategy in chosen:
            with contextlib.suppress(Exception):
                await mesh.api.delete(f"/api/v1/namespaces/{strategy.namespace(story)}")
