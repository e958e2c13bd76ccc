"""The primary breaks while it takes over a revision: what is on record is what the primary has, and nothing else."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from fleet_rollout.decide.canary.effects import Do, Effect, SetRoutes, WriteStatus
from fleet_rollout.decide.canary.machine import tick
from fleet_rollout.decide.canary.objects import Routes, StepFailed
from fleet_rollout.decide.rollout_phase import Verdict, Workload, applied, intend, judge, observed
from fleet_rollout_api.cluster_sync import Attribution, RolloutRecord
from tests.conformance.scenario import Inputs, Ready, Scenario, merged
from tests.decide.canary.player import GONE, MISSING, NOT_READY, NOW, Player, Seen, World, run

A, B, C = "1", "2", "3"
BROKEN = Inputs(primary=Ready.STUCK)
# Ticks of a rollout that meets no trouble: promoted in tick 7, and the primary breaks in tick 8.
STARTED, PROMOTED_AT = 3, 7


def promoting(config: str = "blue") -> Player:
    """B is on the primary, and Promoting."""
    player = Player.of(Scenario("any", "any", "In 0 100:0", is_idle=True, has_config=True))
    for number in range(1, PROMOTED_AT + 1):
        after(player, Inputs(revision=B, config=config) if number == STARTED else Inputs())
    assert player.world.status["phase"] == "Promoting"
    assert player.world.promoted == (B, config)
    return player


def after(player: Player, inputs: Inputs) -> Seen:
    """The next tick, before which this is set."""
    scenario = player.world.scenario
    player.world.scenario = replace(scenario, inputs={player.number + 1: inputs})
    return player.tick()


def failed(inputs: Inputs = BROKEN, config: str = "blue") -> Player:
    player = promoting(config)
    after(player, inputs)
    assert player.world.status["phase"] == "Failed"
    return player


def on_record(world: World) -> tuple[Any, ...]:
    return tuple(world.status.get(name) for name in ("lastAppliedSpec", "lastPromotedSpec", "trackedConfigs"))


WITH_B = (B, B, {"configmap/podinfo-config": "blue"})


def test_what_the_primary_has_is_the_promoted_revision() -> None:
    world = failed().world
    assert on_record(world) == WITH_B
    assert (world.routes, world.status["canaryWeight"]) == (Routes(0, 100), 100)


def test_the_old_revision_is_no_success_while_the_primary_has_the_broken_one() -> None:
    player = Player.of(Scenario("any", "any", "In 0 100:0", is_idle=True))
    world = player.world
    record = RolloutRecord(namespace="test", workload="podinfo", service="podinfo", canary="podinfo")

    def apply(before: str, now: str) -> None:
        nonlocal record
        old, new = Workload(before, "2026-01-01T00:00:00Z"), Workload(now, "2026-01-01T00:00:01Z")
        intent = intend(record.attribution, world.status or None, old, f"f{now}")
        attribution = applied(intent, world.status or None, old, new)
        record = observed(record.model_copy(update={"attribution": attribution}), world.status or None)

    after(player, Inputs()), after(player, Inputs())
    apply(A, A)
    apply(A, B)
    for number in range(STARTED, PROMOTED_AT + 1):
        after(player, Inputs(revision=B) if number == STARTED else Inputs())
    after(player, BROKEN)
    record = observed(record, world.status)
    assert judge(record, f"f{B}").verdict is Verdict.FAILED
    apply(B, A)
    seen = after(player, Inputs(revision=A))
    record = observed(record, world.status)
    assert judge(record, f"f{A}").verdict is Verdict.WAITING
    assert len(seen.events) == 2  # that the traffic returns, and that the primary is not ready
    after(player, Inputs(primary=Ready.READY))
    for _ in range(10):
        after(player, Inputs())
    assert (world.status["phase"], world.promoted) == ("Succeeded", (A, "red"))
    assert judge(observed(record, world.status), f"f{A}").verdict is Verdict.SUCCEEDED


def test_the_old_revision_calls_nothing_off() -> None:
    player = failed(config="red")
    world = player.world
    after(player, Inputs(primary=Ready.READY, revision=C))
    after(player, Inputs())
    assert world.status["phase"] == "Progressing"
    seen = after(player, Inputs(revision=A))
    assert any("Restarting analysis" in event for event in seen.events)
    for _ in range(10):
        after(player, Inputs())
    assert (world.status["phase"], world.promoted) == ("Succeeded", (A, "red"))


def test_the_revision_that_the_primary_has_calls_off_the_next_one() -> None:
    player = failed()
    world = player.world
    after(player, Inputs(primary=Ready.READY, revision=C))
    seen = after(player, Inputs(revision=B))
    assert any("Promoted revision is back!" in event for event in seen.events)
    assert (world.status["phase"], world.routes, world.promoted) == ("Initialized", Routes(100, 0), (B, "blue"))


@pytest.mark.parametrize(
    "nobody_judged", [Inputs(revision=C), Inputs(config="green"), Inputs(revision=A, config="red")]
)
def test_a_revision_that_nobody_has_judged_gets_no_traffic_and_is_analysed_later(nobody_judged: Inputs) -> None:
    player = failed(replace(nobody_judged, primary=Ready.STUCK))
    world = player.world
    assert on_record(world) == WITH_B
    assert (world.routes, world.status["canaryWeight"]) == (Routes(100, 0), 0)
    for _ in range(2):  # it waits for the primary
        assert len(after(player, Inputs()).events) == 1
        assert (world.status["phase"], on_record(world)) == ("Failed", WITH_B)
    after(player, Inputs(primary=Ready.READY))
    assert (world.status["phase"], world.routes) == ("Progressing", Routes(100, 0))
    for _ in range(10):
        after(player, Inputs())
    assert (world.status["phase"], world.promoted) == ("Succeeded", (world.revision, world.config))


def test_a_target_without_pods_gets_no_traffic() -> None:
    """The promotion was about to end: the target was scaled down, and then the engine stopped."""
    world = failed(Inputs(primary=Ready.STUCK, replicas=0)).world
    assert on_record(world) == WITH_B
    assert (world.routes, world.status["canaryWeight"]) == (Routes(100, 0), 0)


@pytest.mark.parametrize(("replicas", "serves"), [(1, "the new version keeps all traffic"), (0, "the primary")])
def test_nobody_says_that_a_failed_promotion_was_rolled_back(replicas: int, serves: str) -> None:
    """The primary has the new version, whoever serves; the row and the condition say so."""
    world = failed(Inputs(primary=Ready.STUCK, replicas=replicas)).world
    (condition,) = world.status["conditions"]
    assert (condition["status"], condition["reason"]) == ("False", "Failed")
    assert condition["message"] == "Canary promotion failed, primary not ready."
    attribution = Attribution(wanted="f", inputs="i", base_inputs="i", base_spec="x")
    record = RolloutRecord(namespace="test", workload="podinfo", service="podinfo", attribution=attribution)
    judgement = judge(observed(record, world.status), "f")
    assert judgement.verdict is Verdict.FAILED
    assert "failed to be promoted" in judgement.message
    assert serves in judgement.message
    assert "rolled back" not in judgement.message


GATE = {"analysis": {"webhooks": [{"name": "start", "type": "confirm-rollout", "url": "http://h.test/"}]}}
OPEN = {"start": 200}
FALLING = {"analysis": {"stepWeight": None, "maxWeight": None, "stepWeights": [10, 60, 30]}}
KEPT_WAITING = [
    (Inputs(primary=Ready.STUCK), "Failed"),
    (Inputs(primary=Ready.UNREADY), "Failed"),
    (Inputs(primary=Ready.READY, spec=GATE, hooks={"start": 403}), "Waiting"),
    (Inputs(primary=Ready.READY, spec=FALLING), "Failed"),
]


@pytest.mark.parametrize(("kept", "phase"), KEPT_WAITING)
@pytest.mark.parametrize("nobody_judged", [{"revision": C}, {"config": "green"}, {"revision": A, "config": "red"}])
def test_what_is_kept_waiting_serves_nobody(nobody_judged: dict[str, str], kept: Inputs, phase: str) -> None:
    """Its Pods roll as soon as the target is written, whatever keeps it from its analysis."""
    player = failed()
    world = player.world
    first = after(player, replace(kept, **nobody_judged))
    assert first.events[0] == "N Routing all traffic to primary: podinfo.test has not been analysed"
    for _ in range(3):
        assert (world.status["phase"], world.routes, world.status["canaryWeight"]) == (phase, Routes(100, 0), 0)
        assert on_record(world) == WITH_B
        later = after(player, Inputs())
        assert not any("Routing all traffic" in event for event in later.events)
        assert not [effect for effect in later.effects if isinstance(effect, SetRoutes | WriteStatus)]
    after(player, Inputs(primary=Ready.READY, spec={"analysis": {"stepWeights": None, "stepWeight": 20}}, hooks=OPEN))
    assert (world.status["phase"], world.routes) == ("Progressing", Routes(100, 0))


NO_SCALER = "horizontalpodautoscaler podinfo.test does not exist"


class Failing(World):
    """Some effects cannot be done, for another reason than the world knows."""

    failing: tuple[Do, ...] = ()

    def _do(self, effect: Do) -> Any:
        if effect in self.failing:
            raise StepFailed(NO_SCALER if effect is not Do.READ_ROUTES else "not found")
        return super()._do(effect)


def that_fails(*failing: Do) -> Player:
    """A failed promotion, after which some effects of the next ticks fail."""
    player = failed()
    player.world.spec = merged(player.world.spec, {"autoscalerRef": {"kind": "HorizontalPodAutoscaler", "name": "x"}})
    player.world.__class__ = Failing
    player.world.failing = failing  # type: ignore[attr-defined]
    return player


@pytest.mark.parametrize("config", ["blue", GONE])
@pytest.mark.parametrize("failing", [Do.RECONCILE_SERVICES, Do.CREATE_PRIMARY, Do.CREATE_SCALER, Do.RECONCILE_ROUTES])
def test_what_cannot_be_prepared_serves_nobody(failing: Do, config: str) -> None:
    """The next commit has dropped the autoscaler, too: a complaint at each tick, and no traffic meanwhile."""
    player = that_fails(failing)
    world = player.world
    told = [f"W {NO_SCALER}"]
    seen = after(player, Inputs(revision=C, config=config))
    assert seen.events == ["N Routing all traffic to primary: podinfo.test has not been analysed", *told]
    assert (world.routes, world.status["canaryWeight"], on_record(world)) == (Routes(100, 0), 0, WITH_B)
    seen = after(player, Inputs())
    assert (seen.events, seen.writes) == (told, 0)
    if config != GONE:
        after(player, Inputs(revision=B))
        assert world.routes == Routes(0, 100)


@pytest.mark.parametrize("beside", [Do.READ_ROUTES, Do.FINGERPRINT])
def test_the_first_complaint_is_the_one_that_is_told(beside: Do) -> None:
    player = that_fails(Do.CREATE_SCALER, beside)
    assert after(player, Inputs(revision=C)).events == [f"W {NO_SCALER}"]


def test_a_first_start_only_complains() -> None:
    world = Failing(Scenario("any", "any", "In 0 100:0", {"autoscalerRef": {"kind": "x", "name": "x"}}, is_idle=True))
    world.failing = (Do.CREATE_PRIMARY,)
    seen = Player(world).tick()
    assert seen.events[-1] == f"W {NO_SCALER}"
    assert Do.FINGERPRINT not in seen.effects


def test_the_judged_revision_keeps_the_traffic_while_nothing_changes() -> None:
    player = failed()
    for inputs in (Inputs(), Inputs(primary=Ready.READY), Inputs(primary=Ready.UNREADY)):
        after(player, inputs)
        assert (player.world.routes, player.world.status["canaryWeight"]) == (Routes(0, 100), 100)


def test_a_start_looks_at_the_routes_before_they_are_moved_alone() -> None:
    """Of an HTTPRoute that was just moved no gateway has said yet that it has it, which is no reason to wait."""
    player = failed()
    world = player.world
    seen = after(player, Inputs(revision=C, primary=Ready.READY))
    moved = next(number for number, effect in enumerate(seen.effects) if isinstance(effect, SetRoutes))
    assert Do.READ_ROUTES not in seen.effects[moved:]
    assert (world.status["phase"], world.routes) == ("Progressing", Routes(100, 0))


@pytest.mark.parametrize("phase", ["Failed", "Waiting"])
def test_an_engine_that_stops_between_status_and_routes_goes_on(phase: str) -> None:
    player = failed()
    world = player.world
    world.status["phase"] = phase
    world.set(Inputs(revision=C, primary=Ready.STUCK))
    stop_after(world, WriteStatus)
    assert (world.routes, world.status["canaryWeight"]) == (Routes(0, 100), 0)
    after(player, Inputs())
    assert (world.routes, world.status["canaryWeight"], world.status["phase"]) == (Routes(100, 0), 0, phase)


def stop_after(world: World, kind: type[Effect]) -> None:
    """The next tick, in which the engine is killed after its first effect of this kind."""
    effects = run(copy.deepcopy(world), tick(world.raw, world.options, NOW)).effects
    at = next(number for number, effect in enumerate(effects, 1) if isinstance(effect, kind))
    run(world, tick(world.raw, world.options, NOW), effects=at)


def withheld(inputs: Inputs = Inputs()) -> Player:  # noqa: B008
    """B's promotion has failed, and then C took the traffic away from the target."""
    player = failed()
    after(player, replace(inputs, revision=C))
    assert (player.world.status["phase"], player.world.routes) == ("Failed", Routes(100, 0))
    return player


