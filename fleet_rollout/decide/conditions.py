"""Conditions of an object: set, remove, read; the order and the transition rule are Flux's.

Every function returns a new list. Setting what is already there returns an equal list, so that a caller
can tell that there is nothing to write.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from fleet_rollout.decide.intervals import rfc3339
from fleet_rollout.decide.printable import printable
from fleet_rollout_api.meta import Condition

Status = Literal["True", "False", "Unknown"]

READY = "Ready"
RECONCILING = "Reconciling"
STALLED = "Stalled"
HEALTHY = "Healthy"
SOURCE_READY = "SourceReady"
ROLLOUT_HEALTHY = "RolloutHealthy"
# There only while they are True.
ENGINE_MISSING = "EngineMissing"
ENGINE_CONFLICT = "EngineConflict"

# Readers look at these first; all others follow, those set at the newest generation before the rest.
FIRST = {STALLED: 0, RECONCILING: 1, READY: 2}

# Flux cuts here; the API server would refuse 32,768.
MESSAGE_LIMIT = 20_000
CUT = "…"


def set_condition(
    conditions: Sequence[Condition],
    type: str,
    status: Status,
    reason: str,
    message: str = "",
    *,
    now: datetime,
    generation: int,
) -> list[Condition]:
    """`conditions` with this one in it; its transition time moves only with status, reason or message."""
    message = printable(message)
    if len(message) > MESSAGE_LIMIT:
        message = message[: MESSAGE_LIMIT - len(CUT)] + CUT
    old = get(conditions, type)
    same = old is not None and (old.status, old.reason, old.message) == (status, reason, message)
    new = Condition(
        type=type,
        status=status,
        reason=reason,
        message=message,
        last_transition_time=old.last_transition_time if old is not None and same else rfc3339(now),
        observed_generation=generation,
    )
    return sorted([*remove(conditions, type), new], key=_rank)


def remove(conditions: Sequence[Condition], *types: str) -> list[Condition]:
    """`conditions` without those of `types`."""
    return [condition for condition in conditions if condition.type not in types]


def get(conditions: Sequence[Condition], type: str) -> Condition | None:
    """The condition of `type`."""
    return next((condition for condition in conditions if condition.type == type), None)


def is_true(conditions: Sequence[Condition], type: str) -> bool:
    """Whether the condition of `type` is there with status True."""
    condition = get(conditions, type)
    return condition is not None and condition.status == "True"


def _rank(condition: Condition) -> tuple[int, int, str]:
    return (FIRST.get(condition.type, len(FIRST)), _age(condition), condition.type)


def _age(condition: Condition) -> int:
    if condition.type in FIRST:
        return 0
    return -(condition.observed_generation or 0)
