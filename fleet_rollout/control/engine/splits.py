"""Turns the TrafficSplits of one member into VirtualServices, as SMI's adapter for Istio did; on by a setting."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from fleet_rollout.control.engine.hands import Hands
from fleet_rollout.control.engine.sight import Sight
from fleet_rollout.decide.canary.effects import Emit
from fleet_rollout.decide.canary.objects import Object, Ref, StepFailed
from fleet_rollout.errors import FleetRolloutError
from fleet_rollout.kube.client import Cluster, Event, Resource
from fleet_rollout.kube.errors import ApiError, NoSuchKind, Unreachable
from fleet_rollout.kube.watch import watch_forever
from fleet_rollout.settings import Settings
from fleet_rollout.traffic.smi import GROUP, KIND
from fleet_rollout.traffic.smi_adapter import virtual_service, virtual_service_ref

log = logging.getLogger(__name__)

VERSIONS = ("v1alpha1", "v1alpha2", "v1alpha3")
# How often it is asked whether there is something to do at all, and what did not work is tried again; in seconds.
PAUSE = 10.0

Tell = Callable[[Object, Emit], None]


class SplitAdapter:
    """`is_wanted` is asked again and again, for a Fleet may be edited."""

    def __init__(
        self, cluster: Cluster, sight: Sight, settings: Settings, is_wanted: Callable[[], bool], tell: Tell
    ) -> None:
        self._cluster = cluster
        self._sight = sight
        self._settings = settings
        self._is_wanted = is_wanted
        self._tell = tell
        self._splits: dict[tuple[str, str], Object] = {}
        self._due: set[tuple[str, str]] = set()
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Follow every TrafficSplit while that is wanted, until cancelled."""
        while True:
            resource = await self._resource() if self._is_wanted() else None
            if resource is None:
                await asyncio.sleep(PAUSE)
                continue
            watching = asyncio.create_task(
                watch_forever(self._cluster, resource, settings=self._settings, on_event=self._told)
            )
            try:
                while self._is_wanted():
                    await self._work()
            finally:
                watching.cancel()
                await asyncio.wait([watching])

    async def _resource(self) -> Resource | None:
        """TrafficSplits in the first version that is served."""
        for version in VERSIONS:
            try:
                return await self._cluster.resource_for(f"{GROUP}/{version}", KIND)
            except NoSuchKind:
                continue
            except (ApiError, Unreachable, FleetRolloutError) as error:
                log.debug("TrafficSplits of %s: %s", self._cluster.name, error)
        return None

    def _told(self, event: Event) -> None:
        if event.type in ("SYNCED", "BOOKMARK"):
            return
        key = (event.obj["metadata"]["namespace"], event.obj["metadata"]["name"])
        if event.type == "DELETED":
            self._splits.pop(key, None)
            return
        self._splits[key] = event.obj
        self._due.add(key)
        self._news.set()

    async def _work(self) -> None:
        """Everything that is due; or a look at what failed, after a pause."""
        try:
            async with asyncio.timeout(PAUSE):
                await self._news.wait()
        except TimeoutError:
            pass
        self._news.clear()
        for key in list(self._due):
            split = self._splits.get(key)
            if split is None or await self._follow(split):
                self._due.discard(key)

    async def _follow(self, split: Object) -> bool:
        """Whether its VirtualService says what it says."""
        ref = virtual_service_ref(split)
        try:
            live: dict[Ref, Object | None] = {ref: await self._sight.reread(ref)}
            await Hands(self._cluster, self._sight, live).carry_out(lambda known: virtual_service(split, known))
        except (StepFailed, ApiError, Unreachable, FleetRolloutError) as error:
            self._tell(split, Emit("Warning", error.message))
            return False
        return True
