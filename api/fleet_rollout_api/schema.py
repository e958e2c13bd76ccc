"""Model -> structural schema: what pydantic says about a model, in the words the API server accepts.

Pure. Every node of the input is converted exactly once (converting one twice turns `minimum: 0` into `minimum: true`),
and a keyword outside the table is refused: a schema that the API server would drop in silence must not be written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

# Kept as they are.
KEPT = frozenset(
    (
        "type",
        "description",
        "format",
        "enum",
        "default",
        "pattern",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "required",
        "nullable",
        "oneOf",
        "anyOf",
        "not",
        "x-kubernetes-int-or-string",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-map-type",
        "x-kubernetes-validations",
    )
)
# Dropped: forbidden, or without meaning to the API server.
DROPPED = frozenset(["title", "examples", "discriminator", "uniqueItems"])
# All that may stand inside oneOf, anyOf and not.
VALUE_KEYWORDS = frozenset(
    (
        "required",
        "properties",
        "items",
        "oneOf",
        "anyOf",
        "not",
        "enum",
        "pattern",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
    )
)
# RE2, which the API server uses, has neither look-around nor back-references.
NOT_RE2 = re.compile(r"\(\?[=!<]|\\[1-9]")


class Unsupported(ValueError):
    """The model says something that a structural schema cannot."""


def structural(model: type[BaseModel]) -> Schema:
    """The structural schema of `model`, everything inlined."""
    schema = model.model_json_schema(by_alias=True, mode="validation")
    definitions = schema.pop("$defs", {})
    return _convert(schema, definitions, (model.__name__,))


def _convert(node: Mapping[str, Any], definitions: Mapping[str, Schema], path: tuple[str, ...]) -> Schema:
    plain, path = _resolve(dict(node), definitions, path)
    converted: Schema = {}
    for key, value in plain.items():
        if key in DROPPED or (key == "default" and value is None):
            continue
        if key in _CONVERTERS:
            converted |= _CONVERTERS[key](value, definitions, path)
        elif key in KEPT:
            converted[key] = _checked(key, value, path)
        else:
            raise Unsupported(f"{_at(path)}: keyword {key} has no place in a structural schema")
    return _completed(converted, path)


def _resolve(node: Schema, definitions: Mapping[str, Schema], path: tuple[str, ...]) -> tuple[Schema, tuple[str, ...]]:
    """The node without references and without null, keywords beside a reference winning over those behind it."""
    while True:
        if "$ref" in node:
            name = node.pop("$ref").removeprefix("#/$defs/")
            if f"<{name}>" in path:
                raise Unsupported(f"{_at(path)}: {name} contains itself, which a structural schema cannot say")
            node, path = {**definitions[name], **node}, (*path, f"<{name}>")
        elif any({"$ref", "type"} & choice.keys() for choice in node.get("anyOf", ())):
            choices = [choice for choice in node.pop("anyOf") if choice.get("type") != "null"]
            node = {**_only(choices, path), **node}
        elif "allOf" in node:
            node = {**_only(node.pop("allOf"), path), **node}
        else:
            return node, path


def _only(choices: list[Schema], path: tuple[str, ...]) -> Schema:
    if len(choices) == 1:
        return choices[0]
    if sorted(choice.get("type", "") for choice in choices) == ["integer", "string"]:
        return {"x-kubernetes-int-or-string": True}
    raise Unsupported(f"{_at(path)}: a choice between types cannot be said; use optional fields and a CEL rule")


def _properties(value: Mapping[str, Schema], definitions: Mapping[str, Schema], path: tuple[str, ...]) -> Schema:
    return {"properties": {name: _convert(child, definitions, (*path, name)) for name, child in value.items()}}


def _additional(value: Any, definitions: Mapping[str, Schema], path: tuple[str, ...]) -> Schema:
    if value is False:
        return {}
    if value is True or value == {}:
        return {"x-kubernetes-preserve-unknown-fields": True}
    return {"additionalProperties": _convert(value, definitions, (*path, "*"))}


def _items(value: Mapping[str, Any], definitions: Mapping[str, Schema], path: tuple[str, ...]) -> Schema:
    return {"items": _convert(value, definitions, (*path, "[]"))}


def _const(value: Any, _definitions: Mapping[str, Schema], _path: tuple[str, ...]) -> Schema:
    return {"enum": [value]}


def _exclusive(bound: str, flag: str) -> Callable[[Any, Mapping[str, Schema], tuple[str, ...]], Schema]:
    return lambda value, _definitions, _path: {bound: value, flag: True}


_CONVERTERS: dict[str, Callable[[Any, Mapping[str, Schema], tuple[str, ...]], Schema]] = {
    "properties": _properties,
    "additionalProperties": _additional,
    "items": _items,
    "const": _const,
    "exclusiveMinimum": _exclusive("minimum", "exclusiveMinimum"),
    "exclusiveMaximum": _exclusive("maximum", "exclusiveMaximum"),
}


def _checked(key: str, value: Any, path: tuple[str, ...]) -> Any:
    """The value of a kept keyword, refused where the API server would refuse it."""
    if key == "pattern" and NOT_RE2.search(value):
        raise Unsupported(f"{_at(path)}: pattern {value} is not RE2 (look-around or back-reference)")
    if key in ("oneOf", "anyOf"):
        return [_value_validation(choice, path) for choice in value]
    if key == "not":
        return _value_validation(value, path)
    return value


def _value_validation(node: Mapping[str, Any], path: tuple[str, ...]) -> Schema:
    for key, value in node.items():
        if key not in VALUE_KEYWORDS:
            raise Unsupported(f"{_at(path)}: {key} is not allowed inside oneOf, anyOf and not")
        if key == "properties":
            for child in value.values():
                _value_validation(child, path)
        else:
            _checked(key, value, path)
    return dict(node)


def _completed(node: Schema, path: tuple[str, ...]) -> Schema:
    """The node with its type, refused where the type is missing or says too little."""
    free = "x-kubernetes-int-or-string" in node or "x-kubernetes-preserve-unknown-fields" in node
    if "type" not in node and not free:
        raise Unsupported(f"{_at(path)}: no type")
    if node.get("type") == "array" and "items" not in node:
        raise Unsupported(f"{_at(path)}: a list without one schema for its items")
    if node.get("type") == "object" and not (free or node.get("properties") or "additionalProperties" in node):
        raise Unsupported(f"{_at(path)}: an object without fields; use dict[str, Any] for a free one")
    return node


def _at(path: tuple[str, ...]) -> str:
    return ".".join(part for part in path if not part.startswith("<"))
