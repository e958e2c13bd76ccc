"""A target that is a Knative Service: its revisions are the versions, its own traffic list leads to them.

Nothing is copied. An annotation names the promoted revision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleet_rollout.decide.canary.live import described, replaced, required
from fleet_rollout.decide.canary.objects import Live, Object, Ref, StepFailed, Write
from fleet_rollout.decide.canary.subject import Subject
from fleet_rollout.decide.metadata import annotations_of

API_VERSION = "serving.knative.dev/v1"
PRIMARY_REVISION = "flagger.app/primary-revision"


def complaint(subject: Subject) -> str | None:
    """Why target and provider do not go together, and what mends it; None where they do.

    Knative routes its own Services alone, and of those nothing is made that another provider could route to.
    """
    canary, is_routed = f"Canary {subject.full_name}", subject.provider == "knative"
    if subject.is_knative and not is_routed:
        return (
            f"{canary} names a Knative Service in spec.targetRef, to which provider {subject.provider} cannot route; "
            "write spec.provider: knative"
        )
    if is_routed and not subject.is_knative:
        target = f"{subject.target_kind.lower()} {subject.target}"
        return (
            f"{canary} has provider knative, which routes Services of {API_VERSION} alone, and not {target}; "
            "write another spec.provider, or name a Knative Service in spec.targetRef"
        )
    if subject.is_knative and subject.spec.get("autoscalerRef"):
        return f"{canary} has spec.autoscalerRef, but Knative scales its Services itself; take spec.autoscalerRef out"
    return None


def target_ref(subject: Subject) -> Ref:
    return Ref(API_VERSION, "Service", subject.namespace, subject.target_name)


def reads(subject: Subject, target: Mapping[str, Any]) -> list[Ref]:
    """The newest revision and the promoted one."""
    named = (latest_revision(target), promoted_revision(target))
    return [_revision(subject, name) for name in dict.fromkeys(named) if name]


def latest_revision(target: Mapping[str, Any]) -> str:
    """The newest revision's name; empty where there is none yet."""
    return str((target.get("status") or {}).get("latestCreatedRevisionName") or "")


def promoted_revision(target: Mapping[str, Any]) -> str:
    """The name of the revision that users get; empty before the first one is known."""
    return str(annotations_of(target).get(PRIMARY_REVISION) or "")


def create_primary(subject: Subject, live: Live) -> list[Write]:
    """While the Canary initialises, the newest revision is the promoted one and has all the traffic."""
    target = required(live, target_ref(subject))
    if subject.phase not in ("", "Initializing"):
        return []
    name = _newest(target)
    traffic = _all_to(name, target["spec"].get("traffic") or [])
    return replaced(target, {**_promoting(target, name), "spec": {**target["spec"], "traffic": traffic}})


def promote(subject: Subject, live: Live) -> list[Write]:
    """The newest revision becomes the promoted one."""
    target = required(live, target_ref(subject))
    return replaced(target, _promoting(target, _newest(target)))


def require_primary(subject: Subject, live: Live) -> None:
    """StepFailed unless the promoted revision is ready."""
    target = required(live, target_ref(subject))
    name = promoted_revision(target)
    if not name:
        raise StepFailed(f"{described(target)} has no annotation {PRIMARY_REVISION}")
    _require(subject, live, name)


def require_canary(subject: Subject, live: Live) -> None:
    """StepFailed unless the newest revision is ready."""
    _require(subject, live, _newest(required(live, target_ref(subject))))


def _newest(target: Object) -> str:
    name = latest_revision(target)
    if not name:
        raise StepFailed(f"{described(target)} has no revision yet")
    return name


def _require(subject: Subject, live: Live, name: str) -> None:
    revision = required(live, _revision(subject, name))
    conditions = (revision.get("status") or {}).get("conditions") or ()
    if not any((each["type"], each["status"]) == ("Ready", "True") for each in conditions):
        raise StepFailed(f"{described(revision)} is not ready")


def _all_to(name: str, before: list[Object]) -> list[Object]:
    """The newest revision without a share, the named one with all, then tags of others; what Knative added stays."""
    newest: Object = next((each for each in before if each.get("latestRevision")), {})
    named: Object = next((each for each in before if each is not newest and each.get("revisionName") == name), {})
    tags = [each for each in before if each not in (newest, named) and each.get("tag") and not each.get("percent")]
    return [newest | {"latestRevision": True, "percent": 0}, named | {"revisionName": name, "percent": 100}, *tags]


def _revision(subject: Subject, name: str) -> Ref:
    return Ref(API_VERSION, "Revision", subject.namespace, name)


def _promoting(target: Object, name: str) -> Object:
    annotations = {**annotations_of(target), PRIMARY_REVISION: name}
    return {**target, "metadata": {**target["metadata"], "annotations": annotations}}
