"""The service's metrics, as objects that every layer may count with; faces.telemetry serves them.

Label sets are bounded: of everything there is one series a cluster at most, except of Canaries, whose series go when
they do.
"""

from __future__ import annotations

import importlib.metadata

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from fleet_rollout.series import Durations, Values

REGISTRY = CollectorRegistry()

_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_WORK = (0.05, 0.25, 1, 5, 15, 60, 300)

RECONCILE_DURATION = Histogram(
    "fleet_rollout_reconcile_duration_seconds",
    "Time one reconcile took.",
    ["kind", "result"],  # result: success, waiting, retry, stalled, error
    buckets=_SECONDS,
    registry=REGISTRY,
)
QUEUE_DEPTH = Gauge(
    "fleet_rollout_queue_depth", "Keys that are due and wait for a worker.", ["queue"], registry=REGISTRY
)
OLDEST_KEY_AGE = Gauge(
    "fleet_rollout_oldest_key_age_seconds",
    "How long the key that is overdue the longest has been waiting.",
    ["queue"],
    registry=REGISTRY,
)
WATCH_AGE = Gauge(
    "fleet_rollout_watch_age_seconds",
    "Time since the quietest watch of a cluster said anything, bookmarks included.",
    ["cluster"],
    registry=REGISTRY,
)
MEMBER_UP = Values(
    "fleet_rollout_member_up", "1 where the member answers, 0 where it does not.", ["cluster"], registry=REGISTRY
)
POLICY_BOUND = Gauge(
    "fleet_rollout_policy_bound",
    "1 where an admission policy of config/policies is in force, 0 where it is not; absent in a namespaced install.",
    ["policy"],
    registry=REGISTRY,
)
REQUESTS = Counter(
    "fleet_rollout_requests_total",
    "Requests to API servers.",
    ["target", "verb", "code"],  # target: hub or member; code: 2xx, 3xx, 4xx, 5xx or none
    registry=REGISTRY,
)
BUILD_DURATION = Histogram(
    "fleet_rollout_build_duration_seconds",
    "Time one kustomize build took, waiting included; builds answered from memory are not counted.",
    ["result"],  # success or failure
    buckets=_WORK,
    registry=REGISTRY,
)
FETCH_DURATION = Histogram(
    "fleet_rollout_fetch_duration_seconds",
    "Time one look at a source took.",
    ["result"],  # changed, unchanged or failure
    buckets=_WORK,
    registry=REGISTRY,
)
EVENTS_DROPPED = Counter(
    "fleet_rollout_events_dropped_total",
    "Kubernetes Events not written: too many at once, or refused by the API server.",
    registry=REGISTRY,
)
TICK_LATENESS = Histogram(
    "fleet_rollout_tick_lateness_seconds",
    "How much later than due the ticks of Canaries began.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
CANARY_PHASE = Values(
    "fleet_rollout_canary_phase",
    "1 for the phase that a canary is in.",
    ["name", "namespace", "cluster", "phase"],
    registry=REGISTRY,
)
CANARY_UNMEASURED = Counter(
    "fleet_rollout_canary_unmeasured",
    "Checks of a metric that got no value to judge.",
    ["name", "namespace", "metric", "cluster", "reason"],  # reason: no_values or error
    registry=REGISTRY,
)
# Flagger's own metrics, under its names, so that its dashboards and alert rules keep working. `name` is the target's.
ENGINE_INFO = Values(
    "flagger_info", "The engine of a cluster's canaries.", ["version", "mesh_provider", "cluster"], registry=REGISTRY
)
CANARY_STATUS = Values(
    "flagger_canary_status",
    "How a canary stands: 0 while it is analysed, 2 after a failure, 1 otherwise.",
    ["name", "namespace", "cluster"],
    registry=REGISTRY,
)
CANARY_WEIGHT = Values(
    "flagger_canary_weight",
    "Share of the traffic that a workload gets, in percent.",
    ["workload", "namespace", "cluster"],
    registry=REGISTRY,
)
CANARY_TOTAL = Values("flagger_canary_total", "Canaries that are driven.", ["namespace", "cluster"], registry=REGISTRY)
CANARY_DURATION = Durations(
    "flagger_canary_duration_seconds",
    "Time that ticks with an analysis took.",
    ["name", "namespace", "cluster"],
    registry=REGISTRY,
)
CANARY_METRIC = Values(
    "flagger_canary_metric_analysis",
    "Last value of a metric of a canary analysis; durations are in seconds.",
    ["name", "namespace", "metric", "cluster"],
    registry=REGISTRY,
)
CANARY_SUCCESSES = Counter(
    "flagger_canary_successes",
    "Canary analyses that have succeeded.",
    ["name", "namespace", "deployment_strategy", "analysis_status", "cluster"],
    registry=REGISTRY,
)
CANARY_FAILURES = Counter(
    "flagger_canary_failures",
    "Canary analyses that have failed.",
    ["name", "namespace", "deployment_strategy", "analysis_status", "cluster"],
    registry=REGISTRY,
)
_STATUS_OF_PHASE = {"Progressing": 0, "Failed": 2}
# The phase that is shown of each Canary (target, namespace, cluster): looking for its series among all of them at every
# tick would cost a thousand Canaries more than the ticks.
_SHOWN_PHASES: dict[tuple[str, str, str], str] = {}
# The provider that is shown of the engine of each cluster, for the same reason.
_SHOWN_PROVIDERS: dict[str, str] = {}
LEADER = Gauge("fleet_rollout_leader", "1 on the replica that leads.", registry=REGISTRY)
TASKS = Gauge("fleet_rollout_tasks", "Tasks of the event loop: what goes on at the same time.", registry=REGISTRY)


def reconciled(kind: str, result: str, seconds: float) -> None:
    """Count one reconcile of an object of `kind`."""
    RECONCILE_DURATION.labels(kind=kind, result=result).observe(seconds)


def show_engine(cluster: str, mesh_provider: str) -> None:
    """The engine of a cluster runs, with this provider for Canaries that name none."""
    before = _SHOWN_PROVIDERS.get(cluster)
    if before == mesh_provider:
        return
    version = importlib.metadata.version("fleet-rollout")
    if before is not None:
        ENGINE_INFO.remove(version, before, cluster)
    _SHOWN_PROVIDERS[cluster] = mesh_provider
    ENGINE_INFO.labels(version=version, mesh_provider=mesh_provider, cluster=cluster).set(1)


def forget_engine(cluster: str) -> None:
    """The engine of a cluster has ended."""
    _SHOWN_PROVIDERS.pop(cluster, None)
    for series in (ENGINE_INFO, CANARY_TOTAL):
        series.remove_by_labels({"cluster": cluster})


def show_phase(target: str, namespace: str, cluster: str, phase: str) -> None:
    """A Canary is in this phase."""
    canary = (target, namespace, cluster)
    before = _SHOWN_PHASES.get(canary)
    if before == phase:
        return
    if before is not None:
        CANARY_PHASE.remove(*canary, before)
    _SHOWN_PHASES[canary] = phase
    CANARY_STATUS.labels(*canary).set(_STATUS_OF_PHASE.get(phase, 1))
    CANARY_PHASE.labels(*canary, phase).set(1)


def forget_cluster(cluster: str) -> None:
    """Drop the series of a cluster that is gone."""
    for gauge in (WATCH_AGE, MEMBER_UP):
        gauge.remove_by_labels({"cluster": cluster})


def forget_canary(target: str, namespace: str, cluster: str) -> None:
    """Drop the series of a Canary that is gone."""
    named = {"name": target, "namespace": namespace, "cluster": cluster}
    _SHOWN_PHASES.pop((target, namespace, cluster), None)
    for series in (
        CANARY_STATUS,
        CANARY_PHASE,
        CANARY_DURATION,
        CANARY_METRIC,
        CANARY_UNMEASURED,
        CANARY_SUCCESSES,
        CANARY_FAILURES,
    ):
        series.remove_by_labels(named)
    for workload in (target, f"{target}-primary"):
        CANARY_WEIGHT.remove_by_labels({"workload": workload, "namespace": namespace, "cluster": cluster})
