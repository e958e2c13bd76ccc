"""One ClusterSync: bring one cluster to what the planner decided, and keep it there.

A pass is a checklist; each step returns or raises, and the status is written where a step says so.
Nothing waits inside a pass: health, dependencies and deletions are looked at again in a later one.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from fleet_rollout.control.applications import first_fault
from fleet_rollout.control.deletions import Deletions
from fleet_rollout.control.draft import Draft
from fleet_rollout.control.hub_writes import HubWrites
from fleet_rollout.control.inventories import Inventories
from fleet_rollout.control.loop import Key
from fleet_rollout.control.objects import HealthCheckFailed, Objects
from fleet_rollout.control.orphans import Orphans
from fleet_rollout.control.rollouts import Rollouts
from fleet_rollout.control.targets import Beside, Targets
from fleet_rollout.control.world import CLUSTER_SYNCS, World
from fleet_rollout.decide import conditions as conds
from fleet_rollout.decide import sync as decide
from fleet_rollout.decide.intervals import jittered, parse_duration
from fleet_rollout.decide.sync import Timing, Work
from fleet_rollout.errors import FleetRolloutError, Terminal, Transient, Waiting


@dataclass
class _Memory:
    """What this process remembers of a ClusterSync; all of it may be lost at any time."""

    checked_at: float
    interval: float
    retry_at: float = 0.0
    failed: str | None = None  # what was wanted, and in which generation of the spec
    generation: int = 0
    # An object moves to another policy, and stays in this inventory until that one has it: what those had before.
    hands_over: Beside | None = None
    left: Draft | None = None  # of a pass that failed: what it had done is written together with the failure


class SyncReconciler:
    """Owns the status of every ClusterSync."""

    kind = "ClusterSync"

    def __init__(self, world: World, writes: HubWrites, targets: Targets, objects: Objects, rollouts: Rollouts) -> None:
        self._world = world
        self._writes = writes
        self._targets = targets
        self._inventories = Inventories(world.hub)
        self._objects = objects
        self._rollouts = rollouts
        self._deletions = Deletions(world, writes, targets, rollouts, objects)
        self._orphans = Orphans(world)
        self._memory: dict[Key, _Memory] = {}

    async def reconcile(self, key: Key) -> float | None:
        obj = self._world.store.get(CLUSTER_SYNCS.plural, key)
        if obj is None:
            self._memory.pop(key, None)
            self._rollouts.forget(key)
            self._objects.forget(key)
            self._orphans.forget(key)
            return None
        draft = self._draft(obj)
        if draft.sync.metadata.deletion_timestamp:
            return await self._deletions.finalize(draft)
        if draft.sync.spec.kustomization.suspend:
            await self._suspended(draft)
            return None
        if not self._targets.is_wanted(draft.sync):
            return await self._outlived(draft)
        try:
            return await self._bring(draft)
        except FleetRolloutError as error:
            self._remember(draft).left = draft
            self._pace(draft, error)
            raise

    def _draft(self, obj: dict[str, Any]) -> Draft:
        try:
            return Draft(self._world, self._writes, self._inventories, obj)
        except ValidationError as error:
            name = obj["metadata"]["name"]
            raise Terminal("InvalidSpec", f"ClusterSync/{name}: {first_fault(error)}") from error

    async def _bring(self, draft: Draft) -> float | None:
        """Apply if there is a reason to, look at health if it is awaited, mirror the Canary, write."""
        if draft.sync.spec.artifact is None:
            raise Waiting("ArtifactFailed", "Source artifact not found, retrying in 30s", retry_after=30.0)
        if draft.status.inventory is None:
            await self._orphans.adopt(draft)
        memory = self._remember(draft)
        wanted = decide.fingerprint(draft.sync.spec)
        work = self._work(draft, wanted, memory)
        self._rollouts.observe(draft)
        if work is not Work.NONE:
            self._targets.require_dependencies(draft.sync)
            await self._rollouts.prepare(draft)
            memory.hands_over = await self._objects.apply(draft, wanted, in_a_hurry=work is not Work.DRIFT)
            memory.checked_at, memory.failed = self._world.clock(), None
        if self._asks_for_health(draft, wanted, work):
            await self._objects.check_health(draft)
        rollout_again = await self._rollouts.bring(draft, applied=work is not Work.NONE)
        await draft.write()
        return self._next(draft, memory, rollout_again)

    @staticmethod
    def _asks_for_health(draft: Draft, wanted: str, work: Work) -> bool:
        """Only of what is wanted now: the health of older content must not count as its success."""
        if draft.status.applied_fingerprint != wanted:
            return False
        return decide.awaits_health(draft.status) or (work is not Work.NONE and decide.needs_health(draft.sync))

    def _work(self, draft: Draft, wanted: str, memory: _Memory) -> Work:
        age = self._world.clock() - memory.checked_at
        work = decide.work_for(draft.sync, wanted, Timing(age, memory.interval))
        is_early = self._world.clock() < memory.retry_at
        is_same = (memory.failed, memory.generation) == (wanted, draft.sync.metadata.generation)
        if work in (Work.NEW, Work.RETRY) and is_early and is_same:  # an edit may be the remedy
            return Work.NONE
        memory.failed = None
        if work is Work.NONE and age >= self._world.settings.dependency_retry and self._has_handed_over(draft, memory):
            return Work.DRIFT
        return work

    def _has_handed_over(self, draft: Draft, memory: _Memory) -> bool:
        """Whether it is worth a look: who is to take an object over may be unable to for a long time."""
        return memory.hands_over is not None and memory.hands_over != self._targets.beside(draft.sync)

    def _remember(self, draft: Draft) -> _Memory:
        """After a restart the next drift check lies anywhere within the interval: not all at once."""
        interval = parse_duration(draft.sync.spec.kustomization.interval)
        share = self._world.settings.interval_jitter
        memory = self._memory.get(draft.key)
        if memory is None:
            spread = random.random() * interval  # noqa: S311
            memory = _Memory(self._world.clock() - spread, jittered(interval, share, random.random()))  # noqa: S311
            self._memory[draft.key] = memory
        elif not (1 - share) * interval <= memory.interval <= (1 + share) * interval:
            memory.interval = jittered(interval, share, random.random())  # noqa: S311
        return memory

    def _next(self, draft: Draft, memory: _Memory, rollout_again: float | None) -> float | None:
        delays = [rollout_again]
        if decide.awaits_health(draft.status) and draft.status.applied_fingerprint == decide.fingerprint(
            draft.sync.spec
        ):
            delays.append(self._world.settings.health_poll)
        if memory.failed is not None:
            # What failed is not tried before its time, so neither is the interval's look. The time may have come during
            # this pass, which took the retry's place in the queue.
            delays.append(max(0.0, memory.retry_at - self._world.clock()))
        elif memory.interval > 0:
            delays.append(max(0.0, memory.checked_at + memory.interval - self._world.clock()))
        if memory.hands_over is not None:
            delays.append(self._world.settings.dependency_retry)
        return min((delay for delay in delays if delay is not None), default=None)

    @staticmethod
    def _pace(draft: Draft, error: FleetRolloutError) -> None:
        """Retries follow the policy's retryInterval where it has one."""
        retry = draft.sync.spec.kustomization.retry_interval
        if retry and isinstance(error, Transient) and error.retry_after is None:
            error.retry_after = parse_duration(retry)

    async def _suspended(self, draft: Draft) -> None:
        """Nothing is applied; a request is recorded, so that it does not fire on resume."""
        if draft.sync.spec.requested_at:
            draft.change(last_handled_reconcile_at=draft.sync.spec.requested_at)
        if conds.is_true(draft.status.conditions, conds.READY):
            draft.change(observed_generation=draft.sync.metadata.generation)
        await draft.write()

    async def _outlived(self, draft: Draft) -> float:
        """Its policy is there no more, or its cluster has left; it stays until others have what it has.

        It gets no newer content, so it writes nothing to the member: that would undo what those bring, again and again.
        """
        self._rollouts.observe(draft)
        await draft.write()
        return self._world.settings.dependency_retry

    async def report(self, key: Key, error: FleetRolloutError, again_in: float) -> None:
        obj = self._world.store.get(CLUSTER_SYNCS.plural, key)
        memory = self._memory.get(key)
        left = memory.left if memory else None
        if memory is not None:
            memory.left = None
        if obj is None or error.reason in ("Conflict", "Superseded"):
            return
        try:
            draft = left or self._draft(obj)
        except Terminal as fault:
            if await self._writes.invalid(CLUSTER_SYNCS, obj, fault, self._world.now()):
                self._world.recorder.warning(obj, fault.reason, fault.message)
            return
        # Who only waits may go on as soon as something wakes him.
        if memory is not None and draft.sync.spec.artifact is not None and not isinstance(error, Waiting):
            memory.failed = decide.fingerprint(draft.sync.spec)
            memory.generation = draft.sync.metadata.generation
            memory.retry_at = self._world.clock() + again_in
        stalled = isinstance(error, Terminal)
        before = draft.status.conditions
        if isinstance(error, HealthCheckFailed):
            before = decide.unhealthy(before, draft.stamp, error.short)
        draft.change(conditions=decide.failed(before, draft.stamp, error.reason, error.message, stalled=stalled))
        if draft.sync.spec.requested_at:
            draft.change(last_handled_reconcile_at=draft.sync.spec.requested_at)
        if stalled:
            draft.change(observed_generation=draft.sync.metadata.generation)
        if draft.status != draft.sync.status and not isinstance(error, Waiting):
            self._world.recorder.warning(draft.obj, error.reason, error.message)
        await draft.write()
