"""The whole service in one process: what is made, what runs always, what runs while leading, and how it ends.

Every replica serves artifacts and the receiver; the leader alone decides and writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp

from fleet_rollout import measures
from fleet_rollout.control import policies
from fleet_rollout.control.applications import ApplicationReconciler
from fleet_rollout.control.artifacts import ArtifactReconciler
from fleet_rollout.control.canaries import Canaries
from fleet_rollout.control.connecting import connect
from fleet_rollout.control.engine.engines import Engines
from fleet_rollout.control.hub import HubEvents, Sockets
from fleet_rollout.control.hub_writes import HubWrites
from fleet_rollout.control.loop import Key, Loop
from fleet_rollout.control.members import MemberReconciler
from fleet_rollout.control.objects import Objects
from fleet_rollout.control.queue import Queue
from fleet_rollout.control.receiving import Receiving
from fleet_rollout.control.removals import Removals
from fleet_rollout.control.rollouts import Rollouts
from fleet_rollout.control.standby import Standby
from fleet_rollout.control.stopping import until_stopped
from fleet_rollout.control.store import Store
from fleet_rollout.control.syncs import SyncReconciler
from fleet_rollout.control.targets import Targets
from fleet_rollout.control.triggers import Triggers
from fleet_rollout.control.world import APPLICATIONS, ATTACHED_CLUSTERS, CLUSTER_SYNCS, CLUSTERS, FLEETS, Queues, World
from fleet_rollout.errors import Terminal
from fleet_rollout.kube.client import Cluster, Connection, Resource
from fleet_rollout.kube.errors import ApiError, NoSuchKind, Unreachable
from fleet_rollout.kube.lease import Leadership
from fleet_rollout.kube.member import Members
from fleet_rollout.kube.watch import watch_forever
from fleet_rollout.notify.events import Recorder
from fleet_rollout.processes import confinement_gaps
from fleet_rollout.render.kustomize import Renderer
from fleet_rollout.settings import Settings
from fleet_rollout.sources import Sources

log = logging.getLogger(__name__)

WATCHED_BY_KOPF = (APPLICATIONS, FLEETS, ATTACHED_CLUSTERS, CLUSTERS)
RELIST = 300.0
STUCK = 1800.0
MEMBER_WORKERS = 32
LANES = 8  # members that hang at the same time before the others find no worker
APPLICATION_WORKERS = 8
NAMESPACES = Resource("", "v1", "Namespace", "namespaces", False)


@dataclass
class Health:
    """What /healthz and /readyz answer from."""

    is_reading: bool = False
    is_leading: bool = False
    store: Store | None = None
    queues: Queues | None = None
    leadership: Leadership | None = None
    receiver_url: str = ""

    def complaint(self) -> str | None:
        """Why this process should be restarted; None while it works."""
        if not self.is_leading or self.queues is None:
            return None
        overdue = max(queue.overdue() for queue in vars(self.queues).values())
        return f"a key has waited for {overdue:.0f}s" if overdue > STUCK else None


async def run(
    settings: Settings,
    *,
    ready: asyncio.Event | None = None,
    health: Health | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve until `stop` is set or this is cancelled. `ready` is set when this replica leads and has read the hub.

    At `stop` nothing new is begun and what is under way is finished, as far as the shutdown time-out allows; cancelled,
    everything is cut at once. Either way the Lease is given back.
    """
    service = Service(settings, health or Health(), ready or asyncio.Event(), stop or asyncio.Event())
    await service.run()


