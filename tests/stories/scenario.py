"""One Application's life with the controller in a process of its own and fault proxies before hub and member.

A first commit, a second one that changes one object and removes another, then the Application's deletion. A picture
is taken at the end of each act; it leaves out what differs between any two runs, so that pictures can be compared.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import json
import re
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from fleet_rollout.decide.names import HUB_LABEL, OWNER_NAMESPACE_LABEL
from fleet_rollout.decide.sync import fingerprint
from fleet_rollout.lab.lab import LabCluster
from fleet_rollout.lab.repository import Repository
from fleet_rollout_api.cluster_sync import ClusterSync
from tests.faults.proxy import FaultProxy
from tests.faults.rules import Asked, Delay, Faults, Hold, Past
from tests.stories.oracles import MEMBER, check_who_wrote, is_carried_out, is_status, is_upon, status_of
from tests.stories.plain import application, changes, fleet, manifests
from tests.stories.replicas import Launcher, Replica

Object = dict[str, Any]
APPS = "/apis/apps.kurator.dev/v1alpha1"
FLEETS = "/apis/fleet.kurator.dev/v1alpha1"
CLUSTERS = "/apis/cluster.kurator.dev/v1alpha1"
GROUPS = {"fleets": FLEETS, "attachedclusters": CLUSTERS, "applications": APPS, "clustersyncs": APPS}
# How often these are written depends on timing, so that the later ones need not come in every run.
TIMED = ("hub patch applications/status", "hub patch attachedclusters/status")
DEADLINE = 90.0
STALE_FOR = 1.0  # so long a restarted controller acts on an old view before its watches bring it up to date
QUIET = 1.5
LOOK_AGAIN = 1.0
OVERTAKES = 3.0  # so long a new leader may take to write what the suspended one has on the wire
LEASE_RETRY = 1.0  # renewals of hundreds of controllers are work for the API server, too
TIMES = re.compile(r"(Time|Timestamp|At)$")
VOLATILE = frozenset({"uid", "resourceVersion", "managedFields", "epoch", "url", "size", "apps.kurator.dev/identity"})
GENERATIONS = frozenset({"generation", "observedGeneration"})


class Point(NamedTuple):
    """A write of the scenario, named so that it is found again in another run: its act, its key, which of that key."""

    act: int
    key: str
    nth: int


class Write(NamedTuple):
    """A write as it came: in which act, and what was asked."""

    act: int
    asked: Asked


@dataclass
class Run:
    """One run: its namespaces, its proxies' rules and log, and the process that works."""

    hub: LabCluster
    member: LabCluster
    namespace: str
    folder: Path
    launcher: Launcher
    make_repository: Callable[..., Awaitable[Repository]]
    faults: Faults = field(default_factory=Faults)
    commits: dict[str, str] = field(default_factory=dict)
    pictures: list[Object] = field(default_factory=list)
    restarts: int = 0
    act: int = 0
    starts: list[int] = field(default_factory=list)
    fingerprints: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    mode: str = "Flagger"  # whose the Canaries are; a scenario plays Flagger itself
    past: dict[str, str] = field(default_factory=dict)
    is_stale: bool = False
    late: str = ""  # the write that was on the wire when its sender was suspended
    retired: list[Replica] = field(default_factory=list)
    held: Hold | None = None
    is_overtaken: bool = False  # another leader had written the same object before it was let go

    @property
    def acts(self) -> list[Callable[[], Awaitable[None]]]:
        return [self.first_commit, self.second_commit, self.removal]

    @property
    def on_the_wire(self) -> Asked | None:
        """What the suspended leader had sent."""
        return self.held.asked if self.held is not None else None

    @property
    def apps(self) -> str:
        """The member's namespace, which comes from Git."""
        return f"{self.namespace}-apps"

    def path(self, plural: str, name: str = "") -> str:
        return "/".join(filter(None, (GROUPS.get(plural, "/api/v1"), "namespaces", self.namespace, plural, name)))

    # The process

    async def begin(self, hub: FaultProxy, member: FaultProxy) -> None:
        """The member is attached through its proxy, and a first controller works through the hub's."""
        self.folder.mkdir()
        self.kubeconfig = self.folder / "kubeconfig"
        self.kubeconfig.write_bytes(hub.kubeconfig(self.hub.kubeconfig.read_bytes()))
        kubeconfig = member.kubeconfig(self.member.kubeconfig.read_bytes())
        for plural, obj in fleet(self.namespace, kubeconfig, self.mode):
            await self.hub.api.apply(self.path(plural, obj["metadata"]["name"]), obj, manager="story")
        await self.start()

    async def start(self) -> None:
        self.replica = await self.launcher.fork(
            kubeconfig=self.kubeconfig,
            namespace=self.namespace,
            own_namespace=self.namespace,
            data_dir=self.folder / f"data{len(self.retired) or ''}",
            **{"lease_retry": LEASE_RETRY, **self.settings},
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with proxied(self):
            yield

    async def endure(self, wanted: list[Object]) -> None:
        """Play, with somebody who starts the controller again, or another beside it."""
        await guarded(self.play(wanted), self.revive())

    def kill(self) -> None:
        self.replica.kill()

    def kill_to_stale(self) -> None:
        """The next start sees how things were when the act began."""
        self.is_stale = True
        self.kill()

    def suspension(self) -> Hold:
        self.held = Hold(then=lambda: self.replica.signal(signal.SIGSTOP))
        return self.held

    async def revive(self) -> None:
        """Start the controller again whenever it has been killed; its Lease expires at once, to save the wait."""
        lease = f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases/fleet-rollout"
        if self.held is not None:
            await self._succeed(self.held)
        while True:
            await self.replica.ended()
            unknown = await self.unrecorded()
            assert not unknown, f"the hub does not know of {unknown} after the controller was killed"
            self.restarts += 1
            self.faults.epoch += 1
            if self.is_stale:
                look_back(self.faults, self.past)
                self.is_stale = False
            if await self.hub.api.find(lease):
                await self.hub.api.merge(lease, {"spec": {"holderIdentity": ""}})
            await self.start()

    async def _succeed(self, held: Hold) -> None:
        """Once the leader is suspended another takes over; then the first goes on, and what it had sent arrives."""
        while not held.arrived.is_set():
            await asyncio.sleep(0.05)
        assert held.asked is not None, "held, and by whom nobody knows"
        self.late = self.key(held.asked)
        self.retired.append(self.replica)
        self.faults.epoch += 1
        await self.start()
        while not await self.replica.leads():
            await asyncio.sleep(0.1)
        self.is_overtaken = await self._overtaken(held.asked)
        held.release()
        self.retired[-1].signal(signal.SIGCONT)

    async def _overtaken(self, asked: Asked) -> bool:
        """Whether the new leader writes what the suspended one has on the wire; it is given a moment for it."""
        ends = asyncio.get_running_loop().time() + OVERTAKES
        while asyncio.get_running_loop().time() < ends:
            if any(is_carried_out(each) and is_upon(each, asked) for each in self.faults.writes):
                return True
            await asyncio.sleep(0.1)
        return False

    async def end(self) -> None:
        """Stop, and leave nothing that holds a namespace."""
        if self.held is not None:
            self.held.release()
        for replica in (self.replica, *self.retired):
            await replica.close()
        for plural in ("applications", "clustersyncs"):
            for obj in await self.hub.api.items(self.path(plural)):
                if obj["metadata"].get("finalizers"):
                    await self.hub.api.merge(
                        self.path(plural, obj["metadata"]["name"]), {"metadata": {"finalizers": []}}
                    )
        await self.member.api.delete(f"/api/v1/namespaces/{self.apps}")

    # The three acts

    async def first_commit(self) -> None:
        self.repository = await self.make_repository(manifests(self.apps))
        self.commits[await self.repository.commit_of()] = "COMMIT-1"
        obj = application(self.namespace, self.repository.url)
        await self.hub.api.apply(self.path("applications", "web"), obj, manager="story")

    async def second_commit(self) -> None:
        self.before = versions(await self.live())
        self.commits[await self.repository.commit(changes(self.apps), message="Second")] = "COMMIT-2"
        asked = {"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "2"}}}
        await self.hub.api.merge(self.path("applications", "web"), asked)

    async def removal(self) -> None:
        after = versions(await self.live())
        for subject in ("ConfigMap/stays", "Deployment/web", "Namespace/NAMESPACE-apps"):
            assert after[subject] == self.before[subject], f"{subject} was written though nothing changed"
        await self.hub.api.delete(self.path("applications", "web"))

    async def play(self, wanted: list[Object] | None) -> None:
        """All acts, each until everything is as in `wanted`; without it, until it is done and quiet."""
        for number, act in enumerate(self.acts):
            self.act = number
            self.starts.append(len(self.faults.writes))
            for cluster in (self.hub, self.member):
                listed = await cluster.api.get("/api/v1/namespaces", limit="1")
                self.past["hub" if cluster is self.hub else MEMBER] = listed["metadata"]["resourceVersion"]
            await act()
            if wanted is None:
                await self._quiet()
            else:
                await self._as(wanted[number])
            self.pictures.append(await self.picture())

    async def _as(self, wanted: Object) -> None:
        try:
            async with asyncio.timeout(DEADLINE):
                while await self._is_writing() or not await self.is_done() or await self.picture() != wanted:
                    await self._next_write()
        except TimeoutError:
            lines = "\n".join(differences(wanted, await self.picture()))
            words = f"act {self.act} does not end as in the undisturbed run:\n{lines}\n{self.last_words()}"
            raise AssertionError(words) from None

    async def _is_writing(self) -> bool:
        """Whether anything was written just now: a picture costs six requests, and would be out of date at once."""
        count = len(self.faults.writes)
        await asyncio.sleep(0.3)
        return len(self.faults.writes) != count

    async def _next_write(self) -> None:
        """Until then a picture is hardly another; what others write, as a namespace that ends, is seen a bit later."""
        count, ends = len(self.faults.writes), asyncio.get_running_loop().time() + LOOK_AGAIN
        while len(self.faults.writes) == count and asyncio.get_running_loop().time() < ends:
            await asyncio.sleep(0.1)

    async def _quiet(self) -> None:
        """Done, and no write for a while."""
        seen, since = -1, asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(DEADLINE):
                while asyncio.get_running_loop().time() - since < QUIET:
                    await asyncio.sleep(0.1)
                    count = len(self.faults.writes)
                    if count != seen or not await self.is_done():
                        seen, since = count, asyncio.get_running_loop().time()
        except TimeoutError:
            raise AssertionError(f"act {self.act} of the undisturbed run does not end\n{self.last_words()}") from None

    async def is_done(self) -> bool:
        """Whether the present act has come to its end."""
        app = await self.hub.api.find(self.path("applications", "web"))
        if self.act == len(self.acts) - 1 or app is None:
            return app is None
        status = app.get("status") or {}
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))
        return ready and list(self.commits)[-1] in json.dumps(status["syncStatus"])

    # Looking

    async def live(self) -> list[Object]:
        """Everything on the member that says it is this run's."""
        found: list[Object] = []
        selector = f"{HUB_LABEL},{OWNER_NAMESPACE_LABEL}={self.namespace}"
        for kind, api, path in (
            ("Namespace", "v1", "/api/v1/namespaces"),
            ("ConfigMap", "v1", f"/api/v1/namespaces/{self.apps}/configmaps"),
            ("Deployment", "apps/v1", f"/apis/apps/v1/namespaces/{self.apps}/deployments"),
        ):
            items = await self.member.api.items(path, labelSelector=selector)
            found += [{"apiVersion": api, "kind": kind, **obj} for obj in items]
        return [obj for obj in found if "deletionTimestamp" not in obj["metadata"]]

    async def unrecorded(self) -> set[str]:
        """Ids of live objects that no ClusterSync has in its inventory."""
        live = {entry_id(obj) for obj in await self.live()}
        syncs = await self.hub.api.items(self.path("clustersyncs"))
        return live - {entry["id"] for sync in syncs for entry in inventory(sync)}

    async def picture(self) -> Object:
        """How everything is, without what differs between any two runs."""
        names = {self.namespace: "NAMESPACE"}
        specs = self.fingerprints  # a status may still name one of an earlier act
        hub = {}
        for plural in ("applications", "clustersyncs", "attachedclusters"):
            objects = await self.hub.api.items(self.path(plural))
            hub[plural] = [without(obj, VOLATILE | GENERATIONS) for obj in objects]
            for sync in map(ClusterSync.model_validate, objects if plural == "clustersyncs" else []):
                if sync.spec.artifact is not None:
                    names[sync.spec.artifact.digest] = f"digest of {sync.spec.artifact.revision}"
                    specs.setdefault(fingerprint(sync.spec), f"FINGERPRINT of act {self.act}")
        member = {entry_id(obj): self.portrait(obj) for obj in await self.live()}
        text = json.dumps({"hub": hub, "member": member}, sort_keys=True)
        for name, stands_for in (names | specs | self.commits).items():
            text = text.replace(name, stands_for)
        renamed: Object = json.loads(text)
        return renamed

    def portrait(self, obj: Object) -> Object:
        """An object of the member as it comes into the picture."""
        found: Object = without(obj, VOLATILE | {"status"})
        return found

    def points(self) -> list[Point]:
        """The writes so far."""
        counted: Counter[tuple[int, str]] = Counter()
        found = []
        for act, asked in self.writes():
            key = self.key(asked)
            counted[act, key] += 1
            found.append(Point(act, key, counted[act, key]))
        return found

    @staticmethod
    def group(point: Point) -> str:
        """What a point is merged by: act, cluster, verb and kind."""
        return f"act {point.act}: {' '.join(point.key.split()[:3])}"

    def is_write(self, point: Point) -> Callable[[Asked], bool]:
        return lambda asked: bool(asked.number) and self.act == point.act and self.key(asked) == point.key

    @staticmethod
    def nth(point: Point) -> int:
        return point.nth

    def is_timed(self, point: Point) -> bool:
        """Whether it may come or not. A namespace takes a while to end, and may have to be asked once more."""
        return point.key.startswith(TIMED) or (point.nth > 1 and " delete namespaces " in point.key)

    def writes(self) -> list[Write]:
        return [
            Write(max(bisect.bisect_right(self.starts, number) - 1, 0), asked)
            for number, asked in enumerate(self.faults.writes)
        ]

    def key(self, asked: Asked) -> str:
        """What a write is about, without the run's own names."""
        cluster, verb, resource, _, name, part = asked.key
        what = "/".join(filter(None, (resource.split(".")[0], part)))
        return f"{cluster} {verb} {what} {name}".replace(self.namespace, "NAMESPACE")

    def check(self) -> None:
        """What must hold of every run's log, whatever became of it."""
        check_who_wrote(self.faults.writes, self.on_the_wire, is_overtaken=self.is_overtaken)
        recorded: set[str] = set()
        written: Counter[str] = Counter()
        for asked in self.faults.writes:
            if is_status(asked) and is_carried_out(asked):
                recorded = {entry["id"] for entry in inventory({"status": status_of(asked)})}
            elif asked.key.cluster == MEMBER and asked.key.verb == "apply":
                assert entry_id(asked.body) in recorded, f"{asked.key}: before it was in the inventory"
            if asked.key.cluster == MEMBER and asked.status in (200, 201):
                written[self.key(asked)] += 1
        written[self.late] -= 1
        written["m1 delete namespaces NAMESPACE-apps"] = 1  # its end takes a while, and may be asked for again
        twice = {key: count for key, count in written.items() if count > (2 if key.endswith(" changes") else 1)}
        assert not twice or set(twice) == {"m1 delete configmaps changes"}, f"written more often than needed: {twice}"

    def last_words(self) -> str:
        """The ends of the controllers' logs."""
        return "\n".join("\n".join(log.read_text().splitlines()[-12:]) for log in sorted(self.folder.glob("*.log")))


