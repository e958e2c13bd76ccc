"""What has to change in old manifests: each form of a metric, both versions of autoscalers, Canaries, and lists."""

from __future__ import annotations

import pytest

from fleet_rollout.decide.migrate import (
    Exchange,
    Rename,
    Replace,
    Unmigratable,
    changes_of,
    field_text,
    title_of,
)

AT = ("spec", "metrics", 0)
OBJECT = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "main"}
SELECTOR = {"matchLabels": {"queue": "mail"}}
TO_V2 = Replace(("apiVersion",), "autoscaling/v2")


def scaler(*metrics, version="v2beta1", **fields):
    spec = {"scaleTargetRef": {"kind": "Deployment", "name": "cart"}, "metrics": list(metrics)}
    return {"apiVersion": f"autoscaling/{version}", "kind": "HorizontalPodAutoscaler", "spec": spec} | fields


def canary(version="v1alpha3", **spec):
    return {"apiVersion": f"flagger.app/{version}", "kind": "Canary", "spec": spec}


def resource(**source):
    return {"type": "Resource", "resource": {"name": "cpu", **source}}


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (
            resource(targetAverageUtilization=99),
            Exchange(
                (*AT, "resource", "targetAverageUtilization"),
                "target",
                {"type": "Utilization", "averageUtilization": 99},
            ),
        ),
        (
            resource(targetAverageValue="500m"),
            Exchange(
                (*AT, "resource", "targetAverageValue"), "target", {"type": "AverageValue", "averageValue": "500m"}
            ),
        ),
        (
            {
                "type": "ContainerResource",
                "containerResource": {"name": "cpu", "container": "web", "targetAverageUtilization": 60},
            },
            Exchange(
                (*AT, "containerResource", "targetAverageUtilization"),
                "target",
                {"type": "Utilization", "averageUtilization": 60},
            ),
        ),
        (
            {"type": "Pods", "pods": {"metricName": "packets", "targetAverageValue": "1k"}},
            Replace(
                (*AT, "pods"),
                {"metric": {"name": "packets"}, "target": {"type": "AverageValue", "averageValue": "1k"}},
            ),
        ),
        (
            {"type": "Pods", "pods": {"metricName": "packets", "targetAverageValue": "1k", "selector": SELECTOR}},
            Replace(
                (*AT, "pods"),
                {
                    "metric": {"name": "packets", "selector": SELECTOR},
                    "target": {"type": "AverageValue", "averageValue": "1k"},
                },
            ),
        ),
        (
            {"type": "Object", "object": {"target": OBJECT, "metricName": "rps", "targetValue": 100}},
            Replace(
                (*AT, "object"),
                {"describedObject": OBJECT, "metric": {"name": "rps"}, "target": {"type": "Value", "value": 100}},
            ),
        ),
        (
            {
                "type": "Object",
                "object": {"target": OBJECT, "metricName": "rps", "targetValue": 100, "averageValue": 10},
            },
            Replace(
                (*AT, "object"),
                {
                    "describedObject": OBJECT,
                    "metric": {"name": "rps"},
                    "target": {"type": "AverageValue", "averageValue": 10},
                },
            ),
        ),
        (
            {"type": "External", "external": {"metricName": "mails", "metricSelector": SELECTOR, "targetValue": 30}},
            Replace(
                (*AT, "external"),
                {"metric": {"name": "mails", "selector": SELECTOR}, "target": {"type": "Value", "value": 30}},
            ),
        ),
        (
            {"type": "External", "external": {"metricName": "mails", "targetAverageValue": 5}},
            Replace(
                (*AT, "external"), {"metric": {"name": "mails"}, "target": {"type": "AverageValue", "averageValue": 5}}
            ),
        ),
        # Fields of v2 under the name of the old version.
        (resource(target={"type": "Utilization", "averageUtilization": 99}), None),
        ({"type": "Pods", "pods": {"metric": {"name": "packets"}, "target": {"type": "AverageValue"}}}, None),
    ],
)
def test_each_form_of_a_metric_becomes_that_of_v2(metric, expected):
    assert changes_of(scaler(metric)) == [TO_V2, *([expected] if expected else [])]


