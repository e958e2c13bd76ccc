"""The working copy of one ClusterSync's status in one pass: changed in memory, written when it must be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleet_rollout.control.hub_writes import HubWrites
from fleet_rollout.control.inventories import Incomplete, Inventories
from fleet_rollout.control.loop import Key
from fleet_rollout.control.world import CLUSTER_SYNCS, World
from fleet_rollout.decide import conditions as conds
from fleet_rollout.decide.intervals import rfc3339
from fleet_rollout.decide.inventory import Ref
from fleet_rollout.decide.sync import Stamp
from fleet_rollout.errors import Waiting
from fleet_rollout_api.cluster_sync import (
    Attempt,
    ClusterSync,
    ClusterSyncStatus,
    Inventory,
    InventoryEntry,
    RolloutRecord,
)


class Draft:
    """`status` is what will be written; `write` sends it if it differs from what the hub has."""

    def __init__(self, world: World, writes: HubWrites, inventories: Inventories, obj: dict[str, Any]) -> None:
        self._world = world
        self._writes = writes
        self._inventories = inventories
        self._obj = obj
        self.sync = world.store.model(CLUSTER_SYNCS.plural, obj, ClusterSync)
        self.status = self.sync.status
        self.prepared: Mapping[str, Any] | None = None  # the namespace of the rollout, where it is as it should be
        self.seen: dict[Ref, dict[str, Any]] = {}  # what this pass has read or written in the member, as it was last
        self._entries: list[InventoryEntry] | None = None

    @property
    def key(self) -> Key:
        return Key(self.sync.metadata.namespace, self.sync.metadata.name)

    @property
    def obj(self) -> dict[str, Any]:
        """The object as last seen, for events and finalizers."""
        return self._world.store.get(CLUSTER_SYNCS.plural, self.key) or self._obj

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.sync.metadata.generation, self._world.now())

    def change(self, **fields: Any) -> None:
        """Set fields of the status."""
        self.status = self.status.model_copy(update=fields)

    async def inventory(self) -> list[InventoryEntry]:
        """What is recorded as being on the cluster."""
        if self._entries is None:
            self._entries = await self._inventories.read(self.sync)
        return self._entries

    async def inventory_left(self) -> list[InventoryEntry]:
        """As `inventory`; of a part that is gone (its namespace is being emptied) nothing can be known."""
        try:
            return await self.inventory()
        except Incomplete as error:
            labels = f"what it named stays on {self.sync.spec.cluster.name}, with the labels of {self.key}"
            self._world.recorder.warning(self.obj, error.reason, f"{error.fact}; {labels}")
            self._entries = error.found
            return error.found

    async def keep_inventory(self, entries: list[InventoryEntry]) -> None:
        """Record `entries`; the part that does not fit into the status goes to sibling objects at once."""
        self._entries = entries
        inline, parts = await self._inventories.write(self.sync, entries)
        self.change(inventory=Inventory(entries=inline), inventory_parts=parts)

    def begin(self, fingerprint: str) -> None:
        """Note the attempt: by which leader, since when. Precedes every write to the member."""
        now = rfc3339(self._world.now())
        self.change(attempt=Attempt(fingerprint=fingerprint, started_at=now, epoch=self._world.epoch()))

    async def write_intent(self) -> None:
        """Send the status, which precedes what is written to the member, unless the hub has all of it that matters.

        It has where a status of this leader, which tells of no trouble, was followed by specs of this leader alone, and
        what is recorded of the member stays as it is (docs/decisions/0026-the-plan-is-the-intent.md).
        """
        before = self.sync.status
        is_well = self.is_led(before) and conds.is_true(before.conditions, conds.READY)
        if not (is_well and self._writes.is_planned(self._obj) and _recorded(before) == _recorded(self.status)):
            await self.write()

    def is_led(self, status: ClusterSyncStatus) -> bool:
        """Whether the attempt in `status` is this leader's."""
        return status.attempt is not None and status.attempt.epoch == self._world.epoch()

    async def write(self) -> None:
        """Send the status if it changed."""
        if self.status == self.sync.status:
            return
        before = self.sync.status.inventory_parts
        made = await self._writes.status(CLUSTER_SYNCS, self._obj, self.status.dump())
        self._obj = made
        self.sync = self._world.store.model(CLUSTER_SYNCS.plural, made, ClusterSync)
        self.status = self.sync.status
        await self._inventories.drop(self.sync, set(before) - set(self.status.inventory_parts))

    def require_current(self) -> None:
        """Stop this pass where the spec was changed while it ran: the change is queued already."""
        seen = self._world.store.get(CLUSTER_SYNCS.plural, self.key)
        if seen is None or seen["metadata"].get("generation") != self.sync.metadata.generation:
            raise Waiting("Superseded", f"ClusterSync/{self.key}: the wanted state changed meanwhile", retry_after=0.0)


def _recorded(status: ClusterSyncStatus) -> tuple[Inventory | None, list[str], RolloutRecord | None]:
    """What a crash must not lose: what there is on the cluster, and which verdicts are about it."""
    return status.inventory, status.inventory_parts, status.rollout
