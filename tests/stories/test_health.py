"""Applied is not enough where the policy says so: health is waited for, reported, and looked at again."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from fleet_rollout.control import objects

SYNC = "web-0-attachedcluster-m1"


def config_map(name: str, **data: str) -> str:
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


def deployment(image: str) -> str:
    pod = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "web", "image": image}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "x"}}, "template": pod}
    return yaml.safe_dump({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": spec})


def conditions(sync: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {condition["type"]: condition for condition in sync["status"]["conditions"]}


def ids(sync: dict[str, Any]) -> list[str]:
    return [entry["id"] for entry in sync["status"]["inventory"]["entries"]]


async def test_a_broken_deployment_fails_its_revision_after_the_timeout_and_a_good_one_heals_it(story: Any) -> None:
    """G21: pruned before health is judged, and the last good revision is still the applied one."""
    repository = await story.git_repo({"x.yaml": deployment("example/web:1.0.0"), "old.yaml": config_map("old")})
    await story.fleet("m1", "m2")
    await story.start()
    policy = {"targetNamespace": story.namespace, "wait": True, "timeout": "4s"}
    await story.application(repository, policy)
    first = await repository.commit_of()
    await story.applied(first, SYNC, "web-0-attachedcluster-m2")
    assert conditions(await story.sync(SYNC))["Healthy"]["status"] == "True"

    second = await repository.commit({"x.yaml": deployment("example/web:missing"), "old.yaml": None})
    await story.request("1")
    failed = await story.sync_condition(SYNC, "Ready", "False", "HealthCheckFailed")
    sync = await story.sync(SYNC)
    waiting = f"timeout waiting for: [Deployment/{story.namespace}/x status: 'InProgress']"
    assert failed["message"].startswith("health check failed after ")
    assert failed["message"].endswith(waiting)
    assert conditions(sync)["Healthy"]["message"] == waiting
    assert conditions(sync)["Reconciling"]["reason"] == "ProgressingWithRetry"
    assert await story.config_map("m1", "old") is None
    assert ids(sync) == [f"{story.namespace}_x_apps_Deployment"]
    assert sync["status"]["lastAppliedRevision"].endswith(first)
    assert sync["status"]["lastAttemptedRevision"].endswith(second)

    third = await repository.commit({"x.yaml": deployment("example/web:2.0.0")})
    await story.request("2")
    await story.applied(third, SYNC, "web-0-attachedcluster-m2")
    assert conditions(await story.sync(SYNC))["Healthy"]["status"] == "True"


async def test_a_fixed_revision_does_not_wait_for_the_health_of_the_broken_one(story: Any) -> None:
    """G21: where Flux waits until the time-out (kc#405), a newer commit is taken up at once."""
    repository = await story.git_repo({"x.yaml": deployment("example/web:missing")})
    await story.fleet("m1")
    await story.start()
    await story.application(repository, {"targetNamespace": story.namespace, "wait": True, "timeout": "1h"})
    await story.sync_condition(SYNC, "Healthy", "Unknown")
    fixed = await repository.commit({"x.yaml": deployment("example/web:1.0.0")})
    await story.request("1")
    await story.applied(fixed, SYNC)


@pytest.mark.parametrize("hours", [1, -1])
async def test_class_6_a_clock_that_is_set_ends_no_wait(
    story: Any, set_clock: Any, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """Trust 2, class 6: an hour that nobody has waited through is no time-out of five minutes."""
    looks, judge = [0], objects.unhealthy

    async def counted(*given: Any, **more: Any) -> Any:
        verdict = await judge(*given, **more)
        looks[0] += 1
        return verdict

    monkeypatch.setattr(objects, "unhealthy", counted)
    repository = await story.git_repo({"x.yaml": deployment("example/web:missing")})
    await story.fleet("m1")
    await story.start()
    await story.application(repository, {"targetNamespace": story.namespace, "wait": True, "timeout": "5m"})
    await story.sync_condition(SYNC, "Healthy", "Unknown")
    set_clock(hours)
    before = looks[0]

    async def is_looked_at_again() -> bool:
        return looks[0] >= before + 3

    await story.until(is_looked_at_again)
    assert "HealthCheckFailed" not in [reason for _, reason, _ in await story.events(SYNC, "ClusterSync")]
    assert conditions(await story.sync(SYNC))["Healthy"]["status"] == "Unknown"


async def test_only_the_named_objects_are_waited_for(story: Any) -> None:
    """Field healthChecks: an object that is not in the repository may be named, and is awaited until it is there."""
    repository = await story.git_repo({"a.yaml": config_map("a"), "x.yaml": deployment("example/web:missing")})
    await story.fleet("m1")
    await story.start()
    check = {"apiVersion": "v1", "kind": "ConfigMap", "name": "elsewhere", "namespace": story.namespace}
    policy = {"targetNamespace": story.namespace, "healthChecks": [check], "timeout": "5m"}
    await story.application(repository, policy)
    await story.sync_condition(SYNC, "Healthy", "Unknown")
    await story.apply(yaml.safe_load(config_map("elsewhere")), story.members["m1"])
    await story.applied(await repository.commit_of(), SYNC)


async def test_what_falls_ill_later_is_noticed_at_the_interval(story: Any) -> None:
    """G21, scenario of D.9: health is judged in every run, not only in the one that applied something."""
    repository = await story.git_repo({"a.yaml": config_map("a", state="fine")})
    await story.fleet("m1")
    await story.start()
    expr = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "current": "metadata.annotations['health'] != 'ill'",
        "failed": "metadata.annotations['health'] == 'ill'",
    }
    policy = {"targetNamespace": story.namespace, "wait": True, "interval": "1s", "timeout": "30s"}
    annotated = yaml.safe_load(config_map("a", state="fine"))
    await story.application(repository, policy | {"healthCheckExprs": [expr | {"current": "true"}]})
    await story.applied(await repository.commit_of(), SYNC)
    path = f"/api/v1/namespaces/{story.namespace}/configmaps/{annotated['metadata']['name']}"
    await story.members["m1"].api.merge(path, {"metadata": {"annotations": {"health": "ill"}}})
    failed = await story.sync_condition(SYNC, "Ready", "False", "HealthCheckFailed")
    assert (
        f"failed early due to stalled resources: [ConfigMap/{story.namespace}/a status: 'Failed']" in failed["message"]
    )

    await story.members["m1"].api.merge(path, {"metadata": {"annotations": {"health": "well"}}})
    await story.applied(await repository.commit_of(), SYNC)


async def test_health_can_be_told_by_expressions(story: Any) -> None:
    """Field healthCheckExprs: CEL over the object decides; without it this ConfigMap would be healthy at once."""
    repository = await story.git_repo({"a.yaml": config_map("a", phase="starting")})
    await story.fleet("m1")
    await story.start()
    expr = {"apiVersion": "v1", "kind": "ConfigMap", "current": "data.phase == 'running'"}
    await story.application(
        repository, {"targetNamespace": story.namespace, "wait": True, "timeout": "5m", "healthCheckExprs": [expr]}
    )
    await story.sync_condition(SYNC, "Healthy", "Unknown")
    running = await repository.commit({"a.yaml": config_map("a", phase="running")})
    await story.request("1")
    await story.applied(running, SYNC)


async def test_an_invalid_expression_is_refused_before_anything_is_applied(story: Any) -> None:
    """Bad input: healthCheckExprs that are no CEL. Stalled, with the field; mended by an edit."""
    repository = await story.git_repo({"a.yaml": config_map("a")})
    await story.fleet("m1")
    await story.start()
    expr = {"apiVersion": "v1", "kind": "ConfigMap", "current": "data.phase =="}
    policy = {"targetNamespace": story.namespace}
    await story.application(repository, policy | {"healthCheckExprs": [expr]})
    stalled = await story.sync_condition(SYNC, "Stalled", "True", "InvalidCELExpression")
    assert "healthCheckExprs[0].current" in stalled["message"]
    assert await story.config_map("m1", "a") is None

    await story.application(repository, policy | {"healthCheckExprs": [expr | {"current": "true"}]})
    await story.applied(await repository.commit_of(), SYNC)
