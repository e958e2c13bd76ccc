"""What holds after every tick, whatever a user, the metrics and the cluster do in the meantime."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_rollout.decide.canary.effects import Do
from fleet_rollout.decide.canary.machine import tick
from tests.conformance.manifests import MATCH, every_hook
from tests.conformance.scenario import Inputs, Ready, Scenario, merged
from tests.decide.canary.player import GONE, NOW, Player, World, run

PROMOTED = ("Promoting", "Finalising", "Succeeded", "Initialized")
READY = st.sampled_from(Ready)
ANSWER = st.sampled_from((200, 403))
HOOKS = ("start", "warm", "load", "more", "promote", "bye", "back")

analyses = st.one_of(
    st.builds(
        lambda step, most, back, mirror: {"stepWeight": step, "maxWeight": most, "stepWeightPromotion": back} | mirror,
        st.integers(1, 100),
        st.integers(1, 100),
        st.integers(0, 100),
        st.sampled_from(({}, {"mirror": True})),
    ),
    st.builds(
        lambda steps: {"stepWeights": sorted(steps), "stepWeight": None, "maxWeight": None},
        st.sets(st.integers(1, 100), min_size=1, max_size=4),
    ),
    st.builds(
        lambda count, match: {"iterations": count, "stepWeight": None, "maxWeight": None} | match,
        st.integers(1, 3),
        st.sampled_from(({}, {"match": MATCH}, {"mirror": True})),
    ),
)
# What the CRD lets through beside them.
numbers = st.integers(-130, 130)
odd_analyses = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("stepWeight", "maxWeight", "stepWeightPromotion", "iterations", "threshold"), numbers),
        "stepWeights": st.lists(numbers, max_size=3),
        "match": st.just(MATCH),
        "mirror": st.booleans(),
    },
)
providers = st.sampled_from(("istio", "nginx", "gatewayapi:v1", "kubernetes"))
specs = st.builds(
    lambda provider, analysis, gated: merged(
        merged({"provider": provider, "analysis": analysis}, every_hook() if gated else {}), {}
    ),
    providers,
    analyses,
    st.booleans(),
)
inputs = st.builds(
    Inputs,
    metric=st.sampled_from((None, 100.0, 90.0)),
    hooks=st.dictionaries(st.sampled_from(HOOKS), ANSWER, max_size=2),
    revision=st.sampled_from((None, None, "1", "2", "3")),
    config=st.sampled_from((None, None, None, None, "red", "blue", GONE)),
    primary=st.one_of(st.none(), READY),
    canary=st.one_of(st.none(), READY),
)
# Most ticks change nothing, so that rollouts get somewhere.
weeks = st.lists(st.one_of(st.just(Inputs()), st.just(Inputs()), inputs), min_size=3, max_size=25)


def player(spec: dict[str, Any], ticks: list[Inputs]) -> Player:
    """The first two ticks initialise the Canary undisturbed."""
    by_number = {**dict(enumerate(ticks, start=1)), 1: Inputs(hooks={"back": 403}), 2: Inputs()}
    return Player.of(Scenario("any", "any", "In 0 100:0", spec, by_number, is_idle=True, has_config=True))


def check(world: World) -> None:
    phase, routes, status = world.status.get("phase"), world.routes, world.status
    if routes is not None:
        assert routes.primary + routes.canary == 100
        assert 0 <= routes.canary <= 100
        assert not (routes.mirrored and routes.canary)
    if routes is not None and phase in ("Initialized", "Succeeded", "Waiting", "Failed") and not is_stranded(world):
        assert (routes.primary, routes.mirrored) == (100, False)
    if world.promoted is not None and phase in PROMOTED:
        assert status["lastAppliedSpec"] == world.promoted[0], "credited what the primary does not run"
    if is_stranded(world):
        assert world.promoted is not None
        assert status["lastPromotedSpec"] == world.promoted[0], "an old revision would be credited"
    if phase in ("Initialized", "Succeeded"):
        assert world.promoted is not None
        assert status["lastPromotedSpec"] == world.promoted[0]
        assert status["trackedConfigs"] == {"configmap/podinfo-config": world.promoted[1]}


def is_stranded(world: World) -> bool:
    """A failed promotion leaves all traffic where the new version is known to work, while that is there."""
    status = world.status
    is_judged = world.revision == status.get("lastAppliedSpec") and (
        world.config == GONE or status.get("trackedConfigs") == {"configmap/podinfo-config": world.config}
    )
    return status.get("phase") == "Failed" and status.get("canaryWeight") == 100 and is_judged


@given(specs, weeks)
def test_after_every_tick(spec: dict[str, Any], ticks: list[Inputs]) -> None:
    played = player(spec, ticks)
    for _ in ticks:
        played.tick()
        check(played.world)


@given(specs, weeks, st.data())
def test_after_every_tick_of_an_engine_that_is_killed_at_times(
    spec: dict[str, Any], ticks: list[Inputs], data: st.DataObject
) -> None:
    played = player(spec, ticks)
    world = played.world
    for number in range(1, len(ticks) + 1):
        if data.draw(st.booleans()):
            world.set(world.scenario.before(number))
            run(world, tick(world.raw, world.options, NOW), effects=data.draw(st.integers(0, 30)))
        played.tick()
        check(world)


@given(providers, odd_analyses, odd_analyses, st.integers(3, 8), st.integers(1, 9))
def test_numbers_that_make_no_sense_promote_nothing_unchecked(
    provider: str, analysis: dict[str, Any], edited: dict[str, Any], edit: int, good: int
) -> None:
    """Every check fails from some tick on, so that one that was passed over would show."""
    ticks = [Inputs(), Inputs(), Inputs(revision="2"), *[Inputs() for _ in range(20)]]
    ticks[edit] = Inputs(spec={"analysis": edited})
    unset = {"stepWeight": None, "maxWeight": None}
    played = player({"provider": provider, "analysis": unset | analysis}, ticks)
    world = played.world
    for number in range(1, len(ticks) + 1):
        world.metric = 100.0 if number < good else 90.0
        before = world.seen()
        seen = played.tick()
        check(world)
        if Do.PROMOTE in seen.effects:
            assert number < good
            assert before.phase in ("Progressing", "WaitingPromotion")
            assert before.canary > 0 or before.iterations > 0


@pytest.mark.parametrize("provider", ["istio", "kubernetes"])
@given(analyses)
def test_a_good_revision_is_promoted_in_the_end(provider: str, analysis: dict[str, Any]) -> None:
    played = player({"provider": provider, "analysis": analysis}, [Inputs()] * 2 + [Inputs(revision="2")])
    for _ in range(240):
        played.tick()
    assert played.world.status["phase"] == "Succeeded"
    assert played.world.promoted == ("2", "red")
    assert played.world.replicas == 0
