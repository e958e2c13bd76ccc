"""The status of a Git source, as Flux's GitRepository would show it (`status.sourceStatus.gitRepoStatus`).

A failed fetch keeps the last artifact: members stay on what they have.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fleet_rollout.decide import conditions as conds
from fleet_rollout_api.meta import Condition

FAILURES = ("FetchFailed", "StorageOperationFailed")
STORAGE_REASONS = frozenset({"ArchiveOperationFailed", "ArtifactUnavailable", "IllegalPath", "StatOperationFailed"})
IN_PROGRESS = "reconciliation in progress"


def stored(
    previous: Mapping[str, Any] | None,
    artifact: Mapping[str, Any],
    *,
    generation: int,
    handled: str | None,
    now: datetime,
) -> dict[str, Any]:
    """The status after a fetch that succeeded or found nothing new."""
    message = f"stored artifact for revision '{artifact['revision']}'"
    conditions: list[Condition] = []
    for type_ in ("Ready", "ArtifactInStorage"):
        kept = [c for c in _conditions(previous) if c.type == type_]
        conditions += conds.set_condition(kept, type_, "True", "Succeeded", message, generation=generation, now=now)
    return _status(previous, conditions, generation, handled) | {"artifact": dict(artifact)}


def failed(
    previous: Mapping[str, Any] | None,
    reason: str,
    message: str,
    *,
    stalled: bool,
    generation: int,
    handled: str | None,
    now: datetime,
) -> dict[str, Any]:
    """The status after a fetch that failed; `stalled` where only an edit can help."""
    conditions = conds.remove(_conditions(previous), "Reconciling", "Stalled", *FAILURES)
    previously = _conditions(previous)
    kind = "StorageOperationFailed" if reason in STORAGE_REASONS else "FetchFailed"
    wanted = [("Ready", "False", reason, message), (kind, "True", reason, message)]
    if stalled:
        wanted.append(("Stalled", "True", reason, message))
    else:
        wanted.append(("Reconciling", "True", "ProgressingWithRetry", IN_PROGRESS))
    for type_, status, why, text in wanted:
        kept = [*conditions, *(c for c in previously if c.type == type_ and type_ != "Ready")]
        conditions = conds.set_condition(kept, type_, status, why, text, generation=generation, now=now)  # type: ignore[arg-type]
    observed = generation if stalled else int((previous or {}).get("observedGeneration", -1))
    return _status(previous, conditions, observed, handled)


def suspended(previous: Mapping[str, Any] | None, *, generation: int, handled: str | None) -> dict[str, Any]:
    """The status while the source is suspended: nothing is fetched, requests are recorded."""
    return _status(previous, conds.remove(_conditions(previous), "Stalled"), generation, handled)


def has_failed(status: Mapping[str, Any] | None) -> bool:
    """Whether the last fetch failed, so that a success is news though the content is the same."""
    return any(conds.is_true(_conditions(status), type_) for type_ in FAILURES)


def _conditions(previous: Mapping[str, Any] | None) -> list[Condition]:
    return [Condition.model_validate(c) for c in (previous or {}).get("conditions", [])]


def _status(
    previous: Mapping[str, Any] | None, conditions: list[Condition], observed: int, handled: str | None
) -> dict[str, Any]:
    status: dict[str, Any] = {
        "observedGeneration": observed,
        "conditions": [condition.dump() for condition in conditions],
    }
    if previous and previous.get("artifact"):
        status["artifact"] = previous["artifact"]
    if handled is not None:
        status["lastHandledReconcileAt"] = handled
    return status
