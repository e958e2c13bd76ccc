"""A Canary that another engine has driven so far: its names of the revisions are replaced, and nothing starts anew."""

from __future__ import annotations

from typing import Any

import pytest

from fleet_rollout.decide.canary.effects import Do
from fleet_rollout.decide.canary.machine import tick
from fleet_rollout.decide.canary.objects import Routes
from fleet_rollout.decide.canary.spec_hash import ADOPTED, adopted
from tests.conformance.scenarios import BY_NAME
from tests.decide.canary.player import NOW, World, run

FOREIGN = {"lastAppliedSpec": "598d574dd7", "lastPromotedSpec": "9d7fbd74d"}
OURS = "v1:0123456789abcdef"


class Adopting(World):
    """A world that takes over as the engine does: when it has seen the target."""

    def _do(self, effect: Do) -> Any:
        if effect is Do.INSPECT:
            known = super()._do(Do.FINGERPRINT)
            changes = adopted(self.status, known)
            assert changes.keys() <= ADOPTED
            self.status |= changes
        return super()._do(effect)


@pytest.mark.parametrize(
    ("phase", "applied_is_promoted", "weight"), [("Progressing", False, 20), ("Succeeded", True, 0)]
)
def test_taking_over_restarts_nothing(phase: str, applied_is_promoted: bool, weight: int) -> None:
    status = {"phase": phase, "canaryWeight": weight, "failedChecks": 0, "conditions": [{"type": "Promoted"}]}
    names = FOREIGN | ({"lastPromotedSpec": FOREIGN["lastAppliedSpec"]} if applied_is_promoted else {})
    world = Adopting(BY_NAME["S1"], status=status | names, revision=OURS, routes=Routes(100 - weight, weight))
    world.promoted, world.primary_age = ("v1:fedcba9876543210", "red"), 1
    seen = run(world, tick(world.raw, world.options, NOW))
    assert not [event for event in seen.events if "New revision" in event]
    assert world.status["phase"] == phase
    assert world.status["lastAppliedSpec"] == OURS
    assert world.routes is not None
    assert world.routes.canary >= weight
