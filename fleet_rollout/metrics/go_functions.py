"""The functions that every Go template has, as far as queries use them; TypeError and ValueError say what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote_plus

from fleet_rollout.metrics.go_values import joined, printf, shown, type_of


def is_true(value: Any) -> bool:
    """Go's truth: not zero, not empty."""
    return bool(value)


def _kind(value: Any) -> str:
    kind = type_of(value)
    if kind == "map":
        raise TypeError("a map cannot be compared")
    return kind


def _eq(first: Any, *others: Any) -> bool:
    for other in others:
        if _kind(first) != _kind(other) and None not in (first, other):
            raise TypeError(f"a {_kind(first)} cannot be compared with a {_kind(other)}")
    return any(first == other for other in others)


def _lt(first: Any, second: Any) -> bool:
    if _kind(first) != _kind(second) or _kind(first) in ("bool", "nil"):
        raise TypeError(f"a {_kind(first)} has no order with a {_kind(second)}")
    return bool(first < second)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if not isinstance(value, Mapping) or not isinstance(key, str):
            raise TypeError(f"a {type_of(value)} cannot be indexed with a {type_of(key)}")
        value = value.get(key, "")  # as in Go, where only .key insists
    return value


def _len(value: Any) -> int:
    if not isinstance(value, str | Mapping):
        raise TypeError(f"a {type_of(value)} has no length")
    return len(value.encode()) if isinstance(value, str) else len(value)


def _print(*values: Any) -> str:
    """Go's Sprint: a space between two values of which none is a text."""
    texts: list[str] = []
    for before, value in zip((None, *values), values, strict=False):
        if texts and not isinstance(before, str) and not isinstance(value, str):
            texts.append(" ")
        texts.append(shown(value))
    return joined(texts)


def _println(*values: Any) -> str:
    texts = [text for value in values for text in (" ", shown(value))][1:]
    return joined([*texts, "\n"])


def _printf(form: Any, *values: Any) -> str:
    if not isinstance(form, str):
        raise TypeError("printf needs a text first")
    return printf(form, list(values))


ANY_NUMBER = 1000
FUNCTIONS: Mapping[str, tuple[Callable[..., Any], int, int]] = {  # with the least and the most values it takes
    "eq": (_eq, 2, ANY_NUMBER),
    "ge": (lambda first, second: not _lt(first, second), 2, 2),
    "gt": (lambda first, second: _lt(second, first), 2, 2),
    "index": (_index, 1, ANY_NUMBER),
    "le": (lambda first, second: not _lt(second, first), 2, 2),
    "len": (_len, 1, 1),
    "lt": (_lt, 2, 2),
    "ne": (lambda first, second: not _eq(first, second), 2, 2),
    "not": (lambda value: not is_true(value), 1, 1),
    "print": (_print, 0, ANY_NUMBER),
    "printf": (_printf, 1, ANY_NUMBER),
    "println": (_println, 0, ANY_NUMBER),
    "urlquery": (lambda *values: quote_plus(_print(*values)), 0, ANY_NUMBER),
}