class Service:
    """One replica."""

    def __init__(self, settings: Settings, health: Health, ready: asyncio.Event, stop: asyncio.Event) -> None:
        self._settings = settings
        self._health = health
        self._ready = ready
        self._stop = stop
        self._connection = connect(settings)
        self._sources = Sources(settings)
        self._renderer = Renderer(settings, folder=self._sources.store.scratch_folder)

    async def run(self) -> None:
        settings = self._settings
        for gap in await asyncio.to_thread(confinement_gaps):
            log.warning("builds are less confined than they could be: %s", gap)
        lease_hub = Cluster(self._connection, settings)
        leadership = Leadership(lease_hub, settings, artifacts=lambda: self._sources.address)
        receiving = Receiving(lease_hub, settings)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(lease_hub.close)
            stack.callback(self._renderer.close)
            stack.push_async_callback(self._sources.close)
            await self._sources.start(Standby(lease_hub, leadership, settings))
            await stack.enter_async_context(receiving.serve())
            self._health.receiver_url = receiving.url
            self._health.leadership = leadership  # ready: a Service may lead here from now on
            leading = leadership.run(lambda: self._lead(leadership))
            await until_stopped(leading, self._stop, lambda: self._health.is_leading, settings)

    async def _lead(self, leadership: Leadership) -> None:
        """What only the leader does; cancelled when leadership ends. A hub that fails for a while is asked again."""
        while True:
            try:
                await self._lead_once(leadership)
            except (ApiError, Unreachable) as error:
                log.warning("the hub: %s; trying again", error)
            except ExceptionGroup as errors:
                of_hub, others = errors.split((ApiError, Unreachable))
                if others is not None:
                    raise others from None
                log.warning("the hub: %s; trying again", of_hub.exceptions[0] if of_hub else errors)
            else:
                return
            await asyncio.sleep(self._settings.retry_min)

    async def _lead_once(self, leadership: Leadership) -> None:
        async with self._world(leadership) as world:
            self._health.store, self._health.queues = world.store, world.queues
            writes = HubWrites(world.hub, world.store)
            targets = Targets(world)
            artifacts = ArtifactReconciler(world)
            objects = Objects(world, targets, artifacts)
            engines = Engines(world)
            canaries = Canaries(world, engines)
            rollouts = Rollouts(world, targets, Removals(world, targets, objects), engines, canaries)
            applications = ApplicationReconciler(world, writes, artifacts)
            loops = (
                Loop(artifacts, world.queues.sources, self._settings, workers=self._settings.source_workers),
                Loop(applications, world.queues.applications, self._settings, workers=APPLICATION_WORKERS),
                Loop(
                    SyncReconciler(world, writes, targets, objects, rollouts),
                    world.queues.syncs,
                    self._settings,
                    workers=self._settings.workers,
                ),
                Loop(
                    MemberReconciler(world, writes, canaries),
                    world.queues.members,
                    self._settings,
                    workers=MEMBER_WORKERS,
                ),
            )
            Triggers(world, applications.rest).listen()
            await self._work(world, loops, artifacts, engines)

    async def _work(
        self, world: World, loops: tuple[Loop, ...], artifacts: ArtifactReconciler, engines: Engines
    ) -> None:
        served = await self._read(world)
        self._health.is_reading = self._health.is_leading = True
        log.info("leading", extra={"epoch": world.epoch()})
        self._ready.set()
        try:
            async with asyncio.TaskGroup() as group:
                watching = [
                    group.create_task(self._watch_users(world, served)),
                    group.create_task(self._watch_syncs(world)),
                    group.create_task(self._relist(world, served)),
                    group.create_task(self._look_at_policies(world)),
                    group.create_task(world.recorder.run()),
                    group.create_task(artifacts.collect()),
                    group.create_task(engines.run()),
                ]
                working = [group.create_task(loop.run()) for loop in loops]
                await self._stop.wait()
                await asyncio.gather(self._finished(world.queues, working), engines.finish())
                for task in watching:
                    task.cancel()
        finally:
            self._health.is_leading = False

    @staticmethod
    async def _finished(queues: Queues, working: list[asyncio.Task[None]]) -> None:
        """Begin nothing new, and wait for what has been begun. Fetches are cut: they write nothing, and may hang."""
        fetching, *writing = working
        for queue in vars(queues).values():
            queue.close()
        fetching.cancel()
        await asyncio.wait(writing)

    @contextlib.asynccontextmanager
    async def _world(self, leadership: Leadership) -> AsyncIterator[World]:
        settings = self._settings
        clock = asyncio.get_running_loop().time
        hub = Cluster(self._connection, settings, fence=leadership.check)
        members = Members(settings, fence=leadership.check, host=self._connection)
        store = Store()
        syncs = Queue[Key](clock, partial(member_of, store), max(1, settings.workers // LANES))
        queues = Queues(Queue[Key](clock), Queue[Key](clock), syncs, Queue[Key](clock))
        observe(queues)
        try:
            yield World(
                settings=settings,
                hub=hub,
                hub_uid=await self._hub_uid(hub),
                members=members,
                store=store,
                queues=queues,
                sources=self._sources,
                renderer=self._renderer,
                recorder=Recorder(event_poster(hub)),
                epoch=lambda: leadership.epoch,
                clock=clock,
            )
        finally:
            await members.close()
            await hub.close()

    @staticmethod
    async def _hub_uid(hub: Cluster) -> str:
        system = await hub.get(NAMESPACES, "kube-system")
        if system is None:
            raise Terminal("HubRefused", "the hub has no namespace kube-system; its UID identifies the hub on members")
        return str(system["metadata"]["uid"])

    async def _read(self, world: World) -> frozenset[str]:
        """Read everything once before the first decision: a plan made from half a picture would prune."""
        served = set()
        for resource in (*WATCHED_BY_KOPF, CLUSTER_SYNCS):
            try:
                await world.hub.resource_for(resource.api_version, resource.kind)
            except NoSuchKind:
                if resource is not CLUSTERS:
                    raise Terminal("CRDMissing", f"the hub does not serve {resource.kind}; apply config/crd") from None
                continue
            served.add(resource.plural)
        for resource in (CLUSTER_SYNCS, FLEETS, ATTACHED_CLUSTERS, CLUSTERS, APPLICATIONS):
            if resource.plural in served:
                await self._list(world, resource)
        return frozenset(served)

    async def _list(self, world: World, resource: Resource) -> None:
        objects, version = await world.hub.list(resource, self._settings.namespace)
        world.store.replace_all(resource.plural, objects, version)

    async def _relist(self, world: World, served: frozenset[str]) -> None:
        """A missed event costs at most this long: kopf does not report what vanished while its watch was down."""
        while True:
            await asyncio.sleep(RELIST)
            for resource in WATCHED_BY_KOPF:
                if resource.plural in served:
                    await self._list_again(world, resource)

    async def _look_at_policies(self, world: World) -> None:
        """An install for one namespace has none: there RBAC says who writes ClusterSyncs."""
        while self._settings.namespace is None:
            await policies.look(world.hub)
            await asyncio.sleep(RELIST)

    async def _list_again(self, world: World, resource: Resource) -> None:
        try:
            await self._list(world, resource)
        except (ApiError, Unreachable) as error:
            log.warning("%s could not be listed: %s", resource.plural, error)

    async def _watch_users(self, world: World, served: frozenset[str]) -> None:
        def seen(plural: str, type_: str | None, obj: dict[str, Any]) -> None:
            if type_ == "DELETED":
                world.store.remove(plural, obj)
            else:
                world.store.put(plural, obj)

        events = HubEvents(
            self._connection.server,
            lambda sockets: open_session(self._connection, sockets),
            seen,
            namespace=self._settings.namespace,
            watch_timeout=self._settings.watch_timeout,
            served=served,
        )
        await events.run()

    async def _watch_syncs(self, world: World) -> None:
        """ClusterSyncs are ours and many: our own watch costs a tenth of kopf's."""

        def seen(event: Any) -> None:
            if event.type == "DELETED":
                world.store.remove(CLUSTER_SYNCS.plural, event.obj)
            elif event.type in ("ADDED", "MODIFIED"):
                world.store.put(CLUSTER_SYNCS.plural, event.obj)

        await watch_forever(
            world.hub, CLUSTER_SYNCS, namespace=self._settings.namespace, settings=self._settings, on_event=seen
        )


def member_of(store: Store, key: Key) -> tuple[str, str, str] | None:
    """Namespace, kind and name of the cluster that a ClusterSync writes to; None where it is not known."""
    obj = store.get(CLUSTER_SYNCS.plural, key)
    cluster = ((obj or {}).get("spec") or {}).get("cluster")
    if not isinstance(cluster, dict):
        return None
    return key.namespace, str(cluster.get("kind")), str(cluster.get("name"))


def observe(queues: Queues) -> None:
    """Show depth and oldest key of every queue: a stuck key is seen there first."""
    for name, queue in vars(queues).items():
        measures.QUEUE_DEPTH.labels(queue=name).set_function(queue.__len__)
        measures.OLDEST_KEY_AGE.labels(queue=name).set_function(queue.overdue)


def open_session(connection: Connection, sockets: Sockets) -> aiohttp.ClientSession:
    """A session of the caller's loop, with the credentials of this moment."""
    connector = aiohttp.TCPConnector(ssl=connection.ssl or True, socket_factory=sockets.make)
    return aiohttp.ClientSession(connector=connector, headers=dict(connection.headers), trust_env=False)


def event_poster(hub: Cluster) -> Any:
    """How the recorder sends an event."""
    events = Resource("", "v1", "Event", "events", True)

    async def post(event: dict[str, Any]) -> None:
        await hub.create(events, event, manager="fleet-rollout-hub")

    return post
