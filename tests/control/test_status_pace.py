"""How often an Application's status is written (ruling "Writes, in numbers"), in virtual time, with the hub played.

Members have news all the time; the reconciler, its loop, the queue and the triggers are the real ones.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
from typing import Any, NamedTuple, cast

import orjson
import pytest

from fleet_rollout.control.applications import ApplicationReconciler
from fleet_rollout.control.artifacts import ArtifactReconciler
from fleet_rollout.control.hub_writes import HubWrites
from fleet_rollout.control.loop import Key, Loop
from fleet_rollout.control.queue import Queue
from fleet_rollout.control.store import Store
from fleet_rollout.control.triggers import Triggers
from fleet_rollout.control.world import APPLICATIONS, ATTACHED_CLUSTERS, CLUSTER_SYNCS, FLEETS, Queues, World
from fleet_rollout.notify.events import Recorder
from fleet_rollout.settings import Settings

Object = dict[str, Any]
pytestmark = [pytest.mark.looptime, pytest.mark.asyncio(loop_scope="function")]
DIGEST = "sha256:" + "1" * 64


class Written(NamedTuple):
    at: float
    size: int


class Hub:
    """The API server's part: it takes every write, and remembers those of Applications' statuses."""

    def __init__(self) -> None:
        self.statuses: list[Written] = []
        self._versions = itertools.count(1000)
        self._objects: dict[tuple[str, str], Object] = {}

    def version(self) -> str:
        return str(next(self._versions))

    async def create(self, resource: Any, obj: Object, *, manager: str) -> Object:
        metadata = obj["metadata"] | {"uid": self.version(), "resourceVersion": self.version(), "generation": 1}
        made = self._objects[resource.kind, metadata["name"]] = {**obj, "metadata": metadata}
        return made

    async def patch(self, resource: Any, name: str, namespace: str, patch: Any, **options: Any) -> Object:
        obj = copy.deepcopy(self._objects[resource.kind, name])
        if isinstance(patch, dict):
            obj["metadata"] |= patch["metadata"]
        else:
            obj |= {operation["path"].strip("/"): operation["value"] for operation in patch[1:]}
        obj["metadata"]["resourceVersion"] = self.version()
        if resource == APPLICATIONS and options["subresource"] == "status":
            self.statuses.append(Written(asyncio.get_running_loop().time(), len(orjson.dumps(obj["status"]))))
        self._objects[resource.kind, name] = obj
        return obj


class Fleet:
    """One Application on so many clusters, with so many objects on each, and its loop."""

    def __init__(self, clusters: int, entries: int, hub: Hub | None = None) -> None:
        self.hub, self.store, self.settings = hub or Hub(), Store(), Settings()
        self.names = [f"m{number}" for number in range(clusters)]
        self._entries = [{"id": f"shop_object-{number}_apps_Deployment", "v": "v1"} for number in range(entries)]
        clock = asyncio.get_running_loop().time
        queues = Queues(*(Queue[Key](clock) for _ in range(4)))

        async def post(_: Object) -> None:
            return None

        world = World(
            settings=self.settings,
            hub=cast(Any, self.hub),
            hub_uid="hub",
            members=cast(Any, None),
            store=self.store,
            queues=queues,
            sources=cast(Any, None),
            renderer=cast(Any, None),
            recorder=Recorder(post),
            epoch=lambda: 1,
            clock=clock,
        )
        applications = ApplicationReconciler(world, HubWrites(world.hub, self.store), ArtifactReconciler(world))
        Triggers(world, applications.rest).listen()
        self.loop = Loop(applications, queues.applications, self.settings, workers=2)

    async def begin(self) -> None:
        """What users have made, and the source's artifact, as a restart finds them."""
        fleet = {"clusters": [{"kind": "AttachedCluster", "name": name} for name in self.names]}
        for resource in (FLEETS, ATTACHED_CLUSTERS, CLUSTER_SYNCS, APPLICATIONS):
            self.store.replace_all(resource.plural, [], "1")
        for name in self.names:
            await self._put(ATTACHED_CLUSTERS, name, spec={"kubeconfig": {"name": name}})
        await self._put(FLEETS, "fleet", spec=fleet)
        spec = {
            "source": {"gitRepository": {"url": "https://git.example/shop.git", "interval": "1m"}},
            "syncPolicies": [{"kustomization": {"interval": "1m", "prune": True}}],
            "destination": {"fleet": "fleet"},
        }
        artifact = {"revision": "main@sha1:1", "digest": DIGEST, "path": "p", "url": "u", "lastUpdateTime": "t"}
        source = {"observedGeneration": 1, "artifact": artifact}
        await self._put(APPLICATIONS, "web", spec=spec, status={"sourceStatus": {"gitRepoStatus": source}})

    async def _put(self, resource: Any, name: str, **fields: Any) -> None:
        metadata = {"name": name, "namespace": "shop"}
        obj = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, **fields}
        self.store.put(resource.plural, await self.hub.create(resource, obj, manager="test"))

    def tell(self, cluster: str, message: str) -> None:
        """A ClusterSync's status says something new."""
        key = Key("shop", f"web-0-attachedcluster-{cluster}")
        before = self.store.get(CLUSTER_SYNCS.plural, key)
        assert before is not None
        condition = {"type": "Ready", "status": "False", "reason": "R", "message": message, "observedGeneration": 1}
        status = {
            "observedGeneration": 1,
            "conditions": [condition | {"lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "inventory": {"entries": self._entries},
        }
        metadata = before["metadata"] | {"resourceVersion": self.hub.version()}
        self.store.put(CLUSTER_SYNCS.plural, {**before, "metadata": metadata, "status": status})

    def rows(self) -> dict[str, str]:
        """What the Application says of each cluster."""
        application = self.store.get(APPLICATIONS.plural, Key("shop", "web")) or {}
        rows = application.get("status", {}).get("syncStatus", [])
        return {row["cluster"].rpartition("/")[2]: row.get("message", "") for row in rows}


async def storm(fleet: Fleet, seconds: float, every: float) -> dict[str, str]:
    """Everybody has news again and again; what they said last."""
    said = {}
    for number in range(round(seconds / every)):
        cluster = fleet.names[number % len(fleet.names)]
        said[cluster] = f"news {number}"
        fleet.tell(cluster, said[cluster])
        await asyncio.sleep(every)
    return said


@pytest.mark.parametrize(("clusters", "entries"), [(2, 1), (30, 40)], ids=["small", "large"])
async def test_a_status_is_written_once_a_second_and_at_thirty_kilobytes_a_second(clusters: int, entries: int) -> None:
    fleet = Fleet(clusters, entries)
    running = asyncio.create_task(fleet.loop.run())
    await fleet.begin()
    await asyncio.sleep(10)
    fleet.hub.statuses.clear()
    said = await storm(fleet, seconds=120, every=0.05)
    await asyncio.sleep(30)

    written = fleet.hub.statuses
    settings = fleet.settings
    for before, after in itertools.pairwise(written):
        least = max(settings.status_interval, before.size / settings.status_bytes_per_second)
        assert after.at - before.at >= least - 0.001, (before, after)
    is_large = written[-1].size > settings.status_bytes_per_second
    assert is_large == (clusters == 30), f"{written[-1].size} bytes"
    fastest = 120 / max(settings.status_interval, written[-1].size / settings.status_bytes_per_second)
    assert 0.7 * fastest <= len(written) <= fastest + 3, "neither starved nor hurried"
    assert fleet.rows() == said, "the last word of everybody is shown"

    quiet = len(written)
    await asyncio.sleep(600)
    assert len(fleet.hub.statuses) == quiet, "nothing is written when nothing changed"
    running.cancel()
    await asyncio.wait({running})
