"""The rollout of one ClusterSync: the translation carried out in its member, the Canary's status mirrored back.

A problem of a rollout shows in the condition RolloutReady; it holds up neither the objects nor other policies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fleet_rollout.control.attributions import read_canary
from fleet_rollout.control.canaries import Canaries, Place
from fleet_rollout.control.draft import Draft
from fleet_rollout.control.engine.engines import Engines
from fleet_rollout.control.governors import Governors
from fleet_rollout.control.ingresses import INGRESSES, write_ingress
from fleet_rollout.control.loop import Key
from fleet_rollout.control.member_crds import MemberCrds
from fleet_rollout.control.removals import Removals
from fleet_rollout.control.targets import Targets
from fleet_rollout.control.world import World
from fleet_rollout.decide import conditions as conds
from fleet_rollout.decide.canary.claim import engine_named, is_kept, is_under_way
from fleet_rollout.decide.intervals import backoff
from fleet_rollout.decide.inventory import Ref, union
from fleet_rollout.decide.names import MANAGER_ROLLOUT
from fleet_rollout.decide.placement import FLEET_NOT_FOUND
from fleet_rollout.decide.problems import Problem
from fleet_rollout.decide.rollout_phase import is_news, observed
from fleet_rollout.decide.traffic_names import INGRESS
from fleet_rollout.decide.translate import (
    TEST_LOADER_MISSING,
    Live,
    Translation,
    Wanted,
    ingress_rule,
    is_replaced,
    objects_to_remove,
    translate,
    uses_public_tester,
)
from fleet_rollout.decide.translate_tester import LoadTester, container_resources
from fleet_rollout.errors import FleetRolloutError, Transient, Waiting
from fleet_rollout.kube.apply import Applier
from fleet_rollout.kube.client import Cluster, Resource
from fleet_rollout.kube.errors import kube_errors
from fleet_rollout.kube.member import HOST_KIND
from fleet_rollout.kube.prune import Pruner
from fleet_rollout.kube.settled import Settled
from fleet_rollout.settings import Settings
from fleet_rollout_api.cluster_sync import ClusterSync, InventoryEntry, RolloutRecord
from fleet_rollout_api.fleet import Fleet

ROLLOUT_READY = "RolloutReady"
HAND_OVER_POLL = 1.0
FLEET_POLL = 30.0
NAMESPACES = Resource("", "v1", "Namespace", "namespaces", False)
SERVICES = Resource("", "v1", "Service", "services", True)
SCALERS = Resource("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", True)


class Rollouts:
    """Works on the draft; writes it before the first write of the translation."""

    def __init__(
        self, world: World, targets: Targets, removals: Removals, engines: Engines, canaries: Canaries
    ) -> None:
        self._world = world
        self._governors = Governors(world.store)
        self._targets = targets
        self._engines = engines
        self._canaries = canaries
        self._crds = MemberCrds(world.clock)
        self._removals = removals
        self._failures: dict[Key, int] = {}
        self._settled: dict[Key, Settled] = {}

    def forget(self, key: Key) -> None:
        self._canaries.forget(key)
        self._settled.pop(key, None)
        self._failures.pop(key, None)

    def observe(self, draft: Draft) -> None:
        """Follow the Canary, and mirror what its watch shows."""
        place = place_of(draft.sync)
        if place is None:
            self.forget(draft.key)
            return
        self._canaries.follow(draft.key, place)
        self._show_rival(draft)
        canary, record = self._canaries.canary(draft.key), draft.status.rollout
        if canary is not None and record is not None and is_news(record.canary_status, canary["status"]):
            draft.change(rollout=observed(record, canary["status"]))

    def _show_rival(self, draft: Draft) -> None:
        """Another engine at work on the Canary is told here; ours has stopped."""
        is_told = self._rival(draft) is not None or _is_contested(draft)
        if is_told and draft.sync.spec.rollout is not None:
            self._succeed(draft)

    def _rival(self, draft: Draft) -> str | None:
        place = place_of(draft.sync)
        return self._engines.problem(place.scope, place.namespace, place.name) if place is not None else None

    def wanted(self, sync: ClusterSync) -> Wanted | None:
        """What is to be translated, with what fleet and settings add."""
        if sync.spec.rollout is None:
            return None
        return Wanted(
            policy=sync.spec.policy,
            rollout=sync.spec.rollout,
            cluster=sync.spec.cluster.name,
            engine=sync.spec.engine,
            public_tester=uses_public_tester(self._fleet(sync)),
            tester=load_tester(self._world.settings),
            only_namespace="" if self._world.settings.cross_namespace_refs else sync.metadata.namespace,
        )

    def _fleet(self, sync: ClusterSync) -> Fleet | None:
        """The Fleet that names this cluster; the oldest where several do."""
        return self._governors.of(sync.metadata.namespace, sync.spec.cluster)

    def _await_fleet(self, sync: ClusterSync, problem: Problem) -> None:
        """Raise Waiting where it is the Fleet that is missing: nobody else says whether there is a load tester."""
        cluster = sync.spec.cluster
        if problem.reason == TEST_LOADER_MISSING and cluster.kind != HOST_KIND and self._fleet(sync) is None:
            message = f"no Fleet names {cluster.kind}/{cluster.name}, or says whether it has a load tester"
            raise Waiting(FLEET_NOT_FOUND, message, retry_after=FLEET_POLL)

    async def prepare(self, draft: Draft) -> None:
        """Before the objects are applied: the namespace takes part in the mesh before any Pod starts in it."""
        wanted = self.wanted(draft.sync)
        if wanted is None or not wanted.namespace:
            return
        cluster = self._targets.cluster(draft.sync)
        with kube_errors("ReconciliationFailed", f"Namespace/{wanted.namespace}"):
            namespace = await cluster.get(NAMESPACES, wanted.namespace)
            await self._prepare(draft, cluster, namespace, translate(wanted, Live(namespace=namespace)).namespace)

    @staticmethod
    async def _prepare(
        draft: Draft, cluster: Cluster, live: Mapping[str, Any] | None, prepared: dict[str, Any] | None
    ) -> None:
        if prepared is None or _says(live, prepared):
            draft.prepared = live
        else:
            draft.require_current()
            await cluster.apply(NAMESPACES, prepared, manager=MANAGER_ROLLOUT)

    async def bring(self, draft: Draft, *, applied: bool) -> float | None:
        """Translate and write where there is a reason to; seconds until the next look, None where there is none."""
        wanted, record = self.wanted(draft.sync), draft.status.rollout
        if wanted is None and record is None:
            draft.change(conditions=conds.remove(draft.status.conditions, ROLLOUT_READY))
            return None
        is_ready = conds.is_true(draft.status.conditions, ROLLOUT_READY) or _is_contested(draft)
        is_settled = is_ready and not (_is_behind(draft) or self._is_cut_off(draft.sync) or self._changes_hands(draft))
        if not applied and is_settled and record is not None and not is_replaced(record, wanted):
            return None
        try:
            again = await self._bring(draft, wanted, record)
        except FleetRolloutError as error:
            if error.reason in ("Conflict", "Superseded"):
                raise
            if isinstance(error, Waiting):
                return self._waits(draft, error)
            return self._failed(draft, error.reason, error.message, error)
        self._failures.pop(draft.key, None)
        return again

    def _is_cut_off(self, sync: ClusterSync) -> bool:
        """Whether an analysis is under way in a member that does not answer: a look at it shall tell."""
        reference = sync.spec.cluster
        status = (sync.status.rollout.canary_status if sync.status.rollout is not None else None) or {}
        if not is_under_way(status) and status.get("phase") != "Initializing":
            return False
        return self._world.members.state(reference.kind, reference.name, sync.metadata.namespace) == "unreachable"

    def _changes_hands(self, draft: Draft) -> bool:
        """Whether the Canary is to name another engine, and may."""
        canary = self._canaries.canary(draft.key)
        if canary is None or canary["engine"] == draft.sync.spec.engine:
            return False
        return draft.sync.spec.engine != "flagger" or not is_kept(canary["engine"], canary["status"])

    @staticmethod
    async def _in_right_hands(draft: Draft, cluster: Cluster, wanted: Wanted) -> Wanted:
        """Flagger gets the Canary when a rollout of ours has come to its end."""
        if wanted.engine != "flagger":
            return wanted
        # At this moment: our engine may have begun while the objects were applied.
        live = await read_canary(draft, cluster, wanted.namespace, wanted.rollout.workload.name)
        engine = engine_named(live) if live is not None else None
        if live is None or not is_kept(engine, live.get("status") or {}):
            return wanted
        return replace(wanted, engine="agent" if engine == "agent" else "hub")

    async def _bring(self, draft: Draft, wanted: Wanted | None, record: RolloutRecord | None) -> float | None:
        cluster = self._targets.cluster(draft.sync)
        is_moved = record is not None and is_replaced(record, wanted)
        if record is not None and is_moved:
            again = await self._remove(draft, cluster, record, leaving=False)
            if again is not None:
                return again
            if wanted is None:
                return 0.0
            record = None
            draft.seen.clear()
        assert wanted is not None
        try:
            await self._translate(draft, cluster, wanted, record)
        except FleetRolloutError:
            self._crds.doubt(cluster)
            raise
        self._succeed(draft)
        # What was under the old rollout is applied anew, and the new Canary followed, in a pass of its own.
        return 0.0 if is_moved else None

    async def _translate(self, draft: Draft, cluster: Cluster, wanted: Wanted, record: RolloutRecord | None) -> None:
        with kube_errors("RolloutFailed", f"rollout of {wanted.rollout.workload.kind}/{wanted.rollout.workload.name}"):
            schemas = await self._crds.ensure(cluster)
            wanted = await self._in_right_hands(draft, cluster, wanted)
            live = await self._read(draft, cluster, wanted, schemas)
            translation = translate(wanted, live, record)
            # Once more: what stood in the way when the objects were applied may be gone.
            await self._prepare(draft, cluster, live.namespace, translation.namespace)
            if translation.problems:
                self._await_fleet(draft.sync, translation.problems[0])
                raise problem_error(translation.problems[0])
            await self._write(draft, cluster, translation, record)

    async def _read(self, draft: Draft, cluster: Cluster, wanted: Wanted, schemas: dict[str, Any]) -> Live:
        namespace, record = wanted.namespace, draft.status.rollout
        if not namespace:
            return Live()
        found = draft.prepared or await cluster.get(NAMESPACES, namespace)
        service, ingress, scalers = await asyncio.gather(
            self._service(draft, cluster, wanted),
            self._ingress(cluster, wanted, record),
            cluster.list(SCALERS, namespace),
        )
        return Live(namespace=found, service=service, ingress=ingress, scalers=scalers[0], schemas=schemas)

    @staticmethod
    async def _service(draft: Draft, cluster: Cluster, wanted: Wanted) -> dict[str, Any] | None:
        """Most often one of the policy's own objects, which the pass has just looked at."""
        name = wanted.rollout.service_name
        seen = draft.seen.get(Ref(wanted.namespace, name, "", "Service", "v1"))
        return seen or await cluster.get(SERVICES, name, wanted.namespace)

    @staticmethod
    async def _ingress(cluster: Cluster, wanted: Wanted, record: RolloutRecord | None) -> dict[str, Any] | None:
        """The shared Ingress, where a rule in it is ours or is to be."""
        if ingress_rule(wanted.rollout) is None and (record is None or record.host is None):
            return None
        return await cluster.get(INGRESSES, INGRESS, wanted.namespace)

    async def _write(
        self, draft: Draft, cluster: Cluster, translation: Translation, previous: RolloutRecord | None
    ) -> None:
        """Ingress, then tester and templates, then the Canary; what is no longer wanted goes last."""
        assert translation.record is not None
        gone = objects_to_remove(previous, translation)
        record = translation.record.model_copy(update={"removing": False})
        recorded = record.model_copy(update={"objects": union(gone, record.objects)})

        async def before_write(_: list[InventoryEntry]) -> None:
            draft.require_current()
            draft.change(rollout=recorded)
            await draft.write()

        if translation.ingress is not None:
            await before_write([])
            await write_ingress(cluster, translation.ingress)
        owner = self._targets.owner(draft.sync)
        settled = self._settled.setdefault(draft.key, Settled(self._world.clock))
        seen = {ref: obj for ref, obj in draft.seen.items() if ref.kind == "Canary"}
        applier = Applier(
            cluster,
            owner,
            self._world.settings,
            manager=MANAGER_ROLLOUT,
            settled=settled,
            rehearsals=self._world.rehearsals,
            just_seen=seen,
        )
        await applier.plan_and_apply(translation.objects, force=False, before_write=before_write)
        kept = draft.status.rollout
        if gone:
            draft.change(rollout=recorded)
            await draft.write()
            held = await self._targets.rollouts_elsewhere(draft.sync, cluster, gone)
            _, survivors = await self._pruner(draft.sync, cluster).prune(gone, siblings=held)
            record = record.model_copy(update={"objects": union(survivors, record.objects)})
        if kept is not None:
            record = record.model_copy(update={"canary_status": kept.canary_status, "attribution": kept.attribution})
        draft.change(rollout=record)

    def _succeed(self, draft: Draft) -> None:
        """The translation is carried out; whether our engine may work with it is another question."""
        rollout, rival = draft.sync.spec.rollout, self._rival(draft)
        if rival is not None:
            self._condition(draft, "False", conds.ENGINE_CONFLICT, rival)
            return
        assert rollout is not None
        message = f"Canary {rollout.workload.namespace}/{rollout.workload.name} is as wanted"
        self._condition(draft, "True", "Translated", message)

    def _waits(self, draft: Draft, error: Waiting) -> float:
        """Nothing failed: what is shown stays, as after a restart while the member is not connected yet."""
        if conds.get(draft.status.conditions, ROLLOUT_READY) is None:
            self._condition(draft, "False", error.reason, error.message)
        return error.retry_after if error.retry_after is not None else self._world.settings.retry_min

    def _failed(self, draft: Draft, reason: str, message: str, error: FleetRolloutError) -> float:
        before = conds.get(draft.status.conditions, ROLLOUT_READY)
        if before is None or (before.reason, before.message) != (reason, message):
            self._world.recorder.warning(draft.obj, reason, message)
        self._condition(draft, "False", reason, message)
        failures = self._failures[draft.key] = self._failures.get(draft.key, 0) + 1
        wish = error.retry_after if isinstance(error, Transient) else None
        settings = self._world.settings
        return wish if wish is not None else backoff(failures, settings.retry_min, settings.retry_max, 0.5)

    def _condition(self, draft: Draft, status: conds.Status, reason: str, message: str) -> None:
        stamp = draft.stamp
        draft.change(
            conditions=conds.set_condition(
                draft.status.conditions,
                ROLLOUT_READY,
                status,
                reason,
                message,
                generation=stamp.generation,
                now=stamp.now,
            )
        )

    async def remove(self, draft: Draft, cluster: Cluster) -> float | None:
        """Take the rollout away because the whole ClusterSync goes; None when nothing of it is left."""
        if draft.status.rollout is None:
            return None
        return await self._remove(draft, cluster, draft.status.rollout, leaving=True)

    async def _remove(self, draft: Draft, cluster: Cluster, record: RolloutRecord, *, leaving: bool) -> float | None:
        """Step by step; where another policy has this very rollout now, leave it to that one."""
        heir = self._heir(draft.sync, record)
        if heir is None:
            return await self._removals.remove(draft, cluster, self._targets.owner(draft.sync), leaving=leaving)
        if heir.status.rollout is None or is_replaced(heir.status.rollout, self.wanted(heir)):
            return HAND_OVER_POLL
        pruner = self._pruner(draft.sync, cluster)
        with kube_errors("RolloutRemovalFailed", f"rollout of {record.workload_kind}/{record.workload}"):
            held = await self._targets.rollouts_elsewhere(draft.sync, cluster, record.objects)
        held |= {entry.id for entry in heir.status.rollout.objects}
        await pruner.prune(record.objects, siblings=held)
        if pruner.failure is not None:
            raise Transient("PruneFailed", pruner.failure)
        draft.change(rollout=None)
        return None

    def _pruner(self, sync: ClusterSync, cluster: Cluster) -> Pruner:
        """Whoever has written last what policies share: who drops it last takes it away."""
        return Pruner(cluster, replace(self._targets.owner(sync), is_any_policy=True))

    def _heir(self, sync: ClusterSync, record: RolloutRecord) -> ClusterSync | None:
        """The ClusterSync of a renamed policy, or of one that the rollout was moved to."""
        for other in self._targets.siblings(sync):
            wanted = self.wanted(other)
            if wanted is not None and not is_replaced(record, wanted):
                return other
        return None


