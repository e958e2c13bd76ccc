"""Which ClusterSyncs is an Application to have? One per policy and cluster; what is no longer wanted is deleted.

A ClusterSync is recognised by policy and cluster, not by name, so that it keeps its name when others come and go.
What has not been read yet (a Fleet, a cluster) leaves what is there as it is: a gap in reading never prunes.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fleet_rollout.decide import dependencies, engines, names
from fleet_rollout.decide.hand_over import Awaited, HandOver, Held, Identity, Unplaced, is_leaving, is_pending
from fleet_rollout.decide.metric_names import names_shared
from fleet_rollout.decide.placement import Clusters, Fleets, Placement, destination_of, resolve
from fleet_rollout.decide.problems import Problem
from fleet_rollout_api.application import Application, SyncPolicy
from fleet_rollout_api.cluster_sync import ClusterReference, ClusterSync, ClusterSyncSpec, Engine, WantedArtifact
from fleet_rollout_api.fleet import Fleet
from fleet_rollout_api.kustomization import KustomizationSpec
from fleet_rollout_api.meta import ObjectMeta, ObjectName, OwnerReference
from fleet_rollout_api.rollout import RolloutConfig

LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
UNSUPPORTED_SOURCES = ("helm_repository", "oci_repository")


@dataclass(frozen=True)
class Row:
    """One policy on one cluster: the ClusterSync's name, and the name that Kurator gives it in the status."""

    name: str
    child: str
    policy: str
    cluster: ClusterReference

    @property
    def identity(self) -> Identity:
        return (self.policy, self.cluster)


@dataclass(frozen=True)
class Update:
    """A ClusterSync whose spec is to be replaced."""

    name: str
    spec: ClusterSyncSpec


@dataclass(frozen=True)
class SyncPlan:
    """What to do on the hub, and the rows that the status shows, policy by policy in the fleet's order.

    `complete`: everything that the plan depends on had been read. `uninstalled`: by policy with a rollout and cluster,
    the Fleet that wants Flagger to be installed there (`spec.plugin.flagger`). `conflicts`: where a rollout's Fleet is
    overruled by an older one. `unplaced`: by policy, why it is known of no cluster whether it goes there.
    """

    create: tuple[ClusterSync, ...] = ()
    update: tuple[Update, ...] = ()
    delete: tuple[str, ...] = ()
    held: tuple[Held, ...] = ()
    rows: tuple[Row, ...] = ()
    problems: tuple[Problem, ...] = ()
    complete: bool = True
    uninstalled: Mapping[Identity, str] = field(default_factory=dict)
    conflicts: tuple[engines.Conflict, ...] = ()
    unplaced: Mapping[str, Problem] = field(default_factory=dict)


@dataclass(frozen=True)
class _Wanted:
    """One policy on one cluster, before it has a name.

    `fleet` leads it there; `governing` says what runs the canaries there. None where it is the hub itself.
    """

    policy: str
    source: SyncPolicy
    cluster: ClusterReference
    fleet: Fleet | None = None
    governing: Fleet | None = None

    @property
    def identity(self) -> Identity:
        return (self.policy, self.cluster)

    @property
    def engine(self) -> Engine:
        return engines.ENGINES[engines.engine_of(self.governing)]

    @property
    def child(self) -> str:
        return names.child_name(self.policy, self.cluster.kind, self.cluster.name)


@dataclass(frozen=True)
class _Scope:
    """What the policies of an Application ask for, and which must not be touched because too little is known."""

    wanted: tuple[_Wanted, ...]
    unplaced: Mapping[str, Unplaced]
    placed: frozenset[str]  # the policies of which it is known where they go
    problems: tuple[Problem, ...]
    is_read: bool  # what is not known is not there, and said to be so

    def keeps(self, identity: Identity) -> bool:
        policy = self.unplaced.get(identity[0])
        return policy is not None and policy.may_be_on(identity[1])


def own_and_taken(application: Application, syncs: Sequence[ClusterSync]) -> tuple[list[ClusterSync], frozenset[str]]:
    """The namespace's ClusterSyncs, split into this Application's and the names that others have."""
    uid = application.metadata.uid
    own = [sync for sync in syncs if any(owner.uid == uid for owner in sync.metadata.owner_references)]
    mine = {sync.metadata.name for sync in own}
    return own, frozenset(sync.metadata.name for sync in syncs) - mine


