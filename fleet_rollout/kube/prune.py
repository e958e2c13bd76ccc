"""Takes away what Git no longer has: in reverse order of applying, and never what somebody else owns.

What could not be deleted is handed back, so that it stays in the inventory and is tried again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from fleet_rollout.decide.inventory import Ref, parse_id
from fleet_rollout.decide.metadata import Owner, is_kept, is_owned
from fleet_rollout.decide.order import delete_ranks
from fleet_rollout.errors import Transient
from fleet_rollout.kube import refusals
from fleet_rollout.kube.changes import Action, Change
from fleet_rollout.kube.client import ApiError, NoSuchKind, Resource, Unreachable
from fleet_rollout.kube.live import Object, Reader, each, poll
from fleet_rollout_api.cluster_sync import InventoryEntry

ATTEMPTS = 3


@dataclass(frozen=True)
class Pruned:
    """What became of the stale entries, in the order of deleting.

    `survivors` have to stay in the inventory. `failure` is the text for a condition, None where nothing failed;
    `is_unreachable` says that the cluster gave no answer, so that nothing further was tried.
    """

    changes: list[Change] = field(default_factory=list)
    survivors: list[InventoryEntry] = field(default_factory=list)
    failure: str | None = None
    is_unreachable: bool = False


async def prune(
    reader: Reader, owner: Owner, stale: Sequence[InventoryEntry], siblings: frozenset[str] = frozenset()
) -> Pruned:
    """Delete `stale`, but what `siblings` (ids in the inventories of the same cluster's other syncs) hold.

    An object is skipped, and leaves the inventory for good, unless its labels name this very owner and nothing on it
    forbids pruning.
    """
    run = _Run(replace(reader, any_version=True), owner)
    entries = [entry for entry in stale if entry.id not in siblings]
    run.changes += [Change.of(parse_id(entry), "skipped") for entry in stale if entry.id in siblings]
    failure = None
    try:
        for refs in delete_ranks([parse_id(entry) for entry in entries]):
            await run.one_rank(refs)
    except Unreachable as error:
        failure = error.message
    except Transient as error:
        if error.reason != refusals.UNREACHABLE:
            raise
        failure = error.message
    done = {change.id for change in run.changes}
    survivors = [entry for entry in entries if entry.id not in done]
    errors = [*run.errors, *([failure] if failure else [])]
    text = f"delete failed, errors: {''.join(f'{error};' for error in errors)}" if errors else None
    return Pruned(run.changes, survivors, text, failure is not None)


async def not_gone(
    reader: Reader, owner: Owner, entries: Sequence[InventoryEntry], patience: float
) -> list[InventoryEntry]:
    """Wait until all are gone; those that are not after `patience` seconds (deletionPolicy WaitForTermination)."""
    reader = replace(reader, any_version=True)
    remaining = {parse_id(entry): entry for entry in entries}

    async def are_gone() -> bool:
        nonlocal remaining
        found = await reader.found(remaining, owner.selector, metadata_only=True)
        remaining = {ref: remaining[ref] for ref, live in found.items() if is_owned(live, owner)}
        return not remaining

    with refusals.reached(reader.cluster.name):
        await poll(are_gone, patience)
    return list(remaining.values())


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