def _is_behind(draft: Draft) -> bool:
    """Whether the objects are as this generation wants them, and what is said of the rollout is of an earlier one.

    A pass that ends between its record and the Canary leaves it so.
    """
    applied, brought = (conds.get(draft.status.conditions, name) for name in (conds.READY, ROLLOUT_READY))
    now = draft.sync.metadata.generation
    is_applied = applied is not None and applied.status == "True" and applied.observed_generation == now
    return is_applied and brought is not None and (brought.observed_generation or 0) < now


def _is_contested(draft: Draft) -> bool:
    """Whether another engine was seen at work: that is no reason to write the translation again."""
    shown = conds.get(draft.status.conditions, ROLLOUT_READY)
    return shown is not None and shown.reason == conds.ENGINE_CONFLICT


def load_tester(settings: Settings) -> LoadTester:
    """What the operator has chosen for private load testers."""
    requests = {"cpu": settings.loadtester_cpu_request, "memory": settings.loadtester_memory_request}
    limits = {"cpu": settings.loadtester_cpu_limit, "memory": settings.loadtester_memory_limit}
    return LoadTester(settings.loadtester_image, container_resources(requests=requests, limits=limits))


def place_of(sync: ClusterSync) -> Place | None:
    """Where the Canary of a ClusterSync is, or was put."""
    record, rollout = sync.status.rollout, sync.spec.rollout
    if record is not None:
        return Place(sync.metadata.namespace, sync.spec.cluster, record.namespace, record.canary or record.workload)
    if rollout is not None and rollout.workload.namespace:
        workload = rollout.workload
        return Place(sync.metadata.namespace, sync.spec.cluster, rollout.workload.namespace, workload.name)
    return None


def problem_error(problem: Problem) -> FleetRolloutError:
    """A problem of the translation as an error: all are looked at again, for the member may change by itself."""
    return Transient(problem.reason, problem.message)


def _says(namespace: Mapping[str, Any] | None, prepared: dict[str, Any]) -> bool:
    """Whether the live namespace says already what is to be applied to it."""
    if namespace is None:
        return False
    live, wanted = namespace["metadata"], prepared["metadata"]
    return all((wanted.get(part) or {}).items() <= (live.get(part) or {}).items() for part in ("labels", "annotations"))
