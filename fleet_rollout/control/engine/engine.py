"""The canary engine of one cluster: which of its Canaries it drives, each by a task of its own.

It is told of Canaries by whoever watches them; what else they need, it watches itself.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from typing import NamedTuple

from fleet_rollout.control.engine.driven import Driven
from fleet_rollout.control.engine.sight import Sight
from fleet_rollout.control.engine.tick import Outside
from fleet_rollout.decide.canary.claim import EngineName, conflict, engine_named, is_ours, is_to_finish
from fleet_rollout.decide.canary.effects import Emit
from fleet_rollout.decide.canary.objects import Object, Ref
from fleet_rollout.decide.canary.subject import EngineOptions, Subject
from fleet_rollout.decide.canary.unreadable import unreadable
from fleet_rollout.kube.client import Cluster, Event


class CanaryKey(NamedTuple):
    """A Canary of one cluster."""

    namespace: str
    name: str


class Engine:
    """`options` and `adopts_plain` are asked whenever they matter, for a Fleet may be edited."""

    def __init__(
        self,
        name: EngineName,
        cluster: Cluster,
        sight: Sight,
        outside: Outside,
        options: Callable[[], EngineOptions],
        adopts_plain: Callable[[], bool],
    ) -> None:
        self._name: EngineName = name
        self._cluster = cluster
        self._outside = outside
        self._options = options
        self._adopts_plain = adopts_plain
        self._sight = sight
        sight.on_change = self._changed
        self._driven: dict[CanaryKey, Driven] = {}
        self._tasks: dict[CanaryKey, asyncio.Task[None]] = {}
        self._is_ending = False

    def told(self, event: Event) -> None:
        """The watch of Canaries says something."""
        if event.type in ("SYNCED", "BOOKMARK") or self._is_ending:
            return
        metadata = event.obj["metadata"]
        key = CanaryKey(metadata["namespace"], metadata["name"])
        driven = self._driven.get(key)
        is_other = driven is not None and driven.raw["metadata"]["uid"] != metadata.get("uid")
        if event.type == "DELETED" or is_other:
            self._stop(key)
        if event.type == "DELETED":
            return
        is_wanted = is_ours(event.obj, self._name, adopts_plain=self._adopts_plain())
        if not is_wanted and not (key in self._driven and is_to_finish(event.obj)):
            self._stop(key)
        elif problem := unreadable(event.obj):
            self._stop(key)
            # Without a spec it names no hooks; those of the engine are told.
            self._outside.emit(Subject({**event.obj, "spec": {}}, self._options()), Emit("Warning", problem))
        elif key in self._driven:
            self._driven[key].show(event.obj)
        else:
            self._start(key, event.obj)

    def reconsider(self) -> None:
        """Options have changed: let every Canary have a look."""
        for driven in self._driven.values():
            driven.wake()

    def let_go(self, watched: Collection[str] | None) -> None:
        """Drive no longer what the Fleet leaves to others now, nor what lies outside of `watched` (None: all are)."""
        if self._is_ending:
            return
        for key, driven in list(self._driven.items()):
            is_wanted = is_ours(driven.raw, self._name, adopts_plain=self._adopts_plain())
            if not (is_wanted or _is_finishing(driven)) or (watched is not None and key.namespace not in watched):
                self._stop(key)

    def problem(self, key: CanaryKey) -> str | None:
        """Who keeps us from driving a Canary of ours; None where nobody does."""
        driven = self._driven.get(key)
        return conflict(driven.raw, driven.rival) if driven is not None and driven.rival is not None else None

    @property
    def namespaces(self) -> set[str]:
        """Where Canaries are driven."""
        return {key.namespace for key in self._driven}

    @property
    def is_finishing(self) -> bool:
        """Whether a Canary is under way that is driven for the Fleet's word alone."""
        return any(map(_is_finishing, self._driven.values()))

    def _start(self, key: CanaryKey, raw: Object) -> None:
        driven = Driven(self._cluster, self._sight, self._outside, self._options, raw)
        self._driven[key] = driven
        self._tasks[key] = asyncio.create_task(driven.run(), name=f"canary {key.namespace}/{key.name}")
        self._show_total()

    def _stop(self, key: CanaryKey) -> None:
        driven = self._driven.pop(key, None)
        if driven is None:
            return
        task = self._tasks.pop(key)
        task.cancel()
        task.add_done_callback(lambda _: self._sight.leave(driven))  # a tick under way says at its end what it looks at
        self._outside.forget(Subject(driven.raw, self._options()))
        self._show_total()

    def _show_total(self) -> None:
        self._outside.show_total(self._options().cluster_name, Counter(key.namespace for key in self._driven))

    def _changed(self, ref: Ref) -> None:
        for user in self._sight.users(ref):
            if isinstance(user, Driven):
                user.wake()

    def forget(self) -> None:
        """Nobody is to be shown these Canaries any more."""
        for driven in self._driven.values():
            self._outside.forget(Subject(driven.raw, self._options()))

    async def finish(self) -> None:
        """Begin no tick any more, and wait for those under way."""
        self._is_ending = True
        busy = []
        for key, driven in self._driven.items():
            if driven.end():
                busy.append(self._tasks[key])
            else:
                self._tasks[key].cancel()
        await asyncio.gather(*busy, return_exceptions=True)

    async def close(self) -> None:
        """End all ticks where they are; what they have not done, the next engine does."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        self._driven.clear()
        await self._sight.close()


def _is_finishing(driven: Driven) -> bool:
    """What a tick has begun must not be left half-way, although only its end tells what it was."""
    return is_to_finish(driven.raw) or (driven.is_ticking and engine_named(driven.raw) is None)
