"""Health of what is on a real API server, in few requests."""

from __future__ import annotations

import pytest

from fleet_rollout.decide.inventory import object_id
from fleet_rollout.decide.kstatus import may_be_absent
from fleet_rollout.errors import Terminal, Transient
from fleet_rollout.kube.client import Cluster, Connection
from fleet_rollout.kube.health import Checks, unhealthy
from fleet_rollout_api.kustomization import HealthCheck, HealthCheckExpr


@pytest.fixture
def look(cluster, owner):
    async def look(*objects, **checks):
        entries = [object_id(obj) for obj in objects]
        return await unhealthy(cluster, Checks(entries=entries, selector=owner.selector, **checks))

    return look


def stateful_set(make):
    workload = make.deployment("db", replicas=1)
    return {**workload, "kind": "StatefulSet", "spec": {**workload["spec"], "serviceName": "db"}}


async def test_what_is_current_is_not_named_and_many_objects_cost_one_request(apply, make, look, requests):
    objects = [make.config_map(f"c{number}") for number in range(10)]
    await apply(*objects)
    requests.forget()
    verdict = await look(*objects)
    assert (verdict.waiting, verdict.failed) == ([], [])
    assert requests.verbs == {"list": 1}


async def test_what_is_missing_and_what_is_not_ready_is_waited_for(apply, make, look):
    await apply(make.config_map("c"), stateful_set(make))
    verdict = await look(make.config_map("c"), make.config_map("never-there"), stateful_set(make))
    ns = make.namespace
    assert verdict.waiting == [
        f"ConfigMap/{ns}/never-there status: 'NotFound'",
        f"StatefulSet/{ns}/db status: 'InProgress'",
    ]
    assert verdict.failed == []


async def test_a_kind_that_is_not_served_is_not_found(make, look):
    odd = {"apiVersion": "example.org/v1", "kind": "Gadget", "metadata": {"name": "g", "namespace": make.namespace}}
    assert (await look(odd)).waiting == [f"Gadget/{make.namespace}/g status: 'NotFound'"]


async def test_what_may_be_absent_is_healthy_when_it_is(make, look):
    ignored = make.config_map("c", annotations={"kustomize.toolkit.fluxcd.io/reconcile": "disabled"})
    assert (await look(ignored, may_be_absent=may_be_absent([ignored]))).waiting == []
    assert (await look(ignored)).waiting


async def test_health_checks_name_objects_that_need_not_be_ours(make, look, member):
    path = f"/apis/apps/v1/namespaces/{make.namespace}/deployments"
    await member.api.create(path, make.deployment("theirs", replicas=1, paused=True))
    named = HealthCheck(kind="Deployment", name="theirs", namespace=make.namespace)
    assert (await look(references=[named])).waiting == [f"Deployment/{make.namespace}/theirs status: 'InProgress'"]


async def test_a_stateful_set_whose_pod_crashes_in_a_loop_has_failed(apply, make, look, member, live, eventually):
    await apply(stateful_set(make))
    uid = (await live("statefulsets", "db", "apps"))["metadata"]["uid"]
    owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": uid}
    pods = f"/api/v1/namespaces/{make.namespace}/pods"
    pod = {
        "metadata": {"name": "db-0", "labels": {"app": "db"}, "ownerReferences": [owner]},
        "spec": {"nodeName": "elsewhere", "containers": [{"name": "db", "image": "registry.example/db:1"}]},
    }
    await member.api.create(pods, pod)
    waiting = {"name": "db", "image": "x", "imageID": "x", "ready": False, "restartCount": 5}
    waiting["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    not_ready = {"type": "Ready", "status": "False"}
    status = {"status": {"phase": "Running", "conditions": [not_ready], "containerStatuses": [waiting]}}

    async def is_played():
        return (await live("pods", "db-0"))["status"].get("phase") == "Running"

    await eventually(is_played)
    await member.api.request("PATCH", f"{pods}/db-0/status", status, content_type="application/merge-patch+json")
    verdict = await look(stateful_set(make))
    assert verdict.failed == [f"StatefulSet/{make.namespace}/db status: 'Failed'"]
    assert verdict.waiting == []


async def test_an_expression_replaces_the_rule_of_its_kind(apply, make, look):
    await apply(make.config_map("c", {"phase": "broken"}))
    rule = HealthCheckExpr(
        api_version="v1", kind="ConfigMap", current="data.phase == 'done'", failed="data.phase == 'broken'"
    )
    assert (await look(make.config_map("c"), expressions=[rule])).failed == [
        f"ConfigMap/{make.namespace}/c status: 'Failed'"
    ]


async def test_a_broken_expression_costs_no_request(make, look, requests):
    rule = HealthCheckExpr(api_version="v1", kind="ConfigMap", current="data.(")
    with pytest.raises(Terminal, match="healthCheckExprs"):
        await look(make.config_map("c"), expressions=[rule])
    assert not requests.sent


async def test_a_cluster_that_does_not_answer_says_so(make, member, settings):
    nowhere = Cluster(Connection("gone", "https://127.0.0.1:1", member.ca), settings)
    with pytest.raises(Transient) as caught:
        await unhealthy(nowhere, Checks(entries=[object_id(make.config_map("c"))]))
    await nowhere.close()
    assert caught.value.reason == "ClusterUnreachable"


async def test_who_may_not_see_pods_waits_for_the_time_out(apply, make, cluster, account):
    await apply(stateful_set(make))
    user = await account("limited", ("apps", "statefulsets", ["get"]))
    checks = Checks(entries=[object_id(stateful_set(make))])
    verdict = await unhealthy(cluster, checks, impersonate=user)
    assert verdict.waiting == [f"StatefulSet/{make.namespace}/db status: 'InProgress'"]
