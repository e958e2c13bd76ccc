"""What is watched of a member: few kinds, and those first that say that there is a new revision."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from fleet_rollout.control.engine import sight as module
from fleet_rollout.control.engine.sight import Sight
from fleet_rollout.decide.canary.objects import Ref
from fleet_rollout.kube.client import Cluster
from fleet_rollout.kube.discovery import Resource
from fleet_rollout.lab.lab import LabCluster
from fleet_rollout.settings import Settings


async def test_what_makes_a_revision_is_watched_before_what_the_engine_writes_itself(
    member: LabCluster,
    member_client: Cluster,
    namespace: Callable[..., Awaitable[str]],
    eventually: Callable[..., Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A Canary of Istio looks at more objects of other kinds than it has configs."""
    monkeypatch.setattr(module, "REWATCH_DELAY", 0.05)
    there = await namespace("sight", on=[member])
    config = f"/api/v1/namespaces/{there}/configmaps/settings"
    await member.api.apply(config, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}})
    kinds = {
        ("apps/v1", "Deployment"): 2,
        ("v1", "Service"): 3,
        ("networking.k8s.io/v1", "Ingress"): 2,
        ("v1", "ConfigMap"): 1,
    }
    refs = [Ref(*kind, there, name) for kind, count in kinds.items() for name in ("settings", "b", "c")[:count]]
    sight, told = Sight(member_client, Settings()), []
    sight.on_change = told.append
    await sight.read(refs)
    sight.use("a Canary", refs)
    value = iter(range(1000))

    async def is_told() -> Any:
        body = {"data": {"value": str(next(value))}}
        await member.api.merge(config, body)
        return told

    try:
        await eventually(is_told)
    finally:
        await sight.close()
    assert {ref.kind for ref in told} == {"ConfigMap"}


async def test_whoever_leaves_after_the_end_begins_no_watch(
    member_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REWATCH_DELAY", 0)
    sight = Sight(member_client, Settings())
    refs = [Ref("v1", "ConfigMap", "default", "kube-root-ca.crt")]
    await sight.read(refs)
    await sight.close()
    sight.use("a Canary", refs)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not sight._watched


class Reads:
    """A member of which every object is there; what was asked for."""

    def __init__(self) -> None:
        self.asked: list[Ref] = []

    async def resource_for(self, api_version: str, kind: str) -> Resource:
        return Resource("", api_version, kind, f"{kind.lower()}s", True)

    async def get(self, resource: Resource, name: str, namespace: str) -> Any:
        self.asked.append(Ref(resource.version, resource.kind, namespace, name))
        return {"metadata": {"name": name, "namespace": namespace, "resourceVersion": "1"}}


SECRET, OTHER, CONFIG = (
    Ref("v1", kind, "shop", name) for kind, name in (("Secret", "token"), ("Secret", "b"), ("ConfigMap", "c"))
)


async def test_what_nobody_looks_at_is_shared_for_a_while_and_then_forgotten(
    eventually: Callable[..., Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A MetricTemplate's Secret, which many checks read, and which is nobody's afterwards."""
    monkeypatch.setattr(module, "UNUSED_AGE", 0.2)
    monkeypatch.setattr(module, "REWATCH_DELAY", 3600)
    member = Reads()
    sight = Sight(cast(Cluster, member), Settings())
    await sight.read([SECRET, CONFIG])
    sight.use("a Canary", [CONFIG])
    await sight.read([SECRET])
    await sight.read([SECRET])
    assert member.asked == [SECRET, CONFIG]
    await asyncio.sleep(0.1)
    await sight.read([OTHER])
    seen: list[set[Ref]] = []

    async def are_gone() -> bool:
        seen.append(set(sight._seen))
        return seen[-1] == {CONFIG}

    await eventually(are_gone, every=0.01)
    assert sight._sweeping is None
    await sight.read([SECRET, CONFIG])
    assert member.asked == [SECRET, CONFIG, OTHER, SECRET]
    await sight.close()
    assert sight.known(CONFIG) is not None
