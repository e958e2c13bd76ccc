"""Nothing is written where nothing differs, and what is written shares nothing with what was read."""

from __future__ import annotations

import pytest

from fleet_rollout.decide.canary.live import described, removed, replaced, required, with_maps
from fleet_rollout.decide.canary.objects import Put, Ref, Remove, StepFailed
from tests.decide.canary.workloads import config_map

REF = Ref("v1", "ConfigMap", "test", "a")


def test_a_missing_object_is_named():
    with pytest.raises(StepFailed, match=r"^configmap a\.test does not exist$"):
        required({REF: None}, REF)
    found = config_map("a")
    assert required({REF: found}, REF) is found


def test_looking_at_what_nobody_has_read_is_a_mistake():
    with pytest.raises(KeyError):
        required({}, REF)


def test_objects_are_described_by_kind_name_and_namespace():
    assert described(config_map("a")) == described(REF) == "configmap a.test"


def test_the_same_is_not_written():
    live = config_map("a", {"k": "v"})
    assert replaced(live, config_map("a", {"k": "v"})) == []


def test_what_is_written_is_a_copy():
    live = config_map("a", {"k": "v"})
    (write,) = replaced(live, {**live, "binaryData": {}})
    assert write == Put({**live, "binaryData": {}})
    assert isinstance(write, Put)
    assert write.obj["data"] is not live["data"]


def test_a_removal_names_the_very_object():
    assert removed(config_map("a")) == Remove(REF, "uid-of-a", "7")


def test_empty_maps_are_left_out():
    assert with_maps({"name": "x", "labels": {"a": "b"}}, labels={}, annotations=None) == {"name": "x"}
    assert with_maps({"name": "x"}, labels={"a": "b"}) == {"name": "x", "labels": {"a": "b"}}
