"""An engine that is killed after any write of any scenario, and started again, ends as one that was not killed."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from fleet_rollout.decide.canary.effects import Do, Effect, SetRoutes, WriteStatus
from fleet_rollout.decide.canary.machine import tick
from tests.conformance.notation import SHORT
from tests.conformance.scenario import Scenario
from tests.conformance.scenarios import SCENARIOS
from tests.decide.canary.player import NOW, Player, World, run

WRITES = (Do.CREATE_PRIMARY, Do.SCALE_DOWN, Do.SCALE_UP, Do.RECONCILE_ROUTES, Do.PROMOTE)
# After the last tick of a scenario nothing changes any more, and every rollout has come to rest.
UNTIL_REST = 15


def is_write(effect: Effect) -> bool:
    return isinstance(effect, SetRoutes | WriteStatus) or effect in WRITES


def end(world: World) -> dict[str, Any]:
    """All that remains of a rollout."""
    status = {name: world.status.get(name) for name in ("phase", "canaryWeight", "iterations", "failedChecks")}
    known = {name: world.status.get(name) for name in ("lastAppliedSpec", "lastPromotedSpec", "trackedConfigs")}
    return status | known | {"routes": world.routes, "replicas": world.replicas, "primary": world.promoted}


def finished(player: Player) -> dict[str, Any]:
    while player.number < player.world.scenario.last + UNTIL_REST:
        player.tick()
    return end(player.world)


@pytest.mark.parametrize("scenario", [s for s in SCENARIOS if s.is_pure], ids=lambda scenario: scenario.name)
def test_a_killed_run_ends_as_an_undisturbed_one(scenario: Scenario) -> None:
    player = Player.of(scenario)
    wanted = finished(copy.deepcopy(player))
    differing = []
    for number in range(1, scenario.last + 1):
        before = copy.deepcopy(player)
        effects = player.tick().effects
        *writes, _ = [count for count, effect in enumerate(effects, start=1) if is_write(effect)] or [0]
        for count in writes:  # after the last one the tick is as good as over
            killed = copy.deepcopy(before)
            killed.world.set(scenario.before(number))
            run(killed.world, tick(killed.world.raw, killed.world.options, NOW), effects=count)
            if (found := finished(killed)) != wanted:
                short = SHORT.get(str(found["phase"]))
                differing.append(f"tick {number} after {effects[count - 1]}: {short} {found}")
    assert not differing, "\n".join([f"undisturbed: {wanted}", *differing])