GIVEN_BACK = (
    "N Routing all traffic back to podinfo.test, which was analysed: "
    "podinfo-primary.test not ready: deployment exceeded its progress deadline"
)


@pytest.mark.parametrize("skip", [False, True])
def test_the_judged_revision_gets_its_traffic_back(skip: bool) -> None:
    """Going back to what has served must restore the service where the primary is still broken."""
    player = withheld()
    world = player.world
    assert after(player, Inputs(revision=B, spec={"skipAnalysis": skip})).events == [GIVEN_BACK]
    assert (world.status["phase"], world.routes, world.status["canaryWeight"]) == ("Failed", Routes(0, 100), 100)
    assert on_record(world) == WITH_B
    for inputs in (Inputs(), Inputs(primary=Ready.READY), Inputs(primary=Ready.UNREADY)):
        seen = after(player, inputs)
        assert (seen.events, seen.writes, world.routes) == ([], 0, Routes(0, 100))
        assert not any(isinstance(effect, SetRoutes) for effect in seen.effects)
    after(player, Inputs(revision=C))
    assert (world.routes, world.status["canaryWeight"]) == (Routes(100, 0), 0)


def test_it_waits_until_its_pods_are_ready() -> None:
    player = withheld()
    for inputs in (Inputs(revision=B, canary=Ready.UNREADY), Inputs()):
        seen = after(player, inputs)
        assert seen.events == [
            "W podinfo-primary.test not ready: deployment exceeded its progress deadline",
            f"W canary deployment podinfo.test not ready: {NOT_READY[Ready.UNREADY]}",
        ]
        assert (seen.writes, player.world.routes) == (0, Routes(100, 0))
    assert after(player, Inputs(canary=Ready.READY)).events == [GIVEN_BACK]


