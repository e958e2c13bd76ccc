"""Carries one tick out: every effect of the state machine becomes reads, writes, calls; it decides nothing itself."""

from __future__ import annotations

import logging
import secrets
import string
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from fleet_rollout.control.engine.hands import Hands, Overtaken, progress
from fleet_rollout.control.engine.sight import AGE_IN_ANALYSIS, Sight
from fleet_rollout.decide.canary import reverting, scalers, services, targets
from fleet_rollout.decide.canary.claim import MANAGER_CANARY, rival, wrote_at
from fleet_rollout.decide.canary.config_refs import PRIMARY_SUFFIX
from fleet_rollout.decide.canary.effects import (
    CallHook,
    Count,
    Do,
    Effect,
    Emit,
    Measure,
    Notify,
    SetRoutes,
    WriteStatus,
)
from fleet_rollout.decide.canary.missing_kinds import missing_kind
from fleet_rollout.decide.canary.objects import Object, Ref, Routes, StepFailed, Unasked, Write, ref_of
from fleet_rollout.decide.canary.run import ANALYSING, PROMOTING, Steps
from fleet_rollout.decide.canary.spec_hash import adopted, is_foreign
from fleet_rollout.decide.canary.subject import EngineOptions, Subject
from fleet_rollout.decide.canary.unreadable import unreadable
from fleet_rollout.errors import FleetRolloutError
from fleet_rollout.kube.client import Cluster, Resource
from fleet_rollout.kube.errors import ApiError, NoSuchKind, Unreachable
from fleet_rollout.traffic.factory import router_for
from fleet_rollout.traffic.router import Moved, Router

CANARIES = Resource("flagger.app", "v1beta1", "Canary", "canaries", True)
STATUS_ATTEMPTS = 5
TOKEN_LENGTH = 10
# Objects that make a revision together with the target.
CONFIGS = frozenset({"ConfigMap", "Secret"})
SCALERS = frozenset({"HorizontalPodAutoscaler", "ScaledObject"})
UNDER_WAY = frozenset({"Waiting", *ANALYSING, *PROMOTING})
NOW = 0.0  # how old what no watch covers may be
LETTERS = string.ascii_letters

log = logging.getLogger(__name__)

ApiFailure = (ApiError, Unreachable, FleetRolloutError)


class Outside(Protocol):
    """What a tick asks of others than the API server. None of it may hold up another Canary."""

    async def measure(self, subject: Subject, metric: Mapping[str, Any]) -> str | None: ...

    async def probe(self, subject: Subject) -> str | None: ...

    async def call(self, subject: Subject, hook: Mapping[str, Any], phase: str) -> str | None: ...

    def emit(self, subject: Subject, effect: Emit) -> None: ...

    def notify(self, subject: Subject, effect: Notify) -> None: ...

    def count(self, subject: Subject, effect: Count) -> None: ...

    def show_routes(self, subject: Subject, routes: Routes) -> None: ...

    def show_phase(self, subject: Subject) -> None: ...

    def spent(self, subject: Subject, seconds: float) -> None: ...

    def forget(self, subject: Subject) -> None: ...

    def show_total(self, cluster_name: str, totals: Mapping[str, int]) -> None: ...


