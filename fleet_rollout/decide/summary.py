"""The fleet in a few numbers and short texts: what `kubectl get` shows, and the sentences of conditions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from fleet_rollout.decide.rows import PENDING, RowState

# In the order a rollout goes through them; what people wait for comes before what is over.
PHASES = (
    PENDING,
    "Initializing",
    "Waiting",
    "Progressing",
    "WaitingPromotion",
    "Promoting",
    "Finalising",
    "Terminating",
    "Terminated",
    "Initialized",
    "Succeeded",
    "Failed",
)
NAMED = 5


def summary(rows: Sequence[RowState], omitted: int = 0) -> dict[str, Any]:
    """Counts over the rows that stay, and their texts for the printer columns."""
    counted = [row for row in rows if not row.leaving]
    clusters: dict[str, bool] = {}
    for row in counted:
        clusters[row.place] = clusters.get(row.place, True) and row.standing.ready == "True"
    phases = Counter(phase for row in counted if (phase := row.phase) is not None)
    ready = sum(clusters.values())
    found: dict[str, Any] = {
        "clusters": f"{ready}/{len(clusters)}",
        "readyClusters": ready,
        "totalClusters": len(clusters),
        "readySyncs": sum(row.standing.ready == "True" for row in counted),
        "totalSyncs": len(counted),
    }
    if phases:
        found["phases"] = dict(sorted(phases.items()))
        found["rollout"] = phase_text(phases)
    if omitted:
        found["omittedSyncs"] = omitted
    return found


def phase_text(phases: Counter[str]) -> str:
    """`2 Progressing, 1 Succeeded`."""
    order = {phase: place for place, phase in enumerate(PHASES)}
    known = sorted(phases, key=lambda phase: (order.get(phase, len(order)), phase))
    return ", ".join(f"{phases[phase]} {phase}" for phase in known)


def sentence(rows: Sequence[RowState]) -> str:
    """What is the matter with `rows`, the first few by name."""
    named = [f"{row.policy} on {row.place}: {row.standing.message or row.standing.reason}" for row in rows[:NAMED]]
    more = [f"and {len(rows) - NAMED} more"] if len(rows) > NAMED else []
    return "; ".join([*named, *more])


def places(rows: Sequence[RowState]) -> str:
    """The clusters of `rows`, each once, the first few by name."""
    found = list(dict.fromkeys(row.place for row in rows))
    more = [f"and {len(found) - NAMED} more"] if len(found) > NAMED else []
    return ", ".join([*found[:NAMED], *more])
