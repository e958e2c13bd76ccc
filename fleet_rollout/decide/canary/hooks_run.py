"""Where a tick calls webhooks, and what their answers mean. Gates never count as failed checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleet_rollout.decide.canary.effects import CallHook, Notify
from fleet_rollout.decide.canary.hooks import hooks_of
from fleet_rollout.decide.canary.objects import StepFailed, Unasked
from fleet_rollout.decide.canary.run import Ended, Run, Steps

Hook = Mapping[str, Any]


def confirm_rollout(run: Run) -> Steps[None]:
    """Ask the start gates; the first refusal makes the Canary wait, and is told once."""
    for hook in hooks_of(run.subject, "confirm-rollout"):
        if (yield CallHook(hook, run.phase)) is None:
            yield from run.normal(f"Confirm-rollout check {hook['name']} passed")
            continue
        if run.phase != "Waiting":
            yield from run.enter("Waiting")
            yield from run.warning(f"Halt {run.subject.full_name} advancement waiting for approval {hook['name']}")
            yield from _alert(hook, "Canary is waiting for approval.")
        raise Ended


def pre_rollout(run: Run) -> Steps[None]:
    """Run what has to succeed before the first request reaches the canary."""
    for hook in hooks_of(run.subject, "pre-rollout"):
        error = yield CallHook(hook, "Progressing")
        if error is not None:
            yield from run.warning(
                f"Halt {run.subject.full_name} advancement pre-rollout check {hook['name']} failed {error}"
            )
            yield from run.fail_check()
        yield from run.normal(f"Pre-rollout check {hook['name']} passed")


def rollout(run: Run) -> Steps[None]:
    """Run what belongs to every check, such as a load test."""
    for hook in hooks_of(run.subject, "rollout"):
        error = yield CallHook(hook, "Progressing")
        if error is not None:
            yield from run.warning(
                f"Halt {run.subject.full_name} advancement external check {hook['name']} failed {error}"
            )
            yield from run.fail_check()


def confirm_traffic_increase(run: Run) -> Steps[None]:
    """Ask before the canary gets more traffic; a refusal is told at every tick."""
    for hook in hooks_of(run.subject, "confirm-traffic-increase"):
        if (yield CallHook(hook, "Progressing")) is not None:
            yield from run.warning(
                f"Halt {run.subject.full_name} advancement waiting for traffic increase approval {hook['name']}"
            )
            yield from _alert(hook, "Canary traffic increase is waiting for approval.")
            yield from run.renew_deadline()
            raise Ended
        yield from run.normal(f"Confirm-traffic-increase check {hook['name']} passed")


def confirm_promotion(run: Run, iterations: int) -> Steps[None]:
    """Ask before the promotion. A refusal goes one iteration back, so that checks go on meanwhile.

    It never goes back to iteration 0, where the analysis would start anew (Q10).
    """
    one_less = iterations - 1 or 1
    for hook in hooks_of(run.subject, "confirm-promotion"):
        if (yield CallHook(hook, "Progressing")) is None:
            yield from run.normal(f"Confirm-promotion check {hook['name']} passed")
            continue
        if run.phase == "WaitingPromotion":
            yield from run.write({"iterations": one_less})
            yield from run.renew_deadline()
        else:
            yield from run.enter("WaitingPromotion", iterations=one_less)
            yield from run.warning(
                f"Halt {run.subject.full_name} advancement waiting for promotion approval {hook['name']}"
            )
            yield from _alert(hook, "Canary promotion is waiting for approval.")
        raise Ended


def asks_for_rollback(run: Run) -> Steps[bool]:
    """Whether a rollback hook passes: somebody wants the new version gone.

    One that had no turn hides no other; Unasked where none of the others passes.
    """
    unasked = ""
    for hook in hooks_of(run.subject, "rollback"):
        try:
            refusal = yield CallHook(hook, run.phase)
        except Unasked as error:
            unasked = unasked or error.message
            continue
        if refusal is None:
            yield from run.warning(f"Rollback check {hook['name']} passed")
            yield from run.warning(f"Rolling back {run.subject.full_name} manual webhook invoked")
            yield Notify("warn", "Rolling back manual webhook invoked")
            return True
        yield from run.normal(f"Rollback hook {hook['name']} not signaling a rollback")
    if unasked:
        raise Unasked(unasked)
    return False


def post_rollout(run: Run, phase: str) -> Steps[None]:
    """Tell that the rollout has ended; a failure skips the rest and changes nothing."""
    for hook in hooks_of(run.subject, "post-rollout"):
        try:
            error = yield CallHook(hook, phase)
        except StepFailed as away:  # the rollout has ended all the same
            error = away.message
        if error is not None:
            yield from run.warning(f"Post-rollout hook {hook['name']} failed {error}")
            return
        yield from run.normal(f"Post-rollout check {hook['name']} passed")


def _alert(hook: Hook, message: str) -> Steps[None]:
    if not hook.get("muteAlert"):
        yield Notify("warn", message)
