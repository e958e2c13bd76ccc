"""The engine on a real API server: a Canary from its creation to its promotion, and what it costs when idle."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from fleet_rollout.control.engine.engine import Engine
from fleet_rollout.control.engine.sight import Sight
from fleet_rollout.control.engine.tick import CANARIES, Tick
from fleet_rollout.decide.canary.subject import EngineOptions
from fleet_rollout.kube.client import Cluster
from fleet_rollout.kube.watch import watch_forever
from fleet_rollout.lab.lab import LabCluster
from fleet_rollout.settings import Settings
from tests.control.engine.scripted import Script

Eventually = Callable[..., Awaitable[None]]
FAST = EngineOptions(mesh_provider="kubernetes", shortest_interval=0.2)


def deployment(namespace: str, image: str = "example.com/web:1") -> dict[str, Any]:
    labels = {"app": "web"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": image}]}},
        },
    }


def canary(namespace: str, **analysis: Any) -> dict[str, Any]:
    return {
        "apiVersion": "flagger.app/v1beta1",
        "kind": "Canary",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "service": {"port": 80},
            "analysis": {"interval": "1s", "threshold": 2, "iterations": 2, "metrics": [], **analysis},
        },
    }


class Place:
    """One namespace of the member."""

    def __init__(self, member: LabCluster, namespace: str) -> None:
        self.api, self.namespace = member.api, namespace

    async def apply(self, obj: dict[str, Any], plural: str) -> None:
        prefix = f"/apis/{obj['apiVersion']}/namespaces/{self.namespace}"
        await self.api.apply(f"{prefix}/{plural}/{obj['metadata']['name']}", obj)

    async def status(self) -> dict[str, Any]:
        found = await self.api.get(f"/apis/flagger.app/v1beta1/namespaces/{self.namespace}/canaries/web")
        return found.get("status") or {}


@contextlib.contextmanager
def nothing_for_the_collector(kind: type, among: int) -> Iterator[None]:
    """Fewer than `among` more objects of this kind are left at the end, although nobody looked for circles.

    The service's collector looks rarely: a thousand Canaries leave a hundred ticks a second for it.
    """

    def count() -> int:
        return sum(isinstance(obj, kind) for obj in gc.get_objects())

    gc.collect()
    before = count()
    gc.disable()
    try:
        yield
        assert count() - before < among
    finally:
        gc.enable()


async def test_a_canary_is_initialised_and_a_new_version_is_promoted(
    member: LabCluster, member_client: Cluster, place: Any, script: Script, eventually: Eventually
) -> None:
    there = Place(member, await place())
    await there.apply(deployment(there.namespace), "deployments")
    await there.apply(canary(there.namespace), "canaries")
    engine = Engine("hub", member_client, Sight(member_client, Settings()), script, lambda: FAST, lambda: True)
    watching = asyncio.create_task(
        watch_forever(member_client, CANARIES, settings=Settings(), on_event=engine.told, namespace=there.namespace)
    )

    def phase_is(phase: str) -> Awaitable[None]:
        async def check() -> Any:
            status = await there.status()
            return status.get("phase") == phase or print(status.get("phase"), script.events[-3:])

        return eventually(check)

    try:
        with nothing_for_the_collector(Tick, among=3):  # the last one, and one under way
            await phase_is("Initialized")
            await there.apply(deployment(there.namespace, "example.com/web:2"), "deployments")
            await phase_is("Succeeded")
        primary = await there.api.get(f"/apis/apps/v1/namespaces/{there.namespace}/deployments/web-primary")
        assert primary["spec"]["template"]["spec"]["containers"][0]["image"] == "example.com/web:2"
    finally:
        watching.cancel()
        await engine.close()
    assert list(dict.fromkeys(script.phases)) == [
        "Initializing",
        "Initialized",
        "Progressing",
        "Promoting",
        "Finalising",
        "Succeeded",
    ]
