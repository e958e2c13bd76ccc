"""Leadership by a Lease of the hub: at most one replica works, and it stops before another can start.

The elector of the official client ends on the first network error and leaves its work running; this one
stands by again. No lock can stop a process that was suspended just before a send, so `check` reads a clock
that runs on during a suspension, and every changing request asks it last (docs/decisions/0010-lease.md).
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from fleet_rollout import measures
from fleet_rollout.decide.intervals import jittered
from fleet_rollout.decide.names import ARTIFACTS_ANNOTATION, MANAGER_HUB
from fleet_rollout.errors import Transient
from fleet_rollout.kube.client import Cluster, Object, Resource
from fleet_rollout.kube.errors import ApiError, Unreachable
from fleet_rollout.settings import Settings

LEASES = Resource("coordination.k8s.io", "v1", "Lease", "leases", True)
RETRY_SPREAD = 0.1
GIVE_ATTEMPTS = 3

log = logging.getLogger(__name__)


def boottime() -> float:
    """Seconds that pass also while the machine is suspended (where the system has such a clock)."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class NotLeading(Transient):
    """This replica does not lead (any more); the leader does the work."""

    def __init__(self) -> None:
        super().__init__("NotLeading", "this replica does not lead; the leader will go on")


class Seen(NamedTuple):
    """A Lease as last read, and when (by our own clock) it last changed: other clocks are never compared."""

    lease: Object
    at: float


