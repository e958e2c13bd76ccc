"""Removing a rollout without an outage: given what the member holds now, the one next step.

Traffic is led back to the workload before anything that carries it goes away. Every call looks at the whole state
again, so a late write of the engine is undone by the next step, and a stop at any line loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fleet_rollout.decide.inventory import Ref, parse_id, ref_of
from fleet_rollout.decide.traffic_names import ENGINE_ANNOTATIONS, PRIMARY_SUFFIX, SCALE_TO_ZERO_KEY
from fleet_rollout.decide.translate import recorded_rule
from fleet_rollout.decide.translate_ingress import IngressWrite, without_rule
from fleet_rollout.decide.translate_routes import DELETED, turned
from fleet_rollout_api.cluster_sync import InventoryEntry, RolloutRecord

Object = Mapping[str, Any]

ENGINE_FINALIZER = "finalizer.flagger.app"
KNATIVE_PRIMARY = "flagger.app/primary-revision"


@dataclass(frozen=True)
class Patch:
    """A JSON merge patch, with the resourceVersion that was looked at in it."""

    ref: Ref
    patch: Mapping[str, Any]
    why: str


@dataclass(frozen=True)
class Delete:
    """Objects to delete; those of the record are then taken out of `record.objects`."""

    refs: tuple[Ref, ...]
    why: str
    entries: tuple[InventoryEntry, ...] = ()


@dataclass(frozen=True)
class WriteIngress:
    """The shared Ingress without our rule; `record.host` is then cleared."""

    write: IngressWrite


@dataclass(frozen=True)
class Wait:
    """Nothing to do until the member has moved."""

    message: str


@dataclass(frozen=True)
class Done:
    """Nothing of the rollout is left; the record can go."""


Step = Patch | Delete | WriteIngress | Wait | Done


@dataclass(frozen=True)
class Removal:
    """What the member holds; None is absent.

    `primary`: the engine's copy of the workload. `service`: the one users call, `git_service` its manifest in Git if it
    has one. `routes`: the routing objects of the engine. `ingress`: the shared one.
    `leaving`: the workload goes too. `waited`: the time limit of the present wait is over.
    """

    record: RolloutRecord
    canary: Object | None = None
    workload: Object | None = None
    primary: Object | None = None
    service: Object | None = None
    git_service: Object | None = None
    routes: Sequence[Object] = field(default_factory=tuple)
    ingress: Object | None = None
    leaving: bool = False
    waited: bool = False

    @property
    def canary_works(self) -> bool:
        """Whether the engine may still act on the Canary, and its copies still carry traffic."""
        return self.canary is not None and not _is_going(self.canary)


def next_step(state: Removal) -> Step:
    """The first step whose end is not reached yet, in the order of `STEPS`."""
    for step in STEPS:
        found = step(state)
        if found is not None:
            return found
    return Done()


def _suspend_canary(state: Removal) -> Step | None:
    if state.canary is None or not state.canary_works or state.canary["spec"].get("suspend") is True:
        return None
    return _patch(state.canary, {"spec": {"suspend": True}}, "the engine must not shift traffic any more")


def _restore_workload(state: Removal) -> Step | None:
    workload = state.workload
    if workload is None or _is_going(workload):
        return None
    if workload["kind"] == "Service":
        return _restore_traffic(workload)
    if workload["kind"] == "DaemonSet":
        selector = workload["spec"]["template"]["spec"].get("nodeSelector") or {}
        if SCALE_TO_ZERO_KEY not in selector:
            return None
        template = {"spec": {"nodeSelector": {SCALE_TO_ZERO_KEY: None}}}
        return _patch(workload, {"spec": {"template": template}}, "the engine had scaled it to zero")
    wanted = _replicas(state)
    if workload["spec"].get("replicas", 1) == wanted:
        return None
    return _patch(workload, {"spec": {"replicas": wanted}}, "the engine had scaled it to zero")


def _restore_traffic(workload: Object) -> Step | None:
    """All to the newest revision, as a Service without traffic has it; the tags of others keep their addresses."""
    if KNATIVE_PRIMARY not in _annotations(workload):
        return None
    traffic = workload["spec"].get("traffic") or ()
    newest: Object = next((each for each in traffic if each.get("latestRevision")), {})
    tagged = [each for each in traffic if each.get("tag") and each is not newest]
    tags = [{key: value for key, value in each.items() if key != "percent"} for each in tagged]
    wanted = [{**newest, "latestRevision": True, "percent": 100}, *tags]
    changes = {"metadata": {"annotations": {KNATIVE_PRIMARY: None}}, "spec": {"traffic": wanted}}
    return _patch(workload, changes, "the engine had shared its traffic out")


def _replicas(state: Removal) -> int:
    """Git's value; where an autoscaler or nobody says one, what runs now or what the engine's copy runs."""
    assert state.workload is not None
    running = int(state.workload["spec"].get("replicas", 1))
    scaled = state.canary is not None and "autoscalerRef" in state.canary["spec"]
    if state.record.replicas is not None and not scaled:
        return state.record.replicas
    copies = int(state.primary["spec"].get("replicas", 1)) if state.primary is not None else 1
    return running or max(copies, 1)


def _await_workload(state: Removal) -> Step | None:
    """Without a Canary at work nothing else carries the traffic, and waiting would prolong the outage."""
    workload = state.workload
    if workload is None or not state.canary_works or (state.leaving and state.waited):
        return None
    ready, wanted = _ready(workload)
    if ready is not None and ready >= wanted:
        return None
    fact = f"{ready or 0} of {wanted} Pods are available"
    return Wait(f"{ref_of(workload).subject}: {fact}; the rollout is removed when all are")


def _ready(workload: Object) -> tuple[int | None, int]:
    """Pods of the present spec that are available (None: not known yet), and how many there should be."""
    status = workload.get("status") or {}
    if workload["kind"] == "Service":
        wanted, ready = 1, int(_is_ready(status))
    elif workload["kind"] == "DaemonSet":
        wanted = int(status.get("desiredNumberScheduled", 0))
        ready = min(status.get("updatedNumberScheduled", 0), status.get("numberAvailable", 0))
    else:
        wanted = int(workload["spec"].get("replicas", 1))
        ready = min(status.get("updatedReplicas", 0), status.get("availableReplicas", 0))
    seen = status.get("observedGeneration", 0) >= workload["metadata"].get("generation", 0)
    return (int(ready) if seen else None), wanted


def _is_ready(status: Object) -> bool:
    return any((each["type"], each["status"]) == ("Ready", "True") for each in status.get("conditions") or ())


def _release_service(state: Removal) -> Step | None:
    """The users' Service selects the workload again, and GitOps tools (we are one) may write it again."""
    service = state.service
    if service is None or _is_the_engines(service):
        return None
    changes: dict[str, Any] = {}
    if annotations := _engine_annotations(service, state.git_service):
        changes["metadata"] = {"annotations": annotations}
    live = service["spec"].get("selector") or {}
    if (wanted := _selector(live, state)) != live:
        changes["spec"] = {"selector": dict.fromkeys(live) | wanted}
    return _patch(service, changes, "it has to select the workload itself") if changes else None


