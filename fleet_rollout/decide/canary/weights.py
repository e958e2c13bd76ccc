"""Arithmetic of weights: the next step, and what the user has to mend in a list of them."""

from __future__ import annotations

from itertools import pairwise

from fleet_rollout.decide.canary.subject import MOST_WEIGHT, Subject


def next_step(subject: Subject, canary: int) -> int:
    """By how much the canary's share grows from `canary` percent; 0 where no step is configured.

    Along a list, a share that is not in it goes on to the next larger entry.
    """
    weights = subject.step_weights
    if subject.step_weight > 0 or not weights:
        return subject.step_weight
    following = next((weight for weight in weights if weight > canary), canary + 1)
    return min(MOST_WEIGHT, following) - canary if canary < MOST_WEIGHT else 1


def weights_complaint(subject: Subject) -> str | None:
    """What is wrong with `stepWeights`, and how to mend it (Q8); None where they rise from 1 to 100."""
    weights = subject.step_weights
    if subject.step_weight > 0 or not weights:
        return None
    is_rising = all(one < two for one, two in pairwise(weights))
    if is_rising and weights[0] >= 1 and weights[-1] <= MOST_WEIGHT:
        return None
    return (
        f"{subject.full_name} analysis.stepWeights {weights} must rise from step to step within 1 to 100: "
        "for example [5, 20, 50]"
    )
