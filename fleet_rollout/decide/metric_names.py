"""Does each metric of one's own have a name for itself? A MetricTemplate is called as the metric is (Kurator's rule).

Where two of them share a name in one namespace, or with a built-in metric, a version would be judged by another query
than its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fleet_rollout.decide.inventory import Ref, entry_of
from fleet_rollout.decide.problems import Problem
from fleet_rollout_api.rollout import Metric, RolloutConfig

BUILT_IN_METRICS = frozenset({"request-success-rate", "request-duration"})
TEMPLATE = "MetricTemplate"
Spec = dict[str, Any]

FIELD = "rollout.rolloutPolicy.trafficAnalysis.metrics"


def metrics_of(rollout: RolloutConfig) -> Sequence[Metric]:
    """What is measured, in its order."""
    analysis = rollout.rollout_policy.traffic_analysis
    return (analysis.metrics if analysis else None) or ()


def templates_of(rollout: RolloutConfig) -> dict[str, Spec]:
    """By name, the queries that the rollout brings, as MetricTemplates hold them."""
    return dict(_own(rollout))


def template_ids(rollout: RolloutConfig) -> set[str]:
    """The same as an inventory names them."""
    return {_id(name, rollout.workload.namespace or "") for name in templates_of(rollout)}


def ids_asked(canary: Mapping[str, Any]) -> set[str]:
    """The MetricTemplates that a Canary asks as it is now, whatever is wanted of it."""
    metrics = ((canary.get("spec") or {}).get("analysis") or {}).get("metrics") or ()
    found = (metric.get("templateRef") or {} for metric in metrics)
    own = canary["metadata"]["namespace"]
    return {_id(str(each["name"]), str(each.get("namespace") or own)) for each in found if each.get("name")}


def names_refused(rollout: RolloutConfig) -> list[Problem]:
    """Names of metrics that mean two queries, each told once."""
    last = templates_of(rollout)
    double = {name: None for name, spec in _own(rollout) if spec != last[name] and name not in BUILT_IN_METRICS}
    return [_is_built_in(name) for name in last if name in BUILT_IN_METRICS] + [_is_double(name) for name in double]


def names_shared(rollouts: Mapping[str, RolloutConfig]) -> list[Problem]:
    """One for each policy whose metric another one names, too, with another query. `rollouts`: all of one member."""
    places: dict[tuple[str, str], dict[str, Spec]] = {}
    for policy, rollout in rollouts.items():
        for name, spec in templates_of(rollout).items():
            places.setdefault((rollout.workload.namespace or "", name), {})[policy] = spec
    return [
        _is_shared(name, namespace, list(specs), policy)
        for (namespace, name), specs in places.items()
        if namespace and any(spec != other for spec in specs.values() for other in specs.values())
        for policy in specs
    ]


def _id(name: str, namespace: str) -> str:
    return entry_of(Ref(namespace, name, "flagger.app", TEMPLATE)).id


def _own(rollout: RolloutConfig) -> list[tuple[str, Spec]]:
    return [(each.name, each.custom_metric.dump()) for each in metrics_of(rollout) if each.custom_metric is not None]


def _is_built_in(name: str) -> Problem:
    fact = f"{name} is the name of a built-in metric, so its customMetric would not be asked"
    return Problem("RolloutInvalid", f"{FIELD}: {fact}; give it another name, or remove customMetric", terminal=True)


def _is_double(name: str) -> Problem:
    message = f"{FIELD}: {name} has two different customMetrics; give one of them another name"
    return Problem("RolloutInvalid", message, terminal=True)


def _is_shared(name: str, namespace: str, policies: Sequence[str], policy: str) -> Problem:
    who = f"{', '.join(policies[:-1])} and {policies[-1]}"
    fact = f"{name} has different customMetrics in the policies {who}, which share the namespace {namespace}"
    message = f"{FIELD}: {fact}; give one of them another name"
    return Problem("RolloutInvalid", message, terminal=True, policy=policy)
