"""The canary engine of one cluster as a process of its own: in a Pod of that cluster, or anywhere with its kubeconfig.

It is the hub's engine, with flags in the place of a Fleet, and goes on while the hub is away. One of several replicas
leads, by a Lease in the cluster itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from fleet_rollout import measures
from fleet_rollout.control.engine.dialing import DirectDial
from fleet_rollout.control.engine.engine import Engine
from fleet_rollout.control.engine.outside import Default, Outside
from fleet_rollout.control.engine.sight import Sight
from fleet_rollout.control.engine.splits import SplitAdapter
from fleet_rollout.control.engine.tick import CANARIES
from fleet_rollout.control.stopping import until_stopped
from fleet_rollout.decide.canary.addresses import Reach, read_reach
from fleet_rollout.decide.canary.alerts import Destination, Unsendable, destination
from fleet_rollout.decide.canary.effects import Severity
from fleet_rollout.decide.canary.subject import EngineOptions
from fleet_rollout.errors import Terminal
from fleet_rollout.kube.access import connection_from_file, in_cluster
from fleet_rollout.kube.client import Cluster, Event, Resource
from fleet_rollout.kube.errors import ApiError, NoSuchKind, Unreachable
from fleet_rollout.kube.lease import Leadership
from fleet_rollout.kube.watch import Pulse, watch_forever
from fleet_rollout.metrics.bulkheads import Bulkheads
from fleet_rollout.settings import Settings

log = logging.getLogger(__name__)

# How messages and metrics name the cluster where nobody has given it a name.
NAMELESS = "cluster"
NAMESPACES = Resource("", "v1", "Namespace", "namespaces", False)
# How often the CRD of Canaries is asked for where it is missing, in seconds.
CRD_PAUSE = 15.0
# A watch is opened anew when it is silent; one that hears nothing for so long is beyond that.
STUCK = 1800.0


@dataclass(frozen=True)
class Alerting:
    """Who is told about Canaries that name nobody. `secret` is a folder with `address`, and `token` where needed."""

    type: str
    secret: Path | None = None
    address: str = field(default="", repr=False)
    channel: str = ""
    username: str = ""
    proxy: str = ""
    severity: Severity = "info"

    def default(self) -> Default:
        """The folder is read at every delivery, for the Secret may be edited."""

        async def find() -> Destination:
            written = {"type": self.type, "channel": self.channel, "username": self.username, "proxy": self.proxy}
            if self.secret is None:
                return destination({**written, "address": self.address})
            content = await asyncio.to_thread(_files, self.secret)
            return destination({**written, "secretRef": {"name": str(self.secret)}}, content)

        return Default(find, self.severity)


def _files(folder: Path) -> dict[str, bytes]:
    """What a mounted Secret holds; its folder has links beside the keys."""
    try:
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    except OSError as error:
        raise Unsendable(f"folder {folder} of the alerts' Secret cannot be read: {error.strerror}") from None


@dataclass(frozen=True)
class AgentOptions:
    """What a Fleet says to the hub's engine."""

    engine: EngineOptions
    adopts_plain: bool = False
    smi_adapter: bool = False
    alerting: Alerting | None = None


@dataclass
class AgentHealth:
    """What /healthz and /readyz answer from."""

    leadership: Leadership | None = None
    pulse: Pulse | None = None

    def complaint(self) -> str | None:
        """Why this process should be restarted; None while it works."""
        if self.pulse is None or self.pulse.age < STUCK:
            return None
        return f"the watch of Canaries has heard nothing for {self.pulse.age:.0f}s"


