"""Which files of a repository stay out of its artifact: gitignore patterns as Flux reads them.

The last pattern that matches decides, for every file by itself (git would not look into an ignored folder again).
Patterns come from repositories, so matching takes time linear in their length: never a backtracking regular
expression.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import translate

IGNORE_FILE = ".sourceignore"
LONGEST_PATTERN = 1024
MOST_PATTERNS = 2000
MOST_TEXT = 64 * 1024

VCS_PATTERNS = (".git/", ".gitignore", ".gitmodules", ".gitattributes")
# Only where neither a .sourceignore nor spec.ignore has a pattern.
EXTENSION_PATTERNS = ("*.jpg", "*.jpeg", "*.gif", "*.png", "*.wmv", "*.flv", "*.tar.gz", "*.zip")
CI_PATTERNS = (
    ".github/",
    ".circleci/",
    ".travis.yml",
    ".gitlab-ci.yml",
    "appveyor.yml",
    ".drone.yml",
    "cloudbuild.yaml",
    "codeship-services.yml",
    "codeship-steps.yml",
)
TOOL_PATTERNS = ("**/.goreleaser.yml", "**/.sops.yaml", "**/.flux.yaml")

# A pattern's text, and the folder that it holds for.
Line = tuple[str, tuple[str, ...]]


class TooManyPatterns(ValueError):
    """The ignore rules are larger than any real ones; the message is for people."""


@dataclass(frozen=True)
class Pattern:
    """One line. `segments` hold None for `**`; `domain` is the folder the line's file lies in."""

    domain: tuple[str, ...]
    negated: bool
    folders_only: bool
    anchored: bool
    segments: tuple[re.Pattern[str] | None, ...]

    def matches(self, path: Sequence[str], is_folder: bool) -> bool:
        depth = len(self.domain)
        if len(path) <= depth or tuple(path[:depth]) != self.domain:
            return False
        return self._matches_below(path[depth:], is_folder)

    def _matches_below(self, path: Sequence[str], is_folder: bool) -> bool:
        """A folder's pattern covers all that is in it, so any leading part of the path may match."""
        last = len(path) if is_folder or not self.folders_only else len(path) - 1
        if self.anchored:
            return any(end <= last for end in self._ends(path))
        name = self.segments[0]
        return name is not None and any(name.match(part) for part in path[:last])

    def _ends(self, path: Sequence[str]) -> set[int]:
        """How many parts of `path` the whole pattern may stand for: one pass a segment, no backtracking."""
        ends = {0}
        for position, segment in enumerate(self.segments):
            if segment is not None:
                ends = {end + 1 for end in ends if end < len(path) and segment.match(path[end])}
            elif ends:
                inside_only = position == len(self.segments) - 1
                ends = set(range(min(ends) + inside_only, len(path) + 1))
        return ends


@dataclass(frozen=True)
class IgnoreRules:
    """All patterns of one source, in the order they count."""

    patterns: tuple[Pattern, ...] = field(default=())

    def excludes(self, path: str, *, is_folder: bool = False) -> bool:
        parts = path.split("/")
        for pattern in reversed(self.patterns):
            if pattern.matches(parts, is_folder):
                return not pattern.negated
        return False


def rules(files: Iterable[tuple[str, str]], ignore: str | None) -> IgnoreRules:
    """From (folder, content) of every .sourceignore, outer folders first, and the text of spec.ignore."""
    texts = [(content, tuple(folder.split("/")) if folder else ()) for folder, content in files]
    lines = [(line, domain) for text, domain in (*texts, (ignore or "", ())) for line in _lines(text)]
    _check_lines(lines)
    own = _patterns(lines)
    defaults = VCS_PATTERNS if own else VCS_PATTERNS + EXTENSION_PATTERNS + CI_PATTERNS + TOOL_PATTERNS
    return IgnoreRules((*_patterns((line, ()) for line in defaults), *own))


def _check_lines(lines: Sequence[Line]) -> None:
    """Before one is compiled, which takes the longest."""
    if len(lines) > MOST_PATTERNS:
        raise TooManyPatterns(f"more than {MOST_PATTERNS} ignore patterns")
    if any(len(line) > LONGEST_PATTERN for line, _ in lines):
        raise TooManyPatterns(f"an ignore pattern is longer than {LONGEST_PATTERN} characters")
    if sum(len(line) for line, _ in lines) > MOST_TEXT:
        raise TooManyPatterns(f"ignore patterns of more than {MOST_TEXT >> 10} KiB")


def _lines(text: str) -> list[str]:
    """The patterns of one file, without blank lines and comments."""
    lines = (_trimmed(line) for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _patterns(lines: Iterable[Line]) -> list[Pattern]:
    return [pattern for line, domain in lines if (pattern := _pattern(line, domain))]


def _trimmed(line: str) -> str:
    """Blanks at the end do not count unless the first is escaped."""
    stripped = line.rstrip(" \t\r")
    return stripped + " " if stripped.endswith("\\") and stripped != line else stripped


def _pattern(line: str, domain: tuple[str, ...]) -> Pattern | None:
    negated = line.startswith("!")
    line = line.removeprefix("!")
    folders_only = line.endswith("/")
    body = line.removesuffix("/")
    anchored = "/" in body
    body = body.removeprefix("/")
    if not body:
        return None
    segments = tuple(None if part == "**" else _glob(part) for part in body.split("/"))
    if segments == (None,):
        segments, anchored = (_glob("*"),), False
    return Pattern(domain, negated, folders_only, anchored, segments)


def _glob(text: str) -> re.Pattern[str]:
    """One path part. fnmatch's expressions never backtrack into a `*` whose next literal was found."""
    literal = re.sub(r"\\(.)", lambda found: f"[{found[1]}]" if found[1] in "*?[" else found[1], text)
    return re.compile(translate(literal.replace("[^", "[!")))
