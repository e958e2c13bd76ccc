"""May a ClusterSync that is wanted no longer go yet? Not before those that may bring its objects have taken them over.

An object that moves from one policy to another must not be deleted by the one that loses it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fleet_rollout.decide import conditions, names
from fleet_rollout.decide.placement import HOST, Clusters, Fleets, may_lead_to
from fleet_rollout.decide.problems import Problem
from fleet_rollout_api.application import Application, SyncPolicy
from fleet_rollout_api.cluster_sync import ClusterReference, ClusterSync, ClusterSyncSpec, WantedArtifact

# A policy on a cluster.
Identity = tuple[str, ClusterReference]

# Reasons of a ClusterSync that is past writing its inventory: what it took over is on record.
AFTER_INVENTORY = frozenset({"ReconciliationSucceeded", "PruneFailed", "HealthCheckFailed"})


@dataclass(frozen=True)
class Held:
    """A ClusterSync that is to go once those it waits for have taken over what it has."""

    name: str
    waits_for: tuple[str, ...]


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


def part(
    stale: Sequence[ClusterSync],
    pending: Mapping[ClusterReference, Sequence[str]],
    unplaced: Collection[Unplaced],
    have: Mapping[Identity, ClusterSync],
    artifact: WantedArtifact | None,
) -> tuple[tuple[str, ...], tuple[Held, ...]]:
    """The stale ones that can go now, and those that wait: a renamed policy's objects must not go and come back."""
    delete: list[str] = []
    held: list[Held] = []
    for sync in stale:
        if is_leaving(sync):
            continue
        cluster = sync.spec.cluster
        waits_for = [*pending.get(cluster, ())]
        for each in unplaced:
            other = have.get((each.policy, cluster))
            if each.is_pending(cluster, other, artifact):
                child = names.child_name(each.policy, cluster.kind, cluster.name)
                waits_for.append(other.metadata.name if other is not None else child)
        if waits_for and _holds_objects(sync):
            held.append(Held(sync.metadata.name, tuple(waits_for)))
        else:
            delete.append(sync.metadata.name)
    return tuple(delete), tuple(held)


def _holds_objects(sync: ClusterSync) -> bool:
    inventory = sync.status.inventory
    return bool(sync.status.inventory_parts) or (inventory is not None and bool(inventory.entries))


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