class Tick:
    """One tick under way. `refs` are what it has looked at; `is_quiet`: it has done nothing but look, without news.

    `has_lost`: an answer did not come, so that what was asked for may have been done all the same.
    `raw` is the Canary with what this tick wants of its status, `confirmed` what the API server has last told of it.
    `rival`: another engine, whose status write the tick came upon.
    """

    def __init__(
        self, cluster: Cluster, sight: Sight, outside: Outside, options: EngineOptions, raw: Object, now: datetime
    ) -> None:
        self.raw = self.confirmed = raw
        self.refs: list[Ref] = []
        self._cluster = cluster
        self._sight = sight
        self._outside = outside
        self._options = options
        self._now = now
        self._acts = 0
        self.has_measured = False
        self.has_lost = False
        self.rival: str | None = None
        self._subject = Subject(raw, options)
        self._hands = Hands(cluster, sight, {})
        self._progress = {progress(raw.get("status"))}  # what was seen, and what may have been written since
        self._router: Router = router_for(self._subject.provider)
        self._pending: dict[str, Any] = {}

    @property
    def is_quiet(self) -> bool:
        return self._acts == 0 and self._hands.writes == 0

    async def run(self, steps: Steps[None]) -> None:
        """Everything that the steps ask for. Failures of the API server are theirs to tell."""
        answer: Any = None
        failure: StepFailed | None = None
        while True:
            try:
                effect = steps.throw(failure) if failure is not None else steps.send(answer)
            except StopIteration:
                break
            answer = failure = None
            try:
                answer = await self._do(effect)
            except Overtaken as error:
                log.debug("%s", error)
                self._acts += 1
                steps.close()
                return
            except StepFailed as error:
                failure = error
            except NoSuchKind as error:
                failure = StepFailed(missing_kind(self._subject, error.api_version, error.kind))
            except ApiFailure as error:
                self._note(error)
                failure = Unasked(error.message)
        if self._pending:
            await self._keep_pending()

    def _note(self, error: ApiError | Unreachable | FleetRolloutError) -> None:
        if isinstance(error, Unreachable):
            self.has_lost = True
            self._sight.doubt()

    async def _keep_pending(self) -> None:
        """Cookies of the router; where they cannot be written, the routes have them."""
        try:
            await self._write_status({})
        except (StepFailed, Overtaken) as error:
            log.debug("%s", error)
        except ApiFailure as error:
            self._note(error)

    async def _do(self, effect: Effect) -> Any:
        if isinstance(effect, Do):
            return await _ROUTINES[effect](self)
        self._acts += 1
        match effect:
            case SetRoutes(routes):
                await self._set_routes(routes)
            case WriteStatus(changes):
                await self._write_status(changes)
            case CallHook(hook, phase):
                return await self._outside.call(self._subject, hook, phase)
            case Measure(metric):
                self.has_measured = True
                return await self._outside.measure(self._subject, metric)
            case Emit():
                self._outside.emit(self._subject, effect)
            case Notify():
                self._outside.notify(self._subject, effect)
            case Count():
                self._outside.count(self._subject, effect)
        return None

    # Reading

    async def _inspect(self) -> Subject:
        first = targets.target_ref(self._subject)
        before = self._sight.known(first)
        live = await self._sight.read([first], oldest=NOW if self._is_under_way else AGE_IN_ANALYSIS)
        self.refs = [first]
        self._subject = targets.inspect(self.raw, self._options, live)
        target = live[first]
        assert target is not None
        self.refs += [*targets.reads(self._subject, target), *await self._routed_by()]
        is_new = before is not None and before["metadata"].get("generation") != target["metadata"].get("generation")
        await self._sight.refresh(ref for ref in self.refs if self._is_to_be_asked_for(ref, is_new))
        self._hands.live.update(await self._sight.read(self.refs))
        await self._adopt()
        return self._subject

    @property
    def _is_under_way(self) -> bool:
        """Whether what is judged must be what is there now, and not what was there when news were last heard."""
        return self._subject.phase in UNDER_WAY

    @property
    def _is_leaving(self) -> bool:
        """Then things are given back once and for all: what is believed wrongly of them now is never seen again."""
        return bool(self.raw["metadata"].get("deletionTimestamp"))

    async def _routed_by(self) -> list[Ref]:
        """The routing objects. A mesh that was uninstalled has none to give back, and holds up no deletion."""
        refs = self._router.reads(self._subject)
        if not self._is_leaving:
            return refs
        served = []
        for ref in refs:
            try:
                await self._sight.resource(ref)
            except NoSuchKind:
                self._hands.live[ref] = None
            else:
                served.append(ref)
        return served

    def _is_to_be_asked_for(self, ref: Ref, is_new: bool) -> bool:
        """What belongs to a revision must not be older than the target that it is judged, and promoted, with.

        News of the target may come before news of its configs, and of some kinds no news come at all.
        """
        if self._is_leaving:
            return True
        if ref.kind == self._subject.target_kind and ref.name == self._subject.primary_workload:
            return self._is_under_way and not self._sight.is_watched(ref)
        if ref.name.endswith(PRIMARY_SUFFIX) or ref.kind not in CONFIGS | SCALERS:
            return False
        if is_new:
            return True
        phases = UNDER_WAY if ref.kind in CONFIGS else PROMOTING
        return self._subject.phase in phases and not self._sight.is_watched(ref)

    async def _adopt(self) -> None:
        """Take over from an engine whose hashes are not ours, without a restart."""
        if not is_foreign(self._subject):
            return
        if changes := adopted(self._subject.status, targets.fingerprint(self._subject, self._hands.live)):
            await self._write_status(changes)

    async def _probe(self) -> str | None:
        return await self._outside.probe(self._subject)

    async def _primary_ready(self) -> None:
        targets.require_primary(self._subject, self._hands.live, self._now)

    async def _canary_ready(self) -> None:
        targets.require_canary(self._subject, self._hands.live, self._now)

    async def _fingerprint(self) -> Any:
        return targets.fingerprint(self._subject, self._hands.live)

    async def _is_promoted(self) -> bool:
        return targets.is_promoted(self._subject, self._hands.live)

    async def _read_routes(self) -> Routes:
        routes = self._router.routes(self._subject, self._hands.live)
        self._outside.show_routes(self._subject, routes)
        return routes

    # Writing

    async def _set_routes(self, routes: Routes) -> None:
        token = "".join(LETTERS[byte % len(LETTERS)] for byte in secrets.token_bytes(TOKEN_LENGTH))
        moved = Moved([], {})

        def decide(live: Mapping[Ref, Object | None]) -> list[Write]:
            nonlocal moved
            moved = self._router.set_routes(self._subject, live, routes, token=token)
            return moved.writes

        await self._hands.carry_out(decide, self._look)
        if moved.status:
            self._pending |= moved.status
            self._show_status(moved.status)
        self._outside.show_routes(self._subject, routes)

    async def _write_status(self, changes: Mapping[str, Any]) -> None:
        """The changed fields, on the newest version; cookies of the router go along."""
        self._acts += 1
        changes = {**self._pending, **changes}
        for _ in range(STATUS_ATTEMPTS):
            self._show_status(changes)
            self._progress.add(progress(self.raw.get("status")))
            try:
                told = await self._cluster.replace(CANARIES, self.raw, subresource="status", manager=MANAGER_CANARY)
            except ApiError as error:
                found = await self._newest() if error.is_conflict else None
                if found is None:
                    raise
                self.raw = self.confirmed = found
            else:
                self.raw = self.confirmed = told
                self._pending = {}
                self._subject = replace(self._subject, raw=self.raw)
                self._outside.show_phase(self._subject)
                return
        raise StepFailed(
            f"the status of Canary {self._subject.full_name} is being changed by somebody else all the time"
        )

    async def _look(self) -> None:
        """Overtaken where the Canary is not what this tick takes it for."""
        found = await self._newest()
        name = self._subject.full_name
        if found is None:
            raise Overtaken(f"Canary {name} is gone; this tick saw an older one")
        if _wish(found) != _wish(self.raw):
            self.confirmed = found
            raise Overtaken(f"Canary {name} was changed or deleted meanwhile; this tick saw an older one")

    async def _newest(self) -> Object | None:
        """The Canary as somebody else has changed it; None where it is gone.

        Overtaken where that was an engine, or where nothing can be done about it any more.
        """
        found = await self._cluster.get(CANARIES, self._subject.name, self._subject.namespace)
        if found is None or found["metadata"]["uid"] != self.raw["metadata"]["uid"]:
            return None
        if problem := unreadable(found):
            raise Overtaken(problem)
        if progress(found.get("status")) not in self._progress:
            self.rival, self.confirmed = rival(self.confirmed, found, wrote_at(found)), found
            raise Overtaken(f"Canary {self._subject.full_name} has gone on meanwhile; this tick saw an older one")
        return found

    def _show_status(self, changes: Mapping[str, Any]) -> None:
        status = {**(self.raw.get("status") or {}), **changes}
        self.raw = {**self.raw, "status": {name: value for name, value in status.items() if value is not None}}
        self._subject = replace(self._subject, raw=self.raw)

    async def _write(self, decide: Callable[[Subject, dict[Ref, Object | None]], list[Write]]) -> None:
        await self._hands.carry_out(lambda live: decide(self._subject, live), self._look)

    async def _hold(self) -> None:
        await self._rewrite(reverting.hold)

    async def _rewrite(self, decide: Callable[[Object], list[Write]]) -> None:
        """Change the Canary itself, its status aside."""
        ref = ref_of(self.raw)
        self._hands.live[ref] = self.raw
        try:
            await self._hands.carry_out(lambda live: decide(live[ref] or self.raw), self._look)
        finally:
            self._sight.drop(ref)
        told = self._hands.live[ref]
        if told is not None and told is not self.raw:
            self.raw = self.confirmed = told

    async def _release(self) -> None:
        await self._rewrite(reverting.release)

    async def _versions(self) -> None:
        await self._write(services.reconcile_versions)

    async def _create_primary(self) -> None:
        await self._write(lambda subject, live: targets.create_primary(subject, live, str(uuid.uuid4())))

    async def _create_scaler(self) -> None:
        await self._write(scalers.create_scaler)

    async def _sync_scaler(self) -> None:
        await self._write(scalers.sync_scaler)

    async def _pause_scaler(self) -> None:
        await self._write(scalers.pause_scaler)

    async def _resume_scaler(self) -> None:
        await self._write(scalers.resume_scaler)

    async def _apex(self) -> None:
        await self._write(services.reconcile_apex)

    async def _scale_down(self) -> None:
        await self._write(targets.scale_down)

    async def _scale_up(self) -> None:
        await self._write(targets.scale_up)

    async def _routes(self) -> None:
        await self._write(self._router.reconcile)

    async def _promote(self) -> None:
        await self._write(lambda subject, live: targets.promote(subject, live, str(uuid.uuid4())))

    async def _revert_target(self) -> None:
        await self._write(targets.revert_target)

    async def _revert_apex(self) -> None:
        await self._write(reverting.revert_apex)

    async def _revert_routes(self) -> None:
        await self._write(self._router.finalize)


