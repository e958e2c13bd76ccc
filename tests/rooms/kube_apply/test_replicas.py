"""Ruling "Writing to members": replicas of a workload under a rollout are sent once and never lose their last owner."""

from __future__ import annotations

import json

import pytest

from fleet_rollout.errors import Transient
from fleet_rollout.kube.apply import ReplicaRule
from fleet_rollout.kube.errors import ApiError


@pytest.fixture
def rule(ns):
    return ReplicaRule("Deployment", ns, "web")


@pytest.fixture
def scale(member, ns):
    """What a rollout engine does."""

    async def scale(replicas):
        await member.api.request(
            "PATCH",
            f"/apis/apps/v1/namespaces/{ns}/deployments/web",
            {"spec": {"replicas": replicas}},
            params={"fieldManager": "flagger"},
            content_type="application/merge-patch+json",
        )

    return scale


@pytest.fixture
def replicas(live):
    async def replicas():
        return (await live("deployments", "web", "apps"))["spec"]["replicas"]

    return replicas


@pytest.fixture
def owners(live):
    async def owners():
        entries = (await live("deployments", "web", "apps"))["metadata"]["managedFields"]
        return {e["manager"] for e in entries if "f:replicas" in e["fieldsV1"].get("f:spec", {})}

    return owners


async def test_a_new_workload_gets_gits_replicas(apply, make, rule, replicas, owners):
    await apply(make.deployment("web", replicas=3), replicas=rule)
    assert await replicas() == 3
    assert await owners() == {"fleet-rollout"}


async def test_then_the_live_value_gets_another_owner_and_git_lets_go(
    apply, make, rule, replicas, owners, requests, settled
):
    await apply(make.deployment("web", replicas=3), replicas=rule)
    await settled("web")
    lines = await apply(make.deployment("web", replicas=3), replicas=rule)
    assert lines == [f"Deployment/{make.namespace}/web unchanged"]
    assert await replicas() == 3
    assert await owners() == {"fleet-rollout-scale"}
    requests.forget()
    assert await apply(make.deployment("web", replicas=5), replicas=rule) == lines
    assert requests.verbs == {"get": 1, "dry run": 1}


async def test_a_workload_that_its_controller_keeps_writing_is_handed_over_all_the_same(
    apply, make, rule, cluster, monkeypatch, owners
):
    await apply(make.deployment("web", replicas=3), replicas=rule)
    sent, others = cluster.apply, iter(range(5))

    async def outrun(resource, obj, **given):
        if given["manager"] == "fleet-rollout-scale" and next(others, None) is not None:
            raise ApiError(409, "Conflict", "the object has been modified")
        return await sent(resource, obj, **given)

    monkeypatch.setattr(cluster, "apply", outrun)
    await apply(make.deployment("web", replicas=3), replicas=rule)
    assert next(others, None) is None
    assert await owners() == {"fleet-rollout-scale"}


async def test_what_the_engine_scales_is_not_fought(apply, make, rule, replicas, scale):
    await apply(make.deployment("web", replicas=3), replicas=rule)
    await scale(0)
    await apply(make.deployment("web", replicas=3), replicas=rule)
    assert await replicas() == 0
    changed = make.deployment("web", replicas=3, minReadySeconds=1)
    assert await apply(changed, replicas=rule) == [f"Deployment/{make.namespace}/web configured"]
    assert await replicas() == 0


async def test_a_workload_that_a_rollout_starts_to_scale_keeps_its_pods(apply, make, rule, replicas, owners):
    """Before, Git owned the replicas; leaving them out at once would have reset them to one."""
    await apply(make.deployment("web", replicas=4))
    await apply(make.deployment("web", replicas=4, minReadySeconds=1), replicas=rule)
    assert await replicas() == 4
    assert await owners() == {"fleet-rollout-scale"}


async def test_an_adopted_workload_keeps_its_pods(apply, make, rule, replicas, member):
    await member.kubectl("apply", "-f", "-", stdin=json.dumps(make.deployment("web", replicas=4)))
    await apply(make.deployment("web", replicas=2), replicas=rule)
    assert await replicas() == 4


async def test_without_the_rule_git_decides_again(apply, make, rule, replicas, scale):
    await apply(make.deployment("web", replicas=3), replicas=rule)
    await apply(make.deployment("web", replicas=3), replicas=rule)
    await scale(0)
    await apply(make.deployment("web", replicas=3))
    assert await replicas() == 3


async def test_other_workloads_keep_gits_replicas(apply, make, replicas, ns, scale):
    other = ReplicaRule("Deployment", ns, "shop")
    await apply(make.deployment("web", replicas=3), replicas=other)
    await scale(0)
    await apply(make.deployment("web", replicas=3), replicas=other)
    assert await replicas() == 3


async def test_a_workload_deleted_in_between_is_not_created_with_one_replica(apply, applier, make, rule, member, live):
    await apply(make.deployment("web", replicas=3), replicas=rule)
    changed = make.deployment("web", replicas=3, minReadySeconds=1)

    async def delete(_):
        await member.kubectl("-n", make.namespace, "delete", "deployment/web", "--wait")

    with pytest.raises(Transient) as caught:
        await applier.plan_and_apply([changed], force=False, before_write=delete, replicas=rule)
    assert caught.value.reason == "ReconciliationFailed"
    assert await live("deployments", "web", "apps") is None
    await apply(changed, replicas=rule)
    assert (await live("deployments", "web", "apps"))["spec"]["replicas"] == 3
