"""Taking the service off a hub (design: CRDs, uninstall): with what it brought, or without touching the members."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import yaml

from fleet_rollout.control.uninstall import POLICY, POLICY_BINDINGS, Uninstall
from fleet_rollout.errors import Terminal, Transient
from tests.stories.rollouts import TESTER, Place, custom_metric, files, policy, rollout
from tests.stories.scenario import without

# Controllers of the member write these when they like.
MOVING = frozenset({"status", "resourceVersion", "managedFields"})
REVISION = "deployment.kubernetes.io/revision"
CONFIG_MAP = yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "1"}})


async def brought(story: Any) -> None:
    repository = await story.git_repo({"a.yaml": CONFIG_MAP})
    await story.fleet("m1")
    await story.start()
    await story.application(repository, {"targetNamespace": story.namespace})
    await story.applied(await repository.commit_of(), "web-0-attachedcluster-m1")


async def left_on_the_hub(story: Any) -> list[str]:
    found = [
        *await story.hub.api.items(story.path("applications")),
        *await story.hub.api.items(story.path("clustersyncs")),
    ]
    return [obj["metadata"]["name"] for obj in found]


async def test_keep_workloads_leaves_the_member_as_it_is(story: Any) -> None:
    await brought(story)
    before = await story.config_map("m1", "a")
    await story.stop()
    said: list[str] = []
    await Uninstall(story.settings(), said.append).run(keep_workloads=True, timeout=60)
    assert await left_on_the_hub(story) == []
    assert await story.config_map("m1", "a") == before
    assert said[-1] == "done: nothing in the members was touched"


async def test_keep_workloads_leaves_a_rollout_to_its_engine(story: Any) -> None:
    """The Canary, what the translation brought beside it, and the workload: nothing is written, nothing is deleted."""
    repository = await story.git_repo(files(replicas=2))
    await story.fleet("m2")
    await story.start(loadtester_image=TESTER)
    rolled_out = rollout(story, analysis={"metrics": [custom_metric("err")]}, testLoader=True)
    await story.application(repository, policy(story, rolled_out))
    place = Place(story)
    await place.appears()
    await place.judge("Initialized", "first")
    await story.condition("Ready", "True")
    await story.stop()

    async def in_the_member() -> list[Any]:
        found = [await place.canary(), await place.template("err"), await place.find("/api/v1", "services", "podinfo")]
        found += [await place.deployment(name) for name in ("podinfo", "podinfo-testloader")]
        return [without(obj, MOVING) for obj in found]

    async def is_seen() -> bool:
        """By the member's own controller, which then writes an annotation."""
        deployments = [await place.deployment(name) for name in ("podinfo", "podinfo-testloader")]
        return all(found and REVISION in (found["metadata"].get("annotations") or {}) for found in deployments)

    await story.until(is_seen)
    before = await in_the_member()
    assert None not in before, before
    await Uninstall(story.settings(), print).run(keep_workloads=True, timeout=60)
    assert await left_on_the_hub(story) == []
    assert await in_the_member() == before


async def test_keep_workloads_refuses_while_a_controller_leads(story: Any) -> None:
    await brought(story)
    with pytest.raises(Terminal, match="stop it first"):
        await Uninstall(story.settings(), print).run(keep_workloads=True, timeout=60)
    assert await left_on_the_hub(story) == ["web", "web-0-attachedcluster-m1"]


async def test_keep_workloads_refuses_where_it_cannot_know_whether_a_controller_leads(story: Any) -> None:
    """The Lease of a service that runs elsewhere, or under another name, is not where it is looked for."""
    await brought(story)
    elsewhere = dataclasses.replace(story.settings(), lease_name="another")
    with pytest.raises(Terminal, match="there is no Lease another in namespace"):
        await Uninstall(elsewhere, print).run(keep_workloads=True, timeout=60)
    assert await left_on_the_hub(story) == ["web", "web-0-attachedcluster-m1"]


async def test_a_policy_that_is_bound_anew_meanwhile_stays_bound(story: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A delete on the hub is of what was looked at, not of a name."""
    binding = {
        "apiVersion": f"{POLICY_BINDINGS.group}/{POLICY_BINDINGS.version}",
        "kind": POLICY_BINDINGS.kind,
        "metadata": {"name": POLICY},
        "spec": {"policyName": "of-nothing", "validationActions": ["Deny"]},
    }
    bindings, where = POLICY_BINDINGS.path(), POLICY_BINDINGS.path("", POLICY)
    await story.hub.api.create(bindings, binding)
    uninstall = Uninstall(story.settings(), print)
    delete = uninstall._hub.delete

    async def after_another(*given: Any, **preconditions: Any) -> bool:
        await story.hub.api.delete(where)
        await story.hub.api.create(bindings, binding)
        return await delete(*given, **preconditions)

    monkeypatch.setattr(uninstall._hub, "delete", after_another)
    try:
        with pytest.raises(Transient, match=POLICY):
            await uninstall.run(keep_workloads=True, timeout=60, controller_gone=True)
        assert await story.hub.api.find(where) is not None
    finally:
        await story.hub.api.delete(where)


async def test_without_it_everything_is_pruned_by_the_controller(story: Any) -> None:
    await brought(story)
    await Uninstall(story.settings(), print).run(keep_workloads=False, timeout=120)
    assert await left_on_the_hub(story) == []
    assert await story.config_map("m1", "a") is None
