"""Order is a table: every row of it, and that deleting is its reverse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_rollout.decide.inventory import Ref, ref_of
from fleet_rollout.decide.order import (
    FIRST,
    LAST,
    STAGE_CLASSES,
    STAGE_DEFINITIONS,
    STAGE_REST,
    delete_ranks,
    in_ranks,
    sort_for_apply,
    stage,
)


@pytest.mark.parametrize(
    ("group", "kind", "expected"),
    [
        ("apiextensions.k8s.io", "CustomResourceDefinition", STAGE_DEFINITIONS),
        ("", "Namespace", STAGE_DEFINITIONS),
        ("rbac.authorization.k8s.io", "ClusterRole", STAGE_DEFINITIONS),
        ("example.org", "Namespace", STAGE_REST),
        ("storage.k8s.io", "StorageClass", STAGE_CLASSES),
        ("networking.k8s.io", "IngressClass", STAGE_CLASSES),
        ("gateway.networking.k8s.io", "GatewayClass", STAGE_CLASSES),
        ("cluster.x-k8s.io", "ClusterClass", STAGE_CLASSES),
        ("rbac.authorization.k8s.io", "ClusterRoleBinding", STAGE_REST),
        ("apps", "Deployment", STAGE_REST),
        ("", "ConfigMap", STAGE_REST),
    ],
)
def test_the_stage_of_a_kind(group, kind, expected):
    assert stage(Ref("", "x", group, kind)) == expected


def manifest(kind, name="x", namespace="", api_version="v1"):
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": namespace}}


def kinds(objects):
    return [obj["kind"] for obj in objects]


def test_kinds_come_in_the_documented_order_with_unknown_ones_before_the_last():
    rest = [kind for kind in FIRST if kind not in ("CustomResourceDefinition", "Namespace", "ClusterRole")]
    rest = [kind for kind in rest if not kind.endswith("Class")]
    shuffled = [manifest(kind) for kind in (*LAST[::-1], "Widget", "MetricTemplate", *rest[::-1])]
    assert kinds(sort_for_apply(shuffled)) == [*rest, "MetricTemplate", "Widget", *LAST]


def test_a_canary_comes_after_the_templates_that_judge_it():
    templates = [manifest("MetricTemplate"), manifest("AlertProvider")]
    shuffled = [manifest("Canary"), *templates, manifest("Deployment")]
    assert kinds(sort_for_apply(shuffled)) == ["Deployment", "AlertProvider", "MetricTemplate", "Canary"]


def test_definitions_come_before_classes_and_classes_before_the_rest():
    given_order = [
        manifest("ServiceAccount"),
        manifest("FooClass", api_version="example.org/v1"),
        manifest("IngressClass", api_version="networking.k8s.io/v1"),
        manifest("ClusterRole", api_version="rbac.authorization.k8s.io/v1"),
        manifest("Namespace"),
        manifest("CustomResourceDefinition", api_version="apiextensions.k8s.io/v1"),
    ]
    expected = ["CustomResourceDefinition", "Namespace", "ClusterRole", "IngressClass", "FooClass", "ServiceAccount"]
    assert kinds(sort_for_apply(given_order)) == expected


def test_other_kinds_are_sorted_by_group_then_kind_and_ties_by_namespace_then_name():
    objects = [
        manifest("B", "n", "z", "b.org/v1"),
        manifest("C", "n", "a", "a.org/v1"),
        manifest("B", "n", "a", "b.org/v1"),
        manifest("B", "m", "z", "b.org/v1"),
    ]
    expected = [("C", "a", "n"), ("B", "a", "n"), ("B", "z", "m"), ("B", "z", "n")]
    found = [(o["kind"], o["metadata"]["namespace"], o["metadata"]["name"]) for o in sort_for_apply(objects)]
    assert found == expected


refs = st.builds(
    Ref,
    st.sampled_from(["", "a", "b"]),
    st.sampled_from(["x", "y", "z"]),
    st.sampled_from(["", "apps", "example.org"]),
    st.sampled_from([*FIRST, *LAST, "Widget", "FooClass"]),
)


@given(st.lists(refs, unique=True))
def test_deleting_is_applying_backwards(objects):
    applied = [ref for group in in_ranks(objects) for ref in group]
    assert [ref for group in delete_ranks(objects) for ref in group] == applied[::-1]
    assert sorted(applied) == sorted(objects)


@given(st.lists(refs, unique=True))
def test_the_objects_of_one_rank_are_of_one_kind(objects):
    assert all(len({(ref.group, ref.kind) for ref in group}) == 1 for group in in_ranks(objects))


def test_a_stage_never_starts_before_the_one_in_front_of_it_ends():
    objects = [manifest(kind) for kind in ("ConfigMap", "FooClass", "Namespace", "Widget")]
    stages = [stage(ref_of(obj)) for obj in sort_for_apply(objects)]
    assert stages == sorted(stages)
