"""Records around each apply what the Canary's engine is going to look at, so that its verdict can be attributed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fleet_rollout.control.draft import Draft
from fleet_rollout.decide.names import MANAGER_SYNC, short_hash
from fleet_rollout.decide.rollout_phase import Workload, applied, inputs_of, intend, tracked
from fleet_rollout.kube.client import Cluster, NoSuchKind, Resource
from fleet_rollout_api.cluster_sync import ClusterSync, RolloutRecord

CANARIES = ("flagger.app/v1beta1", "Canary")
CONTENT = {
    "configmap": Resource("", "v1", "ConfigMap", "configmaps", True),
    "secret": Resource("", "v1", "Secret", "secrets", True),
}

Object = dict[str, Any]


async def before_apply(
    draft: Draft, cluster: Cluster, wanted: str, objects: Sequence[Mapping[str, Any]]
) -> Workload | None:
    """Note what is there before `wanted` is applied; goes out with the write that precedes the apply.

    Returns the workload as it is now, for `after_apply`.
    """
    record = record_of(draft.sync, draft.status.rollout, objects)
    if record is None:
        return None
    workload = await _workload(cluster, record)
    intent = intend(record.attribution, await _canary_status(cluster, record), workload, wanted)
    draft.change(rollout=record.model_copy(update={"attribution": intent}))
    return workload


async def after_apply(
    draft: Draft, cluster: Cluster, wanted: str, objects: Sequence[Mapping[str, Any]], before: Workload | None
) -> None:
    """Note what the engine will find. Where nothing was written, before and after are the same."""
    if record_of(draft.sync, draft.status.rollout, objects) is None:
        return
    attribution = draft.status.rollout.attribution if draft.status.rollout else None
    if attribution is None or attribution.wanted != wanted or attribution.inputs is not None:
        before = await before_apply(draft, cluster, wanted, objects)
    record = draft.status.rollout
    assert record is not None
    assert record.attribution is not None
    status = await _canary_status(cluster, record)
    done = applied(record.attribution, status, before, await _workload(cluster, record))
    draft.change(rollout=record.model_copy(update={"attribution": done}))


def record_of(
    sync: ClusterSync, record: RolloutRecord | None, objects: Sequence[Mapping[str, Any]]
) -> RolloutRecord | None:
    """The record to attribute to; None without a rollout, or while another workload's is to be removed first."""
    rollout = sync.spec.rollout
    if rollout is None or not rollout.workload.namespace:
        return None
    workload = rollout.workload
    mine = (workload.namespace, workload.kind, workload.name, rollout.service_name)
    if record is None:
        record = RolloutRecord(
            namespace=workload.namespace or "",
            workload=workload.name,
            workload_kind=workload.kind,
            workload_version=workload.api_version,
            service=rollout.service_name,
        )
    elif mine != (record.namespace, record.workload_kind, record.workload, record.service):
        return None
    return record.model_copy(update={"replicas": _git_replicas(record, objects)})


def _git_replicas(record: RolloutRecord, objects: Sequence[Mapping[str, Any]]) -> int | None:
    for obj in objects:
        metadata = obj["metadata"]
        if (obj["kind"], metadata["name"], metadata.get("namespace")) == (
            record.workload_kind,
            record.workload,
            record.namespace,
        ):
            replicas = (obj.get("spec") or {}).get("replicas")
            return int(replicas) if replicas is not None else None
    return None


async def _workload(cluster: Cluster, record: RolloutRecord) -> Workload | None:
    resource = await cluster.resource_for(record.workload_version, record.workload_kind)
    live = await cluster.get(resource, record.workload, record.namespace)
    if live is None:
        return None
    inputs = inputs_of(live, await _configs(cluster, record, live))
    return Workload(inputs, _changed_at(live)) if inputs is not None else None


async def _canary_status(cluster: Cluster, record: RolloutRecord) -> Object | None:
    try:
        resource = await cluster.resource_for(*CANARIES)
    except NoSuchKind:
        return None
    canary = await cluster.get(resource, record.canary or record.workload, record.namespace)
    return canary.get("status") if canary is not None else None


async def _configs(cluster: Cluster, record: RolloutRecord, workload: Object) -> dict[str, str | None]:
    """Hashes alone leave this function: a Secret's content is never recorded."""
    configs: dict[str, str | None] = {}
    for name in sorted(tracked(workload)):
        kind, _, own = name.partition("/")
        found = await cluster.get(CONTENT[kind], own, record.namespace)
        configs[name] = short_hash(repr(sorted((found.get("data") or {}).items()))) if found is not None else None
    return configs


def _changed_at(workload: Object) -> str | None:
    """When we last changed the workload, by the member's own clock."""
    times = [
        entry["time"]
        for entry in workload["metadata"].get("managedFields") or []
        if entry.get("manager") == MANAGER_SYNC and entry.get("time") and not entry.get("subresource")
    ]
    return max(times, default=None)
