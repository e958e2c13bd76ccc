"""A ConfigMap or Secret that the target needs goes in the middle of a rollout, or a new revision names one that is not
there (Q24)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fleet_rollout.decide.canary.effects import Do, SetRoutes
from fleet_rollout.decide.canary.machine import tick
from fleet_rollout.decide.canary.objects import Routes, StepFailed, Unasked
from tests.conformance.scenario import Inputs, Ready, Scenario
from tests.decide.canary.player import GONE, MISSING, NOW, Player, Seen, World

WARNING = f"W {MISSING}"
CONFIGS = {"configmap/podinfo-config": "red"}
BACK = {"analysis": {"webhooks": [{"name": "back", "type": "rollback", "url": "http://h.test/"}]}}
STARTED, AT_20, AT_60, PROMOTING = 3, 5, 7, 8


def after(player: Player, inputs: Inputs) -> Seen:
    """The next tick, before which this is set."""
    player.world.scenario = replace(player.world.scenario, inputs={player.number + 1: inputs})
    return player.tick()


def at(number: int, **spec: Any) -> Player:
    """Before this tick of a rollout that meets no trouble."""
    player = Player.of(Scenario("any", "any", "In 0 100:0", spec, is_idle=True, has_config=True))
    for each in range(1, number):
        after(player, Inputs(revision="2", hooks={"back": 403}) if each == STARTED else Inputs(hooks={"back": 403}))
    return player


def rolled_back(world: World) -> bool:
    return (world.status["phase"], world.routes, world.replicas) == ("Failed", Routes(100, 0), 0)


def test_the_analysis_goes_on() -> None:
    player = at(AT_20)
    world = player.world
    assert world.routes == Routes(80, 20)
    seen = after(player, Inputs(config=GONE))
    assert seen.events[0] == WARNING
    assert (world.routes, world.status["phase"]) == (Routes(60, 40), "Progressing")
    assert world.status["trackedConfigs"] == CONFIGS


def test_the_threshold_holds() -> None:
    player = at(AT_20)
    after(player, Inputs(config=GONE, metric=90.0))
    for _ in range(2):
        after(player, Inputs())
    assert rolled_back(player.world)
    assert (player.world.status["lastAppliedSpec"], player.world.status["trackedConfigs"]) == ("2", CONFIGS)


def test_a_rollback_hook_is_asked() -> None:
    player = at(AT_20, **BACK)
    after(player, Inputs(config=GONE, hooks={"back": 200}))
    assert rolled_back(player.world)


def test_the_deadline_holds() -> None:
    player = at(AT_20)
    after(player, Inputs(config=GONE, canary=Ready.STUCK))
    assert rolled_back(player.world)


def test_another_revision_that_needs_it_takes_the_traffic_away_at_once() -> None:
    player = at(AT_20)
    world = player.world
    seen = after(player, Inputs(config=GONE, revision="3"))
    assert any("Restarting analysis" in event for event in seen.events)
    assert (world.routes, world.status["lastAppliedSpec"]) == (Routes(100, 0), "3")
    seen = after(player, Inputs(canary=Ready.UNREADY))
    assert not any("Restarting analysis" in event for event in seen.events)
    after(player, Inputs(canary=Ready.STUCK))
    assert rolled_back(world)
    assert after(player, Inputs()).events == [WARNING]
    after(player, Inputs(config="blue", canary=Ready.READY))  # what it was waiting for
    for _ in range(8):
        after(player, Inputs())
    assert (world.status["phase"], world.promoted) == ("Succeeded", ("3", "blue"))


def test_the_promoted_revision_calls_nothing_off_without_it() -> None:
    """Whether it is what the primary has cannot be said."""
    player = at(AT_20)
    world = player.world
    seen = after(player, Inputs(config=GONE, revision="1"))
    assert any("Restarting analysis" in event for event in seen.events)
    assert (world.routes, world.status["phase"]) == (Routes(100, 0), "Progressing")


def test_nothing_is_promoted_without_it() -> None:
    player = at(AT_60)
    world = player.world
    assert world.routes == Routes(40, 60)
    for inputs in (Inputs(config=GONE), Inputs(), Inputs()):
        seen = after(player, inputs)
    assert seen.events[-1] == WARNING
    assert (world.status["phase"], world.routes, world.promoted) == ("Progressing", Routes(40, 60), ("1", "red"))
    after(player, Inputs(config="red"))
    assert (world.status["phase"], world.promoted) == ("Promoting", ("2", "red"))


def test_a_promotion_comes_to_its_end() -> None:
    player = at(PROMOTING)
    world = player.world
    assert world.status["phase"] == "Promoting"
    after(player, Inputs(config=GONE))
    after(player, Inputs())
    after(player, Inputs())
    assert (world.status["phase"], world.routes, world.replicas) == ("Succeeded", Routes(100, 0), 0)
    assert after(player, Inputs()).events == [WARNING]
    after(player, Inputs(config="red"))
    assert world.status["phase"] == "Succeeded"


def test_the_primary_breaks_meanwhile() -> None:
    player = at(PROMOTING)
    after(player, Inputs(config=GONE, primary=Ready.STUCK))
    assert (player.world.status["phase"], player.world.routes) == ("Failed", Routes(0, 100))
    after(player, Inputs())
    assert player.world.routes == Routes(0, 100)
    seen = after(player, Inputs(revision="3"))
    assert (seen.events[0], player.world.routes) == (WARNING, Routes(100, 0))


@pytest.mark.parametrize(("number", "phase"), [(2, ""), (STARTED, "Initialized")])
def test_nothing_begins_without_it(number: int, phase: str) -> None:
    player = at(number)
    if not phase:
        player = Player.of(player.world.scenario)
    seen = after(player, Inputs(config=GONE, revision="2"))
    assert (seen.events[-1], player.world.status.get("phase")) == (WARNING, phase or "Initializing")
    assert not [effect for effect in seen.effects if isinstance(effect, SetRoutes) or effect is Do.SCALE_UP]


def test_a_primary_that_was_made_before_does_not_begin_either() -> None:
    world = World(Scenario("any", "any", "In 0 100:0", is_idle=True, has_config=True), status={"phase": "Initializing"})
    world.promoted, world.primary_age, world.config = ("1", "red"), 1, GONE
    player = Player(world)
    assert player.tick().events[-1] == WARNING
    assert world.status["phase"] == "Initializing"


def test_a_waiting_revision_waits_on() -> None:
    gate = {"analysis": {"webhooks": [{"name": "start", "type": "confirm-rollout", "url": "http://h.test/"}]}}
    player = at(STARTED, **gate)
    after(player, Inputs(revision="2", hooks={"start": 403}))
    assert player.world.status["phase"] == "Waiting"
    assert after(player, Inputs(config=GONE, hooks={"start": 200})).events == [WARNING]
    assert player.world.status["phase"] == "Waiting"


def test_an_api_server_that_cannot_be_asked_ends_the_tick() -> None:
    """Of what may well be there nothing is known."""
    player = at(AT_20)
    steps, world, seen = tick(player.world.raw, player.world.options, NOW), player.world, Seen(player.world.seen())
    effect = next(steps)
    while effect is not Do.FINGERPRINT:
        effect = steps.send(world.answer(effect, seen))
    failed: StepFailed = Unasked("m1: no answer within 10 s")
    told = steps.throw(failed)
    assert getattr(told, "message", None) == "m1: no answer within 10 s"
    with pytest.raises(StopIteration):
        next(steps)
