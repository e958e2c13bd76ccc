"""Which engine runs the canaries of a member, and with which defaults: what its Fleets say.

Where several Fleets name one member and disagree, the older one wins, for two engines must not act on one Canary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fleet_rollout.decide.canary.subject import EngineOptions
from fleet_rollout.decide.placement import EMPTY_KIND
from fleet_rollout_api.cluster_sync import ClusterReference, Engine
from fleet_rollout_api.fleet import EngineMode, Fleet, RolloutEngine

# A member as a Fleet names it, by kind and name, in the Fleet's own namespace.
Member = tuple[str, str]

ENGINES: Mapping[EngineMode, Engine] = {"Hub": "hub", "Agent": "agent", "Flagger": "flagger"}
# Where Istio's own manifests put it. Flagger's default is a name that only its own namespace resolves.
METRICS_SERVER = "http://prometheus.istio-system:9090"
NAMED = 5


@dataclass(frozen=True)
class Conflict:
    """An Application goes to a member by one Fleet, and an older Fleet has another engine run the canaries there."""

    cluster: ClusterReference
    loser: Fleet
    winner: Fleet


def engine_of(fleet: Fleet | None) -> EngineMode:
    """What runs the canaries of a Fleet; of the hub itself where there is no Fleet."""
    if wants_flagger(fleet):
        return "Flagger"
    return settings_of(fleet).mode or "Hub"


def wants_flagger(fleet: Fleet | None) -> bool:
    """Whether the Fleet asks for Flagger to be installed, as Kurator's plug-in does it."""
    return fleet is not None and (fleet.spec.plugin or {}).get("flagger") is not None


def settings_of(fleet: Fleet | None) -> RolloutEngine:
    """All that the Fleet says about its engine."""
    return (fleet.spec.rollout_engine if fleet is not None else None) or RolloutEngine()


def options_of(
    fleet: Fleet | None,
    cluster_name: str,
    *,
    shortest_interval: float = 10.0,
    cross_namespace_refs: bool = True,
    lends_identity: bool = False,
) -> EngineOptions:
    """The defaults of every Canary in the member `cluster_name`."""
    options = options_from(settings_of(fleet), cluster_name, shortest_interval=shortest_interval)
    return replace(options, no_cross_namespace_refs=not cross_namespace_refs, lends_identity=lends_identity)


def options_from(said: RolloutEngine, cluster_name: str, *, shortest_interval: float = 10.0) -> EngineOptions:
    """What settings say, with the defaults of what they leave out."""
    default = EngineOptions()
    return EngineOptions(
        mesh_provider=said.mesh_provider or default.mesh_provider,
        metrics_server=said.metrics_server or METRICS_SERVER,
        selector_labels=tuple(said.selector_labels or default.selector_labels),
        include_label_prefix=tuple(said.include_label_prefix or ()),
        ingress_class=said.ingress_class or "",
        cluster_name=said.cluster_name or cluster_name,
        event_webhook=said.event_webhook or "",
        shortest_interval=shortest_interval,
    )


def fleets_by_member(fleets: Iterable[Fleet | None]) -> dict[Member, list[Fleet]]:
    """The Fleets that name each member, the oldest first: that one says what runs the canaries there."""
    found: dict[Member, list[Fleet]] = {}
    for fleet in sorted((each for each in fleets if each is not None and _is_there(each)), key=_age):
        for member in set(_members(fleet)):
            found.setdefault(member, []).append(fleet)
    return found


def conflict(cluster: ClusterReference, own: Fleet | None, winner: Fleet | None) -> Conflict | None:
    """Whether the Fleet that leads an Application to `cluster` is overruled there."""
    if own is None or winner is None or engine_of(own) == engine_of(winner):
        return None
    return Conflict(cluster, own, winner)


def conflict_message(conflicts: Sequence[Conflict]) -> str:
    """What each pair of Fleets disagrees about, and how to end it."""
    pairs: dict[tuple[str, str], list[Conflict]] = {}
    for each in conflicts:
        pairs.setdefault((name_of(each.winner), name_of(each.loser)), []).append(each)
    return "; ".join(_sentence(found) for found in pairs.values())


def name_of(fleet: Fleet) -> str:
    """How messages name a Fleet."""
    return f"Fleet/{fleet.metadata.namespace}/{fleet.metadata.name}"


def _sentence(conflicts: Sequence[Conflict]) -> str:
    winner, loser = conflicts[0].winner, conflicts[0].loser
    clusters = list(dict.fromkeys(f"{each.cluster.kind}/{each.cluster.name}" for each in conflicts))
    more = [f"and {len(clusters) - NAMED} more"] if len(clusters) > NAMED else []
    return (
        f"{', '.join([*clusters[:NAMED], *more])}: {name_of(winner)} is older and has engine {engine_of(winner)},"
        f" {name_of(loser)} wants {engine_of(loser)}; set spec.rolloutEngine.mode alike,"
        " or take the cluster out of one of them"
    )


def _is_there(fleet: Fleet) -> bool:
    return fleet.metadata.deletion_timestamp is None


def _members(fleet: Fleet) -> Iterable[Member]:
    return ((each.kind or EMPTY_KIND, each.name or "") for each in fleet.spec.clusters)


def _age(fleet: Fleet) -> tuple[str, str]:
    return fleet.metadata.creation_timestamp or "", fleet.metadata.name