_ROUTINES: dict[Do, Callable[[Tick], Awaitable[Any]]] = {
    Do.HOLD: Tick._hold,
    Do.INSPECT: Tick._inspect,
    Do.RECONCILE_SERVICES: Tick._versions,
    Do.PROBE_METRICS: Tick._probe,
    Do.CREATE_PRIMARY: Tick._create_primary,
    Do.PRIMARY_READY: Tick._primary_ready,
    Do.CANARY_READY: Tick._canary_ready,
    Do.CREATE_SCALER: Tick._create_scaler,
    Do.SYNC_SCALER: Tick._sync_scaler,
    Do.PAUSE_SCALER: Tick._pause_scaler,
    Do.RESUME_SCALER: Tick._resume_scaler,
    Do.RECONCILE_APEX: Tick._apex,
    Do.SCALE_DOWN: Tick._scale_down,
    Do.SCALE_UP: Tick._scale_up,
    Do.RECONCILE_ROUTES: Tick._routes,
    Do.FINGERPRINT: Tick._fingerprint,
    Do.IS_PROMOTED: Tick._is_promoted,
    Do.READ_ROUTES: Tick._read_routes,
    Do.PROMOTE: Tick._promote,
    Do.REVERT_TARGET: Tick._revert_target,
    Do.REVERT_APEX: Tick._revert_apex,
    Do.REVERT_ROUTES: Tick._revert_routes,
    Do.RELEASE: Tick._release,
}


def _wish(canary: Object) -> tuple[Any, bool]:
    """What changes when somebody wishes something else of a Canary: its spec, or that it goes."""
    metadata = canary["metadata"]
    return metadata.get("generation"), bool(metadata.get("deletionTimestamp"))