@contextlib.asynccontextmanager
async def proxied(run: Run) -> AsyncIterator[None]:
    """The run's proxies stand and its first controller works; both end with the block."""
    hub = FaultProxy("hub", run.hub.server, run.hub.ca, run.faults)
    member = FaultProxy("m1", run.member.server, run.member.ca, run.faults)
    async with in_thread(hub), in_thread(member):
        await run.begin(hub, member)
        try:
            yield
        finally:
            await run.end()


@contextlib.asynccontextmanager
async def in_thread(proxy: FaultProxy) -> AsyncIterator[FaultProxy]:
    await asyncio.to_thread(proxy.__enter__)
    try:
        yield proxy
    finally:
        await asyncio.to_thread(proxy.__exit__, None, None, None)


async def guarded(work: Coroutine[Any, Any, None], watch: Coroutine[Any, Any, None]) -> None:
    """Do `work`; what `watch` raises meanwhile ends it."""
    tasks = [asyncio.create_task(work), asyncio.create_task(watch)]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in done:
        task.result()


def look_back(faults: Faults, past: Mapping[str, str], stale_for: float = STALE_FOR) -> None:
    """What starts now sees each cluster as at `past` for a moment from its first listing, and its watches say nothing.

    Leases are left out: who leads is decided by writes.
    """
    epoch, ends = faults.epoch, [float("inf")]

    def is_stale(cluster: str, *verbs: str) -> Callable[[Asked], bool]:
        def matches(asked: Asked) -> bool:
            key = asked.key
            if asked.epoch != epoch or key.cluster != cluster or key.verb not in verbs:
                return False
            if key.verb == "list":
                ends[0] = min(ends[0], time.monotonic() + stale_for)
            return not key.resource.startswith("leases") and time.monotonic() < ends[0]

        return matches

    for cluster, revision in past.items():
        faults.when(is_stale(cluster, "list", "get"), Past(revision), times=None)
        faults.when(is_stale(cluster, "watch"), Delay(stale_for), times=None)


