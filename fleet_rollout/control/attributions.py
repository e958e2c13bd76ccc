"""Records around each apply what the Canary's engine is going to look at, so that its verdict can be attributed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fleet_rollout.control.draft import Draft
from fleet_rollout.decide.inventory import Ref
from fleet_rollout.decide.names import MANAGER_SYNC, short_hash
from fleet_rollout.decide.rollout_phase import Workload, applied, inputs_of, intend, tracked
from fleet_rollout.kube.client import Cluster, NoSuchKind, Resource
from fleet_rollout_api.cluster_sync import Attribution, ClusterSync, RolloutRecord

CANARIES = ("flagger.app/v1beta1", "Canary")
CONTENT = {
    "configmap": Resource("", "v1", "ConfigMap", "configmaps", True),
    "secret": Resource("", "v1", "Secret", "secrets", True),
}

Object = dict[str, Any]


class Attributions:
    """Of one pass of a ClusterSync over `objects`."""

    def __init__(
        self,
        draft: Draft,
        cluster: Cluster,
        wanted: str,
        objects: Sequence[Mapping[str, Any]],
    ) -> None:
        self._draft = draft
        self._cluster = cluster
        self._wanted = wanted
        self._objects = objects
        self._before: Workload | None = None

    async def before_apply(self) -> None:
        """Note what is there before the wanted is applied; goes out with the write that precedes the apply."""
        record = self._record()
        if record is not None:
            await self._intend(record)

    async def after_apply(self) -> None:
        """Note what the engine will find. Where nothing was written, before and after are the same."""
        record = self._record()
        if record is None:
            return
        attribution = self._draft.status.rollout.attribution if self._draft.status.rollout else None
        if attribution is None or attribution.wanted != self._wanted or attribution.inputs is not None:
            status = await self._intend(record)
            after = self._before
        else:
            status = await self._canary_status(record)
            after = await self._workload(record)
        noted = self._draft.status.rollout
        assert noted is not None
        assert noted.attribution is not None
        self._note(noted, applied(noted.attribution, status, self._before, after))

    def _record(self) -> RolloutRecord | None:
        return record_of(self._draft.sync, self._draft.status.rollout, self._objects)

    async def _intend(self, record: RolloutRecord) -> Object | None:
        """The Canary's status as it is now."""
        self._before = await self._workload(record)
        status = await self._canary_status(record)
        self._note(record, intend(record.attribution, status, self._before, self._wanted))
        return status

    async def _canary_status(self, record: RolloutRecord) -> Object | None:
        canary = await read_canary(self._draft, self._cluster, record.namespace, record.canary or record.workload)
        return canary.get("status") if canary is not None else None

    def _note(self, record: RolloutRecord, attribution: Attribution) -> None:
        self._draft.change(rollout=record.model_copy(update={"attribution": attribution}))

    async def _workload(self, record: RolloutRecord) -> Workload | None:
        group, _, version = record.workload_version.rpartition("/")
        ref = Ref(record.namespace, record.workload, group, record.workload_kind, version)
        live = self._draft.seen.get(ref) or await _read_workload(self._cluster, record)
        inputs = inputs_of(live, await _configs(self._cluster, record, live)) if live is not None else None
        return Workload(inputs, _changed_at(live)) if live is not None and inputs is not None else None


def canary_ref(namespace: str, name: str) -> Ref:
    """A Canary's place."""
    return Ref(namespace, name, "flagger.app", "Canary", "v1beta1")


async def read_canary(draft: Draft, cluster: Cluster, namespace: str, name: str) -> Object | None:
    """The Canary as it is now; the pass has seen it then."""
    draft.seen.pop(canary_ref(namespace, name), None)
    try:
        resource = await cluster.resource_for(*CANARIES)
    except NoSuchKind:
        return None
    found = await cluster.get(resource, name, namespace)
    if found is not None:
        draft.seen[canary_ref(namespace, name)] = found
    return found


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


async def _read_workload(cluster: Cluster, record: RolloutRecord) -> Object | None:
    resource = await cluster.resource_for(record.workload_version, record.workload_kind)
    return await cluster.get(resource, record.workload, record.namespace)


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
