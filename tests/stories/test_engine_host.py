"""The hub may be its own member: without a fleet a rollout runs there, by the service's own engine."""

from __future__ import annotations

from typing import Any

from tests.stories.rollouts import deployment, files, policy, rollout


async def test_a_rollout_on_the_hub_itself_is_driven_and_mirrored(story: Any) -> None:
    """G31 with a rollout: Initialized, then a new version is promoted, and the row of the hub says so."""
    repository = await story.git_repo(files())
    await story.start(shortest_interval=0.5)
    rolled_out = rollout(
        story,
        trafficRoutingProvider="kubernetes",
        routing={"canaryStrategy": None, "analysisTimes": 2},
        analysis={"checkIntervalSeconds": 1, "metrics": None},
    )
    rolled_out["rolloutPolicy"]["trafficAnalysis"].pop("metrics")
    await story.application(repository, policy(story, rolled_out), fleet=None)

    def phase_is(wanted: str) -> Any:
        async def holds() -> bool:
            rows = (await story.read()).get("status", {}).get("syncStatus", [])
            found = [row.get("rolloutStatus", {}).get("rolloutStatusInCluster", {}).get("phase") for row in rows]
            return found == [wanted]

        return story.until(holds)

    await phase_is("Initialized")
    await repository.commit({"deployment.yaml": deployment("podinfo", tag="2")})
    await story.request("1")
    await phase_is("Succeeded")
    await story.condition("Ready", "True")
    path = f"/apis/apps/v1/namespaces/{story.namespace}/deployments/podinfo-primary"
    primary = await story.hub.api.get(path)
    assert primary["spec"]["template"]["spec"]["containers"][0]["image"] == "example.com/web:2"