@pytest.mark.parametrize(
    "inputs",
    [
        Inputs(revision=B, primary=Ready.READY),  # which has that revision
        Inputs(revision=B, spec={"provider": "kubernetes"}),  # which moves no traffic
        Inputs(revision=B, replicas=0),
    ],
)
def test_nothing_is_given_back_where_it_would_not_help(inputs: Inputs) -> None:
    player = withheld()
    for each in (inputs, Inputs()):
        seen = after(player, each)
        assert (seen.events, seen.writes, player.world.routes) == ([], 0, Routes(100, 0))


def test_nothing_is_given_back_while_a_config_of_it_is_missing() -> None:
    player = withheld()
    assert after(player, Inputs(revision=B, config=GONE)).events == [f"W {MISSING}"]
    assert player.world.routes == Routes(100, 0)
    after(player, Inputs(config="blue"))
    assert player.world.routes == Routes(0, 100)


def test_what_was_rolled_back_gets_no_traffic() -> None:
    """The same phase and the same revision, but its analysis has failed."""
    player = failed()
    after(player, Inputs(revision=C, primary=Ready.READY))
    after(player, Inputs(canary=Ready.STUCK))
    assert (player.world.status["phase"], player.world.status["lastAppliedSpec"]) == ("Failed", C)
    after(player, Inputs(replicas=1, canary=Ready.READY, primary=Ready.STUCK))
    assert player.world.routes == Routes(100, 0)


@pytest.mark.parametrize("primary", [Ready.STUCK, Ready.READY])
def test_an_engine_that_stops_while_it_gives_traffic_back_goes_on(primary: Ready) -> None:
    """The routes say where the traffic is."""
    player = withheld()
    world = player.world
    world.set(Inputs(revision=B))
    stop_after(world, SetRoutes)
    assert (world.routes, world.status["canaryWeight"]) == (Routes(0, 100), 0)
    seen = after(player, Inputs(primary=primary))
    assert (world.routes, world.status["canaryWeight"], seen.events) == (Routes(0, 100), 100, [])


def test_the_judged_revision_is_back_after_a_stop_while_traffic_was_withheld() -> None:
    player = failed()
    world = player.world
    world.set(Inputs(revision=C))
    stop_after(world, WriteStatus)
    after(player, Inputs(revision=B))
    assert (world.routes, world.status["canaryWeight"]) == (Routes(0, 100), 100)
    world.set(Inputs(revision=C))
    stop_after(world, SetRoutes)
    after(player, Inputs(revision=B))
    assert (world.routes, world.status["canaryWeight"]) == (Routes(0, 100), 100)
