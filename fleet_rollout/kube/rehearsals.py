"""Changes that a dry run has accepted: what one API server accepts, the next one of its version accepts as well.

The outcome of a dry run follows from the object as it is, the object as it is sent, and the server's version. A fleet
sends the same change to every member, where it is the same object; so the first member that plans it asks, and the
others need not. A refusal is never passed on: whoever is in doubt asks its own server.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from fleet_rollout.decide.names import MANAGER_ROLLOUT, MANAGER_SCALE, MANAGER_SYNC
from fleet_rollout.kube.client import ApiError, Cluster, Unreachable
from fleet_rollout.kube.settled import Change
from fleet_rollout.kube.writer import Step

# How long an outcome is believed, and a server's version, in seconds.
BELIEVED, VERSION_BELIEVED = 600.0, 3600.0
# So long one member waits for what another is asking: about as long as its own request would take.
PATIENCE = 0.2
# What these accept, the server's version says. Other kinds are defined in the cluster, by whoever likes.
BUILT_IN = frozenset({"", "apps", "autoscaling", "batch", "networking.k8s.io", "policy", "rbac.authorization.k8s.io"})
OURS = frozenset({MANAGER_SYNC, MANAGER_ROLLOUT, MANAGER_SCALE})


@dataclass
class _Server:
    version: str = ""
    asked: float = float("-inf")
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Rehearsals:
    """Shared by all members. `clock` gives seconds on a monotonic scale."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = float("-inf")
        self._accepted: set[tuple[str, Change]] = set()
        self._asked: dict[tuple[str, Change], asyncio.Event] = {}
        self._servers: WeakKeyDictionary[Cluster, _Server] = WeakKeyDictionary()

    async def planned(self, cluster: Cluster, change: Change, write: Step, plan: Callable[[], Awaitable[Step]]) -> Step:
        """`write` where such a server is known to accept the change; else what `plan` finds out by a dry run."""
        version = await self._version(cluster) if is_comparable(write) else ""
        key = version, change
        if not version:
            return await plan()
        await self._outcome(key)
        return write if self._is_accepted(key) else await self._asking(key, write, plan)

    async def _asking(self, key: tuple[str, Change], write: Step, plan: Callable[[], Awaitable[Step]]) -> Step:
        """Plan, while others who come to the same change wait for a moment."""
        mine = self._asked[key] = asyncio.Event()
        try:
            step = await plan()
            if step.do == write.do:
                self._accepted.add(key)
            return step
        finally:
            mine.set()
            if self._asked.get(key) is mine:
                del self._asked[key]

    async def _outcome(self, key: tuple[str, Change]) -> None:
        if (asked := self._asked.get(key)) is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asked.wait(), PATIENCE)

    def _is_accepted(self, key: tuple[str, Change]) -> bool:
        if self._clock() - self._began > BELIEVED:
            self._accepted.clear()
            self._began = self._clock()
        return key in self._accepted

    async def _version(self, cluster: Cluster) -> str:
        """Empty where the server does not tell; that fails nothing."""
        server = self._servers.setdefault(cluster, _Server())
        async with server.lock:
            if self._clock() - server.asked > VERSION_BELIEVED:
                server.asked, server.version = self._clock(), ""
                with contextlib.suppress(ApiError, Unreachable):
                    server.version = await cluster.server_version()
        return server.version


def is_comparable(step: Step) -> bool:
    """Whether nothing but what we have sent decides: a kind of Kubernetes' own, and no field of somebody else."""
    assert step.live is not None
    entries = step.live["metadata"].get("managedFields") or ()
    is_ours = bool(entries) and all(
        entry.get("manager") in OURS or entry.get("subresource") == "status" for entry in entries
    )
    return step.ref.group in BUILT_IN and is_ours
