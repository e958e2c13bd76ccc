"""The Canaries of all members, as their watches last showed them: what a ClusterSync mirrors into its status."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from fleet_rollout.control.engine.engines import Engines, Scope
from fleet_rollout.control.loop import Key
from fleet_rollout.control.world import World
from fleet_rollout.decide.canary.claim import engine_named
from fleet_rollout.kube.member import MOST_WATCHES
from fleet_rollout_api.cluster_sync import ClusterReference

log = logging.getLogger(__name__)

MIRRORED = (
    "phase",
    "failedChecks",
    "canaryWeight",
    "iterations",
    "lastAppliedSpec",
    "lastPromotedSpec",
    "lastTransitionTime",
    "trackedConfigs",
    "conditions",
)


class Place(NamedTuple):
    """One Canary of one member."""

    hub_namespace: str
    cluster: ClusterReference
    namespace: str
    name: str

    @property
    def scope(self) -> Scope:
        """The member, as the hub names it."""
        return self.hub_namespace, self.cluster


class Canaries:
    """Follows the Canaries that ClusterSyncs ask for; nothing is watched where none does."""

    def __init__(self, world: World, engines: Engines) -> None:
        self._world = world
        self._engines = engines
        self._adopting: set[Scope] = set()
        # Members whose Fleet wants plain Canaries driven, and was heard: the watch began after it said so.
        self._heard: set[Scope] = set()
        self._places: dict[Key, Place] = {}
        # By member, for a fleet has many of them.
        self._followed: dict[Scope, dict[Key, Place]] = {}
        # Every Canary that the watches of a member show, by namespace and name.
        self._objects: dict[Scope, dict[tuple[str, str], dict[str, Any]]] = {}

    def follow(self, key: Key, place: Place) -> None:
        """Watch the namespace of `place` in its member, and wake ClusterSync `key` when the Canary changes."""
        if self._places.get(key) == place:
            return
        self.forget(key)
        self._places[key] = place
        self._followed.setdefault(place.scope, {})[key] = place
        self._watch(place.scope)

    def forget(self, key: Key) -> None:
        """Stop following for `key`."""
        place = self._places.pop(key, None)
        if place is not None:
            del self._followed[place.scope][key]
            self._watch(place.scope)

    def look_around(self, scope: Scope) -> None:
        """Watch all Canaries of a member while its Fleet wants plain ones driven, too, or one is not finished yet."""
        adopts = self._engines.adopts_plain(scope)
        if not adopts:
            self._heard.discard(scope)
            self._engines.let_go(scope)
        wanted = adopts or self._engines.is_finishing(scope)
        is_news = adopts and scope not in self._heard
        if wanted == (scope in self._adopting) and not is_news:
            return
        (self._adopting.add if wanted else self._adopting.discard)(scope)
        if is_news:
            # A watch under way does not tell again of what nobody drove when it was told of.
            self._heard.add(scope)
            self._watch_in(scope, set())
        self._watch(scope)

    def look_away(self, scope: Scope) -> None:
        """The member is gone, and all that was seen of it: one of its name may be another cluster.

        Who follows its Canaries is told of them when there is one.
        """
        self._heard.discard(scope)
        if scope in self._adopting:
            self._adopting.discard(scope)
            self._watch(scope)
        self._objects.pop(scope, None)
        self._engines.leave(scope)

    def _watch(self, scope: Scope) -> None:
        followed = self._followed.get(scope, {})
        namespaces = {place.namespace for place in followed.values()} if scope not in self._adopting else None
        if not followed:
            self._followed.pop(scope, None)
        if namespaces is not None:
            self._drop_unwatched(scope, namespaces)
        if namespaces == set():
            self._engines.leave(scope)
        self._watch_in(scope, namespaces)

    def _watch_in(self, scope: Scope, namespaces: set[str] | None) -> None:
        hub_namespace, cluster = scope

        def changed(event: Any) -> None:
            try:
                self._changed(scope, event)
            except Exception:  # one object's trouble must not end the watch of all others
                log.exception("an event of the Canaries of %s/%s", cluster.kind, cluster.name)

        self._world.members.watch_canaries(cluster.kind, cluster.name, hub_namespace, namespaces, changed)

    def _drop_unwatched(self, scope: Scope, namespaces: set[str]) -> None:
        """Forget what no watch keeps true; the rest stays, for a watch under way does not tell it again.

        A renamed policy's ClusterSync follows the very Canary that the old one's lets go of.
        """
        if not namespaces:
            self._objects.pop(scope, None)
        elif len(namespaces) <= MOST_WATCHES:  # beyond, one watch shows the whole cluster
            seen = self._objects.get(scope, {})
            self._objects[scope] = {where: obj for where, obj in seen.items() if where[0] in namespaces}
            self._engines.let_go(scope, namespaces)

    def _changed(self, scope: Scope, event: Any) -> None:
        if event.type == "SYNCED" or (scope not in self._followed and scope not in self._adopting):
            return
        self._engines.told(scope, event)
        metadata = event.obj["metadata"]
        where = (metadata["namespace"], metadata["name"])
        seen = self._objects.setdefault(scope, {})
        if event.type == "DELETED":
            seen.pop(where, None)
        else:
            seen[where] = trimmed(event.obj)
        for key, followed in self._followed.get(scope, {}).items():
            if (followed.namespace, followed.name) == where:
                self._world.queues.syncs.add(key)

    def canary(self, key: Key) -> dict[str, Any] | None:
        """The Canary that `key` follows: metadata that tells it apart, and its status; None while it is not seen."""
        place = self._places.get(key)
        if place is None:
            return None
        return self._objects.get(place.scope, {}).get((place.namespace, place.name))


def trimmed(canary: dict[str, Any]) -> dict[str, Any]:
    """Hundreds of bytes instead of kilobytes: what decisions and users read."""
    metadata, status = canary["metadata"], canary.get("status") or {}
    return {
        "uid": metadata.get("uid"),
        "generation": metadata.get("generation"),
        "deletionTimestamp": metadata.get("deletionTimestamp"),
        "engine": engine_named(canary),
        "status": {name: status[name] for name in MIRRORED if name in status},
    }
