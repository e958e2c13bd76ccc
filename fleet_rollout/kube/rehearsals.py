"""Changes that a dry run has accepted: what one API server accepts, the next one of its version accepts as well.

The outcome of a dry run follows from the object as it is, the object as it is sent, and the server's version. A fleet
sends the same change to every member, where it is the same object; so the first member that plans it asks, and the
others need not. A refusal is never passed on, and nothing from one namespace of the hub to another.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple
from weakref import WeakKeyDictionary

from fleet_rollout.decide.names import MANAGER_ROLLOUT, MANAGER_SCALE, MANAGER_SYNC
from fleet_rollout.errors import Transient
from fleet_rollout.kube.client import ApiError, Cluster, Unreachable
from fleet_rollout.kube.settled import Change
from fleet_rollout.kube.writer import Step

# How long an outcome and a server's version are believed, and that it does not tell one (s).
BELIEVED, UNKNOWN_BELIEVED = 600.0, 60.0
# The version of the server that has just accepted something has to be as young (s).
JUST_NOW = 5.0
# So long one member waits for what another is asking, and for a version (s).
PATIENCE, VERSION_PATIENCE = 0.2, 2.0
LONGEST_VERSION = 64
# Kinds that are judged by themselves. A Service's or an Ingress's change may depend on what else is in the cluster, a
# Role's on the rights of who writes it, and other kinds are defined in the cluster, by whoever likes.
KINDS = frozenset(
    {
        ("", "ConfigMap"),
        ("", "Secret"),
        ("apps", "DaemonSet"),
        ("apps", "Deployment"),
        ("apps", "StatefulSet"),
        ("batch", "CronJob"),
    }
)
OURS = frozenset({MANAGER_SYNC, MANAGER_ROLLOUT, MANAGER_SCALE})


class Rehearsal(NamedTuple):
    """A change, the version of the server, and the namespace of the hub that it belongs to."""

    namespace: str
    server: str
    change: Change


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
        self._accepted: set[Rehearsal] = set()
        self._asked: dict[Rehearsal, asyncio.Event] = {}
        self._servers: WeakKeyDictionary[Cluster, _Server] = WeakKeyDictionary()

    async def planned(
        self, cluster: Cluster, namespace: str, change: Change, write: Step, plan: Callable[[], Awaitable[Step]]
    ) -> Step:
        """`write` where such a server is known to accept the change; else what `plan` finds out by a dry run."""
        version = await self._version(cluster) if is_comparable(write) else ""
        if not version:
            return await plan()
        key = Rehearsal(namespace, version, change)
        if not self._is_accepted(key):
            await self._outcome(key)
        return write if self._is_accepted(key) else await self._asking(cluster, key, write, plan)

    async def _asking(self, cluster: Cluster, key: Rehearsal, write: Step, plan: Callable[[], Awaitable[Step]]) -> Step:
        """Plan, while others who come to the same change wait for a moment."""
        mine = self._asked[key] = asyncio.Event()
        try:
            step = await plan()
            # With another live object the dry run was about something else.
            is_about_it = step.do == write.do and step.live is write.live
            if is_about_it and await self._version(cluster, JUST_NOW) == key.server:
                self._accepted.add(key)
            return step
        finally:
            mine.set()
            if self._asked.get(key) is mine:
                del self._asked[key]

    async def _outcome(self, key: Rehearsal) -> None:
        if (asked := self._asked.get(key)) is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asked.wait(), PATIENCE)

    def _is_accepted(self, key: Rehearsal) -> bool:
        if self._clock() - self._began > BELIEVED:
            self._accepted.clear()
            self._began = self._clock()
        return key in self._accepted

    async def _version(self, cluster: Cluster, believed: float = BELIEVED) -> str:
        """Empty where the server does not tell; that fails nothing."""
        server = self._servers.setdefault(cluster, _Server())
        async with server.lock:
            if self._clock() - server.asked > (believed if server.version else UNKNOWN_BELIEVED):
                server.version = await _told(cluster)
                server.asked = self._clock()
        return server.version


async def _told(cluster: Cluster) -> str:
    try:
        async with asyncio.timeout(VERSION_PATIENCE):
            return (await cluster.server_version())[:LONGEST_VERSION]
    except (ApiError, Transient, Unreachable, TimeoutError):
        return ""


def is_comparable(step: Step) -> bool:
    """Whether nothing but what we have sent decides: a kind that is judged by itself, and no field of somebody else."""
    assert step.live is not None
    entries = step.live["metadata"].get("managedFields") or ()
    is_ours = bool(entries) and all(
        entry.get("manager") in OURS or entry.get("subresource") == "status" for entry in entries
    )
    return (step.ref.group, step.ref.kind) in KINDS and is_ours
