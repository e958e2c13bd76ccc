"""A revision is the target and what it is configured with: all of it is promoted as it was judged, however quick."""

from __future__ import annotations

import asyncio
import contextlib
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

from fleet_rollout.control.engine.engine import Engine
from fleet_rollout.control.engine.sight import Sight
from fleet_rollout.control.engine.tick import CANARIES
from fleet_rollout.kube.client import Cluster
from fleet_rollout.kube.watch import watch_forever
from fleet_rollout.lab.lab import LabCluster
from fleet_rollout.settings import Settings
from tests.control.engine.scripted import Script
from tests.control.engine.test_engine import FAST, Place, canary, deployment

Object = dict[str, Any]


def configured(namespace: str, tag: str) -> Object:
    found = deployment(namespace, f"example.com/web:{tag}")
    (container,) = found["spec"]["template"]["spec"]["containers"]
    container["envFrom"] = [{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "keys"}}]
    return found


def scaler(most: int) -> Object:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web"},
        "spec": {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": most},
    }


class Configured(Place):
    """A target with a ConfigMap, a Secret and an autoscaler, all of which change with its version."""

    async def core(self, plural: str, name: str, **content: Any) -> None:
        path = f"/api/v1/namespaces/{self.namespace}/{plural}/{name}"
        kind = {"configmaps": "ConfigMap", "secrets": "Secret"}[plural]
        await self.api.apply(path, {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **content})

    async def release(self, tag: str, most: int) -> None:
        await self.core("secrets", "keys", data={"key": b64encode(tag.encode()).decode()})
        await self.core("configmaps", "settings", data={"tag": tag})
        await self.apply(scaler(most), "horizontalpodautoscalers")
        await self.apply(configured(self.namespace, tag), "deployments")

    async def promoted(self) -> list[Any]:
        """What the primary is, and is configured with."""
        there = f"/namespaces/{self.namespace}"
        primary = await self.api.get(f"/apis/apps/v1{there}/deployments/web-primary")
        secret = await self.api.get(f"/api/v1{there}/secrets/keys-primary")
        config_map = await self.api.get(f"/api/v1{there}/configmaps/settings-primary")
        limits = await self.api.get(f"/apis/autoscaling/v2{there}/horizontalpodautoscalers/web-primary")
        image = primary["spec"]["template"]["spec"]["containers"][0]["image"]
        return [image, secret["data"]["key"], config_map["data"]["tag"], limits["spec"]["maxReplicas"]]


@contextlib.asynccontextmanager
async def driven(cluster: Cluster, namespace: str, script: Script) -> AsyncIterator[None]:
    engine = Engine("hub", cluster, Sight(cluster, Settings()), script, lambda: FAST, lambda: True)
    watching = asyncio.create_task(
        watch_forever(cluster, CANARIES, settings=Settings(), on_event=engine.told, namespace=namespace)
    )
    try:
        yield
    finally:
        watching.cancel()
        await engine.close()


async def test_secrets_and_autoscalers_are_promoted_as_they_are_although_nobody_watches_them(
    member: LabCluster, member_client: Cluster, place: Any, script: Script, eventually: Any
) -> None:
    there = Configured(member, await place())
    wanted = canary(there.namespace, interval="0s", iterations=3)
    reference = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "name": "web"}
    wanted["spec"]["autoscalerRef"] = reference
    await there.release("1", 2)
    await there.apply(wanted, "canaries")

    async def phase_is(phase: str) -> None:
        async def check() -> Any:
            return (await there.status()).get("phase") == phase or print(script.events[-3:])

        await eventually(check)

    async with driven(member_client, there.namespace, script):
        await phase_is("Initialized")
        assert await there.promoted() == ["example.com/web:1", b64encode(b"1").decode(), "1", 2]
    await there.release("2", 3)  # several requests, between which a tick would see half a release
    async with driven(member_client, there.namespace, script):
        await phase_is("Succeeded")
    assert await there.promoted() == ["example.com/web:2", b64encode(b"2").decode(), "2", 3]
    assert not any("Restarting" in event for event in script.events)
