"""Is a Canary's verdict about the content that is wanted now? An old success is never credited to a new revision.

A Canary's status has a phase and opaque hashes, but no revision, and the engine looks at the workload only once an
interval. So what was there before an apply is recorded first, what the apply changed afterwards, and a finished phase
counts only when the engine has moved on from what was there before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from fleet_rollout.decide.canary.status import PROMOTED as PROMOTED_CONDITION
from fleet_rollout.decide.canary.status import PROMOTION_FAILED
from fleet_rollout.decide.intervals import parse_time
from fleet_rollout.decide.traffic_names import SCALE_TO_ZERO_KEY
from fleet_rollout_api.cluster_sync import Attribution, Engine, RolloutRecord

Status = Mapping[str, Any]

# What to look after where a Canary has no status.
UNSEEN: Mapping[Engine, str] = {
    "hub": "the engine has not looked at it",
    "agent": "check that fleet-rollout agent runs in the member",
    "flagger": "check that Flagger runs in the member",
}
PROMOTED = frozenset({"Initialized", "Succeeded"})
FAILED = "Failed"
# The weight of a Canary that has failed while it was being promoted, where its target is still what was judged.
KEEPS_TRAFFIC = 100
UNPROMOTED = (
    "failed to be promoted: the primary is not ready, and {traffic}; "
    "mend the primary, then push another revision, which starts when the primary is ready"
)
CANARY_SERVES = "the new version keeps all traffic"
PRIMARY_SERVES = "has the new version and all traffic, until the canary is ready with the same version"
# How far an analysis is; a mere new time is not worth a write.
PROGRESS = ("phase", "canaryWeight", "iterations", "failedChecks")
HASH_LENGTH = 16


@dataclass(frozen=True)
class Workload:
    """What the engine watches, as `inputs_of`, and when we last changed the workload.

    `changed_at` is the member's own clock: the time of our entry in the workload's managedFields.
    """

    inputs: str
    changed_at: str | None = None


class Verdict(Enum):
    """How the wanted content stands with the engine."""

    WAITING = "the engine has not looked at it yet"
    RUNNING = "the engine is at work on it"
    SUCCEEDED = "it is promoted"
    FAILED = "it was rolled back, or its promotion failed"


@dataclass(frozen=True)
class Judgement:
    """The verdict, and a sentence for the row's message where it is not a success."""

    verdict: Verdict
    message: str = ""


def intend(before: Attribution | None, status: Status | None, live: Workload | None, wanted: str) -> Attribution:
    """What to record before objects are applied for `wanted` (the fingerprint of the ClusterSync's spec).

    `status` and `live` are the Canary's status and the workload as they are now; None where absent.
    """
    inputs = live.inputs if live is not None else None
    if before is not None and before.wanted == wanted and before.inputs is None and before.seen_inputs != inputs:
        # A second try after a stop, and the first got as far as the workload: what was there before is on record.
        return _measured_later(before, status, None).model_copy(update={"changed_at": None})
    if before is not None and before.wanted == wanted and before.inputs is not None and before.inputs == inputs:
        return before
    spec, failure = _seen(status), _failed_at(status)
    new = Attribution(
        wanted=wanted, seen_spec=spec, seen_inputs=inputs, base_spec=spec, base_verdict=failure, base_inputs=inputs
    )
    return new if before is None else new.model_copy(update=_carried(before, status, live))


def _carried(before: Attribution, status: Status | None, live: Workload | None) -> dict[str, str | None]:
    """What a new intent keeps of the last one."""
    if before.inputs is None and live is not None:
        resumed = _measured_later(before, status, None) if live.inputs != before.seen_inputs else before
        before = resumed.model_copy(update={"inputs": live.inputs, "changed_at": live.changed_at})
    settled = _settled(before, status)
    kept: dict[str, str | None] = {
        "changed_at": settled.changed_at,
        "promoted_inputs": settled.promoted_inputs,
        "promoted_spec": settled.promoted_spec,
    }
    if _seen(status) is not None and not _has_noticed(settled, status):
        # The engine has not seen the last change yet, so the next one is measured from the same point.
        kept["base_inputs"] = settled.base_inputs
        if settled.base_spec is not None:
            kept |= {"base_spec": settled.base_spec, "base_verdict": settled.base_verdict}
    return kept


