"""The life of an Application with a rollout, to be spoiled at any write; no engine works, the run does what one does.

A first commit brings workload and rollout, a second comes before the engine takes over, a third is judged; the rollout
is taken out of the policy while the workload stays, and the Application is deleted. The member is watched on the way.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import aiohttp
import yaml

from fleet_rollout.decide.canary.claim import MANAGER_CANARY
from fleet_rollout.decide.names import MANAGER_SCALE, MANAGER_SYNC
from fleet_rollout.decide.traffic_names import ENGINE_ANNOTATIONS
from fleet_rollout.lab.api import ApiAnswer
from tests.faults.proxy import FaultProxy
from tests.faults.rules import Asked
from tests.stories import rollouts
from tests.stories.oracles import MEMBER, check_who_wrote, is_status, status_of
from tests.stories.plain import application
from tests.stories.rollouts import APPS, FLAGGER, NETWORKING, Place
from tests.stories.scenario import TIMED, Object, Point, Run, entry_id, inventory, without

REPLICAS = 2
BUSY = 429
PROGRESS = " Ready=Progressing "
COPY = "podinfo-primary"
LIFE = ("first_commit", "second_commit", "initialise", "third_commit", "promote", "release", "removal")
HANDING_OVER = {"second_commit", "third_commit"}
SHORT_LIFE = ("first_commit", "release", "removal")
EDITED_LIFE = ("first_commit", "edit", "release", "removal")
KINDS = {
    ("v1", "ConfigMap"): "/api/v1",
    ("v1", "Service"): "/api/v1",
    ("apps/v1", "Deployment"): APPS,
    ("flagger.app/v1beta1", "Canary"): FLAGGER,
    ("flagger.app/v1beta1", "MetricTemplate"): FLAGGER,
    ("networking.k8s.io/v1", "Ingress"): NETWORKING,
}
PLURALS = {"MetricTemplate": "metrictemplates", "Ingress": "ingresses", "Canary": "canaries"}
WATCHED = ("Service", "Deployment", "Canary")
# What the member's API server and controllers write, and the conditions that only an engine reads.
OTHERS_SAY = frozenset({"status", "clusterIP", "clusterIPs"})
# They stay when the rollout goes.
UNRECORDED = ("namespaces", "customresourcedefinitions.apiextensions.k8s.io")
INGRESS = "_nginx_networking.k8s.io_Ingress"


class Seen(NamedTuple):
    """A version of an object in the member."""

    version: int
    is_gone: bool
    obj: Object


@dataclass
class RolloutRun(Run):
    """One run of it; `provider` routes the traffic."""

    provider: str = "istio"
    life: Sequence[str] = LIFE
    failures: int = 2  # checks that may fail
    seen: list[Seen] = field(default_factory=list)
    most: Counter[str] | None = None  # how often the undisturbed run wrote what

    @property
    def acts(self) -> list[Callable[[], Awaitable[None]]]:
        return [getattr(self, act) for act in self.life]

    @property
    def members(self) -> dict[str, Any]:
        """For `Place`."""
        return {MEMBER: self.member}

    @property
    def place(self) -> Place:
        return Place(self, MEMBER, self.apps)

    async def begin(self, hub: FaultProxy, member: FaultProxy) -> None:
        if self.provider == "nginx":  # it needs nothing of the namespace, so that nobody makes it
            await self.member.api.create("/api/v1/namespaces", {"metadata": {"name": self.apps}})
        listening = [asyncio.Event() for _ in WATCHED]
        pairs = zip(WATCHED, listening, strict=True)
        self._watches = [asyncio.create_task(self._watch(kind, ready)) for kind, ready in pairs]
        for ready in listening:
            await ready.wait()
        await super().begin(hub, member)

    async def end(self) -> None:
        for watch in self._watches:
            watch.cancel()
        await asyncio.wait(self._watches)
        await super().end()

    async def _watch(self, kind: str, ready: asyncio.Event) -> None:
        """Note every version of the objects of one kind, which may still have to be defined.

        A watch ends when its kind is defined anew, as other tests may do.
        """
        path = self._path(next(known for known in KINDS if known[1] == kind))
        while True:
            while not (found := await self._listed(path)):
                ready.set()
                await asyncio.sleep(0.05)
            self._see_all(kind, found)
            with contextlib.suppress(ApiAnswer, aiohttp.ClientError):
                await self._follow(kind, path, found["metadata"]["resourceVersion"], ready)

    async def _follow(self, kind: str, path: str, version: str, ready: asyncio.Event) -> None:
        async with contextlib.aclosing(self.member.api.watch(path, version)) as events:
            ready.set()
            async for event in events:
                if event["type"] == "ERROR":
                    return
                if event["type"] != "BOOKMARK":
                    self._see(kind, event["object"], is_gone=event["type"] == "DELETED")

    def _see_all(self, kind: str, listed: Object) -> None:
        """The objects there are, and those that went while nobody watched."""
        there = {obj["metadata"]["name"] for obj in listed["items"]}
        for name in {name for known, name in self._names() if known == kind} - there:
            last = self._of(kind, name)[-1]
            if not last.is_gone:
                self.seen.append(Seen(int(listed["metadata"]["resourceVersion"]), True, last.obj))
        for obj in listed["items"]:
            self._see(kind, obj)

    def _see(self, kind: str, obj: Object, *, is_gone: bool = False) -> None:
        self.seen.append(Seen(int(obj["metadata"]["resourceVersion"]), is_gone, {**obj, "kind": kind}))

    def _path(self, kind: tuple[str, str], name: str = "") -> str:
        plural = PLURALS.get(kind[1], f"{kind[1].lower()}s")
        return "/".join(filter(None, (KINDS[kind], "namespaces", self.apps, plural, name)))

    # The acts

    async def first_commit(self) -> None:
        self.repository = await self.make_repository(rollouts.files(replicas=REPLICAS))
        self.commits[await self.repository.commit_of()] = "COMMIT-1"
        await self._apply(with_rollout=True)

    async def second_commit(self) -> None:
        """The replicas, which nobody has scaled so far, are handed over."""
        await self._commit("2")

    async def third_commit(self) -> None:
        await self._commit("3")

    async def _commit(self, tag: str) -> None:
        content = {"deployment.yaml": rollouts.deployment("podinfo", tag=tag, replicas=REPLICAS)}
        self.commits[await self.repository.commit(content, message=f"Image {tag}")] = f"COMMIT-{tag}"
        asked = {"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": tag}}}
        await self.hub.api.merge(self.path("applications", "web"), asked)

    async def edit(self) -> None:
        """Of the policy, the rollout alone."""
        self.failures = 3
        await self._apply(with_rollout=True)

    async def initialise(self) -> None:
        """What an engine does first: a copy of the workload takes the traffic, the workload is scaled to zero."""
        canary = await self.place.canary()
        assert canary is not None
        copy = yaml.safe_load(rollouts.deployment(COPY, replicas=REPLICAS))
        owner = {"apiVersion": canary["apiVersion"], "kind": "Canary", "name": "podinfo", "controller": True}
        copy["metadata"]["ownerReferences"] = [owner | {"uid": canary["metadata"]["uid"]}]
        await self.member.api.create(self._path(("apps/v1", "Deployment")), copy)
        taken = {"metadata": {"annotations": dict(ENGINE_ANNOTATIONS)}, "spec": {"selector": {"app": COPY}}}
        await self.member.api.merge(self._path(("v1", "Service"), "podinfo"), taken)
        await self.member.api.merge(self._path(("apps/v1", "Deployment"), "podinfo"), {"spec": {"replicas": 0}})
        await self.place.judge("Initialized", "first")

    async def promote(self) -> None:
        await self.place.judge("Succeeded", "second")

    async def release(self) -> None:
        await self._apply(with_rollout=False)

    async def removal(self) -> None:
        await self.hub.api.delete(self.path("applications", "web"))

    async def _apply(self, *, with_rollout: bool) -> None:
        obj = application(self.namespace, self.repository.url)
        obj["spec"]["syncPolicies"] = [rollouts.policy(self.place, self._rollout() if with_rollout else None)]
        await self.hub.api.apply(self.path("applications", "web"), obj, manager="story")

    def _rollout(self) -> Object:
        return rollouts.rollout(
            self.place,
            analysis={
                "checkFailedTimes": self.failures,
                "metrics": [rollouts.metric("request-success-rate"), rollouts.custom_metric("err")],
            },
            routing={"host": "web.example.com"} if self.provider == "nginx" else {},
            testLoader=True,
            trafficRoutingProvider=self.provider,
        )

    async def is_done(self) -> bool:
        act = self.acts[self.act]
        if act in (self.first_commit, self.second_commit, self.third_commit):  # the engine has not said a word
            return await self._is_waiting()
        if act == self.edit:
            canary = await self.place.canary()
            is_edited = canary is not None and canary["spec"]["analysis"]["threshold"] == self.failures
            return is_edited and await self._is_waiting()
        is_gone = await self.place.canary() is None and await self.place.deployment(COPY) is None
        return await super().is_done() and is_gone == (act in (self.release, self.removal))

    async def _is_waiting(self) -> bool:
        """The commit is applied, and the rollout is as wanted."""
        syncs = await self.hub.api.items(self.path("clustersyncs"))
        commit = list(self.commits)[-1]
        for status in (sync.get("status") or {} for sync in syncs):
            states = {c["type"]: c["status"] for c in status.get("conditions", [])}
            return states.get("RolloutReady") == "True" and status.get("lastAppliedRevision", "").endswith(commit)
        return False

    # Looking

    async def live(self) -> list[Object]:
        """Everything in the member's namespace that a ClusterSync has brought; the Ingress has no owner's labels."""
        found = []
        for kind in KINDS:
            listed = await self._listed(self._path(kind))
            found += [{"apiVersion": kind[0], "kind": kind[1], **obj} for obj in listed.get("items", [])]
        return [obj for obj in found if is_brought(obj) and "deletionTimestamp" not in obj["metadata"]]

    async def _listed(self, path: str) -> Object:
        """Empty where the kind is not defined yet, or just now: the API server then asks for patience."""
        try:
            return await self.member.api.find(path) or {}
        except ApiAnswer as answer:
            if answer.status != BUSY:
                raise
            return {}

    async def unrecorded(self) -> set[str]:
        live = {entry_id(obj) for obj in await self.live()}
        syncs = await self.hub.api.items(self.path("clustersyncs"))
        return live - {name for sync in syncs for name in recorded(sync.get("status") or {}, self.apps)}

    def portrait(self, obj: Object) -> Object:
        """A pass that begins anew finds a workload, and hands its replicas over as the next commit does."""
        found: Object = without(super().portrait(obj), OTHERS_SAY)
        if obj["kind"] == "Deployment" and not HANDING_OVER & set(self.life[: self.act + 1]):
            found["metadata"]["managers"] = [
                each for each in found["metadata"]["managers"] if MANAGER_SCALE not in each
            ]
        return found

    def key(self, asked: Asked) -> str:
        """With what the write says: after a crash the number of writes before it may be another."""
        said: list[str] = []
        if is_status(asked):
            said = summary(status_of(asked))
        elif asked.key.cluster == MEMBER:
            said = [asked.query.get("fieldManager", "")]
        return " ".join([super().key(asked), *said])

    def points(self) -> list[Point]:
        """What tests of plain syncs spoil is left out."""
        return [point for point in super().points() if not point.key.startswith(TIMED)]

    def is_timed(self, point: Point) -> bool:
        """Progress is told where Pods are not ready yet; after a crash they may be by then."""
        return super().is_timed(point) or PROGRESS in point.key or self._is_handed_over_earlier(point)

    def _is_handed_over_earlier(self, point: Point) -> bool:
        """After a crash in an earlier act the next pass found the workload there, and did it at once."""
        earlier = (self.key(write.asked) for write in self.writes() if write.act < point.act)
        return point.key.endswith(MANAGER_SCALE) and point.key in earlier

    # What must hold

    def check(self) -> None:
        check_who_wrote(self.faults.writes, self.on_the_wire, is_overtaken=self.is_overtaken)
        self._check_writes()
        self._check_condition()
        self._check_workload()
        canary = next(seen for seen in self._of("Canary", "podinfo") if seen.is_gone)
        self._check_led_back(canary.version)
        for kind, name in {(seen.obj["kind"], seen.obj["metadata"]["name"]) for seen in self.seen}:
            uids = {seen.obj["metadata"]["uid"] for seen in self._of(kind, name)}
            assert len(uids) == 1, f"{kind}/{name} was made {len(uids)} times"
        testers = {name for kind, name in self._names() if kind == "Deployment" and "loader" in name}
        assert testers == {"podinfo-testloader"}, f"testers: {testers}"

    def _names(self) -> set[tuple[str, str]]:
        return {(seen.obj["kind"], seen.obj["metadata"]["name"]) for seen in self.seen}

    def _of(self, kind: str, name: str) -> list[Seen]:
        found = [seen for seen in self.seen if (seen.obj["kind"], seen.obj["metadata"]["name"]) == (kind, name)]
        return sorted(found, key=lambda seen: seen.version)

    def _check_writes(self) -> None:
        """Recorded before brought, and nothing written more often than undisturbed."""
        known: set[str] = set()
        written: Counter[str] = Counter()
        for asked in self.faults.writes:
            verb, cluster = asked.key.verb, asked.key.cluster
            if is_status(asked) and asked.status == 200:
                known = recorded(status_of(asked), self.apps)
            if cluster == MEMBER and verb in ("apply", "create") and not is_unrecorded(asked):
                assert entry_id(asked.body) in known, f"{asked.key}: before it was on record"
            if cluster == MEMBER and asked.status in (200, 201) and not is_engines(asked):
                written[self.key(asked)] += 1
        if self.most is None:
            self.most = written
        allowed = self.most + Counter({f"{MEMBER} apply deployments podinfo {MANAGER_SYNC}": 1})  # see `portrait`
        allowed |= Counter({f"{MEMBER} apply deployments podinfo {MANAGER_SCALE}": 1})
        allowed[self.late] += 1
        assert written <= allowed, f"written more often than needed: {written - allowed}"

    def _check_condition(self) -> None:
        """That a controller was killed is no failure of the rollout; that an answer was lost may be told as one."""
        carried_out = [asked for asked in self.faults.writes if is_status(asked) and asked.status == 200]
        told = [ready for asked in carried_out for ready in rollout_ready(status_of(asked))]
        later = told[told.index("Translated") :]
        assert not self.restarts or set(later) == {"Translated"}, f"RolloutReady says {later}"

    def _check_workload(self) -> None:
        """Its replicas always have an owner, and are zero only while the Service leads elsewhere."""
        allowed = {REPLICAS, 0}
        for seen in self._of("Deployment", "podinfo"):
            entries = seen.obj["metadata"]["managedFields"]
            owners = {each["manager"] for each in entries if "f:replicas" in each["fieldsV1"].get("f:spec", {})}
            assert owners, f"replicas have no owner at {seen.version}"
            replicas = seen.obj["spec"]["replicas"]
            assert replicas in allowed, f"{replicas} replicas at {seen.version}"
            assert replicas or self._selected_at(seen.version) == COPY, "scaled to zero under traffic"

    def _selected_at(self, version: int) -> str:
        services = [seen for seen in self._of("Service", "podinfo") if seen.version <= version]
        return str(services[-1].obj["spec"]["selector"]["app"])

    def _check_led_back(self, version: int) -> None:
        """When the Canary goes, the workload is at work again and the Service leads to it."""
        workload = [seen for seen in self._of("Deployment", "podinfo") if seen.version < version][-1].obj
        ready = (workload["spec"]["replicas"], workload["status"].get("availableReplicas"))
        assert ready == (REPLICAS, REPLICAS), f"the Canary goes while the workload has {ready}"
        service = [seen for seen in self._of("Service", "podinfo") if seen.version < version][-1].obj
        assert service["spec"]["selector"] == {"app": "podinfo"}, "the Canary goes while it carries the traffic"
        assert not ENGINE_ANNOTATIONS.keys() & (service["metadata"].get("annotations") or {}).keys()


def is_brought(obj: Object) -> bool:
    """Whether we have brought it; an engine's copy and the API server's own ConfigMap are not ours."""
    metadata = obj["metadata"]
    is_the_engines = bool(metadata.get("ownerReferences"))
    return not is_the_engines and metadata["name"] != "kube-root-ca.crt"


def is_engines(asked: Asked) -> bool:
    """How often our engine writes depends on its ticks; what it makes, its Canary owns."""
    return asked.query.get("fieldManager") == MANAGER_CANARY


def is_unrecorded(asked: Asked) -> bool:
    return asked.key.resource in UNRECORDED or is_engines(asked)


def recorded(status: Object, namespace: str) -> set[str]:
    """Ids of what the status of a ClusterSync says is in the member."""
    record = status.get("rollout") or {}
    entries = [*inventory({"status": status}), *record.get("objects", [])]
    rules = {namespace + INGRESS} if record.get("host") else set()
    return {entry["id"] for entry in entries} | rules


def rollout_ready(status: Object) -> list[str]:
    return [c["reason"] for c in status.get("conditions", []) if c["type"] == "RolloutReady"]


def summary(status: Object) -> list[str]:
    """What tells one status of a ClusterSync from the next."""
    record = status.get("rollout") or {}
    # An answer that was lost shows in RolloutReady until the rollout is carried out, or gone.
    conditions = [f"{c['type']}={c['reason']}" for c in status.get("conditions", []) if c["type"] != "RolloutReady"]
    # While the Canary goes, its last status may be mirrored once more.
    phase = "removing" if record.get("removing") else (record.get("canaryStatus") or {}).get("phase", "")
    counts = [str(len(inventory({"status": status}))), str(len(record.get("objects", [])))]
    return [*conditions, *counts, phase]
