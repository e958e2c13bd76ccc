"""What a Canary with `revertOnDeletion` gives back when it is deleted, and the finalizer that makes time for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from fleet_rollout.decide.canary.copied_metadata import LAST_APPLIED
from fleet_rollout.decide.canary.labels import primary_value
from fleet_rollout.decide.canary.live import described, replaced
from fleet_rollout.decide.canary.objects import Live, Object, StepFailed, Write
from fleet_rollout.decide.canary.scaling import scale_up, with_replicas
from fleet_rollout.decide.canary.services import apex_ref, controller
from fleet_rollout.decide.canary.subject import Subject
from fleet_rollout.decide.canary.workload import primary_ref, target_ref
from fleet_rollout.decide.metadata import annotations_of

FINALIZER = "finalizer.flagger.app"


def hold(raw: Object) -> list[Write]:
    """The Canary with the finalizer where it wants to revert, without it where it no longer does."""
    if raw["metadata"].get("deletionTimestamp"):
        return []
    found = raw["metadata"].get("finalizers") or []
    if not raw["spec"].get("revertOnDeletion"):
        return release(raw)
    return [] if FINALIZER in found else _with_finalizers(raw, [*found, FINALIZER])


def release(raw: Object) -> list[Write]:
    """The Canary without the finalizer."""
    found = raw["metadata"].get("finalizers") or []
    return _with_finalizers(raw, [each for each in found if each != FINALIZER])


def revert_target(subject: Subject, live: Live) -> list[Write]:
    """The target at the size of the primary. One that is gone needs nothing."""
    target, primary = live[target_ref(subject)], live[primary_ref(subject)]
    if target is None:
        return []
    if primary is None or subject.target_kind == "DaemonSet":
        return scale_up(subject, live)
    return with_replicas(target, primary["spec"].get("replicas", 1))


def revert_apex(subject: Subject, live: Live) -> list[Write]:
    """The Service that users call selects the target again, unless it goes with the Canary."""
    if subject.target_kind == "Service":
        return []
    service = live[apex_ref(subject)]
    if service is None or (controller(service) or {}).get("kind") == "Canary":
        return []
    selector = service["spec"].get("selector") or {}
    if selector.get(subject.label_key) != primary_value(subject.label_value):
        return []
    spec = {name: value for name, value in service["spec"].items() if name != "selector"}
    given = (
        _given_selector(service)
        if LAST_APPLIED in annotations_of(service)
        else {subject.label_key: subject.label_value}
    )
    return replaced(service, {**service, "spec": {**spec, **({"selector": given} if given else {})}})


def _given_selector(service: Mapping[str, Any]) -> Any:
    """The selector that a user has applied with kubectl."""
    try:
        applied = orjson.loads(annotations_of(service)[LAST_APPLIED])
        return applied["spec"].get("selector")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StepFailed(f"{described(service)} cannot be given back: {LAST_APPLIED} is no Service") from None


def _with_finalizers(raw: Object, finalizers: list[str]) -> list[Write]:
    rest = {name: value for name, value in raw["metadata"].items() if name != "finalizers"}
    return replaced(raw, {**raw, "metadata": {**rest, **({"finalizers": finalizers} if finalizers else {})}})
