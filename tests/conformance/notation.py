"""The notation of traces: one step a tick, as in `Pg 0 100:0 → Pg 20 80:20 → Fa 0 100:0 ×3`.

A step is a phase, then `weight[/failed[/iterations]]` (or `w20`, `fc1`, `it2`), then `primary:canary`, with an `m`
where requests are mirrored, then `r1` for the target's replicas. Phase, weight and routes stay as they were where a
step does not name them; failed checks and iterations are 0 where it does not; replicas follow from the phase.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

PHASES = {
    "Ig": "Initializing",
    "In": "Initialized",
    "Wt": "Waiting",
    "Pg": "Progressing",
    "WP": "WaitingPromotion",
    "Pm": "Promoting",
    "Fn": "Finalising",
    "Su": "Succeeded",
    "Fa": "Failed",
}
SHORT = {phase: short for short, phase in PHASES.items()} | {"": "Ig"}
# In these the target runs; before and after it is scaled to zero.
RUNNING = frozenset({"Initializing", "Progressing", "WaitingPromotion", "Promoting", "Finalising"})

_COUNTS = re.compile(r"(\d+)(?:/(\d+))?(?:/(-?\d+))?")
_ROUTES = re.compile(r"(\d+):(\d+)(m?)")
_NAMED = re.compile(r"(w|fc|it|r)(-?\d+)")
_FIELDS = {"w": "weight", "fc": "failed", "it": "iterations", "r": "replicas"}


@dataclass(frozen=True)
class Step:
    """What is to be seen after one tick."""

    phase: str = "Initialized"
    weight: int = 0
    failed: int = 0
    iterations: int = 0
    primary: int = 100
    canary: int = 0
    mirrored: bool = False
    replicas: int = 0

    def __str__(self) -> str:
        counts = f"{self.weight}/{self.failed}/{self.iterations}"
        routes = f"{self.primary}:{self.canary}{'m' if self.mirrored else ''}"
        return f"{SHORT.get(self.phase, self.phase)} {counts} {routes} r{self.replicas}"


def steps(text: str) -> list[Step]:
    """The steps that a trace names, each as often as it says."""
    found: list[Step] = []
    before = Step()
    for part in text.split("→"):
        *words, last = part.split()
        times = 1
        if last.startswith("×"):
            times = int(last[1:])
        else:
            words.append(last)
        before = _step(before, words)
        found += [before] * times
    return found


def _step(before: Step, words: list[str]) -> Step:
    changes: dict[str, object] = {"failed": 0, "iterations": 0}
    for word in words:
        changes |= _read(word)
    after = replace(before, **changes)  # type: ignore[arg-type]
    return after if "replicas" in changes else replace(after, replicas=int(after.phase in RUNNING))


def _read(word: str) -> dict[str, object]:
    """What one word says."""
    if word in PHASES:
        return {"phase": PHASES[word]}
    if match := _ROUTES.fullmatch(word):
        return {"primary": int(match[1]), "canary": int(match[2]), "mirrored": bool(match[3])}
    if match := _COUNTS.fullmatch(word):
        return {"weight": int(match[1]), "failed": int(match[2] or 0), "iterations": int(match[3] or 0)}
    match = _NAMED.fullmatch(word)
    assert match is not None, f"{word!r} is not in the notation"
    return {_FIELDS[match[1]]: int(match[2])}
