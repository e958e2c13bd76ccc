"""Carries out the removal of a rollout step by step; which step is next is decided from what the member holds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Protocol

from fleet_rollout.control.ingresses import write_ingress
from fleet_rollout.control.loop import Key
from fleet_rollout.control.objects import Objects
from fleet_rollout.control.targets import Targets
from fleet_rollout.control.world import World
from fleet_rollout.decide import translate_removal as decide
from fleet_rollout.decide.inventory import Ref, parse_id
from fleet_rollout.decide.metadata import Owner, ownership_conflict
from fleet_rollout.decide.names import MANAGER_ROLLOUT, MANAGER_SCALE, MANAGER_SYNC
from fleet_rollout.decide.traffic_names import INGRESS, PRIMARY_SUFFIX
from fleet_rollout.decide.translate_removal import Removal
from fleet_rollout.decide.translate_routes import COPIES, routing_objects
from fleet_rollout.errors import FleetRolloutError, Waiting
from fleet_rollout.kube.client import ApiError, Cluster, NoSuchKind
from fleet_rollout.kube.errors import kube_errors
from fleet_rollout_api.cluster_sync import ClusterSync, ClusterSyncStatus, RolloutRecord

POLL = 1.0
MOST_STEPS = 40


@dataclass
class _Wait:
    message: str
    since: float


class Removable(Protocol):
    """Whose rollout is removed: the draft of a ClusterSync, or what is left of one. `write` precedes every step."""

    sync: ClusterSync
    status: ClusterSyncStatus

    @property
    def key(self) -> Key: ...

    def change(self, **fields: Any) -> None: ...

    async def write(self) -> None: ...

    def require_current(self) -> None: ...


class Removals:
    """Remembers only how long the present wait has lasted; a restart waits anew."""

    def __init__(self, world: World, targets: Targets, objects: Objects | None) -> None:
        self._world = world
        self._targets = targets
        self._objects = objects
        self._waits: dict[Key, _Wait] = {}

    async def remove(self, draft: Removable, cluster: Cluster, owner: Owner, *, leaving: bool) -> float | None:
        """As many steps as can be done now; seconds until the next look, None when nothing is left."""
        for _ in range(MOST_STEPS):
            record = draft.status.rollout
            assert record is not None
            with kube_errors("RolloutRemovalFailed", f"rollout of {record.workload_kind}/{record.workload}"):
                state = await self._read(draft, cluster, record, leaving)
                step = decide.next_step(state)
                if isinstance(step, decide.Wait):
                    self._wait(draft.key, step.message)
                    await self._mark(draft, record)
                    return POLL
                self._waits.pop(draft.key, None)
                if isinstance(step, decide.Done):
                    # What the engine had kept from being written, such as the Service, is Git's again: applied anew.
                    draft.change(rollout=None, applied_fingerprint=None)
                    return None
                await self._mark(draft, record)
                await self._take(draft, cluster, owner, step)
        return 0.0

    async def _mark(self, draft: Removable, record: RolloutRecord) -> None:
        """The removal is on record before its first write."""
        if not record.removing:
            draft.change(rollout=record.model_copy(update={"removing": True}))
            await draft.write()

    def _wait(self, key: Key, message: str) -> None:
        known = self._waits.get(key)
        if known is None:
            self._waits[key] = _Wait(message, self._world.clock())

    def _has_waited(self, key: Key) -> bool:
        known = self._waits.get(key)
        return known is not None and self._world.clock() - known.since >= self._world.settings.canary_delete_wait

    async def _read(self, draft: Removable, cluster: Cluster, record: RolloutRecord, leaving: bool) -> Removal:
        namespace, workload, service = record.namespace, record.workload, record.service
        version, kind = record.workload_version, record.workload_kind
        found = await asyncio.gather(
            _get(cluster, "flagger.app/v1beta1", "Canary", record.canary or workload, namespace),
            _get(cluster, version, kind, workload, namespace),
            _get(cluster, version, kind, workload + PRIMARY_SUFFIX, namespace),
            _get(cluster, "v1", "Service", service, namespace),
            _get(cluster, "networking.k8s.io/v1", "Ingress", INGRESS, namespace),
            *(_get(cluster, ref.api_version, ref.kind, ref.name, namespace) for ref in routing_objects(record)),
        )
        canary, deployed, primary, live_service, ingress, *routes = found
        return Removal(
            record=record,
            canary=canary,
            workload=deployed,
            primary=primary,
            service=live_service,
            git_service=await self._git_service(draft.sync, service, namespace),
            routes=[route for route in routes if route is not None and _is_engines(route, canary)],
            ingress=ingress,
            leaving=leaving,
            waited=self._has_waited(draft.key),
        )

    async def _git_service(self, sync: ClusterSync, name: str, namespace: str) -> dict[str, Any] | None:
        """The Service as Git has it; without the artifact its live selector is enough."""
        if sync.spec.artifact is None or self._objects is None:
            return None
        try:
            objects = await self._objects.render(sync)
        except FleetRolloutError:
            return None
        wanted = ("Service", name, namespace)
        for obj in objects:
            metadata = obj["metadata"]
            if (obj["kind"], metadata["name"], metadata.get("namespace")) == wanted:
                return obj
        return None

    async def _take(self, draft: Removable, cluster: Cluster, owner: Owner, step: decide.Step) -> None:
        draft.require_current()
        try:
            if isinstance(step, decide.Patch):
                await self._patch(cluster, step)
            elif isinstance(step, decide.Delete):
                await self._delete(draft, cluster, owner, step)
            elif isinstance(step, decide.WriteIngress):
                await self._write_ingress(draft, cluster, step)
        except ApiError as error:
            if not (error.is_conflict or error.is_not_found):
                raise
            raise Waiting("RolloutRemovalFailed", f"{error.message}; looking again", retry_after=0.1) from error

    async def _patch(self, cluster: Cluster, step: decide.Patch) -> None:
        """Users' objects are restored in the name of the sync, or fields that Git drops later would stay."""
        resource = await cluster.resource_for(step.ref.api_version, step.ref.kind)
        manager = MANAGER_ROLLOUT if step.ref.kind == "Canary" else MANAGER_SYNC
        if "replicas" in step.patch.get("spec", {}):
            manager = MANAGER_SCALE
        await cluster.patch(
            resource, step.ref.name, step.ref.namespace, dict(step.patch), kind="merge", manager=manager
        )

    async def _delete(self, draft: Removable, cluster: Cluster, owner: Owner, step: decide.Delete) -> None:
        """What the translation had brought stays where another rollout works with it, or another Application has it."""
        brought = {parse_id(entry): entry.id for entry in step.entries}
        held = await self._targets.rollouts_elsewhere(draft.sync, cluster, step.entries) if brought else frozenset()
        for ref in step.refs:
            if brought.get(ref) not in held:
                await self._delete_one(cluster, ref, owner if ref in brought else None)
        record = draft.status.rollout
        assert record is not None
        gone = {entry.id for entry in step.entries}
        left = [entry for entry in record.objects if entry.id not in gone]
        if left != record.objects:
            draft.change(rollout=record.model_copy(update={"objects": left}))
            await draft.write()

    @staticmethod
    async def _delete_one(cluster: Cluster, ref: Ref, owner: Owner | None) -> None:
        """Exactly what is looked at: somebody may take the name or write the object in between."""
        live = await _get(cluster, ref.api_version, ref.kind, ref.name, ref.namespace)
        if live is None or live["metadata"].get("deletionTimestamp"):
            return
        if owner is not None and ownership_conflict(live, owner) is not None:
            return
        resource = await cluster.resource_for(ref.api_version, ref.kind)
        uid, version = live["metadata"]["uid"], live["metadata"]["resourceVersion"]
        await cluster.delete(resource, ref.name, ref.namespace, uid=uid, resource_version=version)

    async def _write_ingress(self, draft: Removable, cluster: Cluster, step: decide.WriteIngress) -> None:
        await write_ingress(cluster, step.write)
        record = draft.status.rollout
        assert record is not None
        draft.change(rollout=record.model_copy(update={"host": None}))


async def _get(cluster: Cluster, api_version: str, kind: str, name: str, namespace: str) -> dict[str, Any] | None:
    """The object; None where it, or its kind, is not there."""
    try:
        resource = await cluster.resource_for(api_version, kind)
    except NoSuchKind:
        return None
    return await cluster.get(resource, name, namespace if resource.namespaced else "")


def _is_engines(route: dict[str, Any], canary: dict[str, Any] | None) -> bool:
    """Whether the route belongs to this Canary; TrafficRoutes are cluster-scoped, and one taken over has no owner."""
    owners = route["metadata"].get("ownerReferences") or []
    if any(owner["kind"] == "Canary" for owner in owners):
        return canary is None or any(owner["uid"] == canary["metadata"]["uid"] for owner in owners)
    return route["kind"] not in COPIES
