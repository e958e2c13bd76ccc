"""Brings objects to what Git says, in Flux's stages: dry runs of a whole stage first, then its writes, then its wait.

Nothing of a stage is written while any of its dry runs fails, and nothing at all before the caller has recorded the
new inventory. An object of another owner is never written. A changed object costs two requests, or one where another
member has accepted the same change; an unchanged one costs one, and one that is known to be as wanted none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from typing import Any

from fleet_rollout.decide.inventory import Ref, entry_of, object_id, ref_of
from fleet_rollout.decide.kstatus import NOT_FOUND, Status, Unhealthy, failures, health_error, health_of
from fleet_rollout.decide.metadata import Owner, with_labels
from fleet_rollout.decide.names import MANAGER_SYNC
from fleet_rollout.decide.normalize import normalize
from fleet_rollout.decide.order import AWAITED_STAGES, CRD, rank, sort_for_apply, stage
from fleet_rollout.errors import Transient
from fleet_rollout.kube import refusals
from fleet_rollout.kube.changes import Action, Change
from fleet_rollout.kube.client import ApiError, Cluster, NoSuchKind
from fleet_rollout.kube.live import Object, Reader, each, poll
from fleet_rollout.kube.rehearsals import Rehearsals
from fleet_rollout.kube.settled import Settled
from fleet_rollout.kube.writer import ReplicaRule, Step, Writer
from fleet_rollout.settings import Settings
from fleet_rollout_api.cluster_sync import InventoryEntry

__all__ = ["Applier", "Change", "Owner", "ReplicaRule"]

AS_WANTED = frozenset({"unchanged", "created", "configured"})

BeforeWrite = Callable[[list[InventoryEntry]], Awaitable[None]]


class Applier:
    """Writes to one cluster on behalf of one ClusterSync, as one field manager."""

    def __init__(
        self,
        cluster: Cluster,
        owner: Owner,
        settings: Settings,
        impersonate: str | None = None,
        manager: str = MANAGER_SYNC,
        at_once: int | None = None,
        settled: Settled | None = None,
        just_seen: Mapping[Ref, Object] | None = None,
        rehearsals: Rehearsals | None = None,
    ) -> None:
        """With at most `at_once` requests in flight where that is less than the cluster may have.

        `settled` is what earlier passes of the same ClusterSync know, and is told of this one; `just_seen` need not be
        read once more; `rehearsals` is what other members know.
        """
        self._cluster = cluster
        self._manager = manager
        self._owner = owner
        self._patience = settings.stage_wait
        most = settings.member_in_flight
        self._reader = Reader(cluster, min(at_once or most, most), impersonate)
        self._settled = settled
        self._just_seen = just_seen or {}
        self._rehearsals = rehearsals
        self.seen: dict[Ref, Object] = {}  # objects that exist, as they were last read or written

    async def plan_and_apply(
        self,
        objects: Iterable[Mapping[str, Any]],
        *,
        force: bool,
        before_write: BeforeWrite,
        replicas: ReplicaRule | None = None,
    ) -> list[Change]:
        """Apply all objects; what became of each, in the order of applying.

        `before_write` gets the inventory of `objects` once, before the first write; it is not called when there is
        nothing to write. Raises Transient with Flux's text, followed by the lines of what had been applied before.
        """
        desired = [with_labels(normalize(obj), self._owner.labels) for obj in sort_for_apply(objects)]
        writer = Writer(self._cluster, self._reader, self._owner, force, replicas, self._patience, self._manager)
        inventory, settled = [object_id(obj) for obj in desired], self._settled or Settled()
        seen = self._just_seen
        run = _Run(writer, self._reader, before_write, inventory, self.seen, settled, seen, self._rehearsals)
        with run.named_in_errors():
            for number, stage_objects in groupby(desired, key=lambda obj: stage(ref_of(obj))):
                await run.one_stage(list(stage_objects), is_awaited=number in AWAITED_STAGES)
        as_wanted = {ref: obj for ref, obj in self.seen.items() if run.actions.get(ref) in AS_WANTED}
        sent = [writer.sent(ref, obj, as_wanted[ref]) for obj in desired if (ref := ref_of(obj)) in as_wanted]
        settled.keep(sent, as_wanted)
        return run.in_order()


@dataclass
class _Run:
    """One pass over the objects of one revision."""

    writer: Writer
    reader: Reader
    before_write: BeforeWrite
    inventory: list[InventoryEntry]
    seen: dict[Ref, Object]
    settled: Settled
    just_seen: Mapping[Ref, Object]
    rehearsals: Rehearsals | None
    actions: dict[Ref, Action] = field(default_factory=dict)
    new_kinds: set[tuple[str, str]] = field(default_factory=set)
    has_recorded: bool = False

    async def one_stage(self, objects: list[Object], *, is_awaited: bool) -> None:
        cluster = self.reader.cluster.name
        with refusals.reached(cluster):
            await self._await_new_kinds(objects)
            steps = await self._planned(objects)
        self.seen |= {step.ref: step.live for step in steps if step.live is not None}
        self.actions |= {step.ref: "skipped" for step in steps if step.do == "skip"}
        live = {step.ref: step.live for step in steps if step.do == "keep"}
        self.actions |= dict.fromkeys(live, "unchanged")
        writes = [step for step in steps if step.is_write]
        if writes:
            await self._record()
        with refusals.reached(cluster):
            live |= await self._all_written(writes)
            if is_awaited:
                await self._await_current(live)

    async def _record(self) -> None:
        if not self.has_recorded:
            await self.before_write(self.inventory)
            self.has_recorded = True

    async def _planned(self, objects: list[Object]) -> list[Step]:
        live = await self._live([ref_of(obj) for obj in objects])
        return await each(lambda obj: self._planned_one(obj, live.get(ref_of(obj))), objects, self.reader.at_once)

    async def _planned_one(self, obj: Object, live: Object | None) -> Step:
        """By a dry run, unless what it would say is known. What a service account may do differs between members."""
        ref, plan = ref_of(obj), partial(self.writer.plan, obj, live)
        change = self.settled.change(self.writer.sent(ref, obj, live), live) if live is not None else None
        if change is None:
            return await plan()
        if change.before == change.after:
            return Step(ref, obj, live, "keep")
        self.settled.forget(ref)
        decided = self.writer.without_dry_run(ref, obj, live)
        if decided is not None or self.rehearsals is None or self.reader.impersonate:
            return decided or await plan()
        namespace, write = self.writer.owner.namespace, Step(ref, obj, live, "write")
        return await self.rehearsals.planned(self.reader.cluster, namespace, change, write, plan)

    async def _live(self, refs: list[Ref]) -> Mapping[Ref, Object]:
        """What is there. For who may not read, nothing: the dry run then names the object and the missing right."""
        seen = {ref: self.just_seen[ref] for ref in refs if ref in self.just_seen}
        try:
            return seen | await self.reader.found([ref for ref in refs if ref not in seen], self.writer.owner.selector)
        except ApiError as error:
            if error.is_forbidden:
                return {}
            raise

    async def _all_written(self, writes: list[Step]) -> dict[Ref, Object | None]:
        """Rank after rank; the objects of one rank do not wait for each other."""
        settled = [await self.writer.plan_again(step) if step.do == "take over first" else step for step in writes]
        live: dict[Ref, Object | None] = {}
        for _, group in groupby(settled, key=lambda step: rank(step.ref)):
            live |= dict(await each(self._written, list(group), self.reader.at_once))
        return live

    async def _written(self, step: Step) -> tuple[Ref, Object]:
        action, answer = await self.writer.write(step)
        self.actions[step.ref], self.seen[step.ref] = action, answer
        if (step.ref.group, step.ref.kind) == CRD:
            spec = step.desired["spec"]
            self.new_kinds.add((spec["group"], spec["names"]["kind"]))
        return step.ref, answer

    async def _await_new_kinds(self, objects: Sequence[Object]) -> None:
        """Discovery follows an established CRD by moments; only kinds that this very run has defined are awaited."""
        refs = {(ref.group, ref.kind): ref for ref in map(ref_of, objects)}
        for ref in (refs[kind] for kind in self.new_kinds & refs.keys()):

            async def is_served(ref: Ref = ref) -> bool:
                try:
                    await self.reader.resource(ref)
                except NoSuchKind:
                    return False
                return True

            await poll(is_served, self.writer.patience)

    async def _await_current(self, live: Mapping[Ref, Object | None]) -> None:
        """Until CRDs are established, namespaces active and classes ready; what is Current already costs no request."""
        waiting = _not_current(live)

        async def is_over() -> bool:
            nonlocal waiting
            refs = [row.ref for row in waiting]
            found = await self.reader.all(refs, self.writer.owner.selector)
            waiting = _not_current({ref: found.get(ref) for ref in refs})
            return not waiting or bool(failures(waiting))

        if waiting and not failures(waiting):
            await poll(is_over, self.writer.patience)
        if waiting:
            raise Transient(refusals.FAILED, health_error(waiting))

    @contextmanager
    def named_in_errors(self) -> Iterator[None]:
        """What had been written is part of the message: the earlier stages stay applied."""
        try:
            yield
        except Transient as error:
            lines = [str(change) for change in self.in_order() if change.action in ("created", "configured")]
            if not lines:
                raise
            message = "\n".join([error.message, *lines])
            raise Transient(error.reason, message, retry_after=error.retry_after) from error

    def in_order(self) -> list[Change]:
        by_id = {entry_of(ref).id: Change.of(ref, action) for ref, action in self.actions.items()}
        return [by_id[entry.id] for entry in self.inventory if entry.id in by_id]


def _not_current(live: Mapping[Ref, Object | None]) -> list[Unhealthy]:
    now = datetime.now(UTC)
    rows = [Unhealthy(ref, health_of(obj, now) if obj else NOT_FOUND) for ref, obj in live.items()]
    return [row for row in rows if row.health.status is not Status.CURRENT]
