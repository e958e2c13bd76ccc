"""One Canary's life with an engine that can be killed, behind a fault proxy of its own; metrics and hooks are a script.

A picture of the namespace is taken at the end of each act; it leaves out what differs between any two runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fleet_rollout.control.engine.engine import Engine
from fleet_rollout.control.engine.sight import Sight
from fleet_rollout.control.engine.tick import CANARIES
from fleet_rollout.decide.canary.subject import EngineOptions
from fleet_rollout.errors import Transient
from fleet_rollout.kube.access import connection_from_kubeconfig
from fleet_rollout.kube.client import Cluster
from fleet_rollout.kube.watch import watch_forever
from fleet_rollout.lab.api import ApiAnswer
from fleet_rollout.lab.lab import LabCluster
from fleet_rollout.settings import Settings
from tests.control.engine.scripted import Script
from tests.faults.proxy import FaultProxy
from tests.faults.rules import Asked, Faults
from tests.stories.oracles import check_weights
from tests.stories.scenario import GENERATIONS, VOLATILE, differences, look_back, without

Object = dict[str, Any]
FAST = EngineOptions(mesh_provider="istio", shortest_interval=0.2)
DEADLINE = 120.0
QUIET = 1.0
# What an API server answers while it takes over another version of a CRD, as other tests may bring it.
BUSY = 429
CONFLICT = 409
MOST_WEIGHT = 50
KINDS = {
    "configmaps": "/api/v1",
    "services": "/api/v1",
    "deployments": "/apis/apps/v1",
    "canaries": "/apis/flagger.app/v1beta1",
    "virtualservices": "/apis/networking.istio.io/v1beta1",
}
# What the member's own controllers write, and what is new at each promotion.
OTHERS = frozenset({"kube-root-ca.crt"})
OTHERS_SAY = {plural: frozenset() if plural == "canaries" else frozenset({"status"}) for plural in KINDS}
OTHERS_SAY |= {"services": frozenset({"status", "clusterIP", "clusterIPs"})}
OTHERS_SAY |= {"deployments": frozenset({"status", "flagger-id"})}


class Act(NamedTuple):
    """What a person does, which gates open with it, and the phase that it ends in (None: no Canary any more)."""

    does: str
    phase: str | None
    opens: tuple[str, ...] = ()


PROMOTION = (
    Act("bring", "Initialized"),
    Act("reconfigure", "Waiting"),
    Act("upgrade", "WaitingPromotion", opens=("start",)),
    Act("approve", "Succeeded", opens=("promote",)),
    Act("remove", None),
)
ROLLBACK = (Act("bring", "Initialized"), Act("break_", "Failed", opens=("start", "promote")))


class Killed(Transient):
    """What the writes of a killed engine meet."""

    def __init__(self) -> None:
        super().__init__("Killed", "this engine was killed")


class Process:
    """An engine with connections, watches and a memory of its own. Nothing of it is written after `kill`."""

    def __init__(self, kubeconfig: bytes, namespace: str, script: Script) -> None:
        self._loop = asyncio.get_running_loop()
        self._is_dead = False
        self._died = asyncio.Event()
        settings = Settings()
        connection = connection_from_kubeconfig("m1", kubeconfig, allow_insecure=False)
        self._cluster = Cluster(connection, settings, fence=self._fence)
        sight = Sight(self._cluster, settings)
        self._engine = Engine("hub", self._cluster, sight, script, lambda: FAST, lambda: True)
        self._watching = asyncio.create_task(
            watch_forever(self._cluster, CANARIES, settings=settings, on_event=self._engine.told, namespace=namespace)
        )

    def _fence(self) -> None:
        if self._is_dead:
            raise Killed

    def kill(self) -> None:
        """From any thread."""
        self._is_dead = True
        self._loop.call_soon_threadsafe(self._died.set)

    async def ended(self) -> None:
        await self._died.wait()
        await self.close()

    async def close(self) -> None:
        self._is_dead = True
        self._watching.cancel()
        await asyncio.wait([self._watching])
        await self._engine.close()
        await self._cluster.close()


@dataclass
class Run:
    """One run of a scenario, in a namespace of its own."""

    member: LabCluster
    namespace: str
    acts: Sequence[Act]
    faults: Faults = field(default_factory=Faults)
    script: Script = field(default_factory=Script)
    pictures: list[Object] = field(default_factory=list)
    restarts: int = 0
    past: dict[str, str] = field(default_factory=dict)
    is_stale: bool = False

    def path(self, plural: str, name: str = "") -> str:
        return "/".join(filter(None, (KINDS[plural], "namespaces", self.namespace, plural, name)))

    # The process

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """With an engine, which is started again whenever it was killed."""
        with FaultProxy("m1", self.member.server, self.member.ca, self.faults) as proxy:
            kubeconfig = proxy.kubeconfig(self.member.kubeconfig.read_bytes())
            self.process = Process(kubeconfig, self.namespace, self.script)
            reviving = asyncio.create_task(self._revive(kubeconfig))
            try:
                yield
            finally:
                reviving.cancel()
                await asyncio.wait([reviving])
                await self.process.close()

    async def _revive(self, kubeconfig: bytes) -> None:
        while True:
            await self.process.ended()
            self.restarts += 1
            self.faults.epoch += 1
            if self.is_stale:
                look_back(self.faults, self.past)
                self.is_stale = False
            self.process = Process(kubeconfig, self.namespace, self.script)

    def kill(self) -> None:
        self.process.kill()

    def kill_to_stale(self) -> None:
        """The next engine sees how things were when the act began."""
        self.is_stale = True
        self.kill()

    async def endure(self, wanted: Sequence[Object]) -> None:
        """As for a controller, which needs somebody to start it again; `running` does it here."""
        await self.play(wanted)

    # What people do

    async def _ask(self, verb: str, *given: Any, **more: Any) -> Any:
        while True:
            try:
                return await getattr(self.member.api, verb)(*given, **more)
            except ApiAnswer as answer:
                if answer.status != BUSY:
                    raise
                await asyncio.sleep(0.2)

    async def _apply(self, plural: str, obj: Object) -> None:
        await self._ask("apply", self.path(plural, obj["metadata"]["name"]), obj, manager="story")

    async def bring(self) -> None:
        self.script.refusals = {"start": "closed", "promote": "closed"}
        await self._apply("configmaps", settings("1"))
        await self._apply("deployments", deployment("1"))
        await self._apply("canaries", canary())

    async def reconfigure(self) -> None:
        await self._apply("configmaps", settings("2"))

    async def upgrade(self) -> None:
        await self._apply("deployments", deployment("2"))

    async def break_(self) -> None:
        self.script.complaints["errors"] = "Halt web advancement errors 7.00 > 1"
        await self._apply("deployments", deployment("bad"))

    async def approve(self) -> None:
        """The gate is all there is to it."""

    async def remove(self) -> None:
        await self._ask("delete", self.path("canaries", "web"))

    # Playing

    async def play(self, wanted: Sequence[Object] | None) -> None:
        """All acts, each until everything is as in `wanted`; without it, until its phase is there and all is quiet."""
        for number, act in enumerate(self.acts):
            listed = await self._ask("get", "/api/v1/namespaces", limit="1")
            self.past["m1"] = listed["metadata"]["resourceVersion"]
            await getattr(self, act.does)()
            for gate in act.opens:
                self.script.refusals.pop(gate, None)
            try:
                async with asyncio.timeout(DEADLINE):
                    await (self._settled(act) if wanted is None else self._as(act, wanted[number]))
            except TimeoutError:
                found = await self.picture()
                lines = differences(wanted[number], found) if wanted is not None else [json.dumps(found)]
                said = [*lines, f"events: {self.script.events[-5:]}"]
                raise AssertionError(f"act {act.does} does not end as it should:\n" + "\n".join(said)) from None
            self.pictures.append(await self.picture())

    async def _settled(self, act: Act) -> None:
        count = -1
        while count != len(self.faults.writes) or await self.phase() != act.phase or await self._leftovers(act):
            count = len(self.faults.writes)
            await asyncio.sleep(QUIET)

    async def _leftovers(self, act: Act) -> bool:
        """What the member's garbage collector still has to do."""
        return act.phase is None and bool(await self._ask("items", self.path("virtualservices")))

    async def _as(self, act: Act, wanted: Object) -> None:
        while await self.phase() != act.phase or await self.picture() != wanted:
            await asyncio.sleep(0.1)

    async def phase(self) -> str | None:
        found = await self._ask("find", self.path("canaries", "web"))
        return None if found is None else str((found.get("status") or {}).get("phase"))

    async def picture(self) -> Object:
        """Everything in the namespace, without what differs between any two runs."""
        lists = await asyncio.gather(*(self._ask("items", self.path(plural)) for plural in KINDS))
        found = {
            f"{plural}/{obj['metadata']['name']}": without(obj, VOLATILE | GENERATIONS | OTHERS_SAY[plural])
            for plural, objects in zip(KINDS, lists, strict=True)
            for obj in objects
            if obj["metadata"]["name"] not in OTHERS
        }
        text = json.dumps(found, sort_keys=True).replace(self.namespace, "NAMESPACE")
        renamed: Object = json.loads(text)
        return renamed

    # The log

    def points(self) -> list[str]:
        """The writes so far, each once. One that meets a conflict may say what no other run would."""
        return list(dict.fromkeys(point(asked) for asked in self.faults.writes if asked.status != CONFLICT))

    @staticmethod
    def group(where: str) -> str:
        """What a write is merged by: verb, kind, and of a status the phase."""
        verb, plural, _, part, *said = where.split(" ", 4)
        return " ".join([verb, plural, *([part, said[0].split(",")[0].strip("[]'")] if part else [])])

    @staticmethod
    def is_write(where: str) -> Callable[[Asked], bool]:
        return lambda asked: bool(asked.number) and point(asked) == where

    @staticmethod
    def nth(where: str) -> int:
        """A write says something of its own."""
        return 1

    def is_timed(self, where: str) -> bool:
        return False

    def check(self) -> None:
        """What must hold of every write of every run."""
        is_selected = False
        for asked in self.faults.writes:
            plural, name, body = asked.key.resource.split(".")[0], asked.key.name, asked.body or {}
            if asked.key.verb == "create":
                owners = body["metadata"].get("ownerReferences") or []
                assert [owner["kind"] for owner in owners] == ["Canary"], f"{asked.key} has no owner"
            else:
                assert body["metadata"].get("resourceVersion"), f"{asked.key} says not what it was made from"
            if plural == "virtualservices":
                check_weights(body, "web-canary", MOST_WEIGHT)
            elif plural == "services" and name == "web" and asked.status < 300:
                is_selected = True
            elif plural == "deployments" and name == "web-primary":
                assert body["spec"]["replicas"] > 0, "the primary is scaled to zero"
            elif plural == "deployments" and name == "web" and not body["spec"]["replicas"]:
                assert is_selected, "the target is scaled to zero before the primary is selected"


