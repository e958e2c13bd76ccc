"""Where a rollback hook has no turn, nothing is known of it; whatever else rolls back does so all the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet_rollout.decide.canary.objects import Routes
from tests.conformance.scenario import Inputs, Scenario
from tests.decide.canary.player import CROWDED, NO_TURN, Player, Seen, World

HOOKS = [{"name": name, "type": "rollback", "url": "http://h.test/"} for name in ("first", "second")]
GATE = {"name": "start", "type": "confirm-rollout", "url": "http://h.test/"}
QUIET = {"first": 403, "second": 403}
STARTED, AT_20 = 3, 5


def after(player: Player, inputs: Inputs) -> Seen:
    """The next tick, before which this is set."""
    player.world.scenario = replace(player.world.scenario, inputs={player.number + 1: inputs})
    return player.tick()


def at(number: int) -> Player:
    """Before this tick of a rollout that meets no trouble."""
    spec = {"analysis": {"webhooks": [*HOOKS, GATE]}}
    player = Player.of(Scenario("any", "any", "In 0 100:0", spec, is_idle=True))
    for each in range(1, number):
        after(player, Inputs(revision="2", hooks=QUIET) if each == STARTED else Inputs(hooks=QUIET))
    return player


def rolled_back(world: World) -> bool:
    return (world.status["phase"], world.routes, world.replicas) == ("Failed", Routes(100, 0), 0)


def test_the_threshold_holds() -> None:
    """A version that is known to be bad has no traffic for as long as the hook's host is crowded."""
    player = at(AT_20)
    for _ in range(2):
        after(player, Inputs(metric=90.0))
    assert (player.world.status["failedChecks"], player.world.routes) == (2, Routes(80, 20))
    seen = after(player, Inputs(hooks={"first": NO_TURN}))
    assert rolled_back(player.world)
    assert seen.events[:3] == [
        "N Rollback hook second not signaling a rollback",
        f"W {CROWDED}",
        "W Rolling back podinfo.test failed checks threshold reached 2",
    ]


def test_below_the_threshold_the_tick_ends() -> None:
    player = at(AT_20)
    after(player, Inputs(metric=90.0))
    seen = after(player, Inputs(hooks={"first": NO_TURN}))
    assert seen.events == ["N Rollback hook second not signaling a rollback", f"W {CROWDED}"]
    assert (player.world.status["failedChecks"], player.world.routes) == (1, Routes(80, 20))


@pytest.mark.parametrize("waits", [True, False])
def test_the_next_hook_is_asked(waits: bool) -> None:
    player = at(STARTED if waits else AT_20)
    if waits:
        after(player, Inputs(revision="2", hooks={"start": 403}))
        assert player.world.status["phase"] == "Waiting"
    seen = after(player, Inputs(hooks={"first": NO_TURN, "second": 200}))
    assert seen.events[0] == "W Rollback check second passed"
    assert player.world.status["phase"] == "Failed"
    assert rolled_back(player.world)
