"""Class 8 of trust.md 2 for rollouts: each field of the CRD is changed, spoiled where it can be, and changed back.

No engine runs: what is compared is what the service itself keeps in the member, and what it remembers on the hub.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from fleet_rollout.lab.api import ApiAnswer
from fleet_rollout.lab.lab import LabCluster
from tests.stories.rollouts import FLAGGER, TESTER, Object, custom_metric, files, metric, policy, rollout
from tests.stories.scenario import GENERATIONS, VOLATILE, without

SCHEMA = Path(__file__).parents[2] / "config" / "crd" / "apps.kurator.dev_applications.yaml"
DEADLINE = 180.0
BUSY = 429
# Their fields are copied as they stand; others are decided about one by one.
WHOLE = {
    "workload",
    "primary",
    "preview",
    "gatewayRefs",
    "retries",
    "headers",
    "corsPolicy",
    "ingressRef",
    "routeRef",
    "upstreamRef",
    "match",
    "metrics",
    "webhooks",
    "sessionAffinity",
}
ROUTING, ANALYSIS = "rolloutPolicy.trafficRouting", "rolloutPolicy.trafficAnalysis"
STEPS = f"{ROUTING}.canaryStrategy"
HEADER = [{"headers": {"x-canary": {"exact": "insider"}}}]
APISIX = {"apiVersion": "apisix.apache.org/v2", "kind": "ApisixRoute", "name": "web"}
# What is changed (path -> value; None leaves it out). The base is a weighted rollout by Istio.
TRANSITIONS: dict[str, Mapping[str, Any]] = {
    "testLoader": {"testLoader": True},
    "trafficRoutingProvider": {"trafficRoutingProvider": "kubernetes", STEPS: None, f"{ROUTING}.analysisTimes": 3},
    "workload": {"workload.name": "other", "serviceName": "other"},
    "serviceName": {"serviceName": "other"},
    "port": {"port": 8080},
    "primary": {"primary": {"labels": {"a": "1"}, "annotations": {"b": "2"}}},
    "preview": {"preview": {"labels": {"a": "1"}, "annotations": {"b": "2"}}},
    "autoscaler": {"autoscaler": False},
    "rolloutPolicy.rolloutTimeoutSeconds": {"rolloutPolicy.rolloutTimeoutSeconds": 77},
    "rolloutPolicy.skipTrafficAnalysis": {"rolloutPolicy.skipTrafficAnalysis": True},
    "rolloutPolicy.revertOnDeletion": {"rolloutPolicy.revertOnDeletion": True},
    "rolloutPolicy.suspend": {"rolloutPolicy.suspend": True},
    f"{ROUTING}.timeoutSeconds": {f"{ROUTING}.timeoutSeconds": 7},
    f"{ROUTING}.gateways": {f"{ROUTING}.gateways": ["istio-system/public"]},
    f"{ROUTING}.gatewayRefs": {
        "trafficRoutingProvider": "gatewayapi:v1",
        f"{ROUTING}.hosts": ["a.example"],
        f"{ROUTING}.gatewayRefs": [{"name": "public", "namespace": "istio-system"}],
    },
    f"{ROUTING}.hosts": {f"{ROUTING}.hosts": ["a.example", "b.example"]},
    f"{ROUTING}.retries": {f"{ROUTING}.retries": {"attempts": 3, "perTryTimeout": "1s", "retryOn": "5xx"}},
    f"{ROUTING}.headers": {f"{ROUTING}.headers": {"request": {"add": {"x-a": "1"}, "remove": ["x-b"]}}},
    f"{ROUTING}.corsPolicy": {f"{ROUTING}.corsPolicy": {"allowOrigins": [{"exact": "https://a"}], "maxAge": "1h"}},
    f"{ROUTING}.host": {"trafficRoutingProvider": "nginx", f"{ROUTING}.host": "a.example"},
    f"{ROUTING}.ingressRef": {
        "trafficRoutingProvider": "nginx",
        f"{ROUTING}.ingressRef": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "theirs"},
    },
    f"{ROUTING}.routeRef": {"trafficRoutingProvider": "apisix", f"{ROUTING}.routeRef": APISIX},
    f"{ROUTING}.upstreamRef": {
        "trafficRoutingProvider": "gloo",
        f"{ROUTING}.upstreamRef": {"apiVersion": "gloo.solo.io/v1", "kind": "Upstream", "name": "web"},
    },
    f"{ROUTING}.protocol": {"trafficRoutingProvider": "kuma", f"{ROUTING}.protocol": "grpc"},
    f"{STEPS}.maxWeight": {f"{STEPS}.maxWeight": 60},
    f"{STEPS}.stepWeight": {f"{STEPS}.stepWeight": 20},
    f"{STEPS}.stepWeights": {f"{STEPS}.stepWeight": None, f"{STEPS}.maxWeight": None, f"{STEPS}.stepWeights": [1, 50]},
    f"{STEPS}.stepWeightPromotion": {f"{STEPS}.stepWeightPromotion": 50},
    f"{ROUTING}.analysisTimes": {STEPS: None, f"{ROUTING}.analysisTimes": 3},
    f"{ROUTING}.match": {STEPS: None, f"{ROUTING}.analysisTimes": 3, f"{ROUTING}.match": HEADER},
    f"{ROUTING}.mirror": {STEPS: None, f"{ROUTING}.analysisTimes": 3, f"{ROUTING}.mirror": True},
    f"{ROUTING}.mirrorWeight": {
        STEPS: None,
        f"{ROUTING}.analysisTimes": 3,
        f"{ROUTING}.mirror": True,
        f"{ROUTING}.mirrorWeight": 30,
    },
    f"{ANALYSIS}.checkIntervalSeconds": {f"{ANALYSIS}.checkIntervalSeconds": 33},
    f"{ANALYSIS}.checkFailedTimes": {f"{ANALYSIS}.checkFailedTimes": 9},
    f"{ANALYSIS}.metrics": {f"{ANALYSIS}.metrics": [custom_metric("err"), metric("request-duration")]},
    f"{ANALYSIS}.webhooks": {
        "testLoader": True,
        f"{ANALYSIS}.webhooks": {"timeoutSeconds": 9, "command": ["hey -z 1m http://web/"]},
    },
    f"{ANALYSIS}.sessionAffinity": {f"{ANALYSIS}.sessionAffinity": {"cookieName": "c", "maxAge": 60}},
}
# What the namespace holds beside the objects of Git: everything that a rollout may bring.
KINDS = {
    "canaries": FLAGGER,
    "metrictemplates": FLAGGER,
    "configmaps": "/api/v1",
    "services": "/api/v1",
    "deployments": "/apis/apps/v1",
    "ingresses": "/apis/networking.k8s.io/v1",
}


def fields(schema: Object, prefix: str = "") -> Iterator[str]:
    """Paths of the fields that are decided about."""
    for name, each in schema["properties"].items():
        if name not in WHOLE and "properties" in each:
            yield from fields(each, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_class_8_every_field_of_a_rollout_has_a_transition() -> None:
    (version,) = yaml.safe_load(SCHEMA.read_text())["spec"]["versions"]
    policies = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["syncPolicies"]
    assert set(fields(policies["items"]["properties"]["rollout"])) == TRANSITIONS.keys()


def changed(base: Object, changes: Mapping[str, Any]) -> Object:
    found = copy.deepcopy(base)
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = found
        for name in parents:
            place = place.setdefault(name, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    return found


async def test_class_8_a_rollout_there_and_back_is_as_fresh(story: Any, namespace: Any) -> None:
    """S1 -> S2 -> bad -> S1 = S1 for each field, each in a namespace of its own."""
    content = files("web") | files("other", folder="other-") | {"scaler.yaml": scaler("web")}
    repository = await story.git_repo(content)
    await story.fleet("m2")
    await story.start(loadtester_image=TESTER, status_interval=0.1)
    member = story.members["m2"]
    turn = asyncio.Semaphore(8)

    async def one(number: int, field: str, changes: Mapping[str, Any]) -> str | None:
        name, home = f"t{number}", await namespace("transition", on=[member])
        sync = f"{name}-0-attachedcluster-m2"
        base = rollout(story, "web")
        base["workload"]["namespace"] = home
        second = changed(base, changes)
        bad = changed(second, {"serviceName": "missing"})

        async def apply(rolled_out: Object, status: str) -> Object:
            await story.application(repository, policy(story, rolled_out, targetNamespace=home), name=name)
            await planned(story, name)
            await story.sync_condition(sync, "RolloutReady", status, timeout=DEADLINE)
            return await seen(story, member, home, sync)

        first = await apply(base, "True")
        there = await apply(second, "True")
        await apply(bad, "False")
        back = await apply(base, "True")
        if there == first:
            return f"{field}: its change changes nothing"
        return None if back == first else f"{field}: {differing(first, back)}"

    async def in_turn(number: int, field: str, changes: Mapping[str, Any]) -> str | None:
        async with turn:
            return await one(number, field, changes)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(in_turn(number, *pair)) for number, pair in enumerate(TRANSITIONS.items())]
    found = [task.result() for task in tasks]
    assert not any(found), "\n".join(filter(None, found))


def scaler(name: str) -> str:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    spec = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 2}
    metadata = {"name": name}
    obj = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": spec}
    return yaml.safe_dump(obj)


async def planned(story: Any, name: str) -> None:
    """Until the Application as it is now has become a ClusterSync."""

    async def is_observed() -> bool:
        app = await story.read(name)
        return bool((app.get("status") or {}).get("observedGeneration", 0) == app["metadata"]["generation"])

    await story.until(is_observed, DEADLINE)


def differing(first: Object, back: Object) -> str:
    """What was left behind, or is missing."""
    names = [name for name in first.keys() | back.keys() if first.get(name) != back.get(name)]
    return "; ".join(f"{name} was {first.get(name)} and is {back.get(name)}" for name in names)


async def items(member: LabCluster, where: str) -> list[Object]:
    """All of them; other tests change the CRDs of this member, and for a moment it does not know what it has."""
    while True:
        try:
            return await member.api.items(where)
        except ApiAnswer as answer:
            if answer.status != BUSY:
                raise
        await asyncio.sleep(0.2)


async def seen(story: Any, member: LabCluster, home: str, sync: str) -> Object:
    """The namespace in the member and what the ClusterSync says, without what differs each time."""
    found: Object = {}
    for plural, group in KINDS.items():
        for obj in await items(member, f"{group}/namespaces/{home}/{plural}"):
            found[f"{plural}/{obj['metadata']['name']}"] = without(obj, VOLATILE | GENERATIONS | {"status"})
    for service in (each for name, each in found.items() if name.startswith("services/")):
        service["spec"].pop("clusterIP", None)
        service["spec"].pop("clusterIPs", None)
    labels = (await member.api.get(f"/api/v1/namespaces/{home}"))["metadata"]["labels"]
    obj = await story.sync(sync)
    assert obj is not None
    rolled_out = without(obj["status"].get("rollout") or {}, VOLATILE | GENERATIONS | {"attribution"})
    return {**found, "namespace": labels, "inventory": obj["status"]["inventory"], "rollout": rolled_out}
