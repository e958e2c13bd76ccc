"""Order, comparisons and words of metric checks; scenario numbers are those of the behaviour reference."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_rollout.decide.canary.checks import (
    UNUSABLE,
    Model,
    in_order,
    interval_of,
    is_about_revisions,
    judge,
    kind_of,
    measured,
    metrics_provider,
    model_of,
    no_values,
    offline,
    query_failed,
    template_failed,
    template_of,
)
from fleet_rollout.decide.canary.subject import EngineOptions, Subject

RATE = {"name": "request-success-rate"}
DURATION = {"name": "request-duration"}
INLINE = {"name": "errors", "query": "sum(x)"}
TEMPLATE = {"name": "latency", "templateRef": {"name": "p99"}}
NOTHING = {"name": "typo"}


def subject(mesh="istio", kind="Deployment", api="apps/v1", **spec):
    raw = {
        "metadata": {"name": "podinfo", "namespace": "test"},
        "spec": {"targetRef": {"apiVersion": api, "kind": kind, "name": "target"}, **spec},
    }
    return Subject(raw, EngineOptions(mesh_provider=mesh))


SUBJECT = subject()


# Order


def test_built_in_and_inline_metrics_come_before_templates_and_mistakes():
    assert in_order([TEMPLATE, NOTHING, INLINE, DURATION, RATE]) == [INLINE, DURATION, RATE, TEMPLATE, NOTHING]


def test_a_metric_with_several_sources_is_several_checks():
    full = {**RATE, "query": "q", "templateRef": {"name": "t"}, "interval": "30s"}
    checks = in_order([TEMPLATE, full])
    assert [kind_of(check) for check in checks] == ["built-in", "query", "template", "template"]
    assert checks[3] == {**RATE, "templateRef": {"name": "t"}, "interval": "30s"}


@pytest.mark.parametrize(
    ("metric", "kind"),
    [
        (RATE, "built-in"),
        (DURATION, "built-in"),
        (INLINE, "query"),
        (TEMPLATE, "template"),
        (NOTHING, "none"),
        ({**NOTHING, "query": ""}, "none"),
    ],
)
def test_a_check_has_a_source(metric, kind):
    assert kind_of(metric) == kind


@pytest.mark.parametrize("metric", [RATE, INLINE, TEMPLATE])
def test_q13_every_metric_without_interval_looks_at_one_minute(metric):
    assert interval_of(metric) == "1m"
    assert interval_of({**metric, "interval": "30s"}) == "30s"


def test_a_template_is_in_the_canarys_namespace_unless_it_says_another():
    assert template_of(SUBJECT, TEMPLATE) == ("test", "p99")
    assert template_of(SUBJECT, {**TEMPLATE, "templateRef": {"name": "p99", "namespace": "flux"}}) == ("flux", "p99")


# Whose queries


@pytest.mark.parametrize(
    ("mesh", "spec", "name"),
    [
        ("istio", {}, "istio"),
        ("istio", {"provider": "nginx"}, "nginx"),
        ("smi:crossover", {}, "crossover"),
        ("smi:crossover", {"provider": "nginx"}, "nginx"),
        ("linkerd", {}, "linkerd"),
        ("smi:linkerd", {}, "smi:linkerd"),
        ("smi:linkerd", {"provider": "nginx"}, "linkerd"),
        ("istio", {"kind": "Service", "api": "v1"}, "istio:service"),
        ("istio", {"kind": "Service", "api": "v1", "provider": "nginx"}, "nginx:service"),
        ("istio", {"kind": "Service", "api": "serving.knative.dev/v1", "provider": "knative"}, "knative"),
    ],
)
def test_the_provider_of_built_in_queries(mesh, spec, name):
    assert metrics_provider(subject(mesh, **spec)) == name


@pytest.mark.parametrize(
    ("mesh", "spec", "is_about"),
    [("istio", {}, False), ("knative", {}, True), ("istio", {"provider": "knative"}, True)],
)
def test_knatives_queries_are_about_revisions(mesh, spec, is_about):
    assert is_about_revisions(subject(mesh, **spec)) is is_about


def test_names_in_queries_fall_back_to_the_target():
    expected = Model("podinfo", "test", "target", "target", "target", "target", "1m")
    assert model_of(SUBJECT, RATE) == expected


def test_names_in_queries_are_those_of_the_references():
    found = subject(service={"name": "svc"}, ingressRef={"name": "ing"}, routeRef={"name": "rt"})
    metric = {**INLINE, "interval": "30s", "templateVariables": {"a": "b"}}
    assert model_of(found, metric) == Model("podinfo", "test", "target", "svc", "ing", "rt", "30s", {"a": "b"})
    assert model_of(found, metric, revision="target-00002").route == "target-00002"


# Comparisons

HALT = "Halt podinfo.test advancement "
JUDGED = [
    (RATE, {"thresholdRange": {"min": 99}}, 99.0, None),
    (RATE, {"thresholdRange": {"min": 99}}, 98.999, "success rate 99.00% < 99%"),
    (RATE, {"thresholdRange": {"min": 99.5, "max": 100}}, 100.5, "success rate 100.50% > 100%"),
    (RATE, {"thresholdRange": {"max": 50}}, 50.0, None),
    (RATE, {"thresholdRange": {}}, 0.0, None),
    (RATE, {"threshold": 99}, 99.0, None),
    (RATE, {"threshold": 99}, 90.0, "success rate 90.00% < 99%"),
    (RATE, {}, 0.0, None),
    (RATE, {"thresholdRange": {"min": 99}, "threshold": 100}, 99.5, None),
    (DURATION, {"thresholdRange": {"max": 500}}, 500.0, None),
    (DURATION, {"thresholdRange": {"min": 10, "max": 500}}, 9.9, "request duration 9ms < 10ms"),
    (DURATION, {"thresholdRange": {"max": 60000}}, 61500.0, "request duration 1m1.5s > 1m0s"),
    (DURATION, {"threshold": 50.9}, 50.99, None),
    (DURATION, {}, 1.0, "request duration 1ms > 0s"),
    (DURATION, {"thresholdRange": {"min": -1}}, -2.0, "request duration -2ms < -1ms"),
    (DURATION, {"thresholdRange": {"max": 500}}, math.inf, "request duration 2562047h47m16.854s > 500ms"),
    (INLINE, {"thresholdRange": {"min": 1, "max": 2}}, 0.5, "errors 0.50 < 1"),
    (INLINE, {"thresholdRange": {"min": 1, "max": 2}}, 2.0, None),
    (INLINE, {"threshold": 1e6}, 2e6, "errors 2000000.00 > 1e+06"),
    (INLINE, {}, 0.001, "errors 0.00 > 0"),
    (TEMPLATE, {"thresholdRange": {"max": 99.5}}, math.inf, "latency +Inf > 99.5"),
    (TEMPLATE, {"thresholdRange": {"min": 99.5}}, -math.inf, "latency -Inf < 99.5"),
]


@pytest.mark.parametrize(("metric", "bounds", "value", "text"), JUDGED)
def test_a_value_is_compared_with_its_bounds(metric, bounds, value, text):
    assert judge(SUBJECT, {**metric, **bounds}, value) == (None if text is None else HALT + text)


@pytest.mark.parametrize(
    ("largest", "value", "text"),
    [
        (0.5, 0.9, None),
        (0.5, 1.0, "request duration 1ms > 0s"),
        (500.9, 500.95, None),
        (500.9, 501.0, "request duration 501ms > 500ms"),
    ],
)
def test_s52_durations_and_their_bounds_are_whole_milliseconds(largest, value, text):
    metric = {**DURATION, "thresholdRange": {"max": largest}}
    assert judge(SUBJECT, metric, value) == (None if text is None else HALT + text)


def test_s53_an_old_threshold_is_a_minimum_only_for_the_success_rate():
    metrics = [{**RATE, "threshold": 99}, {**DURATION, "threshold": 50}, {**INLINE, "threshold": 60}]
    assert [judge(SUBJECT, metric, 99.0) for metric in in_order(metrics)] == [
        None,
        HALT + "request duration 99ms > 50ms",
        HALT + "errors 99.00 > 60",
    ]


def test_s54_q13_a_template_without_interval_and_threshold():
    assert model_of(SUBJECT, TEMPLATE).interval == "1m"
    assert judge(SUBJECT, TEMPLATE, 7.0) == HALT + "latency 7.00 > 0"


@pytest.mark.parametrize("metric", [RATE, DURATION, INLINE, TEMPLATE])
@pytest.mark.parametrize("bounds", [{"thresholdRange": {}}, {"thresholdRange": {"min": -1, "max": 1}}, {}])
def test_s13_no_number_never_passes(metric, bounds):
    assert "no values found" in judge(SUBJECT, {**metric, **bounds}, math.nan)


bound = st.none() | st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(st.floats(allow_nan=False), bound, bound)
def test_a_value_passes_exactly_when_it_is_inside(value, low, high):
    metric = {**INLINE, "thresholdRange": {"min": low, "max": high}}
    inside = (low is None or low <= value) and (high is None or value <= high)
    assert (judge(SUBJECT, metric, value) is None) is inside


@given(st.floats(allow_nan=False))
def test_a_duration_is_shown_and_compared_as_the_same_number(value):
    metric = {**DURATION, "thresholdRange": {"max": measured(DURATION, value)}}
    assert judge(SUBJECT, metric, value) is None


# Words where there is no value

RECEIVING = (
    "Halt advancement no values found for istio metric request-success-rate probably target.test is not receiving"
)


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        (RATE, f"{RECEIVING} traffic: running query failed: no values found"),
        (DURATION, f"{RECEIVING} traffic".replace("success-rate", "duration")),
        (INLINE, "Halt advancement no values found for metric: errors"),
        (TEMPLATE, "Halt advancement no values found for custom metric: latency: no values found"),
    ],
)
def test_no_values_is_told(metric, text):
    assert no_values(SUBJECT, metric) == text


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        (RATE, "Prometheus query failed: running query failed: no answer"),
        (DURATION, "Prometheus query failed: running query failed: no answer"),
        (INLINE, "Prometheus query failed for errors: no answer"),
        (TEMPLATE, "Metric query failed for latency: no answer"),
        (NOTHING, UNUSABLE),
    ],
)
def test_a_query_that_failed_is_told(metric, text):
    assert query_failed(SUBJECT, metric, "no answer") == text


@pytest.mark.parametrize("provider", ["kubernetes", "gatewayapi:v1"])
def test_one_observer_says_less(provider):
    found = subject(provider=provider)
    assert no_values(found, RATE).endswith("traffic: no values found")
    assert query_failed(found, RATE, "x") == "Prometheus query failed: x"
    assert query_failed(found, DURATION, "x") == "Prometheus query failed: running query failed: x"


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("", "Metric template p99.test error: not found"),
        ("secret s", "Metric template p99.test secret s error: not found"),
        ("provider datadog", "Metric template p99.test provider datadog error: not found"),
        ("query render", "Metric template p99.test query render error: not found"),
    ],
)
def test_a_template_that_cannot_be_used_is_told(part, text):
    assert template_failed(SUBJECT, TEMPLATE, "not found", part=part) == text


def test_a_backend_that_is_not_there_is_told():
    assert offline(SUBJECT, RATE, "x") == "prometheus not avaiable: x"
    assert offline(SUBJECT, TEMPLATE, "x", provider="datadog") == "datadog in metric template p99.test not avaiable: x"