async def run(
    settings: Settings,
    options: AgentOptions,
    *,
    health: AgentHealth | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Drive the cluster's Canaries until `stop` is set or this is cancelled; either way the Lease is given back."""
    await Agent(settings, options, health or AgentHealth(), stop or asyncio.Event()).run()


class Agent:
    """One replica."""

    def __init__(self, settings: Settings, options: AgentOptions, health: AgentHealth, stop: asyncio.Event) -> None:
        self._settings = settings
        self._options = options
        self._health = health
        self._stop = stop
        name = options.engine.cluster_name or NAMELESS
        kubeconfig = settings.kubeconfig
        self._connection = connection_from_file(kubeconfig, name) if kubeconfig else in_cluster(name)
        self._reach = _reach(settings, options.engine)

    async def run(self) -> None:
        cluster = Cluster(self._connection, self._settings)
        self._health.leadership = leadership = Leadership(cluster, self._settings)
        try:
            if self._settings.kubeconfig is not None:
                await self._make_room(cluster)
            leading = leadership.run(lambda: self._lead(leadership))
            await until_stopped(leading, self._stop, lambda: self._is_working, self._settings)
        finally:
            await cluster.close()

    @property
    def _is_working(self) -> bool:
        return self._health.pulse is not None

    async def _make_room(self, cluster: Cluster) -> None:
        """The Lease's namespace. In a Pod it is there; from a person's machine the cluster may hold nothing of ours."""
        name = self._settings.own_namespace
        try:
            if await cluster.get(NAMESPACES, name) is None:
                await cluster.create(NAMESPACES, _namespace(name), manager="fleet-rollout-agent")
        except (ApiError, Unreachable) as error:
            log.warning("namespace %s of the Lease: %s", name, error)

    async def _lead(self, leadership: Leadership) -> None:
        async with self._engine(leadership) as (cluster, engine, outside, adapter):
            await self._until_served(cluster)
            pulse = Pulse()
            try:
                async with asyncio.TaskGroup() as group:
                    telling = group.create_task(outside.run())
                    following = [
                        group.create_task(adapter.run()),
                        group.create_task(
                            watch_forever(
                                cluster,
                                CANARIES,
                                namespace=self._settings.namespace,
                                settings=self._settings,
                                on_event=_unharmed(engine.told),
                                age=pulse,
                            )
                        ),
                    ]
                    self._health.pulse = pulse
                    log.info("leading", extra={"epoch": leadership.epoch})
                    await self._stop.wait()
                    for task in following:
                        task.cancel()
                    await engine.finish()
                    await outside.finish()
                    telling.cancel()
            finally:
                self._health.pulse = None

    @contextlib.asynccontextmanager
    async def _engine(self, leadership: Leadership) -> AsyncIterator[tuple[Cluster, Engine, Outside, SplitAdapter]]:
        settings, options = self._settings, self._options
        cluster = Cluster(self._connection, settings, fence=leadership.check)
        bulkheads = Bulkheads()
        direct = DirectDial(self._reach, bulkheads)
        sight = Sight(cluster, settings)
        default = options.alerting.default() if options.alerting else None
        outside = Outside(
            cluster,
            sight,
            dial=lambda _: direct,
            bulkheads=bulkheads,
            alert_reach=self._reach,
            reach=lambda: self._reach,
            default=lambda: default,
        )
        engine = Engine("agent", cluster, sight, outside, lambda: options.engine, lambda: options.adopts_plain)
        adapter = SplitAdapter(cluster, sight, settings, lambda: options.smi_adapter, outside.record)
        measures.show_engine(options.engine.cluster_name, options.engine.mesh_provider)
        try:
            yield cluster, engine, outside, adapter
        finally:
            measures.forget_engine(options.engine.cluster_name)
            await engine.close()
            await direct.close()
            bulkheads.close()
            await cluster.close()

    async def _until_served(self, cluster: Cluster) -> None:
        """Without the CRDs there is nothing to do; they may come later."""
        while True:
            try:
                await cluster.resource_for(CANARIES.api_version, CANARIES.kind)
            except NoSuchKind:
                log.warning("the cluster does not serve Canaries; apply config/crd/member")
            except (ApiError, Unreachable) as error:
                log.warning("the cluster: %s; trying again", error)
            else:
                return
            await asyncio.sleep(CRD_PAUSE)


def _unharmed(told: Callable[[Event], None]) -> Callable[[Event], None]:
    """The callback of a watch; what ends that ends the process, at every start again."""

    def tell(event: Event) -> None:
        try:
            told(event)
        except Exception:  # one object's trouble must not end the watch of all others
            log.exception("an event of the Canaries")

    return tell


def _reach(settings: Settings, options: EngineOptions) -> Reach:
    """The engine's own metrics server is allowed by being named."""
    try:
        return read_reach([*settings.allowed_addresses, options.metrics_server], own_ranges=settings.own_ranges)
    except ValueError as error:
        raise Terminal("InvalidSettings", str(error)) from error


def _namespace(name: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
