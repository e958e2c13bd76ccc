"""Changes in the text of YAML documents, each at its place: comments, order and layout of the rest stay as they are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from fleet_rollout.decide.migrate import Change, Exchange, Path, Rename, Replace, field_text


class UnreadableYaml(ValueError):
    """The text is not YAML, or has no plain value where one is to be replaced."""


@dataclass(frozen=True)
class Document:
    """One document of a text: its number from 1, its data, and where its parts are."""

    number: int
    data: Any
    node: yaml.Node


def documents(text: str) -> Iterator[Document]:
    """The documents of `text`, one after the other; raises UnreadableYaml at the first that cannot be read."""
    number = 1
    try:
        loader = yaml.SafeLoader(text)
        while loader.check_node():
            node = loader.get_node()
            assert node is not None
            yield Document(number, loader.construct_document(node), node)
            number += 1
    except yaml.YAMLError as error:
        raise UnreadableYaml(f"document {number}: {_fault(error)}") from None


def edited(text: str, changes: list[tuple[Document, Change]]) -> str:
    """`text` with the changes in it."""
    edits = {_edit(text, document, change) for document, change in changes}
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _edit(text: str, document: Document, change: Change) -> tuple[int, int, str]:
    parent, key, value = _find(document.node, change.path)
    first = value if isinstance(change, Replace) else key
    start, end = first.start_mark.index, value.end_mark.index
    if text[start] in "&!" or end < start:
        where = f"document {document.number}: {field_text(change.path)}"
        raise UnreadableYaml(f"{where}: has an anchor, an alias or a tag; write it without")
    if isinstance(change, Exchange):
        new = _mapping(parent, first, {change.name: change.value}, braces=False)
    elif isinstance(change, Replace) and not isinstance(change.value, str):
        new = _mapping(value, first, change.value)
    else:
        quote = text[start] if text[start] in "'\"" else ""
        word = change.name if isinstance(change, Rename) else change.value
        return start, first.end_mark.index, f"{quote}{word}{quote}"
    line_end = "\r\n" if "\r\n" in text else "\n"
    return start, start + len(_content(text[start:end])), new.replace("\n", line_end)


def _mapping(like: yaml.Node, first: yaml.Node, value: Mapping[str, Any], *, braces: bool = True) -> str:
    """A mapping in the layout of `like`, to begin where `first` does: in JSON, or on lines of its own."""
    if isinstance(like, yaml.MappingNode) and like.flow_style:
        text = json.dumps(value, ensure_ascii=False)
        return text if braces else text[1:-1]
    written = yaml.safe_dump(value, sort_keys=False, width=10_000, allow_unicode=True).rstrip("\n")
    return ("\n" + " " * first.start_mark.column).join(written.split("\n"))


def _content(block: str) -> str:
    """A block without the blank lines at its end, and without comments that belong to what comes after it."""
    lines = block.split("\n")
    while not lines[-1].strip() or lines[-1].lstrip().startswith("#"):
        lines.pop()
    return "\n".join(lines).rstrip()


def _find(node: yaml.Node, path: Path) -> tuple[yaml.Node, yaml.Node, yaml.Node]:
    """Parent, key and value at `path`; an entry of a list has no key but itself."""
    parent = key = node
    for part in path:
        parent = node
        if isinstance(part, int):
            key = node = node.value[part]
        else:
            # Of a name that is there twice, the last one counts when the document is read.
            key, node = next((k, v) for k, v in reversed(node.value) if k.value == part)
    return parent, key, node


def _fault(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem or error.context}"
    return str(error).splitlines()[0]
