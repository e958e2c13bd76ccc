"""Reads YAML that strangers wrote, and writes YAML that kustomize reads in one way only.

Depth, aliases and the number of values are measured on the event stream before anything recursive sees the text:
libyaml's composer overflows the stack on deep nesting, and a few nested aliases, or many short values, stand for
gigabytes. The scalars are those of JSON (YAML 1.2): `yes`, `0o7` and `1:20` are text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from fleet_rollout.errors import Terminal
from fleet_rollout.render.ledger import DOCUMENT_VALUES, SECRET, TEXT, Ledger

try:
    from yaml.cyaml import CSafeDumper as _BaseDumper
    from yaml.cyaml import CSafeLoader as _BaseLoader
except ImportError:  # PyYAML without libyaml: the same, ten times slower
    from yaml import SafeDumper as _BaseDumper  # type: ignore[assignment]
    from yaml import SafeLoader as _BaseLoader  # type: ignore[assignment]

# Real manifests stay below 60 (schemas in CRDs); orjson refuses 254.
DEPTH_LIMIT = 200
# Values that aliases may stand for in one file, beside those written out.
ALIAS_LIMIT = 100_000
# libyaml compares each with all before it, and lets no other thread run meanwhile: 32,000 take 12 s.
MOST_TAG_DIRECTIVES = 1000
# PyYAML moves all that comes after each in its mapping: 100,000 take 8 s.
MOST_MERGES = 10_000
TAG_DIRECTIVE = re.compile(rb"%\0?T\0?A\0?G")
# `password: !s3cret` has that tag.
QUOTED_TAG = re.compile(r"the tag '.*'", re.DOTALL)
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


def _formed(tag: str, form: re.Pattern[str]) -> None:
    """Take values of `tag` in its own form alone. With a tag in the text (`!!int 1:1:1`) others come here, too, over
    which PyYAML sits for hours, or fails in ways of its own; whole numbers that JSON has not may share one hash."""
    name = f"tag:yaml.org,2002:{tag}"
    construct: Callable[[Any, Any], Any] = _Loader.yaml_constructors[name]

    def checked(loader: _Loader, node: yaml.ScalarNode) -> Any:
        value = construct(loader, node) if form.match(loader.construct_scalar(node)) else None
        if value is None or (isinstance(value, int) and abs(value) >= 2**64):
            raise yaml.constructor.ConstructorError(None, None, f"no {tag} of JSON", node.start_mark)
        return value

    _Loader.add_constructor(name, checked)


for _tag, _pattern, _ in _SCALARS:
    if _tag in ("bool", "int", "float"):
        _formed(_tag, re.compile(f"{_SCALARS[2][1]}|{_pattern}" if _tag == "float" else _pattern))
_formed("timestamp", _Loader.timestamp_regexp)
# `<<` as a value is text.
_Loader.add_constructor("tag:yaml.org,2002:merge", lambda _, node: node.value)
_Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar(_STRING, text, style='"'))


def check(data: bytes, where: str, ledger: Ledger | None = None) -> None:
    """Refuse text that is no YAML, or that is too deep or too large once its aliases are followed."""
    if sum(1 for _ in TAG_DIRECTIVE.finditer(data)) > MOST_TAG_DIRECTIVES:
        raise invalid(where, f"more than {MOST_TAG_DIRECTIVES} %TAG directives")
    try:
        _measure(yaml.parse(data, Loader=_Loader), where, ledger or Ledger())
    except (yaml.YAMLError, ValueError) as error:
        raise invalid(where, error) from None


def load(data: bytes, where: str, ledger: Ledger | None = None) -> list[Any]:
    """The documents in `data`, without empty ones."""
    return list(_documents(data, where, ledger or Ledger(), strictly=False))


def load_strictly(data: bytes, where: str, ledger: Ledger | None = None) -> list[Any]:
    """Like load, and refuses a key given twice: one of them would be hidden from whoever checks the result."""
    return list(_documents(data, where, ledger or Ledger(), strictly=True))


def _documents(data: bytes, where: str, ledger: Ledger, *, strictly: bool) -> Iterator[Any]:
    """One after the other: what a document takes while it is read is given back before the next."""
    check(data, where, ledger)
    loader = _Loader(data)
    try:
        while loader.check_node():
            ledger.tick()
            node = loader.get_node()
            if strictly:
                _refuse_twins(node, where, set())
            document = loader.construct_document(node)
            del node
            if document is not None:
                yield document
    except (yaml.YAMLError, ValueError) as error:
        raise invalid(where, error) from None
    finally:
        loader.dispose()


def roots(data: bytes, where: str, ledger: Ledger | None = None) -> Iterator[yaml.Node]:
    """The root node of each document: enough to look at a few fields at a third of the cost of `load`."""
    ledger = ledger or Ledger()
    check(data, where, ledger)
    try:
        for node in yaml.compose_all(data, Loader=_Loader):
            ledger.tick()
            if node is not None and node.tag != _NULL:
                yield node
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
        problem = QUOTED_TAG.sub("its tag", error.problem or error.context or "not YAML")
        fact = problem + (f" in line {mark.line + 1}" if mark else "")
    return Terminal("InvalidYAML", f"{printable(where)}: {printable(fact)}")


def printable(text: str) -> str:
    """`text` on one line, without control characters: it goes into messages that terminals print."""
    return UNPRINTABLE.sub(" ", text)[:2000]


def _measure(events: Iterator[yaml.Event], where: str, ledger: Ledger) -> None:
    """Enter the values of each document into the ledger; raise before there are too many."""
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    size = expanded = merges = 0
    for number, event in enumerate(events):
        if isinstance(event, yaml.ScalarEvent):
            values = 1 + len(event.value) // TEXT
            size += values
            merges += event.value == "<<"
            if merges > MOST_MERGES:
                raise invalid(where, f"more than {MOST_MERGES} merges")
            if event.anchor:
                sizes[event.anchor] = values
            if "Secret" in event.value and SECRET.search(event.value):
                ledger.holds_secrets = True
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise invalid(where, f"the alias {_place(event.start_mark)} is unknown there or contains itself")
            size += sizes[event.anchor]
            expanded += sizes[event.anchor]
            if expanded > ALIAS_LIMIT:
                raise invalid(where, f"aliases stand for more than {ALIAS_LIMIT} values")
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, size))
            size += 1
            if len(open_nodes) > DEPTH_LIMIT:
                raise invalid(where, f"nested deeper than {DEPTH_LIMIT} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = size - before
        elif isinstance(event, yaml.DocumentStartEvent):
            sizes, size = {}, 0
        elif isinstance(event, yaml.DocumentEndEvent):
            ledger.count(size, printable(where))
        if size > DOCUMENT_VALUES:
            raise _too_wide(where, event.start_mark)
        if not number % 1024:
            ledger.tick()


def _place(mark: Any) -> str:
    return f"in line {mark.line + 1}"


def _too_wide(where: str, mark: Any) -> Terminal:
    fact = f"the document {_place(mark)} holds more than {DOCUMENT_VALUES} values"
    return Terminal("BuildLimit", f"kustomize build failed: {printable(where)}: {fact}: split it into several")


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
            twin = next(key for key, times in Counter(keys).items() if times > 1)
            raise invalid(where, f"key {twin!r} is there twice, from line {node.start_mark.line + 1}")
        for _, value in node.value:
            _refuse_twins(value, where, seen)
