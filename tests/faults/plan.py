"""From the writes of a clean run to the cases that spoil them: each write x each fault, equal ones merged (trust.md 2).

Pure: the same writes and the same seed give the same plan, so that a seed, or a case's name, replays it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Write(NamedTuple):
    """A write of the clean run. Those of one `group` (phase, cluster, verb, kind) stand for each other."""

    group: str
    point: Any


class Case(NamedTuple):
    """One run to make: the fault, and the write that it is put on."""

    story: str
    fault: str
    group: str
    point: Any

    @property
    def name(self) -> str:
        return f"{self.story}/{self.fault}/{self.group}"


def planned(story: str, writes: Sequence[Write], faults: Sequence[str], seed: int) -> list[Case]:
    """Every group x every fault; the seed says which write of a group is spoiled."""
    groups: dict[str, list[Any]] = {}
    for write in writes:
        groups.setdefault(write.group, []).append(write.point)
    return [
        Case(story, fault, group, random.Random(f"{seed} {fault} {group}").choice(points))
        for group, points in groups.items()
        for fault in faults
    ]


def sample(cases: Sequence[Case], count: int, seed: int) -> list[Case]:
    """So many of them by seed; every fault comes up before one comes up twice."""
    shuffled = random.Random(seed).sample(cases, len(cases))
    turns: dict[str, int] = {}
    ranked = []
    for case in shuffled:
        turns[case.fault] = turns.get(case.fault, 0) + 1
        ranked.append((turns[case.fault], case))
    ranked.sort(key=lambda each: each[0])
    return [case for _, case in ranked[:count]]


def table(results: Mapping[tuple[str, str], tuple[int, int]]) -> str:
    """Cases and failures by story and fault, for people and for docs/reliability.md."""
    lines = ["| story | fault | cases | failed |", "|---|---|---|---|"]
    for (story, fault), (cases, failed) in sorted(results.items()):
        lines.append(f"| {story} | {fault} | {cases} | {failed} |")
    total = [sum(column) for column in zip(*results.values(), strict=True)] or [0, 0]
    return "\n".join([*lines, f"| all | | {total[0]} | {total[1]} |"])