def entry_id(obj: Object) -> str:
    """`<namespace>_<name>_<group>_<kind>`, as Flux writes it."""
    metadata = obj["metadata"]
    group = obj["apiVersion"].rpartition("/")[0]
    return "_".join((metadata.get("namespace", ""), metadata["name"], group, obj["kind"]))


def inventory(sync: Object) -> list[Object]:
    return ((sync.get("status") or {}).get("inventory") or {}).get("entries") or []


def versions(objects: list[Object]) -> dict[str, Any]:
    """By subject, what tells whether an object was written: of a ConfigMap anything, of the others their content."""
    found = {}
    for obj in objects:
        metadata = obj["metadata"]
        name = "NAMESPACE-apps" if obj["kind"] == "Namespace" else metadata["name"]
        mark = metadata["resourceVersion"] if obj["kind"] == "ConfigMap" else metadata.get("generation")
        found[f"{obj['kind']}/{name}"] = (metadata["uid"], mark)
    return found


def without(obj: Any, names: frozenset[str]) -> Any:
    """The object without these fields and without times; of managedFields, who of us owns anything."""
    if isinstance(obj, list):
        return [without(each, names) for each in obj]
    if not isinstance(obj, dict):
        return obj
    kept = {k: without(v, names) for k, v in obj.items() if k not in names and not TIMES.search(k)}
    if managers := obj.get("managedFields"):
        # Controllers of the member write when they like; ours own the same in every run.
        ours = [m for m in managers if m["manager"].startswith("fleet-rollout")]
        kept["managers"] = sorted(f"{m['manager']} {m['operation']} {m.get('subresource', '')}" for m in ours)
    kept.pop("deployment.kubernetes.io/revision", None)
    return kept


def differences(wanted: Any, found: Any, where: str = "") -> list[str]:
    """Where two pictures differ."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        keys = sorted(wanted.keys() | found.keys())
        return [line for key in keys for line in differences(wanted.get(key), found.get(key), f"{where}.{key}")]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        pairs = enumerate(zip(wanted, found, strict=True))
        return [line for number, (a, b) in pairs for line in differences(a, b, f"{where}[{number}]")]
    return [] if wanted == found else [f"{where}: wanted {wanted}, found {found}"]