def applied(intent: Attribution, status: Status | None, before: Workload | None, after: Workload | None) -> Attribution:
    """What to record after the apply: the workload as it was read before and as it is now, and the Canary's status now.

    Where the engine has looked between the intent and our change, it has seen what was there before.
    """
    if after is None:
        return intent
    changed = before is None or before.inputs != after.inputs or intent.changed_at is None
    moment = after.changed_at if changed else intent.changed_at
    done = intent.model_copy(update={"inputs": after.inputs, "changed_at": moment})
    if not changed or _is_after(status, moment):
        return done
    return _measured_later(done, status, intent.seen_inputs)


def _measured_later(attribution: Attribution, status: Status | None, inputs: str | None) -> Attribution:
    """`attribution` measured from what the engine has seen since the intent, if an earlier change was unseen then.

    That may have been the earlier one; without such a change it can only have been ours. `inputs` are those that the
    engine saw, None where nobody knows.
    """
    spec = _seen(status)
    if attribution.base_inputs == attribution.seen_inputs or spec in (None, attribution.seen_spec):
        return attribution
    later = {"base_spec": spec, "base_verdict": _failed_at(status), "base_inputs": inputs}
    return attribution.model_copy(update=later)


def is_news(before: Status | None, after: Status | None) -> bool:
    """Whether a Canary's status is worth a write over the one that is mirrored.

    Beside the progress, what tells one verdict from another: a whole analysis may pass unseen, while the service or the
    member is away, and end in the phase and with the counts of the last one.
    """
    return _telling(before) != _telling(after)


def _telling(status: Status | None) -> tuple[Any, ...]:
    progress = ((status or {}).get(name) for name in PROGRESS)
    return (*progress, _seen(status), _promoted(status), _failed_at(status))


def observed(record: RolloutRecord, status: Status | None) -> RolloutRecord:
    """The record with the Canary's status mirrored, and with what the engine is now known to have promoted."""
    attribution = _settled(record.attribution, status) if record.attribution is not None else None
    mirrored = dict(status) if status is not None else None
    return record.model_copy(update={"canary_status": mirrored, "attribution": attribution})


def judge(record: RolloutRecord, wanted: str | None, engine: Engine = "hub") -> Judgement:
    """What the mirrored status says about `wanted`, the fingerprint that is applied (None: nothing is)."""
    attribution, status = record.attribution, record.canary_status
    subject = f"Canary/{record.namespace}/{record.canary or record.workload}"
    if attribution is None or attribution.wanted != wanted or attribution.inputs is None:
        return Judgement(Verdict.WAITING, f"{subject} waits for the wanted revision to be applied")
    phase = _text(status, "phase")
    if phase is None:
        return Judgement(Verdict.WAITING, f"{subject} has no status yet; {UNSEEN[engine]}")
    if phase not in PROMOTED and phase != FAILED:
        return Judgement(Verdict.RUNNING, f"{subject} is {phase}{_progress(status)}")
    if _is_promoted(attribution, status):
        return Judgement(Verdict.SUCCEEDED)
    if not _has_noticed(attribution, status):
        return Judgement(
            Verdict.WAITING, f"{subject} has not looked at the new revision yet; still {phase} of the last one"
        )
    if phase == FAILED and (status or {}).get("canaryWeight") == KEEPS_TRAFFIC:
        return Judgement(Verdict.FAILED, f"{subject} {UNPROMOTED.format(traffic=CANARY_SERVES)}")
    if phase == FAILED and _verdict(status).get("message") == PROMOTION_FAILED:  # it was not rolled back either
        return Judgement(Verdict.FAILED, f"{subject} {UNPROMOTED.format(traffic=PRIMARY_SERVES)}")
    if phase == FAILED:
        return Judgement(Verdict.FAILED, f"{subject} failed and was rolled back{_reason(status)}")
    return Judgement(Verdict.SUCCEEDED)


def inputs_of(workload: Mapping[str, Any], configs: Mapping[str, Any]) -> str:
    """A hash of what the engine watches: the Pod template, and `configs` by `tracked` name."""
    template = dict(workload["spec"].get("template") or {})
    pod = dict(template.get("spec") or {})
    nodes = {key: value for key, value in (pod.pop("nodeSelector", None) or {}).items() if key != SCALE_TO_ZERO_KEY}
    wanted = {"template": template | {"spec": pod | {"nodeSelector": nodes}}, "configs": dict(configs)}
    text = json.dumps(wanted, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]


def tracked(workload: Mapping[str, Any]) -> frozenset[str]:
    """The ConfigMaps and Secrets whose content starts an analysis, as `configmap/<name>` and `secret/<name>`."""
    pod = (workload["spec"].get("template") or {}).get("spec") or {}
    return frozenset(f"{kind}/{name}" for kind, name in _references(pod) if name)


