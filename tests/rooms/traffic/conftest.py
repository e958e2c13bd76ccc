"""Routers on a real API server: `crds` installs what a provider needs, `hands` does what control does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from fleet_rollout.decide.canary.objects import Put, Ref, Write
from fleet_rollout.lab.lab import CRDS, LabCluster
from fleet_rollout.traffic.router import Router, Routes
from tests.rooms.traffic import crd_files

Object = dict[str, Any]
LIMIT = 60.0
Install = Callable[..., Awaitable[LabCluster]]


@pytest.fixture(scope="session")
async def member(members: dict[str, LabCluster]) -> LabCluster:
    """Not the member in which other tests let Flagger act on every Canary."""
    return members["m2"]


@pytest.fixture(scope="session")
def crds(member: LabCluster) -> Install:
    """`await crds("contour", "kuma")`: the member, with these CRDs served."""

    async def install(*names: str) -> LabCluster:
        for name in (*names, "flagger"):
            for item in await asyncio.to_thread(crd_files.definitions, name):
                await member.api.apply(f"{CRDS}/{item['metadata']['name']}", item)
                await _served(member, item)
        return member

    return install


async def _served(cluster: LabCluster, item: Object) -> None:
    group = item["spec"]["group"]
    plural = item["spec"]["names"]["plural"]
    async with asyncio.timeout(LIMIT):
        for version in (each["name"] for each in item["spec"]["versions"] if each["served"]):
            while plural not in await _plurals(cluster, f"/apis/{group}/{version}"):
                await asyncio.sleep(0.1)


async def _plurals(cluster: LabCluster, path: str) -> dict[str, str]:
    """Plural to kind, of one group and version; none where it is not served yet."""
    found = await cluster.api.find(path) or {"resources": []}
    return {each["name"]: each["kind"] for each in found["resources"] if "/" not in each["name"]}


class Hands:
    """Does with a router what control does: fetches what it reads, and carries out what it writes."""

    def __init__(self, cluster: LabCluster) -> None:
        self._cluster = cluster
        self._paths: dict[tuple[str, str], str] = {}

    async def path(self, ref: Ref, *, of_all: bool = False) -> str:
        """Where the object is, or its kind in its namespace."""
        prefix = f"/api/{ref.api_version}" if ref.api_version == "v1" else f"/apis/{ref.api_version}"
        key = (ref.api_version, ref.kind)
        if key not in self._paths:
            plurals = await _plurals(self._cluster, prefix)
            self._paths[key] = next(plural for plural, kind in plurals.items() if kind == ref.kind)
        inside = f"/namespaces/{ref.namespace}" if ref.namespace else ""
        return f"{prefix}{inside}/{self._paths[key]}" + ("" if of_all else f"/{ref.name}")

    async def get(self, ref: Ref) -> Object | None:
        return await self._cluster.api.find(await self.path(ref))

    async def live(self, router: Router, subject: Any) -> dict[Ref, Object | None]:
        return {ref: await self.get(ref) for ref in router.reads(subject)}

    async def create(self, obj: Object) -> Object:
        """With the Canary that it names as its owner: the garbage collector takes what has none."""
        ref = Put(obj).ref
        path = await self.path(ref, of_all=True)
        metadata = obj["metadata"]
        owners = [
            each | {"uid": await self._canary(ref.namespace, each)} for each in metadata.get("ownerReferences", ())
        ]
        owned = {**metadata, "ownerReferences": owners} if owners else metadata
        return await self._cluster.api.create(path, {**obj, "metadata": owned})

    async def _canary(self, namespace: str, owner: Object) -> str:
        """The uid of a real Canary with the owner's name."""
        ref = Ref(owner["apiVersion"], owner["kind"], namespace, owner["name"])
        there = await self.get(ref)
        if there is None:
            target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": ref.name}
            analysis = {"interval": "10s", "threshold": 2, "stepWeight": 20}
            spec = {"targetRef": target, "service": {"port": 9898}, "analysis": analysis}
            canary = {"apiVersion": ref.api_version, "kind": ref.kind, "metadata": {"name": ref.name}, "spec": spec}
            there = await self._cluster.api.create(await self.path(ref, of_all=True), canary)
        return str(there["metadata"]["uid"])

    async def replace(self, obj: Object, *, part: str = "") -> Object:
        path = await self.path(Put(obj).ref)
        return await self._cluster.api.request("PUT", path + part, obj)

    async def carry_out(self, writes: Sequence[Write]) -> list[Object]:
        """What the API server answered; it alone says whether a write was made from what is there."""
        done = []
        for write in writes:
            if isinstance(write, Put):
                there = "resourceVersion" in write.obj["metadata"]
                done.append(await (self.replace(write.obj) if there else self.create(write.obj)))
            else:
                only = {"uid": write.uid, "resourceVersion": write.resource_version}
                await self._cluster.api.delete(await self.path(write.ref), {"preconditions": only})
        return done

    async def reconcile(self, router: Router, subject: Any) -> list[Write]:
        """What a second pass writes after the first was carried out."""
        await self.carry_out(router.reconcile(subject, await self.live(router, subject)))
        return router.reconcile(subject, await self.live(router, subject))

    async def routes(self, router: Router, subject: Any) -> Routes:
        return router.routes(subject, await self.live(router, subject))

    async def move(self, router: Router, subject: Any, routes: Routes) -> Routes:
        """Move the traffic and read where it goes; a second move to the same place must write nothing."""
        moved = router.set_routes(subject, await self.live(router, subject), routes, token="abcdefghij")
        await self.carry_out(moved.writes)
        again = router.set_routes(subject, await self.live(router, subject), routes, token="abcdefghij")
        assert again.writes == []
        return await self.routes(router, subject)

    async def mark(self, ref: Ref) -> None:
        """Somebody else's label and annotation on an object."""
        patch = {"labels": {"foreign.example.org/l": "kept"}, "annotations": {"foreign.example.org/a": "kept"}}
        await self._cluster.api.merge(await self.path(ref), {"metadata": patch})

    async def is_marked(self, ref: Ref) -> bool:
        found = await self.get(ref)
        assert found is not None
        metadata = found["metadata"]
        labels, annotations = metadata.get("labels", {}), metadata.get("annotations", {})
        return "foreign.example.org/l" in labels and "foreign.example.org/a" in annotations


@pytest.fixture(scope="session")
async def hands(crds: Install) -> Hands:
    """Where Canaries are known: they own what is made."""
    return Hands(await crds())


@pytest.fixture
async def ns(namespace: Callable[..., Awaitable[str]], member: LabCluster) -> str:
    """A namespace of the test's own, on the member alone."""
    return await namespace("traffic", on=[member])
