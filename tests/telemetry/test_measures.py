"""The series of Canaries and engines: they come with them, and go when they do."""

from __future__ import annotations

import importlib.metadata

import pytest

from fleet_rollout import measures

HERE, THERE = "west", "east"
OF_CANARY = (
    "flagger_canary_status",
    "flagger_canary_weight",
    "flagger_canary_duration_seconds",
    "flagger_canary_metric_analysis",
    "flagger_canary_successes",
    "flagger_canary_failures",
    "fleet_rollout_canary_phase",
    "fleet_rollout_canary_unmeasured",
)


def measure(target: str, cluster: str) -> None:
    """Everything there is to count of one Canary."""
    named = {"name": target, "namespace": "measured", "cluster": cluster}
    measures.show_phase(target, "measured", cluster, "Progressing")
    for workload in (target, f"{target}-primary"):
        measures.CANARY_WEIGHT.labels(workload=workload, namespace="measured", cluster=cluster).set(50)
    measures.CANARY_DURATION.labels(**named).observe(1)
    measures.CANARY_METRIC.labels(**named, metric="m").set(1)
    measures.CANARY_UNMEASURED.labels(**named, metric="m", reason="error").inc()
    for counter in (measures.CANARY_SUCCESSES, measures.CANARY_FAILURES):
        counter.labels(**named, deployment_strategy="canary", analysis_status="completed").inc()


def shown(**labels: str) -> set[str]:
    """The metrics that have a series with these labels."""
    return {
        metric.name
        for metric in measures.REGISTRY.collect()
        for sample in metric.samples
        if labels.items() <= sample.labels.items()
    }


@pytest.fixture(autouse=True)
def clean():
    yield
    for cluster in (HERE, THERE):
        for target in ("web", "web-2"):
            measures.forget_canary(target, "measured", cluster)
        measures.forget_engine(cluster)


def test_a_canary_that_is_gone_leaves_no_series():
    measure("web", HERE)
    assert shown(namespace="measured", cluster=HERE) == set(OF_CANARY)
    measures.forget_canary("web", "measured", HERE)
    assert shown(namespace="measured") == set()


@pytest.mark.parametrize(("target", "cluster"), [("web-2", HERE), ("web", THERE)])
def test_the_series_of_other_canaries_stay(target, cluster):
    measure("web", HERE)
    measure(target, cluster)
    measures.forget_canary("web", "measured", HERE)
    assert shown(namespace="measured", cluster=cluster) == set(OF_CANARY)


def test_forgetting_twice_is_forgetting():
    measures.forget_canary("never-seen", "measured", HERE)


@pytest.mark.parametrize(
    ("phase", "status"),
    [("Initializing", 1), ("Progressing", 0), ("WaitingPromotion", 1), ("Succeeded", 1), ("Failed", 2), ("", 1)],
)
def test_the_phase_is_shown_alone_and_as_flagger_shows_it(phase, status):
    measures.show_phase("web", "measured", HERE, "Waiting")
    measures.show_phase("web", "measured", HERE, phase)
    named = {"name": "web", "namespace": "measured", "cluster": HERE}
    assert measures.REGISTRY.get_sample_value("flagger_canary_status", named) == status
    assert measures.REGISTRY.get_sample_value("fleet_rollout_canary_phase", {**named, "phase": phase}) == 1
    assert measures.REGISTRY.get_sample_value("fleet_rollout_canary_phase", {**named, "phase": "Waiting"}) is None


def test_an_engine_shows_its_version_and_provider_until_it_ends():
    measures.show_engine(HERE, "istio")
    measures.show_engine(HERE, "linkerd")
    measures.CANARY_TOTAL.labels(namespace="measured", cluster=HERE).set(1)
    labels = {"version": importlib.metadata.version("fleet-rollout"), "mesh_provider": "linkerd", "cluster": HERE}
    assert measures.REGISTRY.get_sample_value("flagger_info", labels) == 1
    assert shown(mesh_provider="istio", cluster=HERE) == set()
    measures.forget_engine(HERE)
    assert shown(cluster=HERE) == set()