def point(asked: Asked) -> str:
    """What a write says, the same in every run."""
    _, verb, resource, _, name, part = asked.key
    plural, body = resource.split(".")[0], asked.body or {}
    said: Any = ""
    if part == "status":
        # After a crash between routes and status the next status leaves a weight out.
        names = ("phase", "failedChecks") if body["status"].get("failedChecks") else ("phase", "canaryWeight")
        said = [body["status"].get(name) for name in names]
    elif plural == "deployments":
        (container,) = body["spec"]["template"]["spec"]["containers"]
        said = [body["spec"].get("replicas"), container["image"]]
    elif plural == "virtualservices":
        said = [each.get("weight") for each in body["spec"]["http"][0]["route"]]
    elif plural in ("canaries", "configmaps"):
        said = body["metadata"].get("finalizers") or body.get("data") or ""
    return f"{verb} {plural} {name} {part} {said}"


def settings(value: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"value": value}}


def deployment(tag: str) -> Object:
    labels = {"app": "web"}
    source = {"configMapRef": {"name": "settings"}}
    pod = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "web", "image": f"example.com/web:{tag}", "envFrom": [source]}]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": labels}, "template": pod},
    }


def canary() -> Object:
    hooks = [("start", "confirm-rollout"), ("promote", "confirm-promotion")]
    return {
        "apiVersion": "flagger.app/v1beta1",
        "kind": "Canary",
        "metadata": {"name": "web"},
        "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "service": {"port": 80},
            "revertOnDeletion": True,
            "analysis": {
                "interval": "0s",
                "threshold": 2,
                "stepWeight": 25,
                "maxWeight": MOST_WEIGHT,
                "metrics": [{"name": "errors", "query": "vector(0)", "thresholdRange": {"max": 1}}],
                "webhooks": [{"name": name, "type": type_, "url": "http://gates/"} for name, type_ in hooks],
            },
        },
    }
