"""Takes away what Git no longer has: in reverse order of applying, and never what somebody else owns.

What could not be deleted is handed back, so that it stays in the inventory and is tried again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from fleet_rollout.decide.inventory import Ref, parse_id
from fleet_rollout.decide.metadata import Owner, is_kept, is_owned
from fleet_rollout.decide.order import delete_ranks
from fleet_rollout.kube import refusals
from fleet_rollout.kube.changes import Action, Change
from fleet_rollout.kube.client import ApiError, Cluster, NoSuchKind, Resource
from fleet_rollout.kube.live import AT_ONCE, Object, Reader, each
from fleet_rollout_api.cluster_sync import InventoryEntry

# Controllers write often while a workload starts; each of their writes costs another look.
ATTEMPTS = 6


class Pruner:
    """Deletes from one cluster on behalf of one ClusterSync. `failure` says why the last prune left survivors."""

    def __init__(
        self, cluster: Cluster, owner: Owner, *, impersonate: str | None = None, at_once: int = AT_ONCE
    ) -> None:
        self._reader = Reader(cluster, at_once, impersonate, any_version=True)
        self._owner = owner
        self.failure: str | None = None

    async def prune(
        self, stale: Sequence[InventoryEntry], *, siblings: frozenset[str] = frozenset()
    ) -> tuple[list[Change], list[InventoryEntry]]:
        """Delete `stale`, but what `siblings` (ids in the inventories of the same cluster's other syncs) hold.

        Returns what became of the objects, in the order of deleting, and the entries that have to stay in the
        inventory because their objects could not be deleted. An object is skipped, and leaves the inventory for good,
        unless its labels name this very owner and nothing on it forbids pruning. Raises Transient where the cluster
        gives no answer; the inventory then stays as it is.
        """
        run = _Run(self._reader, self._owner)
        entries = [entry for entry in stale if entry.id not in siblings]
        run.changes += [Change.of(parse_id(entry), "skipped") for entry in stale if entry.id in siblings]
        with refusals.reached(self._reader.cluster.name):
            for refs in delete_ranks([parse_id(entry) for entry in entries]):
                await run.one_rank(refs)
        done = {change.id for change in run.changes}
        self.failure = f"delete failed, errors: {''.join(f'{e};' for e in run.errors)}" if run.errors else None
        return run.changes, [entry for entry in entries if entry.id not in done]

    async def remaining(self, entries: Sequence[InventoryEntry]) -> list[InventoryEntry]:
        """Those whose objects of ours are still there, such as behind a finalizer (for WaitForTermination)."""
        refs = {parse_id(entry): entry for entry in entries}
        with refusals.reached(self._reader.cluster.name):
            found = await self._reader.found(refs, self._owner.selector, metadata_only=True)
        return [entry for ref, entry in refs.items() if ref in found and is_owned(found[ref], self._owner)]


@dataclass
class _Run:
    reader: Reader
    owner: Owner
    changes: list[Change] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    async def one_rank(self, refs: list[Ref]) -> None:
        """Objects of one kind, at once. A failure of one does not keep the others."""
        try:
            live = await self.reader.found(refs, self.owner.selector, metadata_only=True)
            resources = {
                version: await self._resource(ref) for version, ref in {ref.version: ref for ref in refs}.items()
            }
        except ApiError as error:
            self.errors.append(refusals.refusal(refs[0], "delete", error))
            return
        await each(partial(self._one, live=live, resources=resources), refs, self.reader.at_once)

    async def _resource(self, ref: Ref) -> Resource | None:
        """None where the kind is gone, and its objects with it."""
        try:
            return await self.reader.resource(ref)
        except NoSuchKind:
            return None

    async def _one(self, ref: Ref, live: Mapping[Ref, Object], resources: Mapping[str, Resource | None]) -> None:
        resource = resources[ref.version]
        try:
            action = await self._deleted(ref, live.get(ref), resource) if resource else "deleted"
        except ApiError as error:
            self.errors.append(refusals.refusal(ref, "delete", error))
        else:
            self.changes.append(Change.of(ref, action))

    async def _deleted(self, ref: Ref, live: Object | None, resource: Resource) -> Action:
        """Delete what was looked at and nothing newer: somebody may take the object over in between."""
        cluster, impersonate = self.reader.cluster, self.reader.impersonate
        for attempt in range(1, ATTEMPTS + 1):
            live = live or await cluster.get(resource, ref.name, ref.namespace, impersonate=impersonate)
            if live is None:
                return "deleted"
            if is_kept(live) or not is_owned(live, self.owner):
                return "skipped"
            seen = live["metadata"]
            try:
                await cluster.delete(
                    resource,
                    ref.name,
                    ref.namespace,
                    uid=seen["uid"],
                    resource_version=seen["resourceVersion"],
                    impersonate=impersonate,
                )
            except ApiError as error:
                if not error.is_conflict or attempt == ATTEMPTS:
                    raise
                live = None
            else:
                return "deleted"
        raise AssertionError("the last attempt returns or raises")
