"""The hub's engines: one for each member that holds Canaries of ours, fed by the watch that mirrors their status.

A member's kubeconfig may change and its Fleet may be edited: the engine is made anew, or asks again, and goes on where
the Canaries' status says.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass, replace

from fleet_rollout import measures
from fleet_rollout.control.engine.defaults import default_notifier
from fleet_rollout.control.engine.dialing import DirectDial
from fleet_rollout.control.engine.engine import CanaryKey, Engine
from fleet_rollout.control.engine.outside import Default, Outside
from fleet_rollout.control.engine.sight import Sight
from fleet_rollout.control.engine.splits import SplitAdapter
from fleet_rollout.control.governors import Governors
from fleet_rollout.control.world import World
from fleet_rollout.decide.canary.addresses import Reach, read_reach
from fleet_rollout.decide.canary.claim import is_ours, is_under_way
from fleet_rollout.decide.canary.subject import EngineOptions
from fleet_rollout.decide.engines import engine_of, options_of, settings_of
from fleet_rollout.errors import FleetRolloutError
from fleet_rollout.kube.client import Event
from fleet_rollout.kube.member import HOST_KIND, Member
from fleet_rollout.metrics.bulkheads import Bulkheads
from fleet_rollout_api.cluster_sync import ClusterReference
from fleet_rollout_api.fleet import Fleet, RolloutEngine

log = logging.getLogger(__name__)

Scope = tuple[str, ClusterReference]
ADDRESS_INVALID = "AddressInvalid"
ALLOWABLE = "write a namespace, service.namespace, an address, a range or a host"


@dataclass(frozen=True)
class _Said:
    """What the Fleet of one member says of its engine, or had said before it went."""

    fleet: Fleet | None
    settings: RolloutEngine
    options: EngineOptions
    reach: Reach


@dataclass
class _Site:
    """The engine of one member, and the member it was made for."""

    member: Member
    engine: Engine
    outside: Outside
    tasks: list[asyncio.Task[None]]

    async def finish(self) -> None:
        """Let ticks under way end, and what they have to tell be sent."""
        await self.engine.finish()
        await self.outside.finish()


class Engines:
    """All engines of this process. `told` from the watch of Canaries; `run` until leadership ends."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._governors = Governors(world.store)
        self._bulkheads = Bulkheads()
        self._sites: dict[Scope, _Site] = {}
        # As long as the Fleet stays what it is: every tick asks.
        self._said: dict[Scope, _Said] = {}
        self._reaches: dict[tuple[str, str], tuple[Fleet | None, Reach]] = {}
        self._direct: dict[Reach, DirectDial] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._complaints: set[tuple[object, ...]] = set()

    def told(self, scope: Scope, event: Event) -> None:
        """The watch of a member's Canaries says something. What is under way is finished, whatever the Fleet says."""
        is_wanted = engine_of(self._of(scope).fleet) == "Hub"
        site = self._site(scope) if is_wanted or _is_left_to_us(event) else self._sites.get(scope)
        if site is None:
            return
        site.engine.told(event)
        if not is_wanted and not site.engine.namespaces:
            self._drop(scope)

    def problem(self, scope: Scope, namespace: str, name: str) -> str | None:
        """Why a Canary of ours is not driven."""
        site = self._sites.get(scope)
        return site.engine.problem(CanaryKey(namespace, name)) if site is not None else None

    def adopts_plain(self, scope: Scope) -> bool:
        """Whether the Fleet of a member wants Canaries driven that no Application has brought."""
        fleet = self._governors.of(*scope)
        return engine_of(fleet) == "Hub" and settings_of(fleet).plain_canaries == "Adopt"

    def is_finishing(self, scope: Scope) -> bool:
        """Whether a plain Canary of a member is under way."""
        site = self._sites.get(scope)
        return site is not None and site.engine.is_finishing

    def let_go(self, scope: Scope, watched: Collection[str] | None = None) -> None:
        """Drive no longer what the Fleet leaves to others now, nor what is outside of the namespaces watched.

        What is under way is finished, as long as it is watched.
        """
        site = self._sites.get(scope)
        if site is None:
            return
        site.engine.let_go(watched)
        if not site.engine.namespaces and engine_of(self._of(scope).fleet) != "Hub":
            self._drop(scope)

    def leave(self, scope: Scope) -> None:
        """Nobody looks at the Canaries of this member any more."""
        if scope in self._sites:
            self._sites[scope].engine.forget()
        self._drop(scope)
        self._said.pop(scope, None)

    async def finish(self) -> None:
        """Begin no tick any more, and wait for those under way."""
        await asyncio.gather(*(site.finish() for site in self._sites.values()))

    async def run(self) -> None:
        """Hold the engines until cancelled; then end them all."""
        try:
            await asyncio.Event().wait()
        finally:
            for scope in list(self._sites):
                self._drop(scope)
            await asyncio.gather(*self._ending, return_exceptions=True)
            for dial in self._direct.values():
                await dial.close()
            self._bulkheads.close()

    def _site(self, scope: Scope) -> _Site | None:
        namespace, cluster = scope
        try:
            member = self._world.members.ready(cluster.kind, cluster.name, namespace)
        except FleetRolloutError:
            return self._sites.get(scope)
        site = self._sites.get(scope)
        if site is None or site.member is not member:
            self._drop(scope)
            site = self._sites[scope] = self._made(scope, member)
        options = self._of(scope).options
        measures.show_engine(options.cluster_name, options.mesh_provider)
        return site

    def _made(self, scope: Scope, member: Member) -> _Site:
        settings = self._world.settings
        cluster = member.cluster
        sight = Sight(cluster, settings)
        outside = Outside(
            cluster,
            sight,
            dial=self._dial_of,
            bulkheads=self._bulkheads,
            alert_reach=self._hub_reach(),
            reach=lambda: self._of(scope).reach,
            default=lambda: self._default(scope),
        )
        engine = Engine(
            "hub", cluster, sight, outside, lambda: self._of(scope).options, lambda: self.adopts_plain(scope)
        )
        adapter = SplitAdapter(cluster, sight, settings, lambda: self._of(scope).settings.smi_adapter, outside.record)
        tasks = [asyncio.create_task(outside.run()), asyncio.create_task(adapter.run())]
        return _Site(member, engine, outside, tasks)

    def _drop(self, scope: Scope) -> None:
        site = self._sites.pop(scope, None)
        if site is None:
            return
        for task in site.tasks:
            task.cancel()
        measures.forget_engine(self._of(scope).options.cluster_name)
        ending = asyncio.create_task(site.engine.close())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    # What Fleets say

    def _of(self, scope: Scope) -> _Said:
        """What was said last stays while no Fleet names the member: one may be made anew during an analysis."""
        fleet, said = self._governors.of(*scope), self._said.get(scope)
        if said is None or (said.fleet is not fleet and fleet is not None):
            said = self._said[scope] = self._read(fleet, scope[1])
        return said

    def _read(self, fleet: Fleet | None, cluster: ClusterReference) -> _Said:
        own = self._world.settings
        options = options_of(
            fleet,
            cluster.name,
            shortest_interval=own.shortest_interval,
            cross_namespace_refs=own.cross_namespace_refs,
            lends_identity=own.lend_cloud_identity,
        )
        # The hub itself is in no Fleet: there the defaults are what is meant.
        options = replace(options, are_known=fleet is not None or cluster.kind == HOST_KIND)
        settings = settings_of(fleet)
        whose = (fleet.metadata.namespace, fleet.metadata.name) if fleet is not None else ("", "")
        known, reach = self._reaches.get(whose, (None, None))
        if reach is None or known is not fleet:
            reach = self._reach(fleet, options, settings)
            self._reaches[whose] = (fleet, reach)
        return _Said(fleet, settings, options, reach)

    def _reach(self, fleet: Fleet | None, options: EngineOptions, settings: RolloutEngine) -> Reach:
        """The engine's own metrics server is allowed by being named. What cannot be read allows nothing."""
        own = self._world.settings
        readable = list(own.allowed_addresses)
        for entry in (*(settings.allowed_addresses or ()), options.metrics_server):
            try:
                read_reach([entry])
            except ValueError as error:
                self._complain(fleet, str(error))
            else:
                readable.append(entry)
        return read_reach(readable, own_ranges=own.own_ranges)

    def _complain(self, fleet: Fleet | None, problem: str) -> None:
        """Once for each version of a Fleet: the CRD's pattern lets little through that cannot be read."""
        log.debug("%s", problem)
        if fleet is None or (said := (fleet.metadata.uid, fleet.metadata.generation, problem)) in self._complaints:
            return
        self._complaints.add(said)
        names = ("name", "namespace", "uid", "resourceVersion")
        metadata = {name: value for name, value in fleet.metadata.dump().items() if name in names}
        obj = {"apiVersion": fleet.api_version, "kind": fleet.kind, "metadata": metadata}
        self._world.recorder.warning(obj, ADDRESS_INVALID, f"spec.rolloutEngine: {problem}; {ALLOWABLE}")

    def _hub_reach(self) -> Reach:
        own = self._world.settings
        return read_reach(own.allowed_addresses, own_ranges=own.own_ranges)

    def _dial_of(self, reach: Reach) -> DirectDial:
        """Connections are kept for those who may dial the same."""
        if reach not in self._direct:
            self._direct[reach] = DirectDial(reach, self._bulkheads)
        return self._direct[reach]

    def _default(self, scope: Scope) -> Default | None:
        said = self._of(scope)
        if said.fleet is None or said.settings.alerts is None:
            return None
        return default_notifier(self._world.hub, said.fleet.metadata.namespace, said.settings.alerts)


def _is_left_to_us(event: Event) -> bool:
    """Whether it is about a Canary that names us, in the middle of a rollout."""
    if event.type not in ("ADDED", "MODIFIED"):
        return False
    return is_ours(event.obj, "hub", adopts_plain=False) and is_under_way(event.obj.get("status") or {})
