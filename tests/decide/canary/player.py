"""Plays the scenarios to the state machine alone: a world in memory answers its effects, and a whole rollout takes
milliseconds.

What the world does not know (generated objects, queries, payloads) the conformance suite compares on real API servers.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet_rollout.decide.canary.effects import (
    CallHook,
    Count,
    Do,
    Effect,
    Emit,
    Fingerprint,
    Measure,
    Notify,
    SetRoutes,
    WriteStatus,
)
from fleet_rollout.decide.canary.hooks import is_success
from fleet_rollout.decide.canary.machine import tick
from fleet_rollout.decide.canary.objects import Routes, StepFailed, Unasked
from fleet_rollout.decide.canary.subject import EngineOptions, Subject
from tests.conformance.notation import Step
from tests.conformance.scenario import PROMOTED, Http, Inputs, Ready, Sample, Scenario, merged

NAMESPACE = "test"
NOW = "2026-01-01T00:00:00Z"
NOT_READY = {
    Ready.UNREADY: "waiting for rollout to finish: 0 of 1 (readyThreshold 100%) updated replicas are available",
    Ready.STUCK: "deployment exceeded its progress deadline",
    Ready.UNAVAILABLE: "waiting for rollout to finish: 0 of 1 (readyThreshold 100%) updated replicas are available",
}
GONE = ""  # for a config: it does not exist
NO_TURN = 0  # for a hook: its address is crowded
CROWDED = "http://h.test:80 is asked by too many at once: no turn within 30 s"
MISSING = f"configmap podinfo-config.{NAMESPACE} does not exist, and deployment podinfo.{NAMESPACE} needs it"
# What an effect of the machine does to nothing that this world knows of.
WITHOUT_TRACE = frozenset(
    {
        Do.HOLD,
        Do.RECONCILE_SERVICES,
        Do.PROBE_METRICS,
        Do.CREATE_SCALER,
        Do.SYNC_SCALER,
        Do.PAUSE_SCALER,
        Do.RESUME_SCALER,
        Do.RECONCILE_APEX,
    }
)


@dataclass
class Seen:
    """What one tick has brought forth."""

    step: Step
    events: list[str] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)
    hooks: list[str] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)
    writes: int = 0
    effects: list[Effect] = field(default_factory=list)


@dataclass
class World:
    """A member with one Canary."""

    scenario: Scenario
    options: EngineOptions = field(default_factory=EngineOptions)
    status: dict[str, Any] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)
    revision: str = PROMOTED
    config: str = "red"
    promoted: tuple[str, str] | None = None  # revision and config of the primary, once it exists
    replicas: int = 1
    routes: Routes | None = None
    metric: Sample = 100.0
    answers: dict[str, int] = field(default_factory=dict)
    primary: Ready = Ready.READY
    canary: Ready = Ready.READY
    primary_age: int = 0  # in ticks; one that was just created is not ready

    def __post_init__(self) -> None:
        self.spec = self.scenario.canary_spec

    def set(self, inputs: Inputs) -> None:
        """Apply what a scenario sets before a tick."""
        for name in ("metric", "revision", "config", "replicas", "primary", "canary"):
            if (value := getattr(inputs, name)) is not None:
                setattr(self, name, value)
        self.answers |= inputs.hooks
        if inputs.routes is not None:
            self.routes = Routes(*inputs.routes)
        if inputs.spec is not None:
            self.spec = merged(self.spec, inputs.spec)

    @property
    def raw(self) -> dict[str, Any]:
        metadata = {"name": "podinfo", "namespace": NAMESPACE, "uid": "1"}
        return {
            "apiVersion": "flagger.app/v1beta1",
            "kind": "Canary",
            "metadata": metadata,
            "spec": self.spec,
            "status": dict(self.status),
        }

    def seen(self) -> Step:
        """What a user sees of it now. Without routing object the traffic is where the Services lead: at the primary."""
        routes = self.routes or Routes(100, 0)
        return Step(
            phase=str(self.status.get("phase") or ""),
            weight=int(self.status.get("canaryWeight") or 0),
            failed=int(self.status.get("failedChecks") or 0),
            iterations=int(self.status.get("iterations") or 0),
            primary=routes.primary,
            canary=routes.canary,
            mirrored=routes.mirrored,
            replicas=self.replicas,
        )

    def answer(self, effect: Effect, seen: Seen) -> Any:
        """Carry out one effect; raises StepFailed as a member would."""
        match effect:
            case Do():
                return self._do(effect)
            case SetRoutes(routes=routes):
                self._move(routes)
            case CallHook(hook=hook, phase=phase):
                seen.hooks.append(f"{hook['name']}:{phase}")
                return self._call(str(hook["name"]))
            case Measure(metric=metric):
                return complaint(metric, self.metric)
            case WriteStatus(changes=changes):
                self.status = {name: value for name, value in (self.status | changes).items() if value is not None}
                seen.writes += 1
            case Emit(type=type_, message=message):
                seen.events.append(f"{type_[0]} {message}")
            case Notify(severity=severity, message=message):
                seen.alerts.append(f"{severity} {message}")
            case Count():
                seen.counts.append(effect)
        return None

    def _do(self, effect: Do) -> Any:
        if effect in WITHOUT_TRACE:
            return None
        match effect:
            case Do.INSPECT:
                return Subject(self.raw, self.options, "app", "podinfo")
            case Do.CREATE_PRIMARY:
                if self.promoted is None:
                    self._require_config()
                    self.promoted = (self.revision, self.config)
            case Do.PRIMARY_READY:
                ready = Ready.UNREADY if self.primary_age == 0 else self.primary
                self._require("podinfo-primary", ready)
            case Do.CANARY_READY:
                self._require("canary deployment podinfo", self.canary)
            case Do.SCALE_DOWN:
                self.replicas = 0
            case Do.SCALE_UP:
                self.replicas = self.replicas or 1
            case Do.RECONCILE_ROUTES:
                self.routes = self.routes or Routes(100, 0)
            case Do.FINGERPRINT:
                configs = {"configmap/podinfo-config": self.config} if self.scenario.has_config else None
                scaled_down, is_gone = self.replicas == 0, self.config == GONE
                return Fingerprint(
                    self.revision, None if is_gone else configs, scaled_down, missing=MISSING if is_gone else None
                )
            case Do.IS_PROMOTED:
                assert self.promoted is not None
                self._require_config()
                return self.promoted[1] == self.config
            case Do.READ_ROUTES:
                return self._read_routes()
            case Do.PROMOTE:
                self._require_config()
                self.promoted = (self.revision, self.config)
            case _:
                raise AssertionError(f"no scenario leads to {effect}")
        return None

    def _require(self, who: str, ready: Ready) -> None:
        if ready is not Ready.READY and self.scenario.target_kind != "Service":
            raise StepFailed(f"{who}.{NAMESPACE} not ready: {NOT_READY[ready]}", retriable=ready is Ready.UNREADY)

    def _require_config(self) -> None:
        if self.config == GONE:
            raise StepFailed(MISSING)

    def _move(self, routes: Routes) -> None:
        if not self.scenario.has_routes:
            return
        if self.routes is None:
            raise StepFailed(f"virtualservice podinfo.{NAMESPACE} not found")
        self.routes = routes

    def _read_routes(self) -> Routes:
        if not self.scenario.has_routes:
            return Routes(0, 100) if int(self.status.get("iterations") or 0) > 0 else Routes(100, 0)
        assert self.routes is not None
        return self.routes

    def _call(self, name: str) -> str | None:
        status = self.answers.get(name, 200)
        if status == NO_TURN:
            raise Unasked(CROWDED)
        return None if is_success(status) else f"status {status}"


@dataclass
class Player:
    """Ticks of one scenario, one by one."""

    world: World
    number: int = 0

    @classmethod
    def of(cls, scenario: Scenario) -> Player:
        return cls(World(scenario))

    def tick(self) -> Seen:
        """Set what the scenario sets, then let the machine make one tick."""
        self.number += 1
        world = self.world
        world.set(world.scenario.before(self.number))
        seen = run(world, tick(world.raw, world.options, NOW))
        world.primary_age += world.promoted is not None
        return seen

    def play(self) -> dict[int, Seen]:
        """All ticks of the scenario, by number."""
        return {number: self.tick() for number in range(1, self.world.scenario.last + 1)}


def run(world: World, steps: Generator[Effect, Any, None], *, effects: int | None = None) -> Seen:
    """Carry out what a tick asks for; only the first `effects` of it, as if the engine had been killed then."""
    seen = Seen(Step())
    try:
        effect = next(steps)
        while effects is None or len(seen.effects) < effects:
            seen.effects.append(effect)
            try:
                answer = world.answer(effect, seen)
            except StepFailed as error:
                effect = steps.throw(error)
            else:
                effect = steps.send(answer)
    except StopIteration:
        pass
    seen.step = world.seen()
    return seen


def complaint(metric: Mapping[str, Any], sample: Sample) -> str | None:
    """What the event says of a metric, None where it passes. Only as much as the scenarios ask for."""
    if isinstance(sample, Http):
        return f"Prometheus query failed: status {sample.status}"
    value = sample[-1] if isinstance(sample, tuple) else sample
    name, limits = str(metric["name"]), metric.get("thresholdRange") or {}
    if math.isnan(value):
        return f"Halt advancement no values found for istio metric {name}"
    is_rate, is_duration = name == "request-success-rate", name == "request-duration"
    if not limits:
        limits = {"min" if is_rate else "max": metric.get("threshold", 0)}
    if is_duration:
        value, limits = int(value), {side: int(limit) for side, limit in limits.items()}
    shown = f"request duration {value}ms" if is_duration else f"{name} {value:.2f}"
    if "max" in limits and value > limits["max"]:
        return f"Halt podinfo.{NAMESPACE} advancement {shown} > {_limit(limits['max'], is_duration)}"
    if "min" in limits and value < limits["min"]:
        return f"Halt podinfo.{NAMESPACE} advancement {shown} < {_limit(limits['min'], is_duration)}"
    return None


def _limit(value: float, is_duration: bool) -> str:
    if is_duration:
        return f"{value}ms" if value else "0s"
    return f"{value:g}"
