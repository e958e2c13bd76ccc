"""Reference 3.2: what differs between the Pods of target and primary."""

from __future__ import annotations

import copy

import pytest

from fleet_rollout.decide.canary.primary_pods import primary_template, without_scale_down
from tests.decide.canary.workloads import FLAGGER_ID, daemon_set, deployment, pod_template, subject, workload

ZERO = "flagger.app/scale-to-zero"


def pods(target, *configs):
    before = copy.deepcopy(target)
    _, spec = primary_template(subject(target["kind"]), target, configs, FLAGGER_ID)
    assert target == before
    return spec


def selector(*values, key="app", name=None):
    found = {"matchExpressions": [{"key": key, "operator": "In", "values": list(values)}]} if values else {}
    return found | ({"matchLabels": {key: name}} if name else {})


RENAMED = [
    (selector(name="podinfo"), selector(name="podinfo-primary")),
    (selector("podinfo"), selector("podinfo-primary")),
    (selector("a", "podinfo", "b"), selector("a", "podinfo-primary", "b")),
    (
        selector(name="podinfo", key="app.kubernetes.io/name"),
        selector(name="podinfo-primary", key="app.kubernetes.io/name"),
    ),
    (selector("other", name="other"), selector("other", name="other")),
    (selector("podinfo", name="podinfo", key="tier"), selector("podinfo", name="podinfo", key="tier")),
    (
        {"matchExpressions": [{"key": "app", "operator": "Exists"}]},
        {"matchExpressions": [{"key": "app", "operator": "Exists"}]},
    ),
    ({}, {}),
    (None, None),
]


def term(chosen):
    return {"topologyKey": "zone", **({"labelSelector": copy.deepcopy(chosen)} if chosen is not None else {})}


def anti(chosen):
    preferred = [{"weight": 1, "podAffinityTerm": term(chosen)}]
    return {
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": preferred,
            "requiredDuringSchedulingIgnoredDuringExecution": [term(chosen)],
        }
    }


def together(chosen):
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term(chosen)]}}


@pytest.mark.parametrize(("given", "expected"), RENAMED)
def test_pods_of_a_deployment_keep_away_from_their_own_version(given, expected):
    template = pod_template(topologySpreadConstraints=[term(given)], affinity={**anti(given), **together(given)})
    spec = pods(deployment(template=template))
    assert spec["topologySpreadConstraints"] == [term(expected)]
    assert spec["affinity"] == {**anti(expected), **together(given)}


def test_it_is_the_targets_name_that_counts_not_the_labels_value():
    template = pod_template(topologySpreadConstraints=[term(selector(name="podinfo"))])
    target = deployment(template=template)
    about = subject()
    about = type(about)(about.raw, about.options, "app", "web")
    maps, spec = primary_template(about, target, (), FLAGGER_ID)
    assert spec["topologySpreadConstraints"] == [term(selector(name="podinfo-primary"))]
    assert maps["labels"] == {"app": "web-primary"}


def test_a_daemon_sets_selectors_are_left_alone():
    affinity = anti(selector(name="podinfo"))
    template = pod_template(topologySpreadConstraints=[term(selector(name="podinfo"))], affinity=affinity)
    assert pods(daemon_set(template=template)) == template["spec"]


@pytest.mark.parametrize("affinity", [{}, {"nodeAffinity": {}}, {"podAntiAffinity": {}}, None])
def test_other_affinities_are_copied(affinity):
    assert pods(deployment(template=pod_template(affinity=affinity)))["affinity"] == affinity


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ({ZERO: "true", "disk": "ssd"}, {"nodeSelector": {"disk": "ssd"}}),
        ({ZERO: "true"}, {}),
        ({}, {}),
        ({"disk": "ssd"}, {"nodeSelector": {"disk": "ssd"}}),
        (None, {}),
    ],
)
def test_a_daemon_sets_primary_is_not_scaled_to_zero(nodes, expected):
    template = pod_template(**({"nodeSelector": nodes} if nodes is not None else {}))
    spec = pods(daemon_set(template=template))
    assert {name: value for name, value in spec.items() if name == "nodeSelector"} == expected
    assert without_scale_down(template["spec"]) == spec


@pytest.mark.parametrize("kind", ["Deployment", "DaemonSet"])
def test_the_id_of_the_target_is_not_kept(kind):
    annotations = {"flagger-id": "old", "a": "b", "kustomize.toolkit.fluxcd.io/checksum": "x"}
    labels = {"app": "podinfo", "tier": "web", "kustomize.toolkit.fluxcd.io/name": "x"}
    target = workload(kind, template=pod_template(labels=labels, annotations=annotations))
    maps, _ = primary_template(subject(kind), target, (), FLAGGER_ID)
    assert maps == {
        "labels": {"app": "podinfo-primary", "tier": "web"},
        "annotations": {"a": "b", "flagger-id": FLAGGER_ID},
    }


def test_a_template_may_have_no_metadata_at_all():
    target = deployment()
    del target["spec"]["template"]["metadata"]
    maps, _ = primary_template(subject(), target, (), FLAGGER_ID)
    assert maps["labels"] == {"app": "podinfo-primary"}
