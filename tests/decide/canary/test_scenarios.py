"""Every conformance scenario against the state machine alone: Flagger's trace, or ours where a quirk is fixed."""

from __future__ import annotations

import pytest

from fleet_rollout.decide.canary.effects import Emit
from tests.conformance.deliberate import allowed, parting
from tests.conformance.scenario import Scenario
from tests.conformance.scenarios import BY_NAME, SCENARIOS
from tests.decide.canary.player import Player, Seen

PURE = [scenario for scenario in SCENARIOS if scenario.is_pure]


def named(scenario: Scenario) -> str:
    return scenario.name


def trace(seen: dict[int, Seen], scenario: Scenario) -> list[str]:
    return [shown(str(seen[tick].step), scenario) for tick in sorted(seen) if tick >= scenario.first]


def shown(step: str, scenario: Scenario) -> str:
    """Without what this target or provider has not: routes without a mesh, replicas of a Service."""
    phase, counts, routes, replicas = step.split()
    has_replicas = scenario.target_kind == "Deployment"
    return " ".join([phase, counts, *([routes] if scenario.has_routes else []), *([replicas] if has_replicas else [])])


@pytest.mark.parametrize("scenario", PURE, ids=named)
def test_the_machine_follows_the_trace(scenario: Scenario) -> None:
    seen = Player.of(scenario).play()
    wanted = [shown(str(step), scenario) for step in scenario.own_steps]
    assert trace(seen, scenario)[: len(wanted)] == wanted


@pytest.mark.parametrize("scenario", PURE, ids=named)
def test_events_alerts_and_hooks_are_those_of_flagger(scenario: Scenario) -> None:
    """Up to the first tick in which a fixed quirk changes them."""
    seen = Player.of(scenario).play()
    for kind in ("events", "alerts", "hooks"):
        for tick, wanted in getattr(scenario, kind).items():
            if tick >= parting(scenario) or kind in allowed(scenario, tick):
                continue
            found = getattr(seen[tick], kind)
            assert len(found) == len(wanted), f"{kind} of tick {tick}: {found}"
            for part, text in zip(wanted, found, strict=True):
                assert part in text, f"{kind} of tick {tick}: {found}"


@pytest.mark.parametrize(
    ("name", "tick", "phases"),
    [
        ("S1", 2, ["Initializing", "Initialized"]),
        ("S1", 3, ["Progressing"]),  # of a Canary that is still Initialized
        ("S1", 7, ["Progressing"]),
        ("S1", 9, ["Succeeded"]),
        ("S9", 7, ["Progressing", "Failed"]),
        ("S36", 3, ["Initialized"]),
        ("S45", 5, ["Progressing", "Progressing", "Failed", "Progressing"]),
        ("S46", 4, ["Progressing", "Succeeded", "Succeeded"]),
    ],
)
def test_event_hooks_are_told_the_phase_that_flagger_tells(name: str, tick: int, phases: list[str]) -> None:
    effects = Player.of(BY_NAME[name]).play()[tick].effects
    assert [effect.phase for effect in effects if isinstance(effect, Emit)] == phases


def test_a_quirk_that_changes_the_trace_says_so() -> None:
    for scenario in SCENARIOS:
        assert scenario.quirks or not scenario.own, scenario.name
