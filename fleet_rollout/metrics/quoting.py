"""Keeps the values of variables inside the PromQL string that a template puts them in (trust row 45)."""

from __future__ import annotations

import re

# What ends one kind of place and begins another; backslashes matter in "…" and '…' only.
BEGIN = re.compile(r"[\"'`#]")
ENDS = {
    '"': re.compile(r'\\|"|\n'),
    "'": re.compile(r"\\|'|\n"),
    "`": re.compile(r"`"),
    "#": re.compile(r"\n"),
}
ESCAPED = r"\\(?:[abfnrtv\\%s]|x[0-9a-fA-F]{2}|[0-7]{3}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})"
# Values that stay in their string as they are, because an author has already written them for it.
FITTING = {mark: re.compile(rf"(?:[^\\\n{mark}]|{ESCAPED % mark})*") for mark in "\"'"}


class CannotQuote(Exception):
    """A value would end the place that it stands in, and nothing can be written in its stead."""


class Place:
    """Where in a query the end of a text is: outside, in a string or in a comment."""

    def __init__(self) -> None:
        self._mark = ""
        self._is_escaping = False  # a backslash waits for its character

    def follow(self, text: str) -> None:
        """Move behind `text`."""
        at = 0
        while at < len(text):
            at = self._step(text, at)

    def fit(self, value: str) -> str:
        """What to write for a value here: itself where it stays inside, else quoted.

        So a value that Flagger would insert without harm gives the same query.
        """
        if not self._mark:
            return value
        if self._mark in FITTING:
            return self._fit_string(value)
        if ENDS[self._mark].search(value):
            place = "a comment" if self._mark == "#" else "a string in back quotes"
            raise CannotQuote(f"the value {value[:50]!r} cannot stand in {place}")
        return value

    def _fit_string(self, value: str) -> str:
        if FITTING[self._mark].fullmatch(value) and not self._is_escaping:
            return value
        if self._is_escaping and value:
            raise CannotQuote(f"the value {value[:50]!r} cannot follow a backslash")
        quoted = value.replace("\\", "\\\\").replace(self._mark, f"\\{self._mark}")
        return quoted.replace("\n", "\\n").replace("\r", "\\r")

    def _step(self, text: str, at: int) -> int:
        if self._is_escaping:
            self._is_escaping = False
            return at + 1
        found = (ENDS[self._mark] if self._mark else BEGIN).search(text, at)
        if found is None:
            return len(text)
        if not self._mark:
            self._mark = found[0]
        elif found[0] == "\\":
            self._is_escaping = True
        else:
            self._mark = ""  # a string cannot go on in the next line: the query is broken, whatever follows
        return found.end()
