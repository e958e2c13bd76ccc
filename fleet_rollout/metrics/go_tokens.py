"""Cuts a Go template into texts and the tokens between braces; comments and trimmed blanks are gone afterwards."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

LEFT = re.compile(r"\{\{(-(?=[ \t\r\n]))?")
COMMENT = re.compile(r"[ \t\r\n]*/\*.*?\*/(?:([ \t\r\n]+-)?\}\})", re.DOTALL)
RIGHT = re.compile(r"[ \t\r\n]+-\}\}|\}\}")
BLANK = " \t\r\n"
TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n]+)
  | (?P<string>"(?:[^"\\\n]|\\.)*")
  | (?P<raw>`[^`]*`)
  | (?P<char>'(?:[^'\\\n]|\\.)+')
  | (?P<number>[+-]?(?:0[xXbBoO][0-9A-Fa-f_]+|(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?)(?!\w))
  | (?P<variable>\$\w*)
  | (?P<field>\.[^\W\d]\w*)
  | (?P<word>[^\W\d]\w*)
  | (?P<symbol>:=|[=|().])
    """,
    re.VERBOSE,
)


class TemplateError(Exception):
    """The text is no template that can be read, or it cannot be filled in."""


class Token(NamedTuple):
    kind: str
    text: str
    line: int
    is_spaced: bool  # something blank stands before it


class Statement(NamedTuple):
    """What stands between one pair of braces."""

    tokens: tuple[Token, ...]
    line: int


def pieces(source: str) -> Iterator[str | Statement]:
    """Texts, already trimmed, and statements in turn."""
    end, trims = 0, False
    while left := LEFT.search(source, end):
        text = source[end : left.start()]
        text = text.lstrip(BLANK) if trims else text
        yield text.rstrip(BLANK) if left[1] else text
        if comment := COMMENT.match(source, left.end()):
            end, trims = comment.end(), comment[1] is not None
            continue
        line = source.count("\n", 0, left.start()) + 1
        tokens, end, trims = _tokens(source, left.end(), line)
        yield Statement(tuple(tokens), line)
    text = source[end:]
    yield text.lstrip(BLANK) if trims else text


def _tokens(source: str, at: int, line: int) -> tuple[list[Token], int, bool]:
    """The tokens up to the closing braces, where those end, and whether they trim."""
    tokens: list[Token] = []
    is_spaced = True
    while not (right := RIGHT.match(source, at)):
        found = TOKEN.match(source, at)
        if found is None or found.lastgroup is None:
            raise TemplateError(f"line {line}: {_unreadable(source, at)}")
        if found.lastgroup != "space":
            tokens.append(Token(found.lastgroup, found[0], line, is_spaced))
        is_spaced = found.lastgroup == "space"
        at, line = found.end(), line + found[0].count("\n")
    return tokens, right.end(), right[0].endswith("-}}") and len(right[0]) > 2


def _unreadable(source: str, at: int) -> str:
    rest = source[at : at + 20]
    if not rest or rest == "}":
        return "an action is not closed"
    if rest.startswith("/*"):
        return "a comment has to begin with {{/* and to end with */}}"
    if rest[0] in "\"`'":
        return f"{rest[0]} is not closed"
    return f"unexpected {rest.split()[0]!r}"
