"""Which of these tags does a version range mean?

Ranges are those of Flux (Masterminds/semver): `>=1.0.0 <2.0.0`, `1.x`, `~1.2`, `^1.2.0`, `1.2 - 1.4`, joined by
blanks or commas (and) and `||` (or). Tags are strict semantic versions, a leading `v` aside; others do not count.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import total_ordering
from types import MappingProxyType

IDENTIFIERS = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
NUMBER = r"(?:0|[1-9][0-9]{0,17})"
TAG = re.compile(rf"v?({NUMBER})\.({NUMBER})\.({NUMBER})(?:-({IDENTIFIERS}))?(?:\+({IDENTIFIERS}))?")

PART = r"(?:[0-9]{1,18}|[xX*])"
OPERATORS = r"=|!=|>|<|>=|=>|<=|=<|~|~>|\^"
PARTIAL = rf"v?{PART}(?:\.{PART})?(?:\.{PART})?(?:-{IDENTIFIERS})?(?:\+{IDENTIFIERS})?"
TERM = re.compile(
    rf"({OPERATORS})?\s*v?({PART})(?:\.({PART}))?(?:\.({PART}))?(?:-({IDENTIFIERS}))?(?:\+{IDENTIFIERS})?"
)
HYPHEN = re.compile(rf"({PARTIAL})\s+-\s+({PARTIAL})")
SEPARATOR = re.compile(r"\s*,\s*|\s+")
LONGEST_RANGE = 256


class InvalidRange(ValueError):
    """The text is no version range; the message is for people."""


@total_ordering
@dataclass(frozen=True)
class Version:
    """A semantic version. Build metadata is kept, and counts neither in equality nor in order."""

    release: tuple[int, int, int]
    prerelease: tuple[str, ...] = ()
    build: str = ""

    @property
    def precedence(self) -> tuple[object, ...]:
        """What the order of versions goes by (semver.org, section 11)."""
        parts = tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in self.prerelease)
        return (self.release, not self.prerelease, parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self.precedence == other.precedence

    def __lt__(self, other: Version) -> bool:
        return self.precedence < other.precedence

    def __hash__(self) -> int:
        return hash(self.precedence)


def parse_version(tag: str) -> Version | None:
    """The version a tag names, or None where it names none."""
    found = TAG.fullmatch(tag)
    if found is None or _has_padded_number(found[4]):
        return None
    return Version((int(found[1]), int(found[2]), int(found[3])), _identifiers(found[4]), found[5] or "")


@dataclass(frozen=True)
class Term:
    """One comparison, such as `~1.2`: `given` says how many of the three numbers were written."""

    operator: str
    version: Version
    given: int

    def admits(self, version: Version) -> bool:
        return OPERATIONS[self.operator](version, self)


@dataclass(frozen=True)
class Range:
    """Alternatives, each a list of terms that all have to hold."""

    alternatives: tuple[tuple[Term, ...], ...]

    def admits(self, version: Version) -> bool:
        """A prerelease counts only where a term of the same alternative names one (`>=1.0.0-0`)."""
        return any(
            all(term.admits(version) for term in terms)
            for terms in self.alternatives
            if not version.prerelease or any(term.version.prerelease for term in terms)
        )


def parse_range(text: str) -> Range:
    """Raises InvalidRange."""
    if len(text) > LONGEST_RANGE:
        raise InvalidRange(f"longer than {LONGEST_RANGE} characters")
    return Range(tuple(_terms(part) for part in text.split("||")))


def best_tags(tags: Iterable[str], wanted: Range) -> list[str]:
    """The tags of the highest admitted version: several where they differ in build metadata or a `v` only."""
    found = [(version, tag) for tag in tags if (version := parse_version(tag)) and wanted.admits(version)]
    if not found:
        return []
    highest = max(version for version, _ in found)
    return sorted(tag for version, tag in found if version == highest)


def _terms(part: str) -> tuple[Term, ...]:
    spelled_out = HYPHEN.sub(r">=\1 <=\2", part).strip()
    terms: list[Term] = []
    position = 0
    while True:
        found = TERM.match(spelled_out, position)
        if found is None or _has_padded_number(found[5]):
            raise InvalidRange(f"improper constraint: {part.strip()}")
        terms.append(_term(found))
        if found.end() == len(spelled_out):
            return tuple(terms)
        gap = SEPARATOR.match(spelled_out, found.end())
        if gap is None:
            raise InvalidRange(f"improper constraint: {part.strip()}")
        position = gap.end()


def _term(found: re.Match[str]) -> Term:
    numbers: list[int] = []
    for text in found.group(2, 3, 4):
        if text is None or text in "xX*":
            break
        numbers.append(int(text))
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    return Term(found[1] or "=", Version((major, minor, patch), _identifiers(found[5])), len(numbers))


def _identifiers(text: str | None) -> tuple[str, ...]:
    return tuple(text.split(".")) if text else ()


def _has_padded_number(prerelease: str | None) -> bool:
    return any(p.isdigit() and len(p) > 1 and p.startswith("0") for p in _identifiers(prerelease))


def _equal(version: Version, term: Term) -> bool:
    return version == term.version if term.given == 3 else _tilde(version, term)


def _not_equal(version: Version, term: Term) -> bool:
    same_numbers = version.release[: term.given] == term.version.release[: term.given]
    return not same_numbers or version.prerelease != term.version.prerelease


def _greater(version: Version, term: Term) -> bool:
    """`>11` wants 12: the numbers that were not written do not make a version greater."""
    if term.given in (1, 2):
        return version.release[: term.given] > term.version.release[: term.given]
    return version > term.version


def _at_most(version: Version, term: Term) -> bool:
    if term.given < 3:
        return version.release[: term.given] <= term.version.release[: term.given]
    return version <= term.version


def _tilde(version: Version, term: Term) -> bool:
    """The last number written may grow; of three, the patch. `~0.0.0` admits everything, as in Flux."""
    if version < term.version:
        return False
    if term.given in (0, 3) and term.version.release == (0, 0, 0):
        return True
    fixed = min(term.given, 2)
    return version.release[:fixed] == term.version.release[:fixed]


def _caret(version: Version, term: Term) -> bool:
    """What may break nothing: the leftmost number that is not zero stays."""
    if version < term.version:
        return False
    zeros = next((i for i, number in enumerate(term.version.release) if number), 2)
    fixed = min(zeros + 1, term.given)
    return version.release[:fixed] == term.version.release[:fixed]


OPERATIONS: Mapping[str, Callable[[Version, Term], bool]] = MappingProxyType(
    {
        "=": _equal,
        "!=": _not_equal,
        ">": _greater,
        "<": lambda version, term: version < term.version,
        ">=": lambda version, term: version >= term.version,
        "=>": lambda version, term: version >= term.version,
        "<=": _at_most,
        "=<": _at_most,
        "~": _tilde,
        "~>": _tilde,
        "^": _caret,
    }
)
