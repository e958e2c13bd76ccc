"""Carries out what a tick decides to write: on the version it was decided on, and again where that has changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fleet_rollout.control.engine.sight import Sight
from fleet_rollout.decide.canary.claim import MANAGER_CANARY
from fleet_rollout.decide.canary.objects import Object, Put, Ref, Remove, StepFailed, Write
from fleet_rollout.kube.client import Cluster
from fleet_rollout.kube.errors import ApiError

ATTEMPTS = 5
# Of a Canary's status: where these are others than one has seen or written, an engine has gone on from there.
TELLING = ("phase", "canaryWeight", "iterations", "lastAppliedSpec")
Decide = Callable[[dict[Ref, Object | None]], list[Write]]


class Overtaken(Exception):
    """The Canary has gone on without this tick, or is gone: its view is an old one, and nothing more is to be done."""


def progress(status: Mapping[str, Any] | None) -> tuple[Any, ...]:
    """How far a Canary is, by its status."""
    return tuple((status or {}).get(name) or None for name in TELLING)


class Hands:
    """The writes of one tick. `live` is the tick's view; what is written becomes part of it."""

    def __init__(self, cluster: Cluster, sight: Sight, live: dict[Ref, Object | None]) -> None:
        self._cluster = cluster
        self._sight = sight
        self._has_looked = False
        self.live = live
        self.writes = 0

    async def carry_out(self, decide: Decide, look: Callable[[], Awaitable[object]] | None = None) -> None:
        """Decide and write; where somebody else was faster, look again and decide anew.

        Only what was written meanwhile is looked at again: the target stays the one that this tick has seen.
        `look` raises Overtaken where the Canary is another than the tick has seen. It is asked before the first write,
        after the objects were read: a Canary that is as it was then was so all the while, however old the view of it.
        """
        for _ in range(ATTEMPTS):
            writes = decide(self.live)
            if writes and look is not None and not self._has_looked:
                await look()
                self._has_looked = True
            lost = await self._attempt(writes)
            if lost is None:
                return
            self.live[lost] = await self._sight.reread(lost)
            self._has_looked = False
        raise StepFailed(
            f"{lost} is being changed by somebody else all the time; {ATTEMPTS} attempts did not get through"
        )

    async def _attempt(self, writes: list[Write]) -> Ref | None:
        """None, or the object that is no longer as it was."""
        for write in writes:
            ref = write.ref
            try:
                self.live[ref] = await self._write(write)
            except ApiError as error:
                if error.status == 409 or (error.is_not_found and isinstance(write, Put) and _is_replacement(write)):
                    return ref
                raise
            self._sight.keep(ref, self.live[ref])
        return None

    async def _write(self, write: Write) -> Object | None:
        self.writes += 1
        resource = await self._sight.resource(write.ref)
        if isinstance(write, Remove):
            await self._cluster.delete(
                resource, write.ref.name, write.ref.namespace, uid=write.uid, resource_version=write.resource_version
            )
            return None
        if _is_replacement(write):
            return await self._cluster.replace(resource, write.obj, manager=MANAGER_CANARY)
        return await self._cluster.create(resource, write.obj, manager=MANAGER_CANARY)


def _is_replacement(write: Put) -> bool:
    return bool(write.obj["metadata"].get("resourceVersion"))
