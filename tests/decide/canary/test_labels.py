"""Reference 3.1: which label selects the target's Pods."""

from __future__ import annotations

import pytest

from fleet_rollout.decide.canary.labels import primary_value, selector_label
from fleet_rollout.decide.canary.objects import StepFailed
from tests.decide.canary.workloads import daemon_set, deployment

KEYS = ("app", "name", "app.kubernetes.io/name")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"app": "a"}, ("app", "a")),
        ({"name": "n", "app": "a"}, ("app", "a")),
        ({"app.kubernetes.io/name": "k", "name": "n", "tier": "web"}, ("name", "n")),
        ({"app.kubernetes.io/name": "k"}, ("app.kubernetes.io/name", "k")),
    ],
)
def test_the_first_of_the_engines_keys_wins(labels, expected):
    assert selector_label(deployment(selector={"matchLabels": labels}), KEYS) == expected


@pytest.mark.parametrize("selector", [{}, {"matchLabels": {"tier": "web"}}, {"matchExpressions": [{"key": "app"}]}])
@pytest.mark.parametrize(("make", "kind"), [(deployment, "deployment"), (daemon_set, "daemonset")])
def test_without_one_of_them_the_error_names_them_all(selector, make, kind):
    with pytest.raises(StepFailed) as caught:
        selector_label(make(selector=selector), KEYS)
    assert caught.value.message == (
        f"{kind} podinfo.test spec.selector.matchLabels must contain one of [app name app.kubernetes.io/name]"
    )
    assert caught.value.retriable


def test_the_primarys_value_has_a_suffix():
    assert primary_value("podinfo") == "podinfo-primary"
