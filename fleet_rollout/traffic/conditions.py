"""The headers and methods that pick the requests of an A/B test, read from `analysis.match` and checked."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from fleet_rollout.decide.canary.objects import StepFailed
from fleet_rollout.decide.canary.subject import Subject
from fleet_rollout.traffic import checks

COMPARISONS = ("exact", "regex", "prefix", "suffix")


class Condition(NamedTuple):
    """One header and what it is compared with; `field` is where the user wrote it."""

    field: str
    header: str
    comparison: str
    text: str


def headers(subject: Subject, known: Collection[str]) -> Iterator[Condition]:
    """Every header, by entry and name. Raises StepFailed where the router cannot compare as the user asks."""
    for index, entry in enumerate(subject.match):
        for name, wanted in sorted((entry.get("headers") or {}).items()):
            field = f"spec.analysis.match[{index}].headers"
            yield _condition(f"{field}.{checks.checked(field, name, checks.HEADER)}", name, wanted or {}, known)


def methods(subject: Subject) -> Iterator[str]:
    """Every HTTP method that is named exactly."""
    for index, entry in enumerate(subject.match):
        if wanted := entry.get("method"):
            field = f"spec.analysis.match[{index}].method"
            yield checks.checked(f"{field}.exact", str(wanted.get("exact") or ""), checks.METHOD)


def _condition(field: str, name: str, wanted: Mapping[str, Any], known: Collection[str]) -> Condition:
    given = [key for key in COMPARISONS if wanted.get(key)]
    if len(given) != 1 or given[0] not in known:
        said = " and ".join(given) or "nothing"
        raise StepFailed(f"{field}: cannot be compared with {said} here; write one of: {', '.join(known)}")
    text = str(wanted[given[0]])
    if given[0] == "regex":
        checks.pattern(f"{field}.regex", text)
    else:
        checks.checked(f"{field}.{given[0]}", text, checks.VALUE)
    return Condition(field, name, given[0], text)
