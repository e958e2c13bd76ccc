"""Is the target another revision than the one that the status speaks of?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleet_rollout.decide.canary.effects import Fingerprint


def is_new_revision(status: Mapping[str, Any], now: Fingerprint) -> bool:
    """Whether spec or tracked configs differ from those of the last revision that was acted upon."""
    return spec_changed(status, now.spec) or configs_changed(status.get("trackedConfigs"), now.configs)


def spec_changed(status: Mapping[str, Any], spec: str) -> bool:
    """A return to the promoted spec is no change: there is nothing to analyse."""
    applied = status.get("lastAppliedSpec")
    if not applied:
        return True
    return spec not in (applied, status.get("lastPromotedSpec"))


def configs_changed(before: Mapping[str, str] | None, now: Mapping[str, str] | None) -> bool:
    """Whether what is tracked differs from what was. Where nothing is tracked any more, nothing can be said."""
    return now is not None and dict(before or {}) != dict(now)


def is_last_revision(status: Mapping[str, Any], now: Fingerprint) -> bool:
    """Whether the target is what was acted upon last, and nothing else that nobody has judged."""
    return now.spec == status.get("lastAppliedSpec") and not configs_changed(status.get("trackedConfigs"), now.configs)


def names_changed(status: Mapping[str, Any], now: Fingerprint) -> bool:
    """Whether a config came to those of the promoted revision, or went: the primary has the copies of those before.

    Where another revision was acted upon since, the status has the names of that one, and nothing can be said.
    """
    if status.get("lastAppliedSpec") != status.get("lastPromotedSpec"):
        return False
    return now.configs is not None and now.configs.keys() != (status.get("trackedConfigs") or {}).keys()


def has_returned(status: Mapping[str, Any], now: Fingerprint) -> bool:
    """Whether the spec is the promoted one again, while another one is being analysed."""
    promoted = status.get("lastPromotedSpec")
    return now.spec == promoted and status.get("lastAppliedSpec") not in (promoted, None, "")
