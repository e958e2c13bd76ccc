"""A rollout is taken away: replicas, order, and what cannot be reached. Traffic is in tests/conformance."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.stories.rollouts import (
    FLAGGER,
    TESTER,
    Place,
    custom_metric,
    deployment,
    files,
    policy,
    rollout,
    service,
)

SYNC = "web-0-attachedcluster-m2"
ANALYSIS = {"metrics": [custom_metric("err")]}


async def begin(story: Any, *, replicas: int | None = 2, **fields: Any) -> Any:
    repository = await story.git_repo(files(replicas=replicas))
    await story.fleet("m2")
    await story.start(loadtester_image=TESTER)
    rolled_out = rollout(story, analysis=ANALYSIS, testLoader=True)
    await story.application(repository, policy(story, rolled_out, **fields))
    await Place(story).appears()
    await story.sync_condition(SYNC, "RolloutReady", "True")
    return repository


async def scale(place: Place, replicas: int) -> None:
    """As another writer does."""
    await place.cluster.kubectl("scale", "deployment", "podinfo", f"--replicas={replicas}", "-n", place.namespace)


async def is_available(place: Place, replicas: int) -> bool:
    found = await place.deployment()
    return found is not None and found.get("status", {}).get("availableReplicas", 0) == replicas


async def nothing_is_left(place: Place) -> bool:
    left = [
        await place.canary(),
        await place.template("err"),
        await place.deployment("podinfo-testloader"),
        await place.find("/api/v1", "services", "podinfo-testloader"),
    ]
    return left == [None] * len(left)


async def test_replicas_are_left_to_whoever_scales(story: Any) -> None:
    """G35 and design section 7, writing to members: sent at creation, handed over once, restored at the end."""
    repository = await begin(story)
    place = Place(story)
    created = await place.deployment()
    assert created is not None
    assert created["spec"]["replicas"] == 2

    second = await repository.commit({"deployment.yaml": deployment("podinfo", tag="2", replicas=2)})
    await story.request("second")
    await story.applied(second)
    assert await place.owner_of_replicas() == {"fleet-rollout-scale"}

    await scale(place, 0)
    third = await repository.commit({"deployment.yaml": deployment("podinfo", tag="3", replicas=3)})
    await story.request("third")
    await story.applied(third)
    live = await place.deployment()
    assert live is not None
    assert live["spec"]["replicas"] == 0
    assert live["spec"]["template"]["spec"]["containers"][0]["image"].endswith(":3")
    sync = await story.sync(SYNC)
    assert sync["status"]["rollout"]["replicas"] == 3

    await story.application(repository, policy(story, None))
    await story.until(lambda: nothing_is_left(place))
    live = await place.deployment()
    assert live is not None
    assert live["spec"]["replicas"] == 3
    assert await is_available(place, 3)
    await story.condition("Ready", "True")
    assert "rollout" not in (await story.sync(SYNC))["status"]


async def test_replicas_that_git_does_not_name_are_those_that_run(story: Any) -> None:
    """Design section 7, removal: without a value in Git the workload gets what the engine's copy runs, at least one."""
    repository = await begin(story, replicas=None)
    place = Place(story)
    await scale(place, 0)
    await story.application(repository, policy(story, None))
    await story.until(lambda: nothing_is_left(place))
    live = await place.deployment()
    assert live is not None
    assert live["spec"]["replicas"] == 1


async def test_the_service_is_gits_again(story: Any) -> None:
    """Design section 7, removal: what Git says of the Service is applied again, also what changed meanwhile."""

    def manifest(labels: dict[str, str], *ports: int) -> dict[str, str]:
        obj = yaml.safe_load(service("podinfo"))
        obj["spec"] = {"selector": labels, "ports": [{"name": f"p{port}", "port": port} for port in ports]}
        return {"service.yaml": yaml.safe_dump(obj)}

    repository = await begin(story, replicas=1)
    place = Place(story)
    path = place.path("/api/v1", "services", "podinfo")
    annotations = {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}
    changes = {"metadata": {"annotations": annotations}, "spec": {"selector": {"app": "podinfo-primary"}}}
    await place.cluster.api.merge(path, changes)
    second = await repository.commit(manifest({"app": "podinfo"}, 9898, 9797))
    await story.request("second")
    await story.applied(second)
    live = await place.cluster.api.get(path)
    assert (live["spec"]["selector"], len(live["spec"]["ports"])) == ({"app": "podinfo-primary"}, 1)

    async def says(labels: dict[str, str], ports: list[int]) -> bool:
        spec = (await place.cluster.api.get(path))["spec"]
        return (spec["selector"], [port["port"] for port in spec["ports"]]) == (labels, ports)

    await story.application(repository, policy(story, None))
    await story.until(lambda: says({"app": "podinfo"}, [9898, 9797]))
    await story.until(lambda: nothing_is_left(place))
    await story.condition("Ready", "True")
    third = await repository.commit(manifest({"tier": "web"}, 9898))
    await story.request("third")
    await story.applied(third)
    assert await says({"tier": "web"}, [9898]), await place.cluster.api.get(path)


async def test_the_canary_stays_until_the_workload_is_ready(story: Any) -> None:
    """Design section 7, removal: the order. What carries the traffic is not touched while the workload is not ready."""
    repository = await begin(story)
    place = Place(story)
    # An image that cannot be pulled: its Pods never become ready.
    missing = await repository.commit({"deployment.yaml": deployment("podinfo", tag="missing", replicas=2)})
    await story.request("second")
    await story.applied(missing)  # else the removal may be over before the image is there
    await scale(place, 0)
    await story.application(repository, policy(story, None))
    row = await story.row(SYNC, ready="Unknown", message="removed")
    assert "rollout" in row["message"]

    async def waits() -> bool:
        live, canary = await place.deployment(), await place.canary()
        assert canary is not None
        assert live is not None
        return bool(live["spec"]["replicas"] == 2 and canary["spec"].get("suspend"))

    await story.until(waits)
    await repository.commit({"deployment.yaml": deployment("podinfo", tag="2", replicas=2)})
    await story.request("third")
    await story.until(lambda: nothing_is_left(place))
    assert await is_available(place, 2)