def test_of_the_newer_retired_version_only_the_name_changes():
    metric = resource(target={"type": "Utilization", "averageUtilization": 99})
    assert changes_of(scaler(metric, version="v2beta2", status={"currentMetrics": []})) == [TO_V2]


def test_what_the_old_controller_has_observed_is_dropped():
    assert changes_of(scaler(status={"currentMetrics": [], "desiredReplicas": 1})) == [TO_V2, Replace(("status",), {})]
    assert changes_of(scaler(status={"desiredReplicas": 1})) == [TO_V2]


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ({"type": "Cpu"}, "spec.metrics[0].type: 'Cpu' is no type of metric; use one of Resource, ContainerResource, "),
        ({}, "spec.metrics[0].type: None is no type of metric"),
        ("cpu", "spec.metrics[0].type: None is no type of metric"),
        ({"type": "Pods"}, "spec.metrics[0].pods: a metric of type Pods is described here; add it"),
        (
            resource(),
            "spec.metrics[0].resource: there is no target; set targetAverageUtilization or targetAverageValue",
        ),
        (
            resource(targetAverageUtilization=1, targetAverageValue=2),
            "spec.metrics[0].resource: targetAverageUtilization and targetAverageValue exclude each other; remove one",
        ),
        (
            {"type": "Pods", "pods": {"targetAverageValue": 1}},
            "spec.metrics[0].pods.metricName: the metric has no name; set it",
        ),
    ],
)
def test_a_metric_that_cannot_be_read_is_named(metric, message):
    with pytest.raises(Unmigratable) as raised:
        changes_of(scaler(metric))
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (canary(), [Replace(("apiVersion",), "flagger.app/v1beta1")]),
        (
            canary(
                canaryAnalysis={},
                autoscalerRef={"apiVersion": "autoscaling/v2beta1", "kind": "HorizontalPodAutoscaler"},
            ),
            [
                Replace(("apiVersion",), "flagger.app/v1beta1"),
                Rename(("spec", "canaryAnalysis"), "analysis"),
                Replace(("spec", "autoscalerRef", "apiVersion"), "autoscaling/v2"),
            ],
        ),
        (
            canary("v1beta1", canaryAnalysis={}, autoscalerRef={"apiVersion": "keda.sh/v1alpha1"}),
            [Rename(("spec", "canaryAnalysis"), "analysis")],
        ),
        (canary("v1beta1", analysis={}), []),
        (
            {"apiVersion": "flagger.app/v1alpha3", "kind": "AlertProvider"},
            [Replace(("apiVersion",), "flagger.app/v1beta1")],
        ),
        ({"apiVersion": "other.example/v1alpha3", "kind": "Canary", "spec": {"canaryAnalysis": {}}}, []),
        ({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler"}, []),
        ({"apiVersion": "autoscaling/v2beta1", "kind": "Other"}, []),
        (None, []),
        ("text", []),
        ([canary()], []),
        ({"kind": "Canary", "apiVersion": "flagger.app/v1beta1", "spec": None}, []),
    ],
)
def test_a_canary_and_its_autoscaler_get_their_present_names(given, expected):
    assert changes_of(given) == expected


def test_two_analyses_are_one_too_many():
    with pytest.raises(Unmigratable, match=r"^items\[1\]\.spec\.canaryAnalysis: spec\.analysis is there too"):
        changes_of({"kind": "List", "items": [None, canary(canaryAnalysis={}, analysis={})]})


def test_the_items_of_a_list_are_manifests_too():
    found = changes_of({"apiVersion": "v1", "kind": "List", "items": [scaler(), canary("v1beta1"), canary()]})
    assert found == [
        Replace(("items", 0, "apiVersion"), "autoscaling/v2"),
        Replace(("items", 2, "apiVersion"), "flagger.app/v1beta1"),
    ]


def test_messages_name_what_is_known_of_a_manifest():
    assert title_of({"kind": "Canary", "metadata": {"name": "cart", "namespace": "shop"}}) == "Canary shop/cart"
    assert title_of({"kind": "List"}) == "List"
    assert title_of(None) == ""
    assert field_text(("items", 0, "spec", "metrics", 1, "type")) == "items[0].spec.metrics[1].type"
