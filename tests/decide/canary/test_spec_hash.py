"""Reference 2.4 and ruling "Spec hashes": what counts as another revision, and what another engine has stored."""

from __future__ import annotations

import copy
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_rollout.decide.canary.effects import Fingerprint
from fleet_rollout.decide.canary.spec_hash import adopted, canonical_hash, is_foreign, revision_hash, template_hash
from tests.decide.canary.workloads import pod_template, subject

ZERO = {"flagger.app/scale-to-zero": "true"}


def test_the_form_is_ours():
    """Stored in every Canary's status: another value for the same template would start a canary everywhere."""
    assert template_hash(pod_template()) == "v1:638d204fc73be803"


def test_a_knative_revision_has_flaggers_hash():
    """Appendix A."""
    assert revision_hash("hello-00001") == "79f999666f"


@pytest.mark.parametrize(
    "same",
    [
        pod_template(nodeSelector={}),
        pod_template(nodeSelector=None),
        pod_template(nodeSelector=ZERO),
        pod_template(volumes=None),
        pod_template(volumes=[]),
        {**pod_template(), "metadata": {"labels": {"app": "podinfo"}, "annotations": {}, "creationTimestamp": None}},
        dict(reversed(pod_template().items())),
    ],
)
def test_what_means_the_same_hashes_the_same(same):
    assert template_hash(same) == template_hash(pod_template())


@pytest.mark.parametrize(
    "other",
    [
        pod_template(nodeSelector={"disk": "ssd"}),
        pod_template(nodeSelector={"disk": "ssd", **ZERO}),
        pod_template(labels={"a": "b"}),
        pod_template(annotations={"a": "b"}),
        pod_template(hostNetwork=False),
        pod_template(securityContext={}),
        pod_template(volumes=[{"name": "v", "emptyDir": {}}]),
        pod_template(affinity={"podAntiAffinity": {}}),
    ],
)
def test_everything_else_is_another_revision(other):
    assert template_hash(other) != template_hash(pod_template())


def test_a_scaled_down_daemon_set_is_the_same_revision():
    nodes = {"disk": "ssd"}
    assert template_hash(pod_template(nodeSelector=nodes | ZERO)) == template_hash(pod_template(nodeSelector=nodes))


def test_an_empty_selector_is_not_the_absence_of_one():
    """It selects every Pod, and no selector selects none."""
    assert canonical_hash({"labelSelector": {}}) != canonical_hash({})


def test_a_template_may_have_no_metadata():
    assert template_hash({"spec": {}}) == template_hash({"metadata": {}, "spec": {}})


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def said(value):
    if isinstance(value, dict):
        return {key: said(each) for key, each in value.items() if each is not None and each != []}
    return [said(each) for each in value] if isinstance(value, list) else value


@given(JSON, JSON)
def test_hashes_are_equal_exactly_where_the_values_are(left, right):
    before = copy.deepcopy(left)
    same = canonical_hash(left) == canonical_hash(right)
    assert same == (said(left) == said(right))
    assert re.fullmatch("v1:[0-9a-f]{16}", canonical_hash(left))
    assert left == before


# Adoption

OURS, OTHER = "v1:0123456789abcdef", "v1:fedcba9876543210"
NOW = Fingerprint(OURS, {"configmap/a": "1"})


def status(applied, promoted=None):
    return {"lastAppliedSpec": applied, "lastPromotedSpec": promoted, "trackedConfigs": {"configmap/a": "0"}}


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ({}, {}),
        (status(""), {}),
        (status(OURS, OURS), {}),
        (status(OTHER, OURS), {}),
        (status(OTHER, "5fcd6b"), {}),
        (status("5fcd6b", "5fcd6b"), {"lastAppliedSpec": OURS, "lastPromotedSpec": OURS}),
        (status("5fcd6b", "7b4d9c"), {"lastAppliedSpec": OURS}),
        (status("5fcd6b"), {"lastAppliedSpec": OURS}),
        (status("v2:0123456789abcdef", "v2:0123456789abcdef"), {"lastAppliedSpec": OURS, "lastPromotedSpec": OURS}),
        (status("v1:0123", "v1:0123"), {"lastAppliedSpec": OURS, "lastPromotedSpec": OURS}),
    ],
)
def test_what_another_engine_stored_is_replaced_by_what_is_there(stored, expected):
    configs = {"trackedConfigs": {"configmap/a": "1"}} if expected else {}
    assert adopted(stored, NOW) == expected | configs
    assert adopted(stored, Fingerprint(OURS)) == expected


def test_adopting_twice_changes_nothing():
    before = status("5fcd6b", "5fcd6b")
    assert adopted(before | adopted(before, NOW), NOW) == {}


@pytest.mark.parametrize(("stored", "expected"), [("79f999666f", {}), (OURS, {"lastAppliedSpec": "4567"})])
def test_hashes_of_knative_revisions_are_shared_with_flagger(stored, expected):
    assert adopted({"lastAppliedSpec": stored}, Fingerprint("4567")) == expected


KNATIVE = {"kind": "Service", "api_version": "serving.knative.dev/v1"}


@pytest.mark.parametrize(
    ("stored", "about", "now", "expected"),
    [
        ("", {}, OURS, False),
        (None, {}, OURS, False),
        (OTHER, {}, OURS, False),
        ("5fcd6b", {}, OURS, True),
        ("v2:0123456789abcdef", {}, OURS, True),
        ("79f999666f", KNATIVE, "4567", False),
        (OURS, KNATIVE, "4567", True),
        ("", KNATIVE, "4567", False),
    ],
)
def test_whether_there_is_anything_to_adopt_is_known_without_looking(stored, about, now, expected):
    who = subject(**about, status=status(stored))
    assert is_foreign(who) is expected
    assert bool(adopted(who.status, Fingerprint(now))) is expected
