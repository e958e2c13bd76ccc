"""One Canary on a real API server with a bad day: its ticks one at a time, or an engine whose member comes and goes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import warnings
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fleet_rollout.control.engine.dialing import DirectDial
from fleet_rollout.control.engine.driven import Driven
from fleet_rollout.control.engine.engine import Engine
from fleet_rollout.control.engine.outside import Outside
from fleet_rollout.control.engine.sight import Sight
from fleet_rollout.control.engine.tick import CANARIES
from fleet_rollout.decide.canary.addresses import Reach
from fleet_rollout.decide.canary.subject import EngineOptions
from fleet_rollout.kube.access import connection_from_kubeconfig
from fleet_rollout.kube.client import Cluster
from fleet_rollout.kube.watch import watch_forever
from fleet_rollout.lab.lab import LabCluster
from fleet_rollout.metrics.bulkheads import Bulkheads
from fleet_rollout.settings import Settings
from tests.control.engine.scripted import Script
from tests.control.engine.test_engine import Place, canary, deployment
from tests.faults.proxy import FaultProxy
from tests.faults.rules import CutBefore, Faults

Object = dict[str, Any]
LIMIT = 60.0
QUICK = EngineOptions(mesh_provider="istio", shortest_interval=0.1)
BY_ITERATIONS = EngineOptions(mesh_provider="kubernetes", shortest_interval=0.1)
ISTIO = "/apis/networking.istio.io/v1beta1/namespaces/{}/virtualservices/web"


def client(kubeconfig: bytes, name: str = "m2") -> Cluster:
    return Cluster(connection_from_kubeconfig(name, kubeconfig, allow_insecure=False), Settings())


class Scene(Place):
    """`tick` is one by an engine that knows nothing but what the API server says, with real events, hooks, metrics."""

    def __init__(
        self,
        member: LabCluster,
        namespace: str,
        *,
        options: EngineOptions = BY_ITERATIONS,
        reach: Reach | None = None,
        kubeconfig: bytes | None = None,
    ) -> None:
        super().__init__(member, namespace)
        self.options, self._reach = options, reach or Reach()
        self.cluster = client(kubeconfig or member.kubeconfig.read_bytes())

    async def bring(self, *, name: str = "web", spec: Mapping[str, Any] | None = None, **analysis: Any) -> None:
        """A Deployment and its Canary, which goes by iterations unless it has steps."""
        await self.apply(renamed(deployment(self.namespace), name), "deployments")
        made = renamed(canary(self.namespace, **analysis), name)
        if {"stepWeight", "stepWeights"} & analysis.keys():
            del made["spec"]["analysis"]["iterations"]
        made["spec"] |= {"targetRef": {**made["spec"]["targetRef"], "name": name}, **(spec or {})}
        await self.apply(made, "canaries")

    async def release(self, image: str = "example.com/web:2") -> None:
        await self.apply(deployment(self.namespace, image), "deployments")

    def path(self, name: str = "web") -> str:
        return f"/apis/flagger.app/v1beta1/namespaces/{self.namespace}/canaries/{name}"

    async def tick(self, name: str = "web", sight: Sight | None = None, raw: Object | None = None) -> list[str]:
        """One tick; what it says to whoever looks at the events. `sight` and `raw`: what the engine knows already."""
        said = Said(self)
        async with said.spoken() as outside:
            raw = raw or await self.api.get(self.path(name))
            sight = sight or Sight(self.cluster, Settings())
            driven = Driven(self.cluster, sight, outside, lambda: self.options, raw)
            async with asyncio.timeout(LIMIT):
                await driven.tick()
                await outside.finish()
            await sight.close()
        return await self.events(name, since=said.began)

    async def until(self, phase: str, name: str = "web") -> Object:
        """Tick until it is there."""
        async with asyncio.timeout(LIMIT):
            while (status := await self.status_of(name)).get("phase") != phase:
                await self.tick(name)
        return status

    async def status_of(self, name: str = "web") -> Object:
        found: Object = (await self.api.get(self.path(name))).get("status") or {}
        return found

    async def events(self, name: str = "web", *, since: int = 0) -> list[str]:
        """Messages, oldest first, as `kubectl describe canary` shows them."""
        found = await self.api.items(f"/api/v1/namespaces/{self.namespace}/events")
        newest = [each for each in found if int(each["metadata"]["resourceVersion"]) > since]
        newest.sort(key=lambda each: int(each["metadata"]["resourceVersion"]))
        return [
            f"{each['type']} {each['message']}"
            for each in newest
            if each["involvedObject"]["kind"] == "Canary" and each["involvedObject"]["name"] == name
        ]

    async def close(self) -> None:
        await self.cluster.close()


class Said:
    """An Outside while it is needed, and since when it spoke."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.began = 0

    @contextlib.asynccontextmanager
    async def spoken(self) -> AsyncIterator[Outside]:
        scene, bulkheads = self._scene, Bulkheads()
        events = await scene.api.get(f"/api/v1/namespaces/{scene.namespace}/events")
        self.began = int(events["metadata"]["resourceVersion"])
        direct = DirectDial(scene._reach, bulkheads)
        outside = Outside(
            scene.cluster,
            Sight(scene.cluster, Settings()),
            dial=lambda _: direct,
            bulkheads=bulkheads,
            alert_reach=scene._reach,
            reach=lambda: scene._reach,
        )
        running = asyncio.create_task(outside.run())
        try:
            yield outside
        finally:
            running.cancel()
            await asyncio.wait([running])
            await direct.close()
            bulkheads.close()


