"""What every reconciler is given: the hub, the members, the rooms, the queues and the clock.

Made once by `run`; holds no rule and no state of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fleet_rollout.control.engine.steady import SteadyTime
from fleet_rollout.control.loop import Key
from fleet_rollout.control.queue import Queue
from fleet_rollout.control.store import Store
from fleet_rollout.kube.client import Cluster, Resource
from fleet_rollout.kube.member import Members
from fleet_rollout.kube.rehearsals import Rehearsals
from fleet_rollout.notify.events import Recorder
from fleet_rollout.render.kustomize import Renderer
from fleet_rollout.settings import Settings
from fleet_rollout.sources import Sources

APPLICATIONS = Resource("apps.kurator.dev", "v1alpha1", "Application", "applications", True)
CLUSTER_SYNCS = Resource("apps.kurator.dev", "v1alpha1", "ClusterSync", "clustersyncs", True)
FLEETS = Resource("fleet.kurator.dev", "v1alpha1", "Fleet", "fleets", True)
ATTACHED_CLUSTERS = Resource("cluster.kurator.dev", "v1alpha1", "AttachedCluster", "attachedclusters", True)
CLUSTERS = Resource("cluster.kurator.dev", "v1alpha1", "Cluster", "clusters", True)
SECRETS = Resource("", "v1", "Secret", "secrets", True)
CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", True)


@dataclass(frozen=True)
class Queues:
    """One queue a kind of work."""

    sources: Queue[Key]
    applications: Queue[Key]
    syncs: Queue[Key]
    members: Queue[Key]


@dataclass(frozen=True)
class World:
    """`hub_uid` is the UID of the hub's kube-system namespace; `now` the wall clock, in UTC."""

    settings: Settings
    hub: Cluster
    hub_uid: str
    members: Members
    store: Store
    queues: Queues
    sources: Sources
    renderer: Renderer
    recorder: Recorder
    epoch: Callable[[], int]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    clock: Callable[[], float] = time.monotonic
    rehearsals: Rehearsals = field(default_factory=Rehearsals)
    steady: SteadyTime = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "steady", SteadyTime(self.now, self.clock))

    def deadline_now(self, limit: float) -> datetime:
        """The time for whoever waits for `limit` seconds since a stored time: no step of the clock ends that early."""
        return self.steady.now(limit)
