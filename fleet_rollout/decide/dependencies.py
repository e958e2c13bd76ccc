"""dependsOn: which ClusterSync does a name mean, and is it far enough?

A name is a policy of the same Application on the same cluster, or else (Kurator's way) a full child name. What is
found neither way stays as written, so that the sync says which one it misses instead of running without it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fleet_rollout.decide import conditions
from fleet_rollout.decide.problems import Problem
from fleet_rollout_api.cluster_sync import ClusterReference, ClusterSync
from fleet_rollout_api.meta import ObjectName


@dataclass(frozen=True)
class Directory:
    """The names of one Application's ClusterSyncs, by what users may call them."""

    namespace: str
    by_policy: Mapping[tuple[str, ClusterReference], str]
    by_child: Mapping[str, str]
    foreign: Container[str] = frozenset()
    cross_namespace_refs: bool = True

    def find(self, dependency: ObjectName, cluster: ClusterReference) -> str | None:
        """The ClusterSync that `dependency` means on `cluster`; None where there is none in this Application."""
        return self.by_policy.get((dependency.name, cluster)) or self.by_child.get(dependency.name)


def may_name(dependency: ObjectName, namespace: str, *, cross_namespace_refs: bool) -> bool:
    """Whether a policy of `namespace` may depend on this one; a name without namespace is one of its own (T30)."""
    return cross_namespace_refs or (dependency.namespace or namespace) == namespace


def resolve(
    depends_on: Sequence[ObjectName], cluster: ClusterReference, directory: Directory
) -> tuple[list[ObjectName], list[Problem]]:
    """`depends_on` with ClusterSync names and namespaces, and a problem for each that is not there."""
    resolved: list[ObjectName] = []
    problems: list[Problem] = []
    for dependency in depends_on:
        namespace = dependency.namespace or directory.namespace
        if not may_name(dependency, directory.namespace, cross_namespace_refs=directory.cross_namespace_refs):
            problems.append(_cross_namespace(namespace, dependency.name, cluster))
            resolved.append(ObjectName(name=dependency.name, namespace=namespace))
            continue
        known: str | None = dependency.name
        if namespace == directory.namespace:
            known = directory.find(dependency, cluster)
            if known is None and dependency.name in directory.foreign:
                known = dependency.name
        if known is None:
            problems.append(
                Problem("DependencyNotFound", _missing(namespace, dependency.name, cluster), cluster=cluster)
            )
        resolved.append(ObjectName(name=known or dependency.name, namespace=namespace))
    return resolved, problems


def cycles(edges: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    """Every name that depends on itself in the end, with the way round: `a` -> (`a`, `b`, `a`)."""
    return {name: way for name in edges if (way := _way_back(name, edges))}


def unmet(sync: ClusterSync, found: Mapping[tuple[str, str], ClusterSync | None]) -> str | None:
    """Why `sync` has to wait for its dependencies, in their order; None when it need not.

    `found` holds each (namespace, name) of `spec.kustomization.dependsOn` as read from the hub.
    """
    for dependency in sync.spec.kustomization.depends_on:
        key = (dependency.namespace or sync.metadata.namespace, dependency.name)
        message = dependency_state(sync, key, found.get(key))
        if message is not None:
            return message
    return None


def dependency_state(sync: ClusterSync, key: tuple[str, str], dependency: ClusterSync | None) -> str | None:
    """Flux's three checks, in Flux's order and words; the last only where both use the same source."""
    subject = f"dependency '{key[0]}/{key[1]}'"
    if dependency is None:
        return f"{subject} not found: no policy of this name is placed on this cluster"
    status = dependency.status
    current = status.observed_generation >= dependency.metadata.generation
    if not current or not conditions.is_true(status.conditions, conditions.READY):
        return f"{subject} is not ready"
    wanted = sync.spec.artifact.digest if sync.spec.artifact else None
    if _same_source(sync, dependency) and status.last_applied_digest != wanted:
        return f"{subject} revision is not up to date"
    return None


def _same_source(one: ClusterSync, other: ClusterSync) -> bool:
    return (one.metadata.namespace, one.spec.application) == (other.metadata.namespace, other.spec.application)


def _way_back(start: str, edges: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """The shortest way from `start` back to it."""
    seen: set[str] = set()
    ways: list[tuple[str, ...]] = [(start,)]
    for way in ways:
        for following in edges.get(way[-1], ()):
            if following == start:
                return (*way, start)
            if following not in seen:
                seen.add(following)
                ways.append((*way, following))
    return ()


def _cross_namespace(namespace: str, name: str, cluster: ClusterReference) -> Problem:
    message = (
        f"dependency '{namespace}/{name}' is in another namespace, which this controller does not allow "
        "(--no-cross-namespace-refs); name a policy of this Application in dependsOn"
    )
    return Problem("CrossNamespaceRef", message, terminal=True, cluster=cluster)


def _missing(namespace: str, name: str, cluster: ClusterReference) -> str:
    fact = (
        f"dependency '{namespace}/{name}' not found: no policy of this name is placed on {cluster.kind}/{cluster.name}"
    )
    return f"{fact}; correct dependsOn or the destination"
