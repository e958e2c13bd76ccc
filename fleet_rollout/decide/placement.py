"""Which clusters does a policy go to? Fleet and destination in, cluster references out, in the fleet's order.

A policy's destination replaces the Application's, selector and all; only an empty fleet name is inherited (Kurator's
rule). A Fleet or cluster that is missing is a problem of its own and leaves the other clusters alone. An empty `kind`
means Cluster, as Kurator's Fleet controller reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from fleet_rollout.decide.problems import Problem
from fleet_rollout.decide.selectors import matches
from fleet_rollout_api.application import Application, Destination, SyncPolicy
from fleet_rollout_api.cluster_sync import ClusterReference
from fleet_rollout_api.fleet import Fleet

HOST = ClusterReference(kind="currentCluster", name="host")
MEMBER_KINDS = ("AttachedCluster", "Cluster")
EMPTY_KIND = "Cluster"

K = TypeVar("K")
V = TypeVar("V")

# None: the object is known not to be there. A key that is absent: it has not been read yet.
Fleets = Mapping[str, Fleet | None]
Clusters = Mapping[tuple[str, str], Mapping[str, str] | None]


class Complete(Mapping[K, V | None]):
    """Everything has been read: what is not among `found` is known not to be there."""

    def __init__(self, found: Mapping[K, V]) -> None:
        self._found = found

    def __getitem__(self, key: K) -> V | None:
        return self._found.get(key)

    def __contains__(self, key: object) -> bool:
        return True

    def __iter__(self) -> Iterator[K]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


FLEET_NOT_FOUND = "FleetNotFound"


@dataclass(frozen=True)
class Placement:
    """`clusters` run the policy; `unknown` may or may not, so what they have stays as it is.

    `everything_unknown`: the Fleet itself has not been read, or is not there.
    """

    clusters: tuple[ClusterReference, ...] = ()
    unknown: tuple[ClusterReference, ...] = ()
    everything_unknown: bool = False
    problems: tuple[Problem, ...] = ()


def destination_of(application: Application, policy: SyncPolicy) -> Destination | None:
    """The policy's destination if it has one, else the Application's; None is the hub itself."""
    default = application.spec.destination
    chosen = policy.destination or default
    if chosen is None:
        return None
    fleet = chosen.fleet or (default.fleet if default else "")
    return chosen.model_copy(update={"fleet": fleet}) if fleet else None


def resolve(application: Application, policy: SyncPolicy, *, fleets: Fleets, clusters: Clusters) -> Placement:
    """Where `policy` goes. Fleet and clusters are looked up in the Application's namespace."""
    destination = destination_of(application, policy)
    if destination is None:
        return Placement(clusters=(HOST,))
    if destination.fleet not in fleets:
        return Placement(everything_unknown=True)
    namespace = application.metadata.namespace
    fleet = fleets[destination.fleet]
    if fleet is None or fleet.metadata.deletion_timestamp is not None:
        # A name that is mistyped, or a Fleet that is made anew, must not take away what runs everywhere.
        problem = _no_fleet(namespace, destination.fleet, deleting=fleet is not None)
        return Placement(everything_unknown=True, problems=(problem,))
    return _select(fleet, destination, clusters)


def may_lead_to(
    application: Application, policy: SyncPolicy, cluster: ClusterReference, *, fleets: Fleets, clusters: Clusters
) -> bool:
    """Whether `policy` goes to this one cluster, or is not known not to: `resolve` without a look at all the others."""
    destination = destination_of(application, policy)
    if destination is None:
        return cluster == HOST
    fleet = fleets.get(destination.fleet)
    if fleet is None or fleet.metadata.deletion_timestamp is not None:
        return True
    key = (cluster.kind, cluster.name)
    if all((member.kind or EMPTY_KIND, member.name) != key for member in fleet.spec.clusters):
        return False
    labels = clusters.get(key, {})
    return key not in clusters or (labels is not None and matches(destination.cluster_selector, labels))


def _select(fleet: Fleet, destination: Destination, clusters: Clusters) -> Placement:
    chosen: list[ClusterReference] = []
    unknown: list[ClusterReference] = []
    problems: list[Problem] = []
    seen: set[tuple[str, str]] = set()
    for index, member in enumerate(fleet.spec.clusters):
        kind, name = member.kind or EMPTY_KIND, member.name
        if kind not in MEMBER_KINDS or not name:
            problems.append(_odd_member(fleet, index, kind, name))
            continue
        if (kind, name) in seen:
            continue
        seen.add((kind, name))
        reference = ClusterReference(kind=kind, name=name)
        if (kind, name) not in clusters:
            unknown.append(reference)
        elif (labels := clusters[kind, name]) is None:
            problems.append(_no_cluster(fleet, reference))
        elif matches(destination.cluster_selector, labels):
            chosen.append(reference)
    return Placement(tuple(chosen), tuple(unknown), problems=tuple(problems))


def _no_fleet(namespace: str, name: str, *, deleting: bool) -> Problem:
    fact = "is being deleted" if deleting else "not found"
    fix = "create it, or name another one in destination.fleet"
    return Problem(FLEET_NOT_FOUND, f"Fleet/{namespace}/{name} {fact}; {fix}")


def _no_cluster(fleet: Fleet, cluster: ClusterReference) -> Problem:
    where = f"{fleet.metadata.namespace}/{cluster.name}"
    owner = f"Fleet/{fleet.metadata.namespace}/{fleet.metadata.name}"
    hint = "set its kind to AttachedCluster, or " if cluster.kind == EMPTY_KIND else ""
    message = f"{cluster.kind}/{where} not found; {hint}create it, or remove it from {owner} spec.clusters"
    return Problem("ClusterNotFound", message, cluster=cluster)


def _odd_member(fleet: Fleet, index: int, kind: str, name: str | None) -> Problem:
    where = f"Fleet/{fleet.metadata.namespace}/{fleet.metadata.name} spec.clusters[{index}]"
    fact = f"{name} has kind {kind}; use AttachedCluster or Cluster" if name else "name is missing; set it"
    return Problem("ClusterReferenceInvalid", f"{where}: {fact}", terminal=True, of_member=True)
