"""Which keys a change concerns. Changes of status wake nobody but the one who shows them."""

from __future__ import annotations

from typing import Any

from fleet_rollout.control.loop import Key
from fleet_rollout.control.members import member_key
from fleet_rollout.control.queue import BACKGROUND, LIVE
from fleet_rollout.control.world import APPLICATIONS, ATTACHED_CLUSTERS, CLUSTER_SYNCS, CLUSTERS, FLEETS, World
from fleet_rollout.decide.names import APP_LABEL, REQUESTED_AT

Object = dict[str, Any]


class Triggers:
    """Listens to the store and fills the queues."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._by_kind = {
            APPLICATIONS.plural: self._application,
            FLEETS.plural: self._fleet,
            ATTACHED_CLUSTERS.plural: self._cluster,
            CLUSTERS.plural: self._cluster,
            CLUSTER_SYNCS.plural: self._sync,
        }

    def listen(self) -> None:
        self._world.store.listen(self._changed)

    def _changed(self, kind: str, key: Key, before: Object | None, after: Object | None) -> None:
        priority = LIVE if self._world.store.is_synced(kind) else BACKGROUND
        self._by_kind[kind](key, before, after, priority)

    def _application(self, key: Key, before: Object | None, after: Object | None, priority: int) -> None:
        if _is_same_but_status(before, after):
            return
        self._world.queues.applications.add(key, priority=priority)
        if _source_changed(before, after):
            self._world.queues.sources.add(key, priority=priority)

    def _fleet(self, key: Key, before: Object | None, after: Object | None, priority: int) -> None:
        if not _is_same_but_status(before, after):
            self._applications_of(key.namespace, priority)

    def _cluster(self, key: Key, before: Object | None, after: Object | None, priority: int) -> None:
        obj = after or before
        assert obj is not None
        is_ours = obj["kind"] == ATTACHED_CLUSTERS.kind
        if is_ours and _is_same_but_status(before, after):
            return
        self._world.queues.members.add(member_key(key.namespace, obj["kind"], key.name), priority=priority)
        if before is None or after is None or _labels(before) != _labels(after):
            self._applications_of(key.namespace, priority)

    def _sync(self, key: Key, before: Object | None, after: Object | None, priority: int) -> None:
        obj = after or before
        assert obj is not None
        application = _labels(obj).get(APP_LABEL)
        if application is not None and self._world.store.is_synced(CLUSTER_SYNCS.plural):
            self._world.queues.applications.add(Key(key.namespace, application), priority=priority)
        if not _is_same_but_status(before, after):
            self._world.queues.syncs.add(key, priority=priority)
        if after is not None and before is not None and _ready(before) != _ready(after):
            self._wake_dependants(key, application)

    def _wake_dependants(self, key: Key, application: str | None) -> None:
        """A dependency that became ready wakes those that wait for it, instead of their looking again and again."""
        for obj in self._world.store.all(CLUSTER_SYNCS.plural, key.namespace):
            depends_on = obj["spec"]["kustomization"].get("dependsOn") or []
            if _labels(obj).get(APP_LABEL) == application and any(d.get("name") == key.name for d in depends_on):
                self._world.queues.syncs.add(Key(key.namespace, obj["metadata"]["name"]))

    def _applications_of(self, namespace: str, priority: int) -> None:
        for obj in self._world.store.all(APPLICATIONS.plural, namespace):
            self._world.queues.applications.add(Key(namespace, obj["metadata"]["name"]), priority=priority)


def _is_same_but_status(before: Object | None, after: Object | None) -> bool:
    if before is None or after is None:
        return False
    return _identity(before) == _identity(after)


def _identity(obj: Object) -> tuple[Any, ...]:
    metadata = obj["metadata"]
    return (
        metadata.get("uid"),
        metadata.get("generation"),
        metadata.get("deletionTimestamp"),
        metadata.get("labels"),
        metadata.get("annotations"),
        metadata.get("finalizers"),
    )


def _source_changed(before: Object | None, after: Object | None) -> bool:
    if before is None or after is None:
        return True
    return _source(before) != _source(after)


def _source(obj: Object) -> tuple[Any, ...]:
    requested = (obj["metadata"].get("annotations") or {}).get(REQUESTED_AT)
    return obj["spec"].get("source"), requested, obj["metadata"].get("uid")


def _labels(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def _ready(obj: Object) -> tuple[Any, ...]:
    status = obj.get("status") or {}
    ready = next((c["status"] for c in status.get("conditions", []) if c["type"] == "Ready"), None)
    return ready, status.get("lastAppliedDigest"), status.get("observedGeneration")