def _references(pod: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    for volume in pod.get("volumes") or ():
        for source in (volume, *((volume.get("projected") or {}).get("sources") or ())):
            yield "configmap", (source.get("configMap") or {}).get("name")
            secret = source.get("secret") or {}
            yield "secret", secret.get("secretName") or secret.get("name")
    for container in (*(pod.get("initContainers") or ()), *(pod.get("containers") or ())):
        values = [variable.get("valueFrom") or {} for variable in container.get("env") or ()]
        for source in values:
            yield "configmap", (source.get("configMapKeyRef") or {}).get("name")
            yield "secret", (source.get("secretKeyRef") or {}).get("name")
        for source in container.get("envFrom") or ():
            yield "configmap", (source.get("configMapRef") or {}).get("name")
            yield "secret", (source.get("secretRef") or {}).get("name")


def _has_noticed(attribution: Attribution, status: Status | None) -> bool:
    """Whether the engine's status is from after what our apply changed."""
    spec = _seen(status)
    if attribution.base_spec is None:
        # The Canary was not initialised then; whether it started from what we applied, only the time tells.
        return spec is not None and _is_after(status, attribution.changed_at)
    if attribution.inputs is not None and attribution.inputs == attribution.base_inputs:
        return True
    # Flagger refreshes lastAppliedSpec of a failed Canary before it starts the next analysis: the hash has moved
    # then, but the verdict is the old one, as its condition tells.
    failure = _failed_at(status)
    return spec not in (None, attribution.base_spec) and (failure is None or failure != attribution.base_verdict)


def _is_promoted(attribution: Attribution, status: Status | None) -> bool:
    """Whether the engine has promoted these very inputs before and nothing since: it will not look at them again."""
    return (
        attribution.promoted_inputs is not None
        and attribution.inputs == attribution.promoted_inputs
        and _promoted(status) == attribution.promoted_spec
    )


def _settled(attribution: Attribution, status: Status | None) -> Attribution:
    """`attribution` with its inputs as the promoted ones, where the status proves that they are."""
    seen, promoted = _seen(status), _promoted(status)
    if _text(status, "phase") not in PROMOTED or seen != promoted or not _has_noticed(attribution, status):
        return attribution
    # Unchanged inputs prove it only while nobody else has changed the workload either.
    if attribution.inputs == attribution.base_inputs and attribution.base_spec not in (None, seen):
        return attribution
    return attribution.model_copy(update={"promoted_inputs": attribution.inputs, "promoted_spec": promoted})


def _seen(status: Status | None) -> str | None:
    """What the engine has looked at last: its hash of the Pod template, and its checksums of the configuration."""
    return _with_configs(status, "lastAppliedSpec")


def _promoted(status: Status | None) -> str | None:
    """What the engine has promoted last; of configuration it keeps only what it has looked at last."""
    return _with_configs(status, "lastPromotedSpec")


def _with_configs(status: Status | None, name: str) -> str | None:
    spec = _text(status, name)
    configs = (status or {}).get("trackedConfigs")
    if spec is None or not configs:
        return spec
    return f"{spec}+{hashlib.sha256(json.dumps(configs, sort_keys=True).encode()).hexdigest()[:HASH_LENGTH]}"


def _is_after(status: Status | None, moment: str | None) -> bool:
    seen = _text(status, "lastTransitionTime")
    return moment is not None and seen is not None and parse_time(seen) >= parse_time(moment)


def _failed_at(status: Status | None) -> str | None:
    """When a failed Canary failed. A running one restarts without a new time, so only failures are told apart by it."""
    if _text(status, "phase") != FAILED:
        return None
    return _verdict(status).get("lastUpdateTime")


def _reason(status: Status | None) -> str:
    text = _verdict(status).get("message")
    return f": {text}" if text else ""


def _verdict(status: Status | None) -> Mapping[str, Any]:
    """The condition that says how the last analysis has ended."""
    found = (status or {}).get("conditions") or ()
    return next((each for each in found if each.get("type") == PROMOTED_CONDITION), {})


def _progress(status: Status | None) -> str:
    found = status or {}
    parts = [f"weight {found['canaryWeight']}" if found.get("canaryWeight") else ""]
    parts += [f"iteration {found['iterations']}" if found.get("iterations") else ""]
    parts += [f"{found['failedChecks']} failed checks" if found.get("failedChecks") else ""]
    said = ", ".join(part for part in parts if part)
    return f", {said}" if said else ""


def _text(status: Status | None, name: str) -> str | None:
    value = (status or {}).get(name)
    return str(value) if value else None
