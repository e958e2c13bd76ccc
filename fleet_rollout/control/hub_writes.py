"""The few kinds of writes the service makes on the hub, each with a precondition, each seen by the store at once."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fleet_rollout.control.store import Store
from fleet_rollout.decide.aggregate import invalid_status
from fleet_rollout.decide.names import FINALIZER, MANAGER_HUB
from fleet_rollout.errors import FleetRolloutError, Transient
from fleet_rollout.kube.client import Cluster, Resource
from fleet_rollout.kube.errors import ApiError


class HubWrites:
    """Writes to `hub` and puts the answers into `store`."""

    def __init__(self, hub: Cluster, store: Store) -> None:
        self._hub = hub
        self._store = store
        self._planned: dict[str, str] = {}  # by UID, the resourceVersion of a spec that nothing was written upon yet

    async def status(self, resource: Resource, obj: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
        """Replace the status of `obj`; raises Transient("Conflict") where it was changed since it was read."""
        patch = [
            {"op": "replace", "path": "/metadata/resourceVersion", "value": obj["metadata"]["resourceVersion"]},
            {"op": "add", "path": "/status", "value": status},
        ]
        made = await self._patch(resource, obj, patch, subresource="status")
        self._planned.pop(obj["metadata"]["uid"], None)
        return made

    async def invalid(self, resource: Resource, obj: dict[str, Any], error: FleetRolloutError, now: datetime) -> bool:
        """Conditions for an object that cannot be read at all, beside what its status holds; False if it had them."""
        found, generation = obj.get("status"), obj["metadata"].get("generation", 0)
        previous = found if isinstance(found, dict) else None
        status = invalid_status(previous, error.reason, error.message, generation=generation, now=now)
        if status == found:
            return False
        await self.status(resource, obj, status)
        return True

    async def finalizer(self, resource: Resource, obj: dict[str, Any], *, present: bool) -> dict[str, Any]:
        """Add or remove our finalizer."""
        finalizers = [f for f in obj["metadata"].get("finalizers", []) if f != FINALIZER]
        if present:
            finalizers.append(FINALIZER)
        if finalizers == obj["metadata"].get("finalizers", []):
            return obj
        patch = {"metadata": {"finalizers": finalizers, "resourceVersion": obj["metadata"]["resourceVersion"]}}
        self._planned.pop(obj["metadata"]["uid"], None)
        return await self._patch(resource, obj, patch)

    async def annotate(self, resource: Resource, obj: dict[str, Any], annotations: dict[str, str]) -> dict[str, Any]:
        """Set annotations, whatever else changed meanwhile."""
        return await self._patch(resource, obj, {"metadata": {"annotations": annotations}})

    async def spec(self, resource: Resource, obj: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
        """Replace the spec of an object of ours."""
        patch = [
            {"op": "replace", "path": "/metadata/resourceVersion", "value": obj["metadata"]["resourceVersion"]},
            {"op": "replace", "path": "/spec", "value": spec},
        ]
        made = await self._patch(resource, obj, patch)
        self._planned[made["metadata"]["uid"]] = made["metadata"]["resourceVersion"]
        return made

    def is_planned(self, obj: dict[str, Any]) -> bool:
        """Whether the last write of `obj` by anybody was its spec, by us."""
        return bool(self._planned.get(obj["metadata"]["uid"]) == obj["metadata"]["resourceVersion"])

    async def create(self, resource: Resource, obj: dict[str, Any]) -> dict[str, Any] | None:
        """Create an object of ours; None where the name is taken: the store knows then by whom."""
        try:
            made = await self._hub.create(resource, obj, manager=MANAGER_HUB)
        except ApiError as error:
            if not error.is_already_exists:
                raise
            metadata = obj["metadata"]
            found = await self._hub.get(resource, metadata["name"], metadata["namespace"])
            if found is not None:
                self._store.put(resource.plural, found)
            return None
        self._store.put(resource.plural, made)
        return made

    async def delete(self, resource: Resource, obj: dict[str, Any]) -> None:
        """Delete exactly this object: by UID, so that a namesake made since stays."""
        metadata = obj["metadata"]
        await self._hub.delete(resource, metadata["name"], metadata["namespace"], uid=metadata["uid"])

    async def _patch(
        self, resource: Resource, obj: dict[str, Any], patch: dict[str, Any] | list[Any], subresource: str = ""
    ) -> dict[str, Any]:
        metadata = obj["metadata"]
        try:
            made = await self._hub.patch(
                resource,
                metadata["name"],
                metadata.get("namespace", ""),
                patch,
                kind="json" if isinstance(patch, list) else "merge",
                subresource=subresource,
                manager=MANAGER_HUB,
            )
        except ApiError as error:
            raise await self._explained(error, resource, obj) from error
        self._store.put(resource.plural, made)
        return made

    async def _explained(self, error: ApiError, resource: Resource, obj: dict[str, Any]) -> Exception:
        metadata = obj["metadata"]
        if not (error.is_not_found or error.is_conflict):
            return error
        # A CRD that is just being served anew answers 404 for what is there: only a second look tells.
        fresh = await self._hub.get(resource, metadata["name"], metadata.get("namespace", ""))
        if fresh is not None:
            self._store.put(resource.plural, fresh)
        elif error.is_not_found:
            self._store.remove(resource.plural, obj)
        return Changed(resource.kind, metadata["name"])


class Changed(Transient):
    """The object was changed or deleted since it was read; read again and decide anew, at once."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__("Conflict", f"{kind}/{name} was changed meanwhile; deciding again", retry_after=0.05)
