"""What can be a target, behind one set of verbs: Deployment, DaemonSet, Service, Knative Service.

Control reads `target_ref`, makes a Subject of it, reads what `reads` names, and asks; `live` has to be as it is after
the last write of the same tick.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fleet_rollout.decide.canary import (
    knative,
    ports,
    readiness,
    reverting,
    scalers,
    scaling,
    service_target,
    services,
    spec_hash,
    tracking,
    workload,
)
from fleet_rollout.decide.canary.effects import Fingerprint
from fleet_rollout.decide.canary.labels import selector_label
from fleet_rollout.decide.canary.live import described, required
from fleet_rollout.decide.canary.objects import Live, Ref, StepFailed, Write
from fleet_rollout.decide.canary.subject import EngineOptions, Subject


def target_ref(subject: Subject) -> Ref:
    """The one object to read before anything else."""
    if subject.is_knative:
        return knative.target_ref(subject)
    return service_target.target_ref(subject) if subject.target_kind == "Service" else workload.target_ref(subject)


def inspect(raw: Mapping[str, Any], options: EngineOptions, live: Live) -> Subject:
    """The Canary with what its target says of labels and ports. StepFailed where there is no target or label."""
    subject = Subject(raw, options)
    target = live[target_ref(subject)]
    if target is None:
        missing = f"{described(target_ref(subject))} does not exist"
        raise StepFailed(f"{missing}; create it, or correct spec.targetRef of Canary {subject.full_name}")
    if subject.target_kind == "Service":
        return Subject(raw, options, "", "")
    label = selector_label(target, options.selector_labels)
    containers = target["spec"]["template"]["spec"]["containers"]
    found = ports.discovered(subject.service, containers) if subject.service.get("portDiscovery") else ()
    return Subject(raw, options, label.key, label.value, found)


def reads(subject: Subject, target: Mapping[str, Any]) -> list[Ref]:
    """Everything but routing objects that the verbs below, and Services and scalers, look at; the target too."""
    first = target_ref(subject)
    if subject.is_knative:
        return [first, *knative.reads(subject, target)]
    if subject.target_kind == "Service":
        copies = [service_target.primary_ref(subject), service_target.canary_ref(subject)]
        return [first, *copies, *scalers.reads(subject)]
    return [
        first,
        workload.primary_ref(subject),
        *services.reads(subject),
        *scalers.reads(subject),
        *tracking.reads(subject, target),
    ]


def create_primary(subject: Subject, live: Live, flagger_id: str) -> list[Write]:
    """The primary, and its configs, where they are missing."""
    if subject.is_knative:
        return knative.create_primary(subject, live)
    if subject.target_kind == "Service":
        return service_target.create_primary(subject, live)
    return workload.create_primary(subject, live, flagger_id)


def promote(subject: Subject, live: Live, flagger_id: str) -> list[Write]:
    """The primary, and its configs, as the target is. `flagger_id`: a new UUID for each promotion."""
    if subject.is_knative:
        return knative.promote(subject, live)
    if subject.target_kind == "Service":
        return service_target.promote(subject, live)
    return workload.promote(subject, live, flagger_id)


def require_primary(subject: Subject, live: Live, now: datetime) -> None:
    """StepFailed unless the primary is ready. A plain Service always is."""
    if subject.is_knative:
        knative.require_primary(subject, live)
    elif subject.target_kind != "Service":
        readiness.require_primary(subject, required(live, workload.primary_ref(subject)), now)


def require_canary(subject: Subject, live: Live, now: datetime) -> None:
    """StepFailed unless the target is ready. A plain Service always is."""
    if subject.is_knative:
        knative.require_canary(subject, live)
    elif subject.target_kind != "Service":
        readiness.require_canary(subject, required(live, workload.target_ref(subject)), now)


def fingerprint(subject: Subject, live: Live) -> Fingerprint:
    """What the target is now, with what is missing of it."""
    target = required(live, target_ref(subject))
    if subject.is_knative:
        return Fingerprint(spec_hash.revision_hash(knative.latest_revision(target)))
    if subject.target_kind == "Service":
        return Fingerprint(spec_hash.canonical_hash(target["spec"]))
    missing = tracking.missing(subject, target, live)
    configs = tracking.tracked(subject, target, live) if missing is None else None
    return Fingerprint(
        spec_hash.template_hash(target["spec"]["template"]),
        None if configs is None else tracking.checksums(configs),
        scaling.is_scaled_down(subject, target),
        missing,
    )


def is_promoted(subject: Subject, live: Live) -> bool:
    """Whether the primary's configs hold what the target's hold."""
    if subject.target_kind == "Service":
        return True
    target = required(live, workload.target_ref(subject))
    return tracking.is_promoted(tracking.tracked(subject, target, live) or {}, live)


def scale_down(subject: Subject, live: Live) -> list[Write]:
    """The target at zero."""
    return [] if subject.target_kind == "Service" else scaling.scale_down(subject, live)


def scale_up(subject: Subject, live: Live) -> list[Write]:
    """The target from zero."""
    return [] if subject.target_kind == "Service" else scaling.scale_up(subject, live)


def revert_target(subject: Subject, live: Live) -> list[Write]:
    """The target as it would be without the Canary."""
    return [] if subject.target_kind == "Service" else reverting.revert_target(subject, live)