def plan_syncs(
    application: Application,
    *,
    fleets: Fleets,
    clusters: Clusters,
    existing: Sequence[ClusterSync],
    artifact: WantedArtifact | None,
    taken: Container[str] = frozenset(),
    requested_at: str | None = None,
    cross_namespace_refs: bool = True,
) -> SyncPlan:
    """What turns `existing` into what `application` asks for. Without an artifact nothing is created.

    `requested_at`: what the ClusterSyncs are asked to reconcile for; None leaves their last request as it is.
    `cross_namespace_refs`: whether dependsOn may name what is in another namespace.
    """
    scope = _scope(application, fleets, clusters)
    have, doubles = _by_identity(existing)
    rows = _name_rows(application, scope.wanted, have, taken)
    directory = _directory(application, rows, taken, cross_namespace_refs)
    specs, problems = _specs(application, scope.wanted, rows, have, directory, artifact, requested_at)
    refused = _metrics_refused(scope.wanted)
    frozen = {(each.policy, each.cluster): each for each in refused}
    pairs = list(zip(rows, specs, strict=True))
    create = [
        _new(application, row, spec)
        for row, spec in pairs
        if row.identity not in frozen and _is_missing(row, spec, have)
    ]
    wanted = {row.identity for row in rows}
    stale = [sync for key, sync in have.items() if key not in wanted and not scope.keeps(key)] + doubles
    pending = _pending(pairs, have, frozen)
    delete, held = HandOver(have, artifact, pending, scope.unplaced.values(), scope.placed, clusters).part(stale)
    return SyncPlan(
        tuple(create),
        (*_updates(pairs, have, frozen), *_brakes(scope, have)),
        delete,
        held,
        tuple(rows),
        (*_source_problems(application), *scope.problems, *refused, *problems),
        complete=scope.is_read,
        uninstalled=_uninstalled(scope.wanted),
        conflicts=_conflicts(scope.wanted),
        unplaced={name: each.problem for name, each in scope.unplaced.items() if each.problem is not None},
    )


def label_value(text: str) -> str:
    """`text` where it may be a label's value, else a short form of it with a hash."""
    if LABEL_VALUE.fullmatch(text):
        return text
    cut = re.sub(r"[^-A-Za-z0-9_.]", "-", text)[: names.NAME_LIMIT - names.HASH_LENGTH - 1].strip("-_.")
    return f"{cut}-{names.short_hash(text)}".lstrip("-")


def labels_of(application: str, policy: str, cluster: ClusterReference) -> dict[str, str]:
    """The labels of a ClusterSync."""
    return {
        names.APP_LABEL: label_value(application),
        names.POLICY_LABEL: label_value(policy),
        names.CLUSTER_LABEL: label_value(cluster.name),
    }


def _uninstalled(wanted: Sequence[_Wanted]) -> dict[Identity, str]:
    return {
        want.identity: engines.name_of(want.governing)
        for want in wanted
        if want.source.rollout is not None and want.governing is not None and engines.wants_flagger(want.governing)
    }


def _conflicts(wanted: Sequence[_Wanted]) -> tuple[engines.Conflict, ...]:
    found = (
        engines.conflict(want.cluster, want.fleet, want.governing) for want in wanted if want.source.rollout is not None
    )
    return tuple(each for each in found if each is not None)


def _metrics_refused(wanted: Sequence[_Wanted]) -> list[Problem]:
    """Rollouts that would be judged by each other's queries: what they have stays as it is until that is mended."""
    rollouts = {want.policy: want.source.defaulted().rollout for want in wanted}
    policies: dict[ClusterReference, list[str]] = {}
    for want in wanted:
        policies.setdefault(want.cluster, []).append(want.policy)
    found: dict[tuple[str, ...], list[Problem]] = {}
    for together in {tuple(each): None for each in policies.values()}:
        found[together] = names_shared({each: it for each in together if (it := rollouts[each]) is not None})
    return [
        replace(problem, cluster=cluster)
        for cluster, together in policies.items()
        for problem in found[tuple(together)]
    ]


def _source_problems(application: Application) -> list[Problem]:
    found = [field for field in UNSUPPORTED_SOURCES if getattr(application.spec.source, field) is not None]
    if application.spec.source.git_repository is not None or not found:
        return []
    field = {"helm_repository": "helmRepository", "oci_repository": "ociRepository"}[found[0]]
    return [_not_supported(f"spec.source.{field}", "use spec.source.gitRepository")]


def _not_supported(field: str, fix: str, policy: str = "") -> Problem:
    return Problem(
        "NotSupportedYet", f"{field} is accepted but not carried out yet; {fix}", terminal=True, policy=policy
    )


