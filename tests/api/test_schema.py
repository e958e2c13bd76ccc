"""The converter: what pydantic says, in the words of a structural schema; a row a rule of the API server."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from fleet_rollout_api.meta import AnyJson, EmptyIsUnset, Number
from fleet_rollout_api.schema import Unsupported, structural


class Leaf(BaseModel):
    """A leaf."""

    size: Annotated[int, Field(ge=0)] = Field(description="How big.")


LEAF = {
    "type": "object",
    "description": "A leaf.",
    "properties": {"size": {"type": "integer", "minimum": 0, "description": "How big."}},
    "required": ["size"],
}


def field_schema(annotation: Any, field: Any = None) -> dict[str, Any]:
    model = type("Holder", (BaseModel,), {"__annotations__": {"value": annotation}, "value": field or Field()})
    found: dict[str, Any] = structural(model)["properties"]["value"]
    return found


CONVERTED: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "a text": (str, None, {"type": "string"}),
    "a reference is inlined": (Leaf, None, LEAF),
    "a description beside a reference wins": (
        Leaf,
        Field(description="Mine."),
        {**LEAF, "description": "Mine."},
    ),
    "null is no choice, and no default": (str | None, Field(None), {"type": "string"}),
    "null beside a reference": (Leaf | None, Field(None, description="Mine."), {**LEAF, "description": "Mine."}),
    "limits within an optional": (
        Annotated[Annotated[str, Field(max_length=3)] | None, EmptyIsUnset],
        Field(None),
        {"type": "string", "maxLength": 3},
    ),
    "a whole number or a text": (int | str, None, {"x-kubernetes-int-or-string": True}),
    "the same, optional": (int | str | None, Field(None), {"x-kubernetes-int-or-string": True}),
    "any number": (Number, None, {"type": "number"}),
    "one value": (Literal["a"], Field("a"), {"type": "string", "enum": ["a"], "default": "a"}),
    "some values": (Literal["a", "b"], None, {"type": "string", "enum": ["a", "b"]}),
    "a free object": (
        dict[str, Any],
        None,
        {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    ),
    "anything": (AnyJson, Field(None), {"x-kubernetes-preserve-unknown-fields": True}),
    "a map": (dict[str, int], None, {"type": "object", "additionalProperties": {"type": "integer"}}),
    "a list": (list[Leaf], None, {"type": "array", "items": LEAF}),
    "limits of a list": (
        Annotated[list[str], Field(min_length=1, max_length=2)],
        None,
        {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2},
    ),
    "a limit that is not reached": (
        Annotated[int, Field(gt=0)],
        None,
        {"type": "integer", "minimum": 0, "exclusiveMinimum": True},
    ),
    "an upper limit that is not reached": (
        Annotated[int, Field(lt=9)],
        None,
        {"type": "integer", "maximum": 9, "exclusiveMaximum": True},
    ),
    "a default of false": (bool, Field(False), {"type": "boolean", "default": False}),
    "a time": (datetime, None, {"type": "string", "format": "date-time"}),
    "examples mean nothing": (str, Field(examples=["a"]), {"type": "string"}),
    "a list that is a map": (
        list[str],
        Field(json_schema_extra={"x-kubernetes-list-type": "set"}),
        {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
    ),
}


@pytest.mark.parametrize("case", CONVERTED)
def test_converts(case):
    annotation, field, expected = CONVERTED[case]
    assert field_schema(annotation, field) == expected


class Tree(BaseModel):
    children: list[Tree] = Field(default_factory=list)


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "a tuple": (tuple[int, str], None, "prefixItems"),
    "a list of anything": (list[Any], None, r"value\.\[\]: no type"),
    "a bare list": (list, None, "no type"),
    "a choice of types": (Leaf | int, None, "a choice between types"),
    "anything undeclared": (Any, None, "no type"),
    "limits on keys": (dict[Annotated[str, Field(pattern="^a$")], int], None, "patternProperties|propertyNames"),
    "look-around": (Annotated[str, Field(json_schema_extra={"pattern": "a(?=b)"})], None, "not RE2"),
    "a back-reference": (Annotated[str, Field(json_schema_extra={"pattern": r"(a)\1"})], None, "not RE2"),
    "a keyword nobody knows": (Annotated[str, Field(json_schema_extra={"if": {}})], None, "keyword if"),
    "a type within oneOf": (
        Annotated[str, Field(json_schema_extra={"oneOf": [{"type": "string"}]})],
        None,
        "type is not allowed inside oneOf",
    ),
    "a description deep within not": (
        Annotated[str, Field(json_schema_extra={"not": {"properties": {"a": {"description": "x"}}}})],
        None,
        "description is not allowed inside oneOf",
    ),
    "a model within itself": (Tree, None, "Tree contains itself"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_what_the_server_would_drop(case):
    annotation, field, message = REFUSED[case]
    with pytest.raises(Unsupported, match=message):
        field_schema(annotation, field)


def test_an_object_without_fields_is_refused():
    class Empty(BaseModel):
        pass

    with pytest.raises(Unsupported, match="without fields"):
        structural(Empty)


def test_a_model_used_twice_is_converted_alike_both_times():
    class Two(BaseModel):
        first: Leaf
        second: Leaf

    assert structural(Two)["properties"] == {"first": LEAF, "second": LEAF}


def test_closed_models_are_not_said_to_be_closed():
    class Closed(BaseModel):
        model_config = ConfigDict(extra="forbid")
        name: str

    assert structural(Closed) == {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
