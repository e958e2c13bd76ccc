"""The Canary's status as it is to be written: phases, counters and the one condition, `Promoted`.

Each function returns the top-level fields that change. The rules are those of Flagger's status setters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleet_rollout.decide.canary.effects import Fingerprint

PROMOTED = "Promoted"
# Weight and iterations survive only these changes of phase.
COUNTERS = ("canaryWeight", "failedChecks", "iterations")
KEEPS_COUNTERS = frozenset({"Progressing", "Waiting", "Promoting"})

_MESSAGES = {
    "Initialized": "{kind} initialization completed.",
    "Waiting": "Waiting for approval.",
    "WaitingPromotion": "Waiting for approval.",
    "Progressing": "New revision detected, progressing canary analysis.",
    "Promoting": "Canary analysis completed, starting primary rolling update.",
    "Finalising": "Canary analysis completed, routing all traffic to primary.",
    "Succeeded": "Canary analysis completed successfully, promotion finished.",
    "Failed": "Canary analysis failed, {kind} scaled to zero.",
}
# The condition's message after a promotion that has failed: nothing was scaled down, nothing rolled back.
PROMOTION_FAILED = "Canary promotion failed, primary not ready."
_FALLBACK = "New {kind} detected, starting initialization."
_VERDICTS = {"Initialized": "True", "Succeeded": "True", "Failed": "False"}


def synced(status: Mapping[str, Any], phase: str, fingerprint: Fingerprint, *, kind: str, now: str) -> dict[str, Any]:
    """Enter a phase with fresh counters, on the revision that `fingerprint` names. Times are RFC 3339."""
    changes: dict[str, Any] = {
        "phase": phase,
        "canaryWeight": 0,
        "failedChecks": 0,
        "iterations": 0,
        "lastAppliedSpec": fingerprint.spec,
        "trackedConfigs": dict(fingerprint.configs) if fingerprint.configs is not None else None,
        "lastTransitionTime": now,
    }
    if phase == "Initialized":
        changes["lastPromotedSpec"] = fingerprint.spec
    return changes | _conditions(status, phase, kind, now)


def entered(status: Mapping[str, Any], phase: str, *, kind: str, now: str, iterations: int = 0) -> dict[str, Any]:
    """Enter a phase on the revision that is known already; `iterations` counts only for WaitingPromotion."""
    missing = {name: 0 for name in COUNTERS if name not in status}  # from the first write on all of them are there
    changes: dict[str, Any] = {**missing, "phase": phase, "lastTransitionTime": now}
    if phase not in KEEPS_COUNTERS:
        changes |= {"canaryWeight": 0, "iterations": iterations if phase == "WaitingPromotion" else 0}
    if phase in ("Initialized", "Succeeded"):
        changes["lastPromotedSpec"] = status.get("lastAppliedSpec", "")
    return changes | _conditions(status, phase, kind, now)


def promotion_failed(status: Mapping[str, Any], *, kind: str, now: str, weight: int) -> dict[str, Any]:
    """Enter Failed with a primary that has the new version already: what was acted upon last is the promoted one.

    Of the target nothing is taken: whatever else it may be by now is a new revision, and so is a return to the one
    before.
    """
    promoted = {"lastPromotedSpec": status.get("lastAppliedSpec", "")}
    conditions = _conditions(status, "Failed", kind, now, message=PROMOTION_FAILED)
    changes = entered(status, "Failed", kind=kind, now=now) | conditions
    return changes | {"canaryWeight": weight, "failedChecks": 0} | promoted


def is_promotion_failed(status: Mapping[str, Any]) -> bool:
    """Whether the last rollout has ended so: the target, while it is what was acted upon last, was judged good."""
    found = status.get("conditions") or []
    return status.get("phase") == "Failed" and any(each.get("message") == PROMOTION_FAILED for each in found)


def _conditions(
    status: Mapping[str, Any], phase: str, kind: str, now: str, *, message: str | None = None
) -> dict[str, Any]:
    """The condition, rewritten only where it says something new."""
    verdict = _VERDICTS.get(phase, "Unknown")
    before = next((c for c in status.get("conditions") or [] if c.get("type") == PROMOTED), None)
    if before is not None and (before.get("status"), before.get("reason")) == (verdict, phase):
        return {}
    since = before.get("lastTransitionTime", now) if before is not None and before.get("status") == verdict else now
    condition = {
        "type": PROMOTED,
        "status": verdict,
        "reason": phase,
        "message": message or _MESSAGES.get(phase, _FALLBACK).format(kind=kind),
        "lastUpdateTime": now,
        "lastTransitionTime": since,
    }
    return {"conditions": [condition]}
