"""Whose fields are taken over, what the patch holds, and that the takeover happens once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_rollout.decide.fields import merged, owns, takeover


def entry(manager, operation="Apply", fields=None, **rest):
    found = {"f:data": {"f:a": {}}} if fields is None else fields
    return {"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsV1": found, **rest}


def live(*entries, labels=None, annotations=None):
    metadata = {"name": "x", "resourceVersion": "7", "managedFields": list(entries)}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {**metadata, "labels": labels, "annotations": annotations},
    }


GUARD = {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"}


@pytest.mark.parametrize(
    ("manager", "operation", "is_taken"),
    [
        ("kubectl", "Apply", True),
        ("kubectl", "Update", True),
        ("kubectl-client-side-apply", "Update", True),
        ("kubectl-edit", "Update", True),
        ("before-first-apply", "Update", True),
        ("before-first-apply", "Apply", False),
        ("kustomize-controller", "Update", True),
        ("kustomize-controller", "Apply", True),
        ("kustomize-controller-2", "Apply", False),
        ("fleet-rollout", "Update", True),
        ("fleet-rollout-rollout", "Apply", False),
        ("fleet-rollout-scale", "Apply", False),
        ("helm", "Update", False),
        ("kube-controller-manager", "Update", False),
    ],
)
def test_a_predecessor_is_taken_over_and_others_keep_what_they_own(manager, operation, is_taken):
    patch = takeover(live(entry(manager, operation)))
    expected = {"op": "replace", "path": "/metadata/managedFields", "value": [entry("fleet-rollout")]}
    assert patch == ([expected, GUARD] if is_taken else [])


def test_what_was_written_to_a_subresource_stays_with_its_writer():
    assert takeover(live(entry("kubectl", "Update", subresource="scale"))) == []


def test_the_fields_are_merged_into_our_entry_and_the_rest_keeps_its_order():
    ours = entry("fleet-rollout", fields={"f:data": {"f:a": {}, ".": {}}})
    ours_in_status = entry("fleet-rollout", subresource="status")
    kubectl = entry("kubectl-edit", "Update", {"f:data": {"f:b": {}}, "f:metadata": {"f:labels": {"f:x": {}}}})
    helm, empty = entry("helm", "Update"), {"manager": "kubectl", "operation": "Update"}
    found = merged([helm, kubectl, ours_in_status, ours, empty])
    fields = {"f:data": {"f:a": {}, ".": {}, "f:b": {}}, "f:metadata": {"f:labels": {"f:x": {}}}}
    assert found == [{**ours, "fieldsV1": fields}, helm, ours_in_status]


def test_traces_of_other_tools_are_removed_in_the_same_patch():
    traces = {
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        "kustomize.toolkit.fluxcd.io/checksum": "x",
        "fluxcd.io/sync-checksum": "x",
        "team": "a",
    }
    patch = takeover(live(annotations=traces, labels={"fluxcd.io/sync-gc-mark": "x", "app": "web"}))
    assert patch == [
        {"op": "remove", "path": "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration"},
        {"op": "remove", "path": "/metadata/annotations/kustomize.toolkit.fluxcd.io~1checksum"},
        {"op": "remove", "path": "/metadata/annotations/fluxcd.io~1sync-checksum"},
        {"op": "remove", "path": "/metadata/labels/fluxcd.io~1sync-gc-mark"},
        GUARD,
    ]


def test_nothing_is_patched_where_there_is_nothing_to_take():
    assert takeover(live(entry("fleet-rollout"), entry("kube-controller-manager", "Update"))) == []


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([entry("fleet-rollout", fields={"f:spec": {"f:replicas": {}}})], True),
        ([entry("kubectl", "Update", {"f:spec": {"f:replicas": {}}})], True),
        ([entry("fleet-rollout", fields={"f:spec": {"f:selector": {}}})], False),
        ([entry("fleet-rollout", fields={"f:metadata": {}})], False),
        ([entry("fleet-rollout", fields={"f:spec": {"f:replicas": {}}}, subresource="scale")], False),
        ([entry("fleet-rollout-scale", fields={"f:spec": {"f:replicas": {}}})], False),
        ([], False),
    ],
)
def test_ownership_of_a_field_counts_what_will_be_taken_over(entries, expected):
    assert owns(live(*entries), ("spec", "replicas")) is expected


tries = st.recursive(
    st.just({}), lambda inner: st.dictionaries(st.sampled_from(["f:a", "f:b", "."]), inner, max_size=3), max_leaves=8
)
managers = st.sampled_from(["kubectl-edit", "kustomize-controller", "fleet-rollout", "helm"])
found_entries = st.lists(
    st.builds(entry, managers, st.sampled_from(["Apply", "Update"]), tries),
    max_size=4,
    unique_by=lambda found: (found["manager"], found["operation"]),
)


def leaves(trie, path=()):
    return {path} | {leaf for key, value in trie.items() for leaf in leaves(value, (*path, key))}


@given(found_entries)
def test_a_takeover_happens_once_and_loses_no_owner(entries):
    after = merged(entries)
    assert merged(after) == after
    owned = {leaf for found in entries for leaf in leaves(found["fieldsV1"])}
    assert {leaf for found in after for leaf in leaves(found["fieldsV1"])} == owned
