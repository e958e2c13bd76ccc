"""Reads YAML that strangers wrote, and writes YAML that kustomize reads in one way only.

Depth and aliases are measured on the event stream before anything recursive sees the text: libyaml's
composer overflows the stack on deep nesting, and a few nested aliases stand for gigabytes. The scalars are those
of JSON (YAML 1.2): `yes`, `0o7` and `1:20` are text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from fleet_rollout.errors import Terminal

try:
    from yaml.cyaml import CSafeDumper as _BaseDumper
    from yaml.cyaml import CSafeLoader as _BaseLoader
except ImportError:  # PyYAML without libyaml: the same, ten times slower
    from yaml import SafeDumper as _BaseDumper  # type: ignore[assignment]
    from yaml import SafeLoader as _BaseLoader  # type: ignore[assignment]

# Real manifests stay below 60 (schemas in CRDs); orjson refuses 254.
DEPTH_LIMIT = 200
# Nodes that aliases may stand for in one file, beside those written out.
ALIAS_LIMIT = 100_000
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+")

_NULL = "tag:yaml.org,2002:null"
_STRING = "tag:yaml.org,2002:str"
_SCALARS = [
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", list("-+0123456789")),
    (
        "float",
        r"^[-+]?(?:[0-9]+\.[0-9]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)$",
        list("-+.0123456789"),
    ),
    ("merge", r"^<<$", ["<"]),
]


class _Loader(_BaseLoader):
    """Safe, with JSON's scalars."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  (PyYAML's interface)


class _Dumper(_BaseDumper):
    """Every text in double quotes, so that no reader takes it for something else; no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _tag, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)
# `<<` as a value is text.
_Loader.add_constructor("tag:yaml.org,2002:merge", lambda _, node: node.value)
_Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar(_STRING, text, style='"'))


def check(data: bytes, where: str) -> None:
    """Refuse text that is no YAML, or that is too deep or too large once its aliases are followed."""
    try:
        _measure(yaml.parse(data, Loader=_Loader), where)
    except (yaml.YAMLError, ValueError) as error:
        raise invalid(where, error) from None


def load(data: bytes, where: str) -> list[Any]:
    """The documents in `data`, without empty ones."""
    check(data, where)
    try:
        found = list(yaml.load_all(data, Loader=_Loader))
    except (yaml.YAMLError, ValueError) as error:
        raise invalid(where, error) from None
    return [document for document in found if document is not None]


def load_strictly(data: bytes, where: str) -> list[Any]:
    """Like load, and refuses a key given twice: one of them would be hidden from whoever checks the result."""
    check(data, where)
    loader, found = _Loader(data), []
    try:
        while loader.check_node():
            node = loader.get_node()
            _refuse_twins(node, where, set())
            found.append(loader.construct_document(node))
    except (yaml.YAMLError, ValueError) as error:
        raise invalid(where, error) from None
    finally:
        loader.dispose()
    return [document for document in found if document is not None]


def roots(data: bytes, where: str) -> Iterator[yaml.Node]:
    """The root node of each document: enough to look at a few fields at a third of the cost of `load`."""
    check(data, where)
    try:
        yield from (node for node in yaml.compose_all(data, Loader=_Loader) if node is not None and node.tag != _NULL)
    except (yaml.YAMLError, ValueError) as error:
        raise invalid(where, error) from None


def dump(*documents: Any) -> bytes:
    """The text of `documents`; what is read back is what was given, by every YAML reader."""
    text: bytes = yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, encoding="utf-8", width=2**20)
    return text


def invalid(where: str, error: Exception | str) -> Terminal:
    """InvalidYAML with the place and the parser's reason, without the text it quotes (it may be a secret)."""
    fact = str(error)
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        fact = (error.problem or error.context or "not YAML") + (f" in line {mark.line + 1}" if mark else "")
    return Terminal("InvalidYAML", f"{printable(where)}: {printable(fact)}")


def printable(text: str) -> str:
    """`text` on one line, without control characters: it goes into messages that terminals print."""
    return UNPRINTABLE.sub(" ", text)[:2000]


def _measure(events: Iterator[yaml.Event], where: str) -> None:
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    size = expanded = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise invalid(where, f"alias {event.anchor!r} is unknown here or contains itself")
            size += sizes[event.anchor]
            expanded += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            size += 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, size))
            size += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = size - before
        elif isinstance(event, yaml.DocumentStartEvent):
            sizes, size = {}, 0
        if len(open_nodes) > DEPTH_LIMIT:
            raise invalid(where, f"nested deeper than {DEPTH_LIMIT} levels")
        if expanded > ALIAS_LIMIT:
            raise invalid(where, f"aliases stand for more than {ALIAS_LIMIT} values")


def _refuse_twins(node: yaml.Node | None, where: str, seen: set[int]) -> None:
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_twins(item, where, seen)
    elif isinstance(node, yaml.MappingNode):
        keys = [key.value if isinstance(key, yaml.ScalarNode) else None for key, _ in node.value]
        if None in keys:
            raise invalid(where, f"a key that is not text in line {node.start_mark.line + 1}")
        if len(set(keys)) < len(keys):
            twin = next(key for i, key in enumerate(keys) if key in keys[:i])
            raise invalid(where, f"key {twin!r} is there twice, from line {node.start_mark.line + 1}")
        for _, value in node.value:
            _refuse_twins(value, where, seen)
