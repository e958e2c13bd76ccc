"""Reference 3.5: where a Pod names configs. What is found is what is renamed."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_rollout.decide.canary.config_refs import references, with_primary_configs


def env(member, name, **more):
    return {"name": "X", "valueFrom": {member: {"name": name, "key": "k", **more}}}


def projected(*sources):
    return {"name": "v", "projected": {"sources": list(sources)}}


PLACES = {
    "volume of a ConfigMap": ({"volumes": [{"name": "v", "configMap": {"name": "a"}}]}, "configmap/a"),
    "volume of a Secret": ({"volumes": [{"name": "v", "secret": {"secretName": "a"}}]}, "secret/a"),
    "projected ConfigMap": ({"volumes": [projected({"configMap": {"name": "a"}})]}, "configmap/a"),
    "projected Secret": ({"volumes": [projected({"secret": {"name": "a"}})]}, "secret/a"),
    "variable from a ConfigMap": ({"containers": [{"env": [env("configMapKeyRef", "a")]}]}, "configmap/a"),
    "variable from a Secret": ({"containers": [{"env": [env("secretKeyRef", "a")]}]}, "secret/a"),
    "all of a ConfigMap": ({"containers": [{"envFrom": [{"configMapRef": {"name": "a"}}]}]}, "configmap/a"),
    "all of a Secret": ({"containers": [{"envFrom": [{"secretRef": {"name": "a"}}]}]}, "secret/a"),
    "init container": ({"initContainers": [{"envFrom": [{"secretRef": {"name": "a"}}]}]}, "secret/a"),
}


@pytest.mark.parametrize(("pod", "key"), PLACES.values(), ids=PLACES)
def test_every_place_is_found_and_renamed(pod, key):
    before = copy.deepcopy(pod)
    assert references(pod) == {key: True}
    assert references(with_primary_configs(pod, {key})) == {f"{key}-primary": True}
    assert pod == before


@pytest.mark.parametrize(
    "pod",
    [
        {},
        {"volumes": None, "containers": None, "initContainers": None},
        {"volumes": [{"name": "v", "emptyDir": {}}, projected({"downwardAPI": {}}), {"name": "p", "projected": {}}]},
        {"containers": [{"env": [{"name": "X", "value": "1"}, {"name": "Y", "valueFrom": {"fieldRef": {}}}]}]},
        {"containers": [{"envFrom": [{"prefix": "P", "configMapRef": {}}]}]},
    ],
)
def test_what_names_no_config_is_left_as_it_is(pod):
    assert references(pod) == {}
    assert with_primary_configs(pod, {"configmap/a"}) == pod


def test_only_tracked_configs_are_renamed():
    pod = {"volumes": [{"configMap": {"name": "a"}}, {"configMap": {"name": "b"}}, {"secret": {"secretName": "a"}}]}
    renamed = with_primary_configs(pod, {"configmap/a"})
    assert list(references(renamed)) == ["configmap/a-primary", "configmap/b", "secret/a"]


@pytest.mark.parametrize(
    ("first", "last", "is_needed"),
    [({}, {}, True), ({}, {"optional": True}, False), ({"optional": True}, {"optional": False}, True)],
)
def test_the_last_mention_says_whether_it_is_needed(first, last, is_needed):
    container = {"envFrom": [{"configMapRef": {"name": "a", **first}}, {"configMapRef": {"name": "a", **last}}]}
    assert references({"containers": [container]}) == {"configmap/a": is_needed}


NAMES = st.sampled_from("abc")


@given(st.lists(st.builds(lambda place, name: (place, name), st.sampled_from(sorted(PLACES)), NAMES)), st.sets(NAMES))
def test_renaming_changes_names_alone(chosen, tracked):
    keys = {f"{kind}/{name}" for kind in ("configmap", "secret") for name in tracked}
    pod = {"volumes": [{"configMap": {"name": name}} for _, name in chosen]}
    renamed = with_primary_configs(pod, keys)
    assert len(renamed["volumes"]) == len(pod["volumes"])
    for before, after in zip(pod["volumes"], renamed["volumes"], strict=True):
        name = before["configMap"]["name"]
        assert after["configMap"]["name"] == (f"{name}-primary" if name in tracked else name)
