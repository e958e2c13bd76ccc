"""What people change in a member is undone at the interval; what other controllers own is left to them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import yaml

from tests.faults.proxy import FaultProxy
from tests.faults.rules import Faults
from tests.stories.rollouts import files, policy, rollout
from tests.stories.scenario import in_thread

STEADY = sorted(
    [
        "get namespaces",
        "get deployments",
        "get services",
        "get canaries",  # what to attribute to whom, and whether it may change hands
        "get canaries",
        "list horizontalpodautoscalers",
    ]
)
SYNC = "web-0-attachedcluster-m1"


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def deployment() -> dict[str, Any]:
    container = {"name": "web", "image": "example/web:1.0.0"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "x"},
        "spec": {
            "selector": {"matchLabels": {"app": "x"}},
            "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [container]}},
        },
    }


async def test_edits_with_kubectl_are_undone_and_an_autoscalers_replicas_kept(story: Any) -> None:
    """G17"""
    repository = await story.git_repo({"x.yaml": yaml.safe_dump(deployment())})
    await story.fleet("m1")
    await story.start()
    await story.application(repository, {"targetNamespace": story.namespace, "interval": "1s"})
    await story.applied(await repository.commit_of(), SYNC)
    member = story.members["m1"]
    path = f"/apis/apps/v1/namespaces/{story.namespace}/deployments/x"
    scale = {"spec": {"replicas": 3}}
    await member.api.request(
        "PATCH", path, scale, params={"fieldManager": "autoscaler"}, content_type="application/merge-patch+json"
    )
    await member.kubectl("-n", story.namespace, "set", "image", "deployment/x", "web=example/web:9.9.9")
    await member.kubectl("-n", story.namespace, "label", "deployment", "x", "by=hand")

    async def is_undone() -> bool:
        live = await member.api.get(path)
        image = live["spec"]["template"]["spec"]["containers"][0]["image"]
        return image == "example/web:1.0.0" and "by" not in live["metadata"]["labels"]

    await story.until(is_undone)
    assert (await member.api.get(path))["spec"]["replicas"] == 3

    async def is_told() -> bool:
        events = await story.hub.api.items(f"/api/v1/namespaces/{story.namespace}/events")
        return any(f"Deployment/{story.namespace}/x configured" in event.get("message", "") for event in events)

    await story.until(is_told)


async def test_an_object_deleted_in_the_member_comes_back(story: Any) -> None:
    """G17: the inventory says that it was there."""
    repository = await story.git_repo({"a.yaml": yaml.safe_dump(config_map("a", version="1"))})
    await story.fleet("m1")
    await story.start()
    await story.application(repository, {"targetNamespace": story.namespace, "interval": "1s"})
    await story.applied(await repository.commit_of(), SYNC)
    await story.members["m1"].api.delete(f"/api/v1/namespaces/{story.namespace}/configmaps/a")

    async def is_back() -> Any:
        return await story.config_map("m1", "a")

    assert (await story.until(is_back))["data"] == {"version": "1"}


async def test_a_run_that_finds_nothing_to_do_writes_nothing(story: Any) -> None:
    """G17, ruling "Writes, in numbers": a steady fleet writes neither in the member nor on the hub."""
    steady = yaml.safe_dump_all([config_map("a", version="1"), deployment()])
    repository = await story.git_repo({"steady/all.yaml": steady, "edited/b.yaml": yaml.safe_dump(config_map("b"))})
    await story.fleet("m1")
    await story.start()
    common = {"interval": "1s", "prune": True, "targetNamespace": story.namespace}
    policies = [
        {"name": name, "kustomization": common | {"path": f"./{name}", "wait": name == "steady"}}
        for name in ("steady", "edited")
    ]
    await story.application(repository, *policies)
    await story.applied(await repository.commit_of(), "steady-attachedcluster-m1", "edited-attachedcluster-m1")
    member = story.members["m1"].api

    async def versions() -> list[str]:
        found = [await member.get(f"/apis/apps/v1/namespaces/{story.namespace}/deployments/x")]
        found += [await story.config_map("m1", "a"), await story.sync("steady-attachedcluster-m1")]
        found += await story.hub.api.items(story.path("attachedclusters"))
        return [obj["metadata"]["resourceVersion"] for obj in found]

    before = await versions()
    # Three corrections beside it are three intervals of the steady policy.
    for number in ("1", "2", "3"):
        path = f"/api/v1/namespaces/{story.namespace}/configmaps/b"
        await member.request(
            "PATCH",
            path,
            {"data": {"by": number}},
            params={"fieldManager": "kubectl-edit"},
            content_type="application/merge-patch+json",
        )

        async def is_undone() -> bool:
            return not (await story.config_map("m1", "b")).get("data")

        await story.until(is_undone)
    assert await versions() == before


async def test_a_look_at_a_steady_rollout_costs_six_requests(story: Any) -> None:
    """What a pass has read it does not read again, and what is known to be as wanted is not asked by a dry run."""
    repository = await story.git_repo(files())
    faults, member = Faults(), story.members["m2"]
    async with in_thread(FaultProxy("m2", member.server, member.ca, faults)) as proxy:
        await story.attach_as("m2", proxy.kubeconfig(member.kubeconfig.read_bytes()))
        await story.set_fleet(["m2"])
        await story.start()
        await story.application(repository, policy(story, rollout(story), interval="2s"))
        await story.sync_condition("web-0-attachedcluster-m2", "RolloutReady", "True")

        async def last_looks() -> list[list[str]]:
            """What was asked from one look at the namespace to the next."""
            asked = [f"{a.key.verb} {a.key.resource.split('.')[0]}" for a in faults.log if a.key.verb != "watch"]
            starts = [at for at, what in enumerate(asked) if what == "get namespaces"]
            return [asked[start:end] for start, end in pairwise(starts)][-2:]

        async def are_steady() -> bool:
            return [sorted(look) for look in await last_looks()] == [STEADY, STEADY]

        await story.until(are_steady)
        await story.end()
