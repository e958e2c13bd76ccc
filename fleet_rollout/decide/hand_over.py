"""May a ClusterSync that is wanted no longer go yet? Not before those that may bring its objects have taken them over.

An object that moves from one policy to another must not be deleted by the one that loses it.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass

from fleet_rollout.decide import conditions, names
from fleet_rollout.decide.placement import HOST, Clusters, Fleets, may_lead_to
from fleet_rollout.decide.problems import Problem
from fleet_rollout_api.application import Application, SyncPolicy
from fleet_rollout_api.cluster_sync import (
    ClusterReference,
    ClusterSync,
    ClusterSyncSpec,
    RolloutRecord,
    WantedArtifact,
)

# A policy on a cluster.
Identity = tuple[str, ClusterReference]

# Reasons of a ClusterSync that is past writing its inventory: what it took over is on record.
AFTER_INVENTORY = frozenset({"ReconciliationSucceeded", "PruneFailed", "HealthCheckFailed"})


@dataclass(frozen=True)
class Held:
    """A ClusterSync that is to go once those it waits for have taken over what it has, and `problems` have ended."""

    name: str
    waits_for: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Awaited:
    """A ClusterSync that has not brought yet what is wanted of it. Where a problem keeps it it may never be there."""

    name: str
    problem: Problem | None = None


@dataclass(frozen=True)
class Unplaced:
    """A policy that may go to `clusters`, or may not; None where nothing is known of its Fleet. It stays as it is."""

    policy: str
    source: SyncPolicy
    clusters: frozenset[ClusterReference] | None
    problem: Problem | None

    def may_be_on(self, cluster: ClusterReference) -> bool:
        return self.clusters is None or cluster in self.clusters

    def is_pending(self, cluster: ClusterReference, sync: ClusterSync | None, artifact: WantedArtifact | None) -> bool:
        """Whether it may be about to bring objects there that it has not brought yet. No Fleet leads to the hub."""
        if not self.may_be_on(cluster):
            return False
        if sync is None:
            return cluster != HOST
        return is_leaving(sync) or self._is_edited(sync, artifact) or not has_taken_over(sync)

    def _is_edited(self, sync: ClusterSync, artifact: WantedArtifact | None) -> bool:
        """As far as that can be told without a place: what it depends on is named by cluster."""
        policy, old = self.source.kustomization, sync.spec
        assert policy is not None  # else it is refused
        now = (policy.model_copy(update={"depends_on": []}), self.source.defaulted().rollout, artifact or old.artifact)
        return now != (old.kustomization.model_copy(update={"depends_on": []}), old.rollout, old.artifact)


def is_leaving(sync: ClusterSync) -> bool:
    """Whether it is being deleted, and prunes what it has brought."""
    return sync.metadata.deletion_timestamp is not None


def is_wanted(application: Application, sync: ClusterSync, *, fleets: Fleets, clusters: Clusters) -> bool:
    """Whether `application` has this policy on this cluster still, as far as is known. What has not stays as it was."""
    for index, policy in enumerate(application.spec.sync_policies):
        name = names.policy_name(application.metadata.name, index, policy.name)
        if name.lower() == sync.spec.policy.lower():  # a second one of the name is refused
            is_it = name == sync.spec.policy and policy.kustomization is not None
            return is_it and may_lead_to(application, policy, sync.spec.cluster, fleets=fleets, clusters=clusters)
    return False


def is_pending(sync: ClusterSync | None, spec: ClusterSyncSpec) -> bool:
    """Whether it has not brought yet what is wanted of it, or may not: its old spec says nothing of what is to come."""
    return sync is None or is_leaving(sync) or sync.spec != spec or not has_taken_over(sync)


@dataclass(frozen=True)
class HandOver:
    """All that says whether one that is wanted no longer can go: those beside it, and what is to come.

    `pending`: by cluster, who has not brought yet what is wanted of it. `placed`: the policies whose place is known.
    """

    have: Mapping[Identity, ClusterSync]
    artifact: WantedArtifact | None
    pending: Mapping[ClusterReference, Sequence[Awaited]]
    unplaced: Collection[Unplaced]
    placed: Container[str]
    clusters: Clusters

    def part(self, stale: Sequence[ClusterSync]) -> tuple[tuple[str, ...], tuple[Held, ...]]:
        """Those that can go now, and those that wait: a renamed policy's objects must not go and come back."""
        delete: list[str] = []
        held: list[Held] = []
        beside = self._beside(stale) if stale else {}
        for sync in stale:
            if is_leaving(sync):
                continue
            awaited = self._awaited(sync) if _holds_objects(sync) else []
            names_ = {each.name for each in awaited}
            heirs = [each for each in beside.get(sync.spec.cluster, ()) if each.metadata.name not in names_]
            if awaited and not _has_all(heirs, sync):
                held.append(_held(sync, awaited))
            else:
                delete.append(sync.metadata.name)
        return tuple(delete), tuple(held)

    def _beside(self, stale: Sequence[ClusterSync]) -> dict[ClusterReference, list[ClusterSync]]:
        """By cluster, those that stay."""
        going = {sync.metadata.name for sync in stale}
        found: dict[ClusterReference, list[ClusterSync]] = {}
        for sync in self.have.values():
            if sync.metadata.name not in going and not is_leaving(sync):
                found.setdefault(sync.spec.cluster, []).append(sync)
        return found

    def _awaited(self, sync: ClusterSync) -> list[Awaited]:
        """Who may be about to bring what `sync` has. Nobody brings anything to a cluster that is gone from the hub."""
        cluster = sync.spec.cluster
        found = [*self.pending.get(cluster, ())]
        for each in () if self._is_gone(cluster) else self.unplaced:
            other = self.have.get((each.policy, cluster))
            if other is None and each.clusters is None and sync.spec.policy in self.placed:
                continue  # it was not renamed: the cluster left its Fleet, and what it has there is nobody else's
            if each.is_pending(cluster, other, self.artifact):
                child = names.child_name(each.policy, cluster.kind, cluster.name)
                found.append(Awaited(other.metadata.name if other is not None else child, each.problem))
        return found

    def _is_gone(self, cluster: ClusterReference) -> bool:
        key = (cluster.kind, cluster.name)
        return cluster != HOST and key in self.clusters and self.clusters[key] is None


