"""One member: is it there? Keeps AttachedCluster.status true, notices rotated kubeconfigs, and wakes what waited.

Checks run at an interval, since a cluster that dies says nothing.
"""

from __future__ import annotations

import random
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from fleet_rollout.control.applications import first_fault
from fleet_rollout.control.canaries import Canaries
from fleet_rollout.control.hub_writes import HubWrites
from fleet_rollout.control.loop import Key
from fleet_rollout.control.orphans import Orphans
from fleet_rollout.control.world import ATTACHED_CLUSTERS, CLUSTER_SYNCS, CLUSTERS, SECRETS, World
from fleet_rollout.decide import conditions as conds
from fleet_rollout.decide.intervals import jittered, parse_time
from fleet_rollout.errors import FleetRolloutError, Terminal, Transient
from fleet_rollout.kube.errors import kube_errors
from fleet_rollout_api.attached_cluster import AttachedCluster, AttachedClusterStatus
from fleet_rollout_api.cluster_sync import ClusterReference

RESOURCES = {resource.kind: resource for resource in (ATTACHED_CLUSTERS, CLUSTERS)}
UNREACHABLE_CHECK = 5.0


def member_key(namespace: str, kind: str, name: str) -> Key:
    """The queue's key of a cluster object."""
    return Key(namespace, f"{kind}/{name}")


class MemberReconciler:
    """The only writer of an AttachedCluster's status."""

    kind = "Member"

    def __init__(self, world: World, writes: HubWrites, canaries: Canaries) -> None:
        self._world = world
        self._writes = writes
        self._canaries = canaries
        self._orphans = Orphans(world)
        self._was_ready: dict[Key, bool] = {}
        self._cleared: set[Key] = set()

    async def reconcile(self, key: Key) -> float | None:
        kind, _, name = key.name.partition("/")
        obj = self._world.store.get(RESOURCES[kind].plural, Key(key.namespace, name))
        if obj is None:
            self._canaries.look_away((key.namespace, ClusterReference(kind=kind, name=name)))
            await self._world.members.drop(kind, name, key.namespace)
            self._was_ready.pop(key, None)
            self._cleared.discard(key)
            return None
        failure = await self._check(kind, name, key.namespace, obj)
        await self._show(kind, obj, failure)
        is_ready = failure is None
        if is_ready is not self._was_ready.get(key, False):
            self._wake(key, kind, name)
        self._was_ready[key] = is_ready
        if is_ready:
            self._canaries.look_around((key.namespace, ClusterReference(kind=kind, name=name)))
        settings = self._world.settings
        seconds = settings.member_check_interval if is_ready else UNREACHABLE_CHECK
        if is_ready and key not in self._cleared:
            seconds = await self._clear(key, kind, name)
        elif not is_ready:
            self._cleared.discard(key)
        return jittered(seconds, settings.interval_jitter, random.random())  # noqa: S311

    async def _check(self, kind: str, name: str, namespace: str, obj: dict[str, Any]) -> FleetRolloutError | None:
        """What is wrong with the member, None where it answers."""
        try:
            secret, key = kubeconfig_reference(kind, obj)
            with kube_errors("KubeconfigUnreadable", f"{kind}/{name}: Secret {namespace}/{secret}"):
                found = await self._world.hub.get(SECRETS, secret, namespace)
            if found is None:
                raise Terminal(
                    "KubeconfigMissing",
                    f"{kind}/{name}: Secret {namespace}/{secret} not found; create it with the kubeconfig under "
                    f"key {key}",
                )
            member = await self._world.members.update(kind, name, namespace, found, key)
            failure = await member.check()
        except FleetRolloutError as error:
            self._world.members.refuse(kind, name, namespace, error)
            return error
        return None if failure is None else Transient("ClusterUnreachable", f"{kind}/{name}: {failure}")

    async def _show(self, kind: str, obj: dict[str, Any], failure: FleetRolloutError | None) -> None:
        if kind != ATTACHED_CLUSTERS.kind:
            return
        before = status_of(obj)
        status = member_status(obj["metadata"].get("generation", 0), before, failure, self._world.now())
        if status != before:
            if failure is not None:
                self._world.recorder.warning(obj, failure.reason, failure.message)
            await self._writes.status(ATTACHED_CLUSTERS, obj, status.dump())

    async def _clear(self, key: Key, kind: str, name: str) -> float:
        """Prune what was left on it while it was lost; once is enough while it stays. Seconds until the next check."""
        cluster = self._world.members.ready(kind, name, key.namespace).cluster
        again = await self._orphans.resume(key.namespace, kind, name, cluster)
        if again is not None:
            return again
        self._cleared.add(key)
        return self._world.settings.member_check_interval

    def _wake(self, key: Key, kind: str, name: str) -> None:
        """What waited for this member goes on; what is under way in one that is lost says so."""
        for obj in self._world.store.all(CLUSTER_SYNCS.plural, key.namespace):
            if (obj.get("spec") or {}).get("cluster") == {"kind": kind, "name": name}:
                self._world.queues.syncs.add(Key(key.namespace, obj["metadata"]["name"]))

    async def report(self, key: Key, error: FleetRolloutError, again_in: float) -> None:
        """Failures of members are shown by `reconcile` itself; what comes here is the hub's."""


def kubeconfig_reference(kind: str, obj: dict[str, Any]) -> tuple[str, str]:
    """Secret and key that hold the kubeconfig of a cluster object."""
    if kind == ATTACHED_CLUSTERS.kind:
        try:
            reference = AttachedCluster.model_validate({**obj, "status": {}}).spec.kubeconfig
        except ValidationError as error:
            raise Terminal("InvalidSpec", f"{kind}/{obj['metadata']['name']}: {first_fault(error)}") from error
        return reference.name, reference.key
    name = (obj.get("status") or {}).get("kubeconfigSecretRef")
    if not name:
        raise Transient("KubeconfigMissing", f"Cluster/{obj['metadata']['name']}: status.kubeconfigSecretRef is empty")
    return str(name), "value"


def status_of(obj: dict[str, Any]) -> AttachedClusterStatus:
    """What is said of the cluster so far; nothing where it cannot be read, and is written anew."""
    try:
        return AttachedClusterStatus.model_validate(obj.get("status") or {})
    except ValidationError:
        return AttachedClusterStatus()


def member_status(
    generation: int, said: AttachedClusterStatus, failure: FleetRolloutError | None, now: datetime
) -> AttachedClusterStatus:
    """Whether the cluster answers, and if not, why.

    `lastTransitionTime` is since when it does or does not: a new reason for the same is no transition.
    """
    reason, message = ("Reachable", "the API server answers") if failure is None else (failure.reason, failure.message)
    wanted: conds.Status = "True" if failure is None else "False"
    before = conds.get(said.conditions, conds.READY)
    changed = conds.set_condition(said.conditions, conds.READY, wanted, reason, message, generation=generation, now=now)
    if before is not None and before.status == wanted:
        since = {"last_transition_time": before.last_transition_time}
        changed = [c.model_copy(update=since) if c.type == conds.READY else c for c in changed]
    return AttachedClusterStatus(ready=failure is None, observed_generation=generation, conditions=changed)


def lost_since(obj: dict[str, Any]) -> datetime | None:
    """Since when the cluster does not answer, by its status; None where it does."""
    ready = conds.get(status_of(obj).conditions, conds.READY)
    return parse_time(ready.last_transition_time) if ready is not None and ready.status == "False" else None