def renamed(obj: Object, name: str) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "name": name}}


class Driving:
    """An engine that drives the Canaries of one namespace by itself, and reaches its member through a proxy."""

    def __init__(self, there: Place, proxy: FaultProxy, kubeconfig: bytes, options: EngineOptions = QUICK) -> None:
        self.there, self.proxy, self.faults = there, proxy, proxy.faults
        self.script = Script()
        self._cluster = client(proxy.kubeconfig(kubeconfig))
        sight = Sight(self._cluster, Settings())
        self.engine = Engine("hub", self._cluster, sight, self.script, lambda: options, lambda: True)

    def go_away(self) -> None:
        """From now on nothing gets through, nor does what has begun. From any thread."""
        self.faults.when(lambda _: True, CutBefore(), times=None)
        self.proxy.cut_all()

    def come_back(self) -> None:
        self.faults.clear()

    async def reaches(self, phase: str | None) -> Object:
        """Wait for a phase; None is for a Canary that is gone."""
        status: Object = {}
        try:
            async with asyncio.timeout(LIMIT):
                while True:
                    path = f"/apis/flagger.app/v1beta1/namespaces/{self.there.namespace}/canaries/web"
                    found = await self.there.api.find(path)
                    status = (found or {}).get("status") or {}
                    if (found is None) if phase is None else (status.get("phase") == phase):
                        return status
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"not {phase}: {status}, said {self.script.events[-5:]}") from None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        watching = asyncio.create_task(
            watch_forever(
                self._cluster,
                CANARIES,
                settings=Settings(),
                on_event=self.engine.told,
                namespace=self.there.namespace,
            )
        )
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])
            await self.engine.close()
            await self._cluster.close()
            await swept()


async def swept() -> None:
    """Connections given up in their TLS handshake: asyncio leaves them to the garbage collector, which warns."""
    await asyncio.sleep(0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@contextlib.asynccontextmanager
async def driving(member: LabCluster, namespace: str, options: EngineOptions = QUICK) -> AsyncIterator[Driving]:
    """With an engine at work in the namespace."""
    with FaultProxy("m2", member.server, member.ca, Faults()) as proxy:
        found = Driving(Place(member, namespace), proxy, member.kubeconfig.read_bytes(), options)
        async with found.running():
            yield found
