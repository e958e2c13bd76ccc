"""Plays one scenario to an engine on a real API server, tick by tick, in a namespace of its own.

Before a tick everything is set that the scenario sets; then the driver lets exactly one tick happen; then all that a
user can see is recorded. The workloads' status is played (played.py).
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from fleet_rollout.lab.api import Api
from tests.conformance.manifests import COLOUR, CONFIG, NAME, config_map, filled
from tests.conformance.notation import Step
from tests.conformance.observed import observed_routes
from tests.conformance.played import status
from tests.conformance.record import Names, Record
from tests.conformance.scenario import PROMOTED, Inputs, Object, Ready, Scenario, merged
from tests.conformance.servers import Servers

CANARIES = "/apis/flagger.app/v1beta1/namespaces/{}/canaries"
# Where the objects of a kind are; the first group is looked at in every scenario.
CORE = {
    "Service": "/api/v1/namespaces/{}/services",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "DaemonSet": "/apis/apps/v1/namespaces/{}/daemonsets",
    "HorizontalPodAutoscaler": "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
    "Ingress": "/apis/networking.k8s.io/v1/namespaces/{}/ingresses",
}
ROUTING = {
    "istio": {
        "VirtualService": "/apis/networking.istio.io/v1beta1/namespaces/{}/virtualservices",
        "DestinationRule": "/apis/networking.istio.io/v1beta1/namespaces/{}/destinationrules",
    },
    "gatewayapi:v1": {"HTTPRoute": "/apis/gateway.networking.k8s.io/v1/namespaces/{}/httproutes"},
}
OF_FLAGGER = {
    "MetricTemplate": "/apis/flagger.app/v1beta1/namespaces/{}/metrictemplates",
    "AlertProvider": "/apis/flagger.app/v1beta1/namespaces/{}/alertproviders",
}
# One sender sends the events of all scenarios, one by one.
EVENTS_LIMIT = 180.0
# client-go tells events of one kind about one object so from the tenth on.
FOLDED = "(combined from similar events)"


class Driver(Protocol):
    """An engine whose ticks happen when they are asked for."""

    name: str
    at_once: int  # how many Canaries it can tick side by side

    async def start(self) -> None: ...

    async def expect(self, scenario: Scenario, namespace: str) -> None:
        """A Canary of this scenario is about to be created."""
        ...

    async def tick(self, namespace: str, name: str) -> None:
        """Make exactly one tick happen; returns when it has ended and all that it tells has arrived."""
        ...

    async def stop(self) -> None: ...


@dataclass
class Trace:
    """What one engine has made of a scenario: its ticks, and the Kubernetes Events that were there at the end."""

    records: dict[int, Record] = field(default_factory=dict)
    events: list[Object] = field(default_factory=list)


@dataclass
class Stage:
    """One scenario in one namespace."""

    api: Api
    servers: Servers
    driver: Driver
    scenario: Scenario
    namespace: str
    ready: dict[str, Ready] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._script = self.servers.script(self.namespace)
        self._names = Names(self.namespace, self.servers.url)
        self._version = ""

    async def play(self) -> Trace:
        """All ticks of the scenario."""
        await self._prepare()
        trace = Trace()
        for number in range(1, self.scenario.last + 1):
            await self._set(self.scenario.before(number))
            await self._play_workloads()
            await self.driver.tick(self.namespace, NAME)
            trace.records[number] = await self._observed()
        return trace

    # Before the first tick

    async def _prepare(self) -> None:
        await self.api.create("/api/v1/namespaces", {"metadata": {"name": self.namespace}})
        scenario = self.scenario
        if scenario.has_config:
            await self._create(config_map("red"))
        await self._create(scenario.target(PROMOTED))
        for obj in scenario.objects:
            await self._create(self._filled(obj))
        await self.driver.expect(scenario, self.namespace)
        canary = {
            "apiVersion": "flagger.app/v1beta1",
            "kind": "Canary",
            "metadata": {"name": NAME},
            "spec": self._filled(merged(scenario.canary_spec, {"metricsServer": "$METRICS"})),
        }
        await self.api.create(CANARIES.format(self.namespace), canary)

    async def _create(self, obj: Object) -> None:
        await self.api.create(self._path(obj["kind"]), obj)

    def _filled(self, obj: Any) -> Any:
        return filled(obj, self.servers.addresses(self.namespace))

    def _path(self, kind: str, name: str = "") -> str:
        paths = CORE | OF_FLAGGER | ROUTING.get(self.scenario.provider, {})
        return paths[kind].format(self.namespace) + (f"/{name}" if name else "")

    # Before each tick

    async def _set(self, inputs: Inputs) -> None:
        if inputs.metric is not None:
            self._script.metric = inputs.metric
        self._script.answers |= inputs.hooks
        self.ready |= {
            name: ready
            for name, ready in ((NAME, inputs.canary), (f"{NAME}-primary", inputs.primary))
            if ready is not None
        }
        kind = self.scenario.target_kind
        if inputs.revision is not None:
            await self._change_target(self.scenario.target(inputs.revision))
        if inputs.config is not None:
            await self.api.merge(self._path("ConfigMap", CONFIG), {"data": {COLOUR: inputs.config}})
        if inputs.replicas is not None:
            await self.api.merge(self._path(kind, NAME), {"spec": {"replicas": inputs.replicas}})
        if inputs.spec is not None:
            await self.api.merge(f"{CANARIES.format(self.namespace)}/{NAME}", {"spec": self._filled(inputs.spec)})
        if inputs.routes is not None:
            await self._force_routes(*inputs.routes)
        if inputs.label is not None:
            await self.api.merge(self._path("VirtualService", NAME), {"metadata": {"labels": {inputs.label: "yes"}}})

    async def _change_target(self, wanted: Object) -> None:
        """As a user's apply would: replicas and whatever an engine has added stay."""
        if wanted["kind"] == "Service":
            part = {name: wanted["spec"][name] for name in ("selector", "externalName") if name in wanted["spec"]}
        else:
            part = {"template": {"spec": {"containers": wanted["spec"]["template"]["spec"]["containers"]}}}
        await self.api.merge(self._path(wanted["kind"], NAME), {"spec": part})

    async def _force_routes(self, primary: int, canary: int) -> None:
        path = self._path("VirtualService", NAME)
        found = await self.api.get(path)
        for destination in found["spec"]["http"][0]["route"]:
            is_canary = destination["destination"]["host"].endswith("-canary")
            destination["weight"] = canary if is_canary else primary
        await self.api.request("PUT", path, found)

    async def _play_workloads(self) -> None:
        kind = self.scenario.target_kind
        if kind == "Service":
            return
        now = datetime.datetime.now(datetime.UTC)
        for workload in await self.api.items(self._path(kind)):
            name = workload["metadata"]["name"]
            played = status({**workload, "kind": kind}, self.ready.get(name, Ready.READY), now)
            await self.api.merge(f"{self._path(kind, name)}/status", {"status": played})

    # After each tick

    async def _observed(self) -> Record:
        canary = await self.api.get(f"{CANARIES.format(self.namespace)}/{NAME}")
        objects = await self._objects()
        version = canary["metadata"]["resourceVersion"]
        was_written, self._version = version != self._version, version
        step = _step(canary.get("status") or {}, objects, self.scenario)
        return self._names.record(step, canary, self._script.take(), objects, was_written)

    async def kubernetes_events(self, told: set[str]) -> list[Object]:
        """They are sent behind the ticks' back, so those that were `told` to the event webhook are waited for."""
        found: list[Object] = []
        deadline = asyncio.get_running_loop().time() + EVENTS_LIMIT
        while not _is_complete(found, told) and asyncio.get_running_loop().time() < deadline:
            raw = await self.api.items(f"/api/v1/namespaces/{self.namespace}/events")
            ours = [event for event in raw if event["involvedObject"]["kind"] == "Canary"]
            found = [self._names.cleaned(_told_event(event)) for event in ours]
            await asyncio.sleep(0.5)
        return sorted(found, key=lambda event: (event["type"], event["message"]))

    async def _objects(self) -> dict[str, Object]:
        """Everything in the namespace that an engine may write, as `Kind/name`."""
        found = {}
        for kind in CORE | ROUTING.get(self.scenario.provider, {}):
            for obj in await self.api.items(self._path(kind)):
                found[f"{kind}/{obj['metadata']['name']}"] = {**obj, "kind": kind}
        return found


def _is_complete(found: list[Object], told: set[str]) -> bool:
    """All are there, or some were folded into one."""
    is_folded = any(event["message"].startswith(FOLDED) for event in found)
    return is_folded or told <= {f"{event['type'][0]} {event['message']}" for event in found}


def _told_event(event: Object) -> Object:
    """What a user reads; how often it was told is each engine's own affair."""
    about = {name: event["involvedObject"].get(name) for name in ("apiVersion", "kind", "namespace", "name")}
    component = (event.get("source") or {}).get("component") or event.get("reportingComponent")
    told = {name: event[name] for name in ("type", "reason", "message")}
    return {**told, "component": component, "about": about}


def _step(status: Mapping[str, Any], objects: Mapping[str, Object], scenario: Scenario) -> Step:
    primary, canary, mirrored = observed_routes(objects, scenario)
    workload = objects.get(f"Deployment/{NAME}", {"spec": {}})
    return Step(
        phase=str(status.get("phase") or ""),
        weight=status.get("canaryWeight") or 0,
        failed=status.get("failedChecks") or 0,
        iterations=status.get("iterations") or 0,
        primary=primary,
        canary=canary,
        mirrored=mirrored,
        replicas=workload["spec"].get("replicas", 0),
    )
