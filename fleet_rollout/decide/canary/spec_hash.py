"""What a target is, as a short text: how a new revision is noticed.

Flagger's hash of a Pod template depends on its Go library, so ours is another, over canonical JSON. A stored value that
is not ours tells nothing about the target; it is replaced by what is there, so that taking over restarts nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from fleet_rollout.decide.canary.effects import Fingerprint
from fleet_rollout.decide.canary.hooks import safe_hash
from fleet_rollout.decide.canary.live import with_maps
from fleet_rollout.decide.canary.primary_pods import without_scale_down
from fleet_rollout.decide.canary.subject import Subject

# The fields of a status that `adopted` may change.
ADOPTED = frozenset({"lastAppliedSpec", "lastPromotedSpec", "trackedConfigs"})
_OURS = re.compile(r"v1:[0-9a-f]{16}")


def template_hash(template: Mapping[str, Any]) -> str:
    """Of a Pod template, whether or not its DaemonSet is scaled to zero."""
    metadata = template.get("metadata") or {}
    maps = {name: metadata.get(name) for name in ("labels", "annotations")}
    return canonical_hash({"metadata": with_maps(metadata, **maps), "spec": without_scale_down(template["spec"])})


def canonical_hash(value: Any) -> str:
    """Of any JSON; what is null, or a list of nothing, is as good as absent."""
    text = json.dumps(_said(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return f"v1:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def revision_hash(revision: str) -> str:
    """Of a Knative revision, as Flagger has it: the name says everything."""
    return safe_hash(f"(string){revision}")


def is_foreign(subject: Subject) -> bool:
    """Whether another engine has named the last revision, so that there is something to adopt."""
    stored = str(subject.status.get("lastAppliedSpec") or "")
    return bool(stored) and bool(_OURS.fullmatch(stored)) is subject.is_knative


def adopted(status: Mapping[str, Any], now: Fingerprint) -> dict[str, Any]:
    """The status fields to write where another engine has named the last revision; {} where we have, or nobody.

    What is there now is then that revision. It is the promoted one too, unless an analysis was under way or failed.
    """
    applied, promoted = status.get("lastAppliedSpec"), status.get("lastPromotedSpec")
    if not applied or _is_known(applied, now):
        return {}
    changes: dict[str, Any] = {"lastAppliedSpec": now.spec}
    if now.configs is not None:
        changes["trackedConfigs"] = dict(now.configs)
    return changes | ({"lastPromotedSpec": now.spec} if promoted == applied else {})


def _is_known(stored: str, now: Fingerprint) -> bool:
    """Of the form that this target's hashes have."""
    return bool(_OURS.fullmatch(stored)) == bool(_OURS.fullmatch(now.spec))


def _said(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _said(each) for name, each in value.items() if each is not None and each != []}
    return [_said(each) for each in value] if isinstance(value, list) else value
