"""One Application: plan its ClusterSyncs, carry the plan out, and fold everything back into its status.

The only writer of an Application's status and of ClusterSync specs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
from pydantic import ValidationError

from fleet_rollout.control.artifacts import ArtifactReconciler
from fleet_rollout.control.hub_writes import Changed, HubWrites
from fleet_rollout.control.loop import Key
from fleet_rollout.control.world import APPLICATIONS, ATTACHED_CLUSTERS, CLUSTER_SYNCS, CLUSTERS, FLEETS, World
from fleet_rollout.decide.aggregate import application_status
from fleet_rollout.decide.names import FINALIZER, REQUESTED_AT
from fleet_rollout.decide.placement import Complete, destination_of
from fleet_rollout.decide.plan import SyncPlan, Update, own_and_taken, plan_syncs
from fleet_rollout.decide.problems import Problem
from fleet_rollout.errors import FleetRolloutError, Terminal
from fleet_rollout.kube.live import each
from fleet_rollout_api.application import Application
from fleet_rollout_api.cluster_sync import ClusterSync, WantedArtifact
from fleet_rollout_api.fleet import Fleet

KURATOR_MANAGERS = frozenset({"kurator-fleet-manager", "fleet-manager"})
DELETION_POLL = 2.0
# News of ClusterSyncs may take about a tenth of the time: a pass costs twice what its status does.
REST = 20.0


@dataclass(frozen=True)
class _Seen:
    """One Application as read at the start of a pass."""

    obj: dict[str, Any]
    app: Application
    syncs: list[ClusterSync]
    taken: frozenset[str]


class ApplicationReconciler:
    """Reads the store, writes through `writes`."""

    kind = "Application"

    def __init__(self, world: World, writes: HubWrites, artifacts: ArtifactReconciler) -> None:
        self._world = world
        self._writes = writes
        self._artifacts = artifacts
        self._written: dict[Key, tuple[float, int]] = {}
        self._costs: dict[Key, float] = {}
        self._holding: set[Key] = set()

    async def reconcile(self, key: Key) -> float | None:
        obj = self._world.store.get(APPLICATIONS.plural, key)
        if obj is None:
            self._written.pop(key, None)
            self._costs.pop(key, None)
            self._holding.discard(key)
            return None
        if obj["metadata"].get("deletionTimestamp"):
            return await self._finalize(key, obj)
        seen = self._parse(obj)
        _refuse_kurator(obj)
        obj = await self._writes.finalizer(APPLICATIONS, obj, present=True)
        plan = self._plan(seen)
        if self._artifacts.is_edited(key, seen.app):
            # One edit is one whole: a new path must not be built from content that was fetched for the old one.
            return await self._show(key, seen, replace(plan, delete=()))
        if plan.delete:
            plan = await self._confirmed(seen)
        await self._carry_out(plan, seen)
        (self._holding.add if plan.held else self._holding.discard)(key)
        return await self._show(key, seen, plan)

    def rest(self, key: Key) -> float:
        """Seconds for which news of its ClusterSyncs may be gathered before this Application is looked at.

        A pass over a thousand rows takes a while, and what it finds may not be written at once anyway.
        """
        pause = 0.0 if key in self._holding else self._pause(key)
        return max(pause, REST * self._costs.get(key, 0.0), 0.0)

    def _parse(self, obj: dict[str, Any]) -> _Seen:
        metadata = obj["metadata"]
        try:
            app = Application.model_validate(obj)
        except ValidationError as error:
            raise Terminal("InvalidSpec", f"Application/{metadata['name']}: {first_fault(error)}") from error
        found = self._world.store.all(CLUSTER_SYNCS.plural, metadata["namespace"])
        syncs, taken = own_and_taken(app, list(self._readable(found)))
        return _Seen(obj, app, syncs, taken)

    def _readable(self, found: Iterable[dict[str, Any]]) -> Iterator[ClusterSync]:
        """One odd object must not stop every Application of its namespace; its own worker reports it."""
        for obj in found:
            with contextlib.suppress(ValidationError):
                yield self._world.store.model(CLUSTER_SYNCS.plural, obj, ClusterSync)

    def _plan(self, seen: _Seen) -> SyncPlan:
        metadata = seen.app.metadata
        source = self._artifacts.view(Key(metadata.namespace, metadata.name)).status
        artifact = source.get("artifact")
        wanted = WantedArtifact(revision=artifact["revision"], digest=artifact["digest"]) if artifact else None
        requested = metadata.annotations.get(REQUESTED_AT)
        return plan_syncs(
            seen.app,
            fleets=self._fleets(seen.app),
            clusters=self._clusters(metadata.namespace),
            existing=seen.syncs,
            artifact=wanted,
            taken=seen.taken,
            # First the source is looked at, then the clusters are asked: one pass over them, not two.
            requested_at=requested if requested == source.get("lastHandledReconcileAt") else None,
            cross_namespace_refs=self._world.settings.cross_namespace_refs,
        )

    async def _confirmed(self, seen: _Seen) -> SyncPlan:
        """The plan from what the hub has now: deleting prunes, and the watches of two kinds keep no common order."""
        for resource in (FLEETS, ATTACHED_CLUSTERS, CLUSTERS):
            if self._world.store.is_synced(resource.plural):
                objects, _ = await self._world.hub.list(resource, seen.app.metadata.namespace)
                for obj in objects:
                    self._world.store.put(resource.plural, obj)
        return self._plan(seen)

    def _fleets(self, app: Application) -> Complete[str, Fleet]:
        """Those that can be read; one that cannot stops the Applications that name it, and nothing of theirs goes."""
        store, found = self._world.store, {}
        named = {chosen.fleet for policy in app.spec.sync_policies if (chosen := destination_of(app, policy))}
        for obj in store.all(FLEETS.plural, app.metadata.namespace):
            name = obj["metadata"]["name"]
            try:
                found[name] = store.model(FLEETS.plural, obj, Fleet)
            except ValidationError as error:
                if name in named:
                    raise Terminal("FleetInvalid", f"Fleet/{name}: {first_fault(error)}") from error
        return Complete(found)

    def _clusters(self, namespace: str) -> Complete[tuple[str, str], Mapping[str, str]]:
        clusters: dict[tuple[str, str], Mapping[str, str]] = {}
        for resource in (ATTACHED_CLUSTERS, CLUSTERS):
            for obj in self._world.store.all(resource.plural, namespace):
                clusters[resource.kind, obj["metadata"]["name"]] = obj["metadata"].get("labels") or {}
        return Complete(clusters)

    async def _carry_out(self, plan: SyncPlan, seen: _Seen) -> None:
        objects = {sync["metadata"]["name"]: sync for sync in self._objects(seen)}
        taken: list[str] = []

        async def create(sync: ClusterSync) -> None:
            if await self._writes.create(CLUSTER_SYNCS, sync.dump()) is None:
                taken.append(sync.metadata.name)

        async def update(change: Update) -> None:
            if (found := objects.get(change.name)) is not None:  # else it has just gone; its event plans anew
                await self._writes.spec(CLUSTER_SYNCS, found, change.spec.dump())

        at_once = self._world.settings.member_in_flight
        await each(create, plan.create, at_once)
        await each(update, plan.update, at_once)
        await self._delete(objects[name] for name in plan.delete if name in objects)
        # News of what has the name goes to its owner alone. What cannot be read is in no plan, and would be met again.
        if known := [name for name in taken if self._is_readable(seen.app.metadata.namespace, name)]:
            raise Changed(CLUSTER_SYNCS.kind, known[0])

    def _is_readable(self, namespace: str, name: str) -> bool:
        obj = self._world.store.get(CLUSTER_SYNCS.plural, Key(namespace, name))
        return obj is not None and any(self._readable([obj]))

    def _objects(self, seen: _Seen) -> Iterable[dict[str, Any]]:
        for sync in seen.syncs:
            obj = self._world.store.get(CLUSTER_SYNCS.plural, Key(sync.metadata.namespace, sync.metadata.name))
            if obj is not None:
                yield obj

    async def _delete(self, objects: Iterable[dict[str, Any]]) -> None:
        for obj in objects:
            if not obj["metadata"].get("deletionTimestamp"):
                await self._writes.delete(CLUSTER_SYNCS, obj)

    async def _finalize(self, key: Key, obj: dict[str, Any]) -> float | None:
        """Each ClusterSync prunes what it brought before it goes; the Application goes last.

        Needs no valid spec: what was stored before a change of the schema can be deleted, too.
        """
        if FINALIZER not in obj["metadata"].get("finalizers", []):
            return None
        uid = obj["metadata"]["uid"]
        owned = [
            sync
            for sync in self._world.store.all(CLUSTER_SYNCS.plural, key.namespace)
            if any(owner.get("uid") == uid for owner in sync["metadata"].get("ownerReferences") or [])
        ]
        await self._delete(owned)
        if not owned:
            await self._writes.finalizer(APPLICATIONS, obj, present=False)
            return None
        with contextlib.suppress(Terminal):
            await self._show(key, self._parse(obj), SyncPlan())
        return DELETION_POLL

    async def _show(self, key: Key, seen: _Seen, plan: SyncPlan | None) -> float | None:
        """Write the status if it changed, within the limits on writes and bytes per second."""
        obj = self._world.store.get(APPLICATIONS.plural, key) or seen.obj
        previous = obj.get("status") or None
        settings = self._world.settings
        started = self._world.clock()
        status = application_status(
            seen.app,
            source=self._artifacts.status(key, seen.app) or None,
            syncs=self._parse(obj).syncs,
            plan=plan,
            previous=previous,
            now=self._world.now(),
            max_bytes=settings.status_max_bytes,
        )
        self._costs[key] = self._world.clock() - started
        if status == previous:
            return None
        pause = self._pause(key)
        if pause > 0:
            return pause
        self._written[key] = (self._world.clock(), len(orjson.dumps(status)))
        await self._writes.status(APPLICATIONS, obj, status)
        return None

    def _pause(self, key: Key) -> float:
        """Seconds until this Application may be written again."""
        at, bytes_ = self._written.get(key, (float("-inf"), 0))
        settings = self._world.settings
        least = max(settings.status_interval, bytes_ / settings.status_bytes_per_second)
        return at + least - self._world.clock()

    async def report(self, key: Key, error: FleetRolloutError, again_in: float) -> None:
        """Show an error of the Application itself as a problem of its plan."""
        obj = self._world.store.get(APPLICATIONS.plural, key)
        if obj is None or error.reason == "Conflict":
            return
        self._world.recorder.warning(obj, error.reason, error.message)
        try:
            seen = self._parse(obj)
        except Terminal:
            await self._writes.invalid(APPLICATIONS, obj, error, self._world.now())
            return
        problem = Problem(error.reason, error.message, terminal=isinstance(error, Terminal))
        pause = await self._show(key, seen, SyncPlan(problems=(problem,)))
        if pause is not None:
            self._world.queues.applications.add(key, delay=pause)


def first_fault(error: ValidationError) -> str:
    """The first thing pydantic found, as a field path and a sentence."""
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"


def _refuse_kurator(obj: dict[str, Any]) -> None:
    """Two controllers on one Application undo each other's work."""
    for entry in obj["metadata"].get("managedFields", []):
        if entry.get("manager") in KURATOR_MANAGERS and entry.get("subresource") == "status":
            name = obj["metadata"]["name"]
            raise Terminal(
                "KuratorControllerPresent",
                f"Application/{name}: Kurator's controller ({entry['manager']}) writes its status; stop Kurator's "
                "fleet manager, then remove its entry from metadata.managedFields",
            )
