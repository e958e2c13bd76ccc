"""A Canary that reverts on its deletion gives everything back, in this order, and is let go last."""

from __future__ import annotations

from typing import Any

import pytest

from fleet_rollout.decide.canary.effects import Do, Effect, Emit, WriteStatus
from fleet_rollout.decide.canary.machine import terminate
from fleet_rollout.decide.canary.objects import StepFailed, Unasked
from fleet_rollout.decide.canary.subject import EngineOptions, Subject

NOW = "2026-01-01T00:00:00Z"
GIVEN_BACK = [
    Do.INSPECT,
    Do.RESUME_SCALER,
    Do.REVERT_TARGET,
    Do.CANARY_READY,
    Do.REVERT_APEX,
    Do.REVERT_ROUTES,
]
WHOLE = ["status", "Terminating canary podinfo.test", *GIVEN_BACK, Do.RELEASE, "Terminated canary podinfo.test"]


def canary(phase: str = "Succeeded") -> dict[str, Any]:
    return {
        "apiVersion": "flagger.app/v1beta1",
        "kind": "Canary",
        "metadata": {"name": "podinfo", "namespace": "test", "uid": "1", "deletionTimestamp": NOW},
        "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo"}},
        "status": {"phase": phase},
    }


def played(phase: str, failing: Any = None, failure: type[StepFailed] = StepFailed) -> list[Any]:
    """What is done, by name; `failing` is the effect that cannot be carried out."""
    raw, options = canary(phase), EngineOptions()
    steps, done, answer = terminate(raw, options, NOW), [], None
    fails = False
    while True:
        try:
            effect: Effect = steps.throw(failure("no answer")) if fails else steps.send(answer)
        except StopIteration:
            return done
        done.append(named(effect))
        fails = done[-1] == failing
        answer = Subject(raw, options) if effect is Do.INSPECT else None


def named(effect: Effect) -> Any:
    match effect:
        case WriteStatus():
            return "status"
        case Emit():
            return effect.message
    return effect


def test_everything_is_given_back_in_order() -> None:
    assert played("Succeeded") == WHOLE


def test_the_phase_is_told_once() -> None:
    assert played("Terminating") == WHOLE[2:]


@pytest.mark.parametrize("failing", [step for step in ["status", *GIVEN_BACK, Do.RELEASE] if step is not Do.INSPECT])
def test_what_fails_is_told_and_tried_again_before_the_canary_may_go(failing: Any) -> None:
    done = played("Succeeded", failing)
    assert done == [*WHOLE[: WHOLE.index(failing) + 1], "no answer"]


def test_a_target_that_is_gone_does_not_hold_the_canary() -> None:
    done = played("Terminating", Do.INSPECT)
    assert done == [Do.INSPECT, "no answer", Do.RELEASE, "Terminated canary podinfo.test"]


def test_a_target_that_could_not_be_asked_for_is_not_gone() -> None:
    """One answer that was lost must not let a Canary go whose target is at zero."""
    assert played("Terminating", Do.INSPECT, Unasked) == [Do.INSPECT, "no answer"]