def _selector(live: Mapping[str, str], state: Removal) -> dict[str, str]:
    if state.git_service is not None and (given := state.git_service["spec"].get("selector")):
        return dict(given)
    return {key: value.removesuffix(PRIMARY_SUFFIX) for key, value in live.items()}


def _engine_annotations(live: Object, given: Object | None) -> dict[str, None]:
    """A patch that takes away what the engine has put on the object; what Git says too is the user's own."""
    own = _annotations(given) if given is not None else {}
    found = _annotations(live)
    return {key: None for key, value in ENGINE_ANNOTATIONS.items() if found.get(key) == value != own.get(key)}


def _turn_routes(state: Removal) -> Step | None:
    for route in state.routes:
        if _is_going(route):
            continue
        if route["kind"] in DELETED:
            return Delete((ref_of(route),), "it leads traffic to the canary")
        if changes := _turned(route, state.record.service):
            return _patch(route, changes, "it has to lead to the Service itself")
    return None


def _turned(route: Object, service: str) -> dict[str, Any]:
    """The changes after which a routing object leads to `service` alone, and may be written again if it is a user's."""
    spec = turned(route, service)
    changes: dict[str, Any] = {"spec": spec} if spec else {}
    if not _is_the_engines(route) and (annotations := _engine_annotations(route, None)):
        changes["metadata"] = {"annotations": annotations}
    return changes


def _delete_canary(state: Removal) -> Step | None:
    canary = state.canary
    if canary is None:
        return None
    subject = ref_of(canary).subject
    if not _is_going(canary):
        return Delete((ref_of(canary),), "the rollout was removed")
    finalizers = canary["metadata"].get("finalizers") or []
    if ENGINE_FINALIZER in finalizers and state.waited:
        left = [each for each in finalizers if each != ENGINE_FINALIZER]
        return _patch(canary, {"metadata": {"finalizers": left}}, "the engine did not finish its own clean-up in time")
    return Wait(f"{subject} is being deleted; the engine finishes its own clean-up")


def _delete_rest(state: Removal) -> Step | None:
    """Templates and tester; the Canary's own entry is only forgotten."""
    entries = tuple(state.record.objects)
    refs = tuple(ref for entry in entries if (ref := parse_id(entry)).kind != "Canary")
    return Delete(refs, "the rollout was removed", entries) if entries else None


def _take_rule(state: Removal) -> Step | None:
    rule = recorded_rule(state.record)
    write = without_rule(state.ingress, rule) if rule is not None else None
    return WriteIngress(write) if write is not None else None


STEPS: tuple[Callable[[Removal], Step | None], ...] = (
    _suspend_canary,
    _restore_workload,
    _await_workload,
    _release_service,
    _turn_routes,
    _delete_canary,
    _delete_rest,
    _take_rule,
)


def _patch(obj: Object, changes: Mapping[str, Any], why: str) -> Patch:
    version = obj["metadata"].get("resourceVersion")
    metadata = {**changes.get("metadata", {})} | ({"resourceVersion": version} if version else {})
    return Patch(ref_of(obj), {**changes, "metadata": metadata}, why)


def _annotations(obj: Object) -> Mapping[str, str]:
    return obj["metadata"].get("annotations") or {}


def _is_going(obj: Object) -> bool:
    return obj["metadata"].get("deletionTimestamp") is not None


def _is_the_engines(obj: Object) -> bool:
    """Whether the object goes with the Canary, by its owner."""
    return any(owner["kind"] == "Canary" for owner in obj["metadata"].get("ownerReferences") or ())
