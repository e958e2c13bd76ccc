from __future__ import annotations

import pytest

from fleet_rollout.decide.translate_crd import incompatible, missing_fields

SCHEMA = {
    "properties": {
        "known": {"type": "string"},
        "map": {"additionalProperties": {"properties": {"in": {}}}},
        "free": {"additionalProperties": True},
        "open": {"x-kubernetes-preserve-unknown-fields": True},
        "list": {"items": {"properties": {"name": {}}}},
        "bare": {},
    }
}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"known": "x"}, []),
        ({"other": 1, "known": "x"}, ["other"]),
        ({"other": {"deep": 1}}, ["other"]),
        ({"map": {"any": {"in": 1, "out": 2}}}, ["map.any.out"]),
        ({"free": {"any": {"deep": 1}}}, []),
        ({"open": {"any": [{"deep": 1}]}}, []),
        ({"list": [{"name": 1}, {"nome": 2}]}, ["list[1].nome"]),
        ({"bare": {"x": 1}}, ["bare.x"]),
        ({"bare": [{"x": 1}]}, []),
    ],
)
def test_missing_fields_are_those_a_structural_schema_prunes(value, expected):
    assert list(missing_fields(value, SCHEMA)) == expected


def test_only_a_lacking_schema_is_a_problem():
    schema = {"properties": {"spec": SCHEMA}}
    assert incompatible({"kind": "Canary", "spec": {"known": "x"}}, schema) is None
    problem = incompatible({"kind": "Canary", "spec": {"new": 1}}, schema)
    assert (problem.reason, "lacks spec.new;" in problem.message) == ("CRDIncompatible", True)
