"""Is a Canary ours to drive? Two engines on one Canary would double its pace and undo each other's routes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from fleet_rollout.decide.names import ENGINE_ANNOTATION

MANAGER_CANARY = "fleet-rollout-canary"
EngineName = Literal["hub", "agent"]

# What an engine says of a Canary. A person who sets one of these with kubectl is no engine.
_SAID = ("phase", "canaryWeight", "iterations", "failedChecks", "lastAppliedSpec", "lastPromotedSpec")
_OURS = ("hub", "agent")
_PEOPLE = "kubectl"
_UNDER_WAY = frozenset({"Waiting", "Progressing", "WaitingPromotion", "Promoting", "Finalising"})


def is_ours(canary: Mapping[str, Any], engine: EngineName, *, adopts_plain: bool) -> bool:
    """The annotation says whose it is; without one it is nobody's unless plain Canaries are adopted."""
    named = engine_named(canary)
    return named == engine if named else adopts_plain


def wrote_at(canary: Mapping[str, Any]) -> str:
    """When an engine of ours last changed the status, RFC 3339 in whole seconds; empty where none ever did."""
    return max((time for manager, time in _writers(canary) if manager == MANAGER_CANARY), default="")


def rival(before: Mapping[str, Any], now: Mapping[str, Any], wrote: str) -> str | None:
    """The other engine that has written the status since it was as we left it; None where nobody has.

    That is whoever wrote last: the entry of an engine from which the Canary was taken over stays for good. Within one
    second it is the other, unless our time has moved since `wrote`, that of `before`: then a write of ours whose answer
    was lost is what has changed the status.
    """
    was, is_now = before.get("status") or {}, now.get("status") or {}
    if all(was.get(name) == is_now.get(name) for name in _SAID):
        return None
    others = ((time, manager) for manager, time in _writers(now) if manager != MANAGER_CANARY)
    time, name = max(others, default=("", ""))
    own = wrote_at(now)
    is_own = time < own or (time == own != wrote)
    return name if name and not is_own and not name.startswith(_PEOPLE) else None


def _writers(canary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Who has written the status, and when for the last time."""
    entries = canary["metadata"].get("managedFields") or []
    return [(entry["manager"], entry.get("time", "")) for entry in entries if entry.get("subresource") == "status"]


def is_under_way(status: Mapping[str, Any]) -> bool:
    """Whether an engine is in the middle of a rollout: another gets the Canary when it has come to its end."""
    return status.get("phase") in _UNDER_WAY


def is_kept(engine: str | None, status: Mapping[str, Any]) -> bool:
    """Whether Flagger has to wait for a Canary of ours: it would begin the rollout anew, for its hashes are others."""
    return engine in _OURS and is_under_way(status)


def is_to_finish(canary: Mapping[str, Any]) -> bool:
    """Whether a plain Canary that was adopted is brought to its end, although it is not to be driven any more."""
    return engine_named(canary) is None and is_under_way(canary.get("status") or {})


def engine_named(canary: Mapping[str, Any]) -> str | None:
    """The engine that the Canary names."""
    return (canary["metadata"].get("annotations") or {}).get(ENGINE_ANNOTATION) or None


def conflict(canary: Mapping[str, Any], manager: str) -> str:
    """What the user reads about it."""
    metadata = canary["metadata"]
    return (
        f"{manager} writes the status of Canary {metadata['namespace']}/{metadata['name']}, too; "
        f"stop it, or annotate the Canary with {ENGINE_ANNOTATION}: flagger"
    )