def _held(sync: ClusterSync, awaited: Sequence[Awaited]) -> Held:
    waits_for = tuple(each.name for each in awaited if each.problem is None)
    problems = dict.fromkeys(each.problem for each in awaited if each.problem is not None)
    return Held(sync.metadata.name, waits_for, tuple(problems))


def _has_all(heirs: Sequence[ClusterSync], sync: ClusterSync) -> bool:
    """Whether `heirs`, which are as they are wanted, have all that `sync` has: its deletion leaves that to them.

    What is in parts of an inventory is not looked at.
    """
    status, left = sync.status, _ids(sync)
    for each in heirs:
        left -= _ids(each)
    record = status.rollout
    has_rollout = record is None or any(_is_same(record, each.status.rollout) for each in heirs)
    return not (status.inventory_parts or left) and has_rollout


def _ids(sync: ClusterSync) -> set[str]:
    inventory = sync.status.inventory
    return {entry.id for entry in inventory.entries} if inventory is not None else set()


def _is_same(record: RolloutRecord, other: RolloutRecord | None) -> bool:
    """Whether `other` is a rollout of the same workload, and stays."""
    if other is None or other.removing:
        return False
    place, another = ((each.namespace, each.workload_kind, each.workload) for each in (record, other))
    return place == another


def _holds_objects(sync: ClusterSync) -> bool:
    return bool(sync.status.inventory_parts or _ids(sync))


def has_taken_over(sync: ClusterSync) -> bool:
    """Whether the inventory of `sync` names all that its spec wants, so that nobody else deletes it.

    A suspended one takes over nothing more. One that fails before its inventory is written has taken over nothing.
    """
    wanted, status = sync.spec.artifact, sync.status
    if sync.spec.kustomization.suspend:
        return True
    if wanted is None:
        return False
    if status.last_applied_digest == wanted.digest and status.observed_generation >= sync.metadata.generation:
        return True
    ready = conditions.get(status.conditions, conditions.READY)
    return (
        ready is not None
        and ready.reason in AFTER_INVENTORY
        and (ready.observed_generation or 0) >= sync.metadata.generation
        and status.last_attempted_revision == wanted.revision
    )
