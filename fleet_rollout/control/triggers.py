"""Which keys a change concerns. Changes of status wake nobody but the one who shows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fleet_rollout.control.loop import Key
from fleet_rollout.control.members import member_key
from fleet_rollout.control.queue import BACKGROUND, LIVE
from fleet_rollout.control.world import APPLICATIONS, ATTACHED_CLUSTERS, CLUSTER_SYNCS, CLUSTERS, FLEETS, World
from fleet_rollout.decide.names import APP_LABEL, REQUESTED_AT

Object = dict[str, Any]


class Triggers:
    """Listens to the store and fills the queues."""

    def __init__(self, world: World, rest: Callable[[Key], float]) -> None:
        """`rest`: seconds for which news of an Application's ClusterSyncs may be gathered."""
        self._world = world
        self._rest = rest
        self._dependants: dict[Key, set[Key]] = {}
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
        if _is_same_but_status(before, after):
            return
        self._applications_of(key.namespace, priority)
        for kind in (ATTACHED_CLUSTERS, CLUSTERS):
            for obj in self._world.store.all(kind.plural, key.namespace):
                name = obj["metadata"]["name"]
                self._world.queues.members.add(member_key(key.namespace, kind.kind, name), priority=priority)

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
            owner = Key(key.namespace, application)
            self._world.queues.applications.add(owner, delay=self._rest(owner), priority=priority)
        if not _is_same_but_status(before, after):
            self._world.queues.syncs.add(key, priority=priority)
            self._note_dependencies(key, before, after)
        if after is not None and before is not None and _ready(before) != _ready(after):
            # Wakes those that wait for it, instead of their looking again and again.
            for waiting in self._dependants.get(key, ()):
                self._world.queues.syncs.add(waiting)

    def _note_dependencies(self, key: Key, before: Object | None, after: Object | None) -> None:
        for dependency in _dependencies(key, before):
            self._dependants.get(dependency, set()).discard(key)
        for dependency in _dependencies(key, after):
            self._dependants.setdefault(dependency, set()).add(key)

    def _applications_of(self, namespace: str, priority: int) -> None:
        for obj in self._world.store.all(APPLICATIONS.plural, namespace):
            self._world.queues.applications.add(Key(namespace, obj["metadata"]["name"]), priority=priority)


def _dependencies(key: Key, obj: Object | None) -> list[Key]:
    """What cannot be read has none: an odd object must not end the watch of all others (trust row 43)."""
    try:
        depends_on = (obj["spec"]["kustomization"].get("dependsOn") if obj is not None else None) or []
        return [Key(each.get("namespace") or key.namespace, each["name"]) for each in depends_on]
    except (AttributeError, KeyError, TypeError):
        return []


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
    return (obj.get("spec") or {}).get("source"), requested, obj["metadata"].get("uid")


def _labels(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def _ready(obj: Object) -> tuple[Any, ...]:
    try:
        status = obj.get("status") or {}
        ready = next((c["status"] for c in status.get("conditions", []) if c["type"] == "Ready"), None)
        return ready, status.get("lastAppliedDigest"), status.get("observedGeneration")
    except (AttributeError, KeyError, TypeError):
        return ()