class Leadership:
    """One replica's part in the election. `hub` must be a client without a fence.

    `artifacts` is where this replica serves artifacts; the Lease tells the others while it leads.
    """

    def __init__(
        self,
        hub: Cluster,
        settings: Settings,
        *,
        identity: str | None = None,
        artifacts: Callable[[], str | None] = lambda: None,
        clock: Callable[[], float] = boottime,
    ) -> None:
        self.identity = identity or f"{socket.gethostname()}_{uuid.uuid4()}"
        self.epoch = 0
        self._hub = hub
        self._settings = settings
        self._artifacts = artifacts
        self._clock = clock
        self._seen: Seen | None = None
        self._deadline = float("-inf")

    @property
    def is_leading(self) -> bool:
        return self._clock() < self._deadline

    @property
    def artifacts_of_holder(self) -> str | None:
        """Where the holder of the Lease, as last read, serves artifacts; None where nobody tells."""
        lease: Object = self._seen.lease if self._seen is not None else {}
        if not (lease.get("spec") or {}).get("holderIdentity"):
            return None
        return (lease["metadata"].get("annotations") or {}).get(ARTIFACTS_ANNOTATION)

    def check(self) -> None:
        """The fence: raises NotLeading where the renew deadline has passed."""
        if not self.is_leading:
            raise NotLeading

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Stand by, and run `work` while leading: cancelled when leadership is lost, started anew when it is won again.

        Returns, or raises, as `work` does by itself. When this is cancelled, the work ends first, then the Lease.
        """
        while True:
            await self._acquire()
            measures.LEADER.set(1)
            try:
                if await self._lead(work):
                    return
                log.warning("leadership lost; standing by")
            finally:
                measures.LEADER.set(0)
                await self._release()

    async def follow(self) -> None:
        """Know who leads, and never lead."""
        while True:
            await self._attempt(self._look)
            await asyncio.sleep(self._pause())

    async def _look(self) -> bool:
        return await self._read() is not None

    async def _lead(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Work and renew; True when the work ended by itself, False when leadership was lost."""
        working = asyncio.ensure_future(work())
        renewing = asyncio.create_task(self._renew())
        try:
            await asyncio.wait({working, renewing}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                renewing.result()
                return False
        finally:
            # The deadline stays in force: what the work still writes while it ends passes the fence only until then.
            await _ended(working)
            await _ended(renewing)
        working.result()
        return True

    async def _acquire(self) -> None:
        while True:
            if await self._attempt(self._take):
                return
            await asyncio.sleep(self._pause())

    async def _renew(self) -> None:
        """Renew until that fails for too long or somebody else holds the Lease."""
        while self.is_leading:
            await asyncio.sleep(max(0.0, min(self._pause(), self._deadline - self._clock())))
            if self.is_leading:
                await self._attempt(self._extend)

    def _pause(self) -> float:
        return jittered(self._settings.lease_retry, RETRY_SPREAD, random.random())  # noqa: S311

    async def _attempt(self, step: Callable[[], Awaitable[bool]]) -> bool:
        """One try, over before the deadline and in time for another one. Network errors and refusals are no success."""
        limit = self._settings.lease_renew_deadline / 2
        if self.is_leading:
            limit = min(limit, self._deadline - self._clock())
        try:
            async with asyncio.timeout(limit):
                return await step()
        except (ApiError, Unreachable, TimeoutError) as error:
            log.warning("the Lease %s: %s", self._settings.lease_name, error or "no answer in time")
            return False

    async def _take(self) -> bool:
        """Take the Lease if it is free; True when this replica leads now."""
        started = self._clock()
        lease = await self._read()
        if lease is None:
            made = await self._hub.create(LEASES, self._lease(None), manager=MANAGER_HUB)
        elif self._is_free(lease):
            made = await self._hub.replace(LEASES, self._lease(lease), manager=MANAGER_HUB)
        else:
            return False
        self._holds(made, started)
        self.epoch = int(made["spec"]["leaseTransitions"])
        return True

    async def _extend(self) -> bool:
        """Renew the Lease we hold. Where it was changed by others, look whose it is."""
        assert self._seen is not None
        started = self._clock()
        lease = self._seen.lease
        spec = {**lease["spec"], "renewTime": _now()}
        try:
            self._holds(await self._hub.replace(LEASES, {**lease, "spec": spec}, manager=MANAGER_HUB), started)
        except ApiError as error:
            if not (error.is_conflict or error.is_not_found):
                raise
            found = await self._read()
            if found is None or not self._is_ours(found):
                self._deadline = float("-inf")
            return False
        return True

    async def _release(self) -> None:
        """Let the next one lead at once, if the Lease is still ours."""
        if not self.is_leading:
            return
        self._deadline = float("-inf")
        await self._attempt(self._give)

    async def _give(self) -> bool:
        """What was read last may be old: a renewal that was cut off may have been carried out all the same."""
        for _ in range(GIVE_ATTEMPTS):
            lease = await self._read()
            if lease is None or not self._is_ours(lease):
                return True
            spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
            try:
                await self._hub.replace(LEASES, {**lease, "spec": spec}, manager=MANAGER_HUB)
            except ApiError as error:
                if not error.is_conflict:
                    raise
            else:
                return True
        return False

    async def _read(self) -> Object | None:
        lease = await self._hub.get(LEASES, self._settings.lease_name, self._settings.own_namespace)
        if lease is None:
            self._seen = None
        elif self._seen is None or _version(self._seen.lease) != _version(lease):
            self._seen = Seen(lease, self._clock())
        return lease

    def _holds(self, lease: Object, since: float) -> None:
        """The API server has stored that we lead; the time counts from before the request was sent."""
        self._seen = Seen(lease, since)
        self._deadline = since + self._settings.lease_renew_deadline

    def _is_ours(self, lease: Object) -> bool:
        """Ours, and of this term: a Lease taken since then has another number."""
        spec = lease.get("spec") or {}
        return spec.get("holderIdentity") == self.identity and spec.get("leaseTransitions") == self.epoch

    def _is_free(self, lease: Object) -> bool:
        spec = lease.get("spec") or {}
        if not spec.get("holderIdentity"):
            return True
        assert self._seen is not None
        duration = spec.get("leaseDurationSeconds") or self._settings.lease_duration
        return self._clock() >= self._seen.at + float(duration)

    def _lease(self, before: Object | None) -> Object:
        """The Lease with us as the holder, in a new term."""
        named = {"name": self._settings.lease_name, "namespace": self._settings.own_namespace}
        base: dict[str, Any] = before or {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": named}
        annotations = {**(base["metadata"].get("annotations") or {}), ARTIFACTS_ANNOTATION: self._artifacts()}
        metadata = {**base["metadata"], "annotations": {k: v for k, v in annotations.items() if v is not None}}
        terms = int((base.get("spec") or {}).get("leaseTransitions") or 0)
        now = _now()
        spec = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self._settings.lease_seconds,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": terms + 1,
        }
        return {**base, "metadata": metadata, "spec": spec}


async def _ended(task: asyncio.Future[Any]) -> None:
    """Cancel and wait; how it ended is the caller's to read."""
    task.cancel()
    await asyncio.wait({task})


def _version(lease: Object) -> str:
    return str(lease["metadata"].get("resourceVersion", ""))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
