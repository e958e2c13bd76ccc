"""What goes onto copies: never the keys by which a GitOps tool knows its own objects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_rollout.decide.canary.copied_metadata import included, portable, relabelled, without_system

TOOLS = {
    "kustomize.toolkit.fluxcd.io/name": "web",
    "helm.toolkit.fluxcd.io/namespace": "apps",
    "apps.kurator.dev/hub": "5c2f",
    "apps.kurator.dev/app-name": "web",
}
USERS = {"app": "podinfo", "example.org/team": "blue", "toolkit": "hammer", "kurator.dev/rollout": "web"}


def test_the_keys_of_tools_are_dropped():
    assert portable({**TOOLS, **USERS}) == USERS
    assert portable(None) == {}


@pytest.mark.parametrize(
    ("prefixes", "expected"),
    [
        ((), []),
        (("",), []),
        (("*",), ["app", "example.org/team", "kurator.dev/rollout", "toolkit"]),
        (("app",), ["app"]),
        (("example.org/", "too"), ["example.org/team", "toolkit"]),
        (("none", "*"), ["app", "example.org/team", "kurator.dev/rollout", "toolkit"]),
        (("apps.kurator.dev/", "kustomize."), []),
    ],
)
def test_only_what_starts_with_a_wanted_prefix_is_included(prefixes, expected):
    assert sorted(included({**TOOLS, **USERS}, prefixes)) == expected


def test_the_selecting_label_gets_another_value():
    assert relabelled({"app": "podinfo", "tier": "web", **TOOLS}, "app", "x") == {"app": "x", "tier": "web"}
    assert relabelled(None, "app", "x") == {"app": "x"}


def test_what_the_cluster_says_of_one_workload_is_dropped():
    system = {"deployment.kubernetes.io/revision": "3", "deprecated.daemonset.template.generation": "2"}
    assert without_system({**system, "a": "b"}) == {"a": "b"}


@given(st.dictionaries(st.text(max_size=12), st.text(max_size=3)), st.lists(st.text(max_size=3)))
def test_what_is_included_is_portable(entries, prefixes):
    assert included(entries, prefixes).items() <= portable(entries).items() <= entries.items()
