"""Two more lives to be spoiled at any write: a rollout that the hub's own engine runs, and a member lost and back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fleet_rollout.decide.canary.claim import MANAGER_CANARY
from tests.faults.proxy import FaultProxy
from tests.faults.rules import CutBefore, Rule
from tests.stories import rollouts
from tests.stories.oracles import MEMBER, check_weights
from tests.stories.rollout_run import COPY, RolloutRun
from tests.stories.scenario import Object, Point, Run

MOST_WEIGHT = 50
MIRROR = "hub patch clustersyncs/status"


@dataclass
class HubRun(RolloutRun):
    """A first commit that the engine takes over, a second one that it promotes, then the removal of all of it."""

    life: Sequence[str] = ("first_commit", "third_commit", "release", "removal")
    mode: str = "Hub"

    def _rollout(self) -> Object:
        return rollouts.rollout(
            self.place,
            analysis={"checkIntervalSeconds": 1, "metrics": []},
            routing={"hosts": ["web.example.com"], "canaryStrategy": {"stepWeight": 50, "maxWeight": MOST_WEIGHT}},
            testLoader=True,
        )

    async def is_done(self) -> bool:
        if self.life[self.act] in ("release", "removal"):
            return await super().is_done()
        canary = await self.place.canary() or {}
        phase = "Initialized" if self.act == 0 else "Succeeded"
        return (canary.get("status") or {}).get("phase") == phase and await Run.is_done(self)

    def is_timed(self, point: Point) -> bool:
        """A tick that was missed is not made up for, and of phases that pass quickly not each is mirrored."""
        is_engines = point.key.endswith(MANAGER_CANARY)
        return super().is_timed(point) or is_engines or point.key.startswith(MIRROR)

    def check(self) -> None:
        super().check()
        for asked in self.faults.writes:
            if asked.key.resource.startswith("virtualservices") and asked.key.verb != "delete":
                check_weights(asked.body, "podinfo-canary", MOST_WEIGHT)
        self._check_primary()

    def _check_primary(self) -> None:
        """As long as the Service leads to it, it is there and ready."""
        copies = self._of("Deployment", COPY)
        for service in self._of("Service", "podinfo"):
            if service.is_gone or service.obj["spec"]["selector"]["app"] != COPY:
                continue
            copy = [seen for seen in copies if seen.version <= service.version][-1]
            assert not copy.is_gone, "the Service leads to a primary that is gone"
            assert copy.obj["status"].get("availableReplicas"), "the Service leads to a primary that is not ready"
        assert all(seen.obj["spec"]["replicas"] for seen in copies), "the primary is scaled to zero"


@dataclass
class LostRun(Run):
    """The second commit comes while the member cannot be reached, and is caught up with when it is back."""

    settings: dict[str, Any] = field(default_factory=lambda: {"member-breaker-min": 0.3, "member-breaker-max": 1.0})
    cut: Rule | None = None

    @property
    def acts(self) -> list[Callable[[], Awaitable[None]]]:
        return [self.first_commit, self.lose, self.return_, self.removal]

    async def begin(self, hub: FaultProxy, member: FaultProxy) -> None:
        self._way = member
        await super().begin(hub, member)

    async def lose(self) -> None:
        self.cut = self.faults.when(lambda asked: asked.key.cluster == MEMBER, CutBefore(), times=None)
        self._way.cut_all()
        await self.second_commit()

    async def return_(self) -> None:
        assert self.cut is not None
        self.cut.times = 0

    async def is_done(self) -> bool:
        """It is said of the member, too, that it is away, or back."""
        if self.act == 1:
            return await self._is_told()
        is_back = self.act == 0 or await self._ready("attachedclusters", MEMBER) == "True"
        return is_back and await super().is_done()

    async def _is_told(self) -> bool:
        """The member's own condition says that it is away, and the row of the Application names it."""
        return (
            await self._ready("attachedclusters", MEMBER) == "False"
            and await self._ready("applications", "web") != "True"
        )

    async def _ready(self, plural: str, name: str) -> str | None:
        status = (await self.hub.api.get(self.path(plural, name))).get("status") or {}
        return next((each["status"] for each in status.get("conditions", ()) if each["type"] == "Ready"), None)

    async def picture(self) -> Object:
        """While it is away, what is said of it depends on which request was cut."""
        return {"away": await self._is_told()} if self.act == 1 else await super().picture()

    def is_timed(self, point: Point) -> bool:
        """So does how often anything is said, then and when it is back."""
        return super().is_timed(point) or point.act == 1 or (point.act == 2 and point.key.startswith(MIRROR))