async def test_an_application_takes_its_rollout_and_then_its_workload_along(story: Any) -> None:
    """Design section 7, removal: the Canary first, and no annotation of an engine stops the prune."""
    await begin(story)
    place = Place(story)
    annotations = {
        "kustomize.toolkit.fluxcd.io/reconcile": "disabled",
        "helm.toolkit.fluxcd.io/driftDetection": "disabled",
    }
    path = place.path("/api/v1", "services", "podinfo")
    changes = {"metadata": {"annotations": annotations}, "spec": {"selector": {"app": "podinfo-primary"}}}
    await place.cluster.api.merge(path, changes)
    await story.delete("applications", "web")
    await story.gone("applications", "web")
    assert await nothing_is_left(place)
    assert await place.deployment() is None
    assert await place.find("/api/v1", "services", "podinfo") is None


async def test_an_application_without_prune_leaves_the_workload_at_work(story: Any) -> None:
    """Design section 7, removal with prune false: the workload stays, with Git's replicas and its own Service."""
    await begin(story, prune=False)
    place = Place(story)
    await scale(place, 0)
    path = place.path("/api/v1", "services", "podinfo")
    annotations = {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}
    changes = {"metadata": {"annotations": annotations}, "spec": {"selector": {"app": "podinfo-primary"}}}
    await place.cluster.api.merge(path, changes)
    await story.delete("applications", "web")
    await story.gone("applications", "web")
    assert await nothing_is_left(place)
    assert await is_available(place, 2)
    live = await place.cluster.api.get(path)
    assert live["spec"]["selector"] == {"app": "podinfo"}
    assert "kustomize.toolkit.fluxcd.io/reconcile" not in live["metadata"].get("annotations", {})


async def test_a_finalizer_that_nobody_serves_is_not_awaited_for_ever(story: Any) -> None:
    """Design section 7, removal: a bounded wait for the Canary's finalizer; others than the engine's are not ours."""
    repository = await story.git_repo(files())
    await story.fleet("m2")
    await story.start(canary_delete_wait=1.0)
    policies = policy(story, rollout(story))
    policies["rollout"]["rolloutPolicy"]["revertOnDeletion"] = True
    await story.application(repository, policies)
    place = Place(story)
    await place.appears()
    path = place.path(FLAGGER, "canaries", "podinfo")
    await place.cluster.api.merge(path, {"metadata": {"finalizers": ["finalizer.flagger.app"]}})
    await story.application(repository, policy(story, None))
    await place.goes()
    await story.condition("Ready", "True")


async def test_a_member_that_is_lost_during_removal_is_caught_up(story: Any, spare: Any) -> None:
    """Rule 3 and rule 6: the others finish, the lost one says so, and is finished when it returns."""
    await story.join(spare)
    repository = await story.git_repo(files(replicas=2))
    await story.fleet("m2", "spare")
    await story.start(member_check_interval=1.0, member_breaker_min=0.5, member_breaker_max=1.0)
    await story.application(repository, policy(story, rollout(story, analysis=ANALYSIS)))
    here, there = Place(story, "m2"), Place(story, "spare")
    await here.appears()
    await there.appears()
    for sync in (SYNC, "web-0-attachedcluster-spare"):
        await story.sync_condition(sync, "RolloutReady", "True")
    await spare.stop()
    await story.application(repository, policy(story, None))
    await here.goes()
    await story.row("web-0-attachedcluster-spare", ready="False")
    assert (await story.sync("web-0-attachedcluster-spare"))["status"]["rollout"]["objects"]
    await spare.start()
    await there.goes()
    await story.condition("Ready", "True")
    assert await there.template("err") is None


@pytest.mark.parametrize("prune", [True, False])
async def test_a_rollout_on_a_member_that_was_given_up_is_removed_when_it_returns(
    spare: Any, story: Any, prune: bool
) -> None:
    """Giving up, and removal: the record leads to the same removal; what was to stay stays, at work."""
    await story.join(spare)
    repository = await story.git_repo(files(replicas=2))
    await story.fleet("spare")
    await story.start(member_give_up=0.5, member_check_interval=0.5, member_breaker_min=0.5, member_breaker_max=1.0)
    await story.application(repository, policy(story, rollout(story, analysis=ANALYSIS), prune=prune))
    place = Place(story, "spare")
    await place.appears()
    await story.sync_condition("web-0-attachedcluster-spare", "RolloutReady", "True")
    await scale(place, 0)
    path = place.path("/api/v1", "services", "podinfo")
    annotations = {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}
    changes = {"metadata": {"annotations": annotations}, "spec": {"selector": {"app": "podinfo-primary"}}}
    await place.cluster.api.merge(path, changes)
    await spare.stop()
    await story.delete("applications", "web")
    await story.gone("applications", "web")
    assert await story.orphans() != []
    await spare.start()
    await story.no_orphans()
    assert await place.canary() is None
    assert await place.template("err") is None
    live, served = await place.deployment(), await place.find("/api/v1", "services", "podinfo")
    if prune:
        assert (live, served) == (None, None)
        return
    assert live is not None
    assert served is not None
    assert live["spec"]["replicas"] == 2
    assert served["spec"]["selector"] == {"app": "podinfo"}