def _scope(application: Application, fleets: Fleets, clusters: Clusters) -> _Scope:
    wanted: list[_Wanted] = []
    unplaced: dict[str, Unplaced] = {}
    placed: set[str] = set()
    problems: list[Problem] = []
    is_read = True
    seen: set[str] = set()
    named: Mapping[engines.Member, Sequence[Fleet | None]] = engines.fleets_by_member(fleets.values())
    for index, policy in enumerate(application.spec.sync_policies):
        name = names.policy_name(application.metadata.name, index, policy.name)
        problem = _refused(index, name, policy, seen)
        seen.add(name.lower())
        if problem is not None:
            problems.append(problem)
            continue
        placement = resolve(application, policy, fleets=fleets, clusters=clusters)
        destination = destination_of(application, policy)
        fleet = fleets.get(destination.fleet) if destination is not None else None
        for cluster in placement.clusters:
            claims = named.get((cluster.kind, cluster.name), [None])
            wanted.append(_Wanted(name, policy, cluster, fleet, claims[0]))
        if placement.everything_unknown or placement.unknown:
            unplaced[name] = _unplaced(name, policy, placement)
        else:
            placed.add(name)
        is_read &= not placement.unknown and (not placement.everything_unknown or bool(placement.problems))
        problems += _new_problems(placement, name, problems)
    return _Scope(tuple(wanted), unplaced, frozenset(placed), tuple(problems), is_read)


def _unplaced(name: str, policy: SyncPolicy, placement: Placement) -> Unplaced:
    if not placement.everything_unknown:
        return Unplaced(name, policy, frozenset(placement.unknown), None)
    problem = next((replace(each, policy=name) for each in placement.problems), None)
    return Unplaced(name, policy, None, problem)


def _new_problems(placement: Placement, policy: str, known: Sequence[Problem]) -> list[Problem]:
    """The placement's problems under the policy's name, those about a Fleet that all policies share only once."""
    messages = {problem.message for problem in known if problem.cluster is None}
    return [replace(problem, policy=policy) for problem in placement.problems if problem.message not in messages]


def _refused(index: int, name: str, policy: SyncPolicy, seen: Container[str]) -> Problem | None:
    field = f"spec.syncPolicies[{index}]"
    if name.lower() in seen:
        message = f"{field}: the policy name {name} is used twice; give one of them another name"
        return Problem("DuplicatePolicy", message, terminal=True, policy=name)
    if policy.kustomization is not None:
        return None
    if policy.helm is not None:
        return _not_supported(f"{field}.helm", "use kustomization", name)
    return Problem("PolicyEmpty", f"{field} has no kustomization; add one", terminal=True, policy=name)


def _by_identity(existing: Sequence[ClusterSync]) -> tuple[dict[Identity, ClusterSync], list[ClusterSync]]:
    """The ClusterSync of each policy and cluster, oldest first, and any second one (there should be none)."""
    chosen: dict[Identity, ClusterSync] = {}
    doubles: list[ClusterSync] = []
    for sync in sorted(existing, key=lambda s: (is_leaving(s), s.metadata.creation_timestamp or "", s.metadata.name)):
        identity = (sync.spec.policy, sync.spec.cluster)
        if chosen.setdefault(identity, sync) is not sync:
            doubles.append(sync)
    return chosen, doubles


def _name_rows(
    application: Application, wanted: Sequence[_Wanted], have: Mapping[Identity, ClusterSync], taken: Container[str]
) -> list[Row]:
    used = {sync.metadata.name for sync in have.values()}
    rows: list[Row] = []
    for want in wanted:
        old = have.get(want.identity)
        name = old.metadata.name if old is not None else _free_name(application, want, taken, used)
        used.add(name)
        rows.append(Row(name, want.child, want.policy, want.cluster))
    return rows


def _free_name(application: Application, want: _Wanted, taken: Container[str], used: Container[str]) -> str:
    candidates = [want.child, names.taken_name(want.child, application.metadata.uid)]
    free = next((name for name in candidates if name not in taken and name not in used), None)
    # Two policies of one Application may read alike with their clusters: `a` + Cluster `cluster-x`, `a-cluster` + `x`.
    return free or names.taken_name(
        want.child, names.short_hash(f"{want.policy}/{want.cluster.kind}/{want.cluster.name}")
    )


def _specs(
    application: Application,
    wanted: Sequence[_Wanted],
    rows: Sequence[Row],
    have: Mapping[Identity, ClusterSync],
    directory: dependencies.Directory,
    artifact: WantedArtifact | None,
    requested_at: str | None,
) -> tuple[list[ClusterSyncSpec], list[Problem]]:
    resolved, problems = _dependencies(wanted, rows, directory)
    specs = []
    for want, depends_on in zip(wanted, resolved, strict=True):
        old = have.get(want.identity)
        policy = want.source.kustomization
        assert policy is not None  # _refused
        spec = ClusterSyncSpec(
            application=application.metadata.name,
            policy=want.policy,
            cluster=want.cluster,
            artifact=artifact or (old.spec.artifact if old else None),
            kustomization=policy.model_copy(update={"depends_on": depends_on}),
            rollout=want.source.defaulted().rollout,
            engine=want.engine,
            requested_at=requested_at or (old.spec.requested_at if old else None),
        )
        specs.append(spec)
    return specs, problems


