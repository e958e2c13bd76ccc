"""What stories about rollouts share: a workload in Git, a rollout of it, and looks into a member.

Canaries are played by hand here: no engine runs, and a story writes the status that an engine would write.
"""

from __future__ import annotations

import datetime
from typing import Any

import yaml

Object = dict[str, Any]

FLAGGER = "/apis/flagger.app/v1beta1"
APPS = "/apis/apps/v1"
NETWORKING = "/apis/networking.k8s.io/v1"
# Not in the lab's table of programs: its Pods are ready at once, and cost nothing.
IMAGE = "example.com/web"
TESTER = "example.com/loadtester:1"


def deployment(name: str, tag: str = "1", replicas: int | None = None, image: str = IMAGE) -> str:
    container = {"name": "web", "image": f"{image}:{tag}", "ports": [{"name": "http", "containerPort": 9898}]}
    labels = {"app": name}
    spec: Object = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
    }
    if replicas is not None:
        spec["replicas"] = replicas
    return yaml.safe_dump({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec})


def service(name: str, port: int = 9898) -> str:
    ports = [{"name": "http", "port": port, "targetPort": "http"}]
    spec = {"selector": {"app": name}, "ports": ports}
    return yaml.safe_dump({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})


def files(name: str = "podinfo", folder: str = "", **deployed: Any) -> dict[str, str]:
    """The manifests of one workload."""
    return {f"{folder}deployment.yaml": deployment(name, **deployed), f"{folder}service.yaml": service(name)}


def metric(name: str, **fields: Any) -> Object:
    return {"name": name, "intervalSeconds": 30, "thresholdRange": {"min": 99}, **fields}


def custom_metric(name: str) -> Object:
    """A metric that brings a query of its own."""
    provider = {"type": "prometheus", "address": "http://prometheus.istio-system:9090"}
    return metric(name, customMetric={"provider": provider, "query": "vector(100)"})


def rollout(story: Any, name: str = "podinfo", **changes: Any) -> Object:
    """A weighted rollout of `name`; `routing` and `analysis` replace fields of the policy (None: leave it out)."""
    routing = {"canaryStrategy": {"stepWeight": 10, "maxWeight": 50}, **changes.pop("routing", {})}
    analysis = {
        "checkIntervalSeconds": 10,
        "checkFailedTimes": 2,
        "metrics": [metric("request-success-rate")],
        **changes.pop("analysis", {}),
    }
    return {
        "trafficRoutingProvider": "istio",
        "workload": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "namespace": story.namespace},
        "serviceName": name,
        "port": 9898,
        "rolloutPolicy": {
            "trafficRouting": {key: value for key, value in routing.items() if value is not None},
            "trafficAnalysis": analysis,
        },
        **changes,
    }


def policy(story: Any, rolled_out: Object | None, *, name: str | None = None, **fields: Any) -> Object:
    """A policy of the repository's root (or `path`) into the story's namespace."""
    common = {"interval": "1h", "path": "./", "prune": True, "targetNamespace": story.namespace}
    found: Object = {"kustomization": common | fields}
    if rolled_out is not None:
        found["rollout"] = rolled_out
    return found | ({"name": name} if name else {})


class Place:
    """The story's namespace in one member."""

    def __init__(self, story: Any, member: str = "m2", namespace: str | None = None) -> None:
        self.cluster = story.members[member]
        self.namespace = namespace or story.namespace
        self._story = story

    def path(self, group: str, plural: str, name: str, subresource: str = "") -> str:
        parts = (f"{group}/namespaces/{self.namespace}/{plural}", name, subresource)
        return "/".join(part for part in parts if part)

    async def find(self, group: str, plural: str, name: str) -> Object | None:
        found: Object | None = await self.cluster.api.find(self.path(group, plural, name))
        return found

    async def canary(self, name: str = "podinfo") -> Object | None:
        return await self.find(FLAGGER, "canaries", name)

    async def template(self, name: str) -> Object | None:
        return await self.find(FLAGGER, "metrictemplates", name)

    async def deployment(self, name: str = "podinfo") -> Object | None:
        return await self.find(APPS, "deployments", name)

    async def ingress(self, name: str = "nginx") -> Object | None:
        return await self.find(NETWORKING, "ingresses", name)

    async def appears(self, name: str = "podinfo") -> Object:
        """Wait for the Canary."""
        found: Object = await self._story.until(lambda: self.canary(name))
        return found

    async def goes(self, name: str = "podinfo") -> None:
        """Wait until there is no Canary."""

        async def is_gone() -> bool:
            return await self.canary(name) is None

        await self._story.until(is_gone)

    async def judge(self, phase: str, spec: str, name: str = "podinfo", **fields: Any) -> None:
        """Write what an engine would write: `spec` is its hash of what it has looked at, promoted where it says so."""
        promoted = {"lastPromotedSpec": spec} if phase in ("Initialized", "Succeeded") else {}
        now = datetime.datetime.now(datetime.UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")
        verdict = {"Initialized": "True", "Succeeded": "True", "Failed": "False"}.get(phase, "Unknown")
        condition = {
            "type": "Promoted",
            "status": verdict,
            "reason": phase,
            "message": f"the engine says {phase}.",
            "lastUpdateTime": now,
            "lastTransitionTime": now,
        }
        status = {
            "phase": phase,
            "canaryWeight": 0,
            "failedChecks": 0,
            "iterations": 0,
            "lastAppliedSpec": spec,
            "lastTransitionTime": now,
            "conditions": [condition],
            **promoted,
            **fields,
        }
        await self.cluster.api.merge(self.path(FLAGGER, "canaries", name, "status"), {"status": status})

    async def owner_of_replicas(self, name: str = "podinfo") -> set[str]:
        """The field managers that own `spec.replicas`."""
        found = await self.deployment(name)
        assert found is not None
        entries = found["metadata"]["managedFields"]
        return {each["manager"] for each in entries if "f:replicas" in each["fieldsV1"].get("f:spec", {})}


def canary_row(row: Object) -> Object:
    """What a row of the Application says about its Canary."""
    found: Object = row.get("rolloutStatus", {}).get("rolloutStatusInCluster", {})
    return found
