"""Where a ClusterSync is carried out: which API server, as whom, on whose behalf, and after which others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from fleet_rollout.control.applications import first_fault
from fleet_rollout.control.inventories import Incomplete, Inventories
from fleet_rollout.control.loop import Key
from fleet_rollout.control.world import APPLICATIONS, ATTACHED_CLUSTERS, CLUSTER_SYNCS, CLUSTERS, FLEETS, World
from fleet_rollout.decide.dependencies import may_name, unmet
from fleet_rollout.decide.hand_over import is_wanted
from fleet_rollout.decide.inventory import parse_id
from fleet_rollout.decide.metadata import Owner
from fleet_rollout.decide.metric_names import TEMPLATE, ids_asked, template_ids
from fleet_rollout.decide.names import APP_LABEL
from fleet_rollout.errors import Transient, Waiting
from fleet_rollout.kube.client import Cluster, NoSuchKind
from fleet_rollout.kube.errors import kube_errors
from fleet_rollout.kube.member import HOST_KIND
from fleet_rollout_api.application import Application
from fleet_rollout_api.cluster_sync import ClusterReference, ClusterSync, InventoryEntry, RolloutRecord
from fleet_rollout_api.fleet import Fleet
from fleet_rollout_api.meta import ObjectName

# By name, what decides what another ClusterSync has and wants.
Beside = dict[str, tuple[Any, ...]]
PLURALS = {"AttachedCluster": ATTACHED_CLUSTERS.plural, "Cluster": CLUSTERS.plural}


class Targets:
    """Looks things up; changes nothing."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._inventories = Inventories(world.hub)

    def cluster(self, sync: ClusterSync) -> Cluster:
        """The API server to write to. Raises Transient where it cannot be used now."""
        reference = sync.spec.cluster
        if reference.kind == HOST_KIND:
            return self._world.hub
        if self.is_gone(reference, sync.metadata.namespace):
            raise Transient(
                "ClusterNotFound",
                f"{reference.kind}/{reference.name} not found in namespace {sync.metadata.namespace}; "
                "create it, or take it out of the Fleet",
            )
        return self._world.members.ready(reference.kind, reference.name, sync.metadata.namespace).cluster

    def is_gone(self, reference: ClusterReference, namespace: str) -> bool:
        """Whether the cluster's own object was deleted from the hub."""
        if reference.kind == HOST_KIND:
            return False
        return self._world.store.get(PLURALS[reference.kind], Key(namespace, reference.name)) is None

    def is_wanted(self, sync: ClusterSync) -> bool:
        """Whether its Application asks for it there; where that is not known, or is being deleted, it is as it was."""
        namespace, cluster = sync.metadata.namespace, sync.spec.cluster
        obj = self._world.store.get(APPLICATIONS.plural, Key(namespace, sync.spec.application))
        if obj is None or obj["metadata"].get("deletionTimestamp"):
            return True
        try:
            application = self._world.store.model(APPLICATIONS.plural, obj, Application)
        except ValidationError:  # its own pass says so
            return True
        plural = PLURALS.get(cluster.kind)
        member = self._world.store.get(plural, Key(namespace, cluster.name)) if plural else None
        clusters: dict[tuple[str, str], Mapping[str, str] | None] = {}
        if member is not None:  # where it is gone nothing can be written anyway
            clusters[cluster.kind, cluster.name] = member["metadata"].get("labels") or {}
        return is_wanted(application, sync, fleets=dict(self._fleets(namespace)), clusters=clusters)

    def _fleets(self, namespace: str) -> Iterator[tuple[str, Fleet]]:
        for obj in self._world.store.all(FLEETS.plural, namespace):
            with contextlib.suppress(ValidationError):
                yield obj["metadata"]["name"], self._world.store.model(FLEETS.plural, obj, Fleet)

    def owner(self, sync: ClusterSync) -> Owner:
        """The labels' content for objects of this ClusterSync."""
        return Owner(
            name=sync.metadata.name,
            namespace=sync.metadata.namespace,
            application=sync.spec.application,
            hub_uid=self._world.hub_uid,
        )

    def impersonate(self, sync: ClusterSync) -> str | None:
        """The user to act as: the policy's service account, else the default one, else the kubeconfig's own."""
        name = sync.spec.kustomization.service_account_name or self._world.settings.default_service_account
        return f"system:serviceaccount:{sync.metadata.namespace}:{name}" if name else None

    def siblings(self, sync: ClusterSync) -> list[ClusterSync]:
        """The other ClusterSyncs of the same Application on the same cluster that are not being deleted.

        Raises Transient where one of them cannot be read: what it has and wants is not known then.
        """
        return [self._read(obj) for obj in self._beside(sync)]

    def beside(self, sync: ClusterSync) -> Beside:
        """What the siblings have and want, to see whether that has changed. It may be odd."""
        parts = ("inventory", "inventoryParts")
        return {
            obj["metadata"]["name"]: (
                obj["metadata"].get("uid"),
                obj.get("spec"),
                *((obj.get("status") or {}).get(part) for part in parts),
            )
            for obj in self._beside(sync)
        }

    def _beside(self, sync: ClusterSync) -> Iterator[dict[str, Any]]:
        cluster = sync.spec.cluster.dump()
        for obj in self._world.store.all(CLUSTER_SYNCS.plural, sync.metadata.namespace):
            if (
                (obj.get("spec") or {}).get("cluster") == cluster
                and (obj["metadata"].get("labels") or {}).get(APP_LABEL) == sync.spec.application
                and obj["metadata"]["name"] != sync.metadata.name
                and "deletionTimestamp" not in obj["metadata"]
            ):
                yield obj

    def _read(self, obj: dict[str, Any]) -> ClusterSync:
        try:
            return self._world.store.model(CLUSTER_SYNCS.plural, obj, ClusterSync)
        except ValidationError as error:
            name = f"ClusterSync/{obj['metadata']['namespace']}/{obj['metadata']['name']}"
            raise Transient("OtherInvalid", f"{name}: {first_fault(error)}; correct or delete it") from error

    async def claimed_elsewhere(self, sync: ClusterSync) -> frozenset[str]:
        """Ids that a sibling's inventory holds: pruning leaves them to it. Parts are asked for where there are some.

        Raises Incomplete where one of them cannot be known: then nothing may be pruned.
        """
        claimed: set[str] = set()
        for other in self.siblings(sync):
            claimed |= {entry.id for entry in await self._inventory(other)}
        return frozenset(claimed)

    async def rollouts_elsewhere(
        self, sync: ClusterSync, cluster: Cluster, gone: Sequence[InventoryEntry]
    ) -> frozenset[str]:
        """Those of `gone` that the rollout of a sibling works with, such as a MetricTemplate of both.

        Of a template the sibling's record says too little: two that drop it at once would leave it to each other. A
        Canary of which it is not wanted any more may still ask it; its own rollout takes it away then.
        """
        ids, held = {entry.id for entry in gone}, set[str]()
        for other in self.siblings(sync):
            rollout, record = other.spec.rollout, other.status.rollout
            wanted = template_ids(rollout) if rollout is not None else set()
            held |= wanted & ids
            if record is None or record.removing:
                continue
            brought = {entry.id: parse_id(entry).kind == TEMPLATE for entry in record.objects if entry.id in ids}
            held |= {id_ for id_, is_template in brought.items() if not is_template}
            if brought.keys() - held:
                held |= brought.keys() & await self._asked(cluster, record)
        return frozenset(held)

    @staticmethod
    async def _asked(cluster: Cluster, record: RolloutRecord) -> set[str]:
        try:
            resource = await cluster.resource_for("flagger.app/v1beta1", "Canary")
        except NoSuchKind:
            return set()
        canary = await cluster.get(resource, record.canary or record.workload, record.namespace)
        return ids_asked(canary) if canary is not None else set()

    async def _inventory(self, sync: ClusterSync) -> list[InventoryEntry]:
        """As it is now: a part that is not found may have been replaced since `sync` was looked at."""
        while True:
            try:
                with kube_errors("InventoryUnreadable", f"ClusterSync/{sync.metadata.namespace}/{sync.metadata.name}"):
                    return await self._inventories.read(sync)
            except Incomplete:
                obj = self._world.store.get(CLUSTER_SYNCS.plural, Key(sync.metadata.namespace, sync.metadata.name))
                if obj is None:
                    return []
                now = self._read(obj)
                if now.metadata.deletion_timestamp:
                    return []
                if now.status.inventory_parts == sync.status.inventory_parts:
                    raise
                sync = now

    def require_dependencies(self, sync: ClusterSync) -> None:
        """Raise Waiting until every dependsOn is applied at the wanted content on the same cluster."""
        found: dict[tuple[str, str], ClusterSync | None] = {}
        for dependency in sync.spec.kustomization.depends_on:
            key = Key(dependency.namespace or sync.metadata.namespace, dependency.name)
            obj = self._world.store.get(CLUSTER_SYNCS.plural, key) if self._may_name(sync, dependency) else None
            found[key] = self._read(obj) if obj is not None else None
        message = unmet(sync, found)
        if message is not None:
            raise Waiting("DependencyNotReady", message, retry_after=self._world.settings.dependency_retry)

    def _may_name(self, sync: ClusterSync, dependency: ObjectName) -> bool:
        allowed = self._world.settings.cross_namespace_refs
        return may_name(dependency, sync.metadata.namespace, cross_namespace_refs=allowed)