def _directory(
    application: Application, rows: Sequence[Row], taken: Container[str], cross_namespace_refs: bool
) -> dependencies.Directory:
    return dependencies.Directory(
        application.metadata.namespace,
        {row.identity: row.name for row in rows},
        {row.child: row.name for row in rows},
        taken,
        cross_namespace_refs,
    )


def _dependencies(
    wanted: Sequence[_Wanted], rows: Sequence[Row], directory: dependencies.Directory
) -> tuple[list[list[ObjectName]], list[Problem]]:
    resolved: list[list[ObjectName]] = []
    problems: list[Problem] = []
    for want in wanted:
        assert want.source.kustomization is not None
        found, missing = dependencies.resolve(want.source.kustomization.depends_on, want.cluster, directory)
        resolved.append(found)
        problems += [replace(problem, policy=want.policy) for problem in missing]
    edges = {row.name: [each.name for each in found] for row, found in zip(rows, resolved, strict=True) if found}
    ways = dependencies.cycles(edges)
    problems += [_cycle(row, ways[row.name]) for row in rows if row.name in ways]
    return resolved, problems


def _cycle(row: Row, way: Sequence[str]) -> Problem:
    message = f"dependsOn goes in a circle: {' -> '.join(way)}; remove one of these dependencies"
    return Problem("DependencyCycle", message, terminal=True, policy=row.policy, cluster=row.cluster)


def _is_missing(row: Row, spec: ClusterSyncSpec, have: Mapping[Identity, ClusterSync]) -> bool:
    return row.identity not in have and spec.artifact is not None


def _updates(
    pairs: Sequence[tuple[Row, ClusterSyncSpec]], have: Mapping[Identity, ClusterSync], frozen: Container[object]
) -> Iterator[Update]:
    for row, spec in pairs:
        old = have.get(row.identity)
        if old is None or is_leaving(old):
            continue
        allowed = _with_brakes(old.spec, spec.kustomization, spec.rollout) if row.identity in frozen else spec
        if allowed != old.spec:
            yield Update(row.name, allowed)


def _brakes(scope: _Scope, have: Mapping[Identity, ClusterSync]) -> Iterator[Update]:
    """What is known of no place, and stays as it is there."""
    for identity, old in have.items():
        if not scope.keeps(identity) or is_leaving(old):
            continue
        source = scope.unplaced[identity[0]].source
        assert source.kustomization is not None  # _refused
        allowed = _with_brakes(old.spec, source.kustomization, source.defaulted().rollout)
        if allowed != old.spec:
            yield Update(old.metadata.name, allowed)


def _with_brakes(old: ClusterSyncSpec, wanted: KustomizationSpec, rolled: RolloutConfig | None) -> ClusterSyncSpec:
    """What stays as it is, but for `suspend`: in an emergency that has to be heard, whatever else may not change."""
    kustomization = old.kustomization.model_copy(update={"suspend": wanted.suspend})
    rollout = old.rollout
    if rollout is not None and rolled is not None:
        policy = rollout.rollout_policy.model_copy(update={"suspend": rolled.rollout_policy.suspend})
        rollout = rollout.model_copy(update={"rollout_policy": policy})
    return old.model_copy(update={"kustomization": kustomization, "rollout": rollout})


def _new(application: Application, row: Row, spec: ClusterSyncSpec) -> ClusterSync:
    meta = application.metadata
    owner = OwnerReference(api_version="apps.kurator.dev/v1alpha1", kind="Application", name=meta.name, uid=meta.uid)
    return ClusterSync(
        metadata=ObjectMeta(
            name=row.name,
            namespace=meta.namespace,
            labels=labels_of(meta.name, row.policy, row.cluster),
            finalizers=[names.FINALIZER],
            owner_references=[owner],
        ),
        spec=spec,
    )


def _pending(
    pairs: Sequence[tuple[Row, ClusterSyncSpec]],
    have: Mapping[Identity, ClusterSync],
    frozen: Mapping[tuple[str, ClusterReference | None], Problem],
) -> dict[ClusterReference, list[Awaited]]:
    """Who has not brought yet what is wanted of it, or may not: its present spec says nothing of what is to come."""
    pending: dict[ClusterReference, list[Awaited]] = {}
    for row, spec in pairs:
        sync = have.get(row.identity)
        if is_pending(sync, spec):
            pending.setdefault(row.cluster, []).append(Awaited(row.name, frozen.get(row.identity)))
    return pending
