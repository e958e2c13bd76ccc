"""How a rollout ends: rolled back, promoted, promoted without analysis, called off, or failed while being promoted."""

from __future__ import annotations

from fleet_rollout.decide.canary.change import is_last_revision
from fleet_rollout.decide.canary.effects import Count, Do, Notify, SetRoutes
from fleet_rollout.decide.canary.hooks_run import post_rollout
from fleet_rollout.decide.canary.objects import Routes
from fleet_rollout.decide.canary.run import Ended, Run, Steps
from fleet_rollout.decide.canary.status import promotion_failed

ALL_PRIMARY = Routes(100, 0)
ALL_CANARY = Routes(0, 100)


def roll_back(run: Run, reason: str = "") -> Steps[None]:
    """All traffic to the primary, the target to zero, and the revision is done with. `reason` goes into an alert."""
    subject = run.subject
    if run.failed_checks >= subject.threshold:
        count = run.failed_checks
        yield from run.warning(f"Rolling back {subject.full_name} failed checks threshold reached {count}")
        yield Notify("error", f"Failed checks threshold reached {count}")
    elif reason:
        yield Notify("error", f"Rolling back, {reason}")
    yield SetRoutes(ALL_PRIMARY)
    yield from run.warning(f"Canary failed! Scaling down {subject.full_name}", phase="Failed")
    yield from _retire_target()
    yield from run.sync("Failed")
    yield Count(succeeded=False)
    yield from post_rollout(run, "Failed")
    raise Ended


def fail_promotion(run: Run, reason: str) -> Steps[None]:
    """The primary breaks with the new spec: the canary, which was judged good, keeps all traffic.

    A target that has changed meanwhile, or that has no Pods any more, is not that canary: the primary's old Pods may
    still serve, and the new revision is analysed when the primary is ready.
    """
    is_judged = is_last_revision(run.status, run.fingerprint) and not run.fingerprint.is_scaled_down
    routes = ALL_CANARY if is_judged else ALL_PRIMARY
    yield from run.warning(f"Promotion of {run.subject.target} failed, primary not ready: {reason}")
    yield Notify("error", f"Promotion failed, primary not ready: {reason}")
    yield SetRoutes(routes)
    kind = run.subject.target_kind
    yield from run.write(promotion_failed(run.status, kind=kind, now=run.now, weight=routes.canary))
    yield Count(succeeded=False)
    yield from post_rollout(run, "Failed")
    raise Ended


def call_off(run: Run) -> Steps[None]:
    """The target is the promoted revision again: there is nothing left to analyse (Q5)."""
    yield from run.normal(f"Promoted revision is back! Analysis ends for {run.subject.target}")
    yield SetRoutes(ALL_PRIMARY)
    yield from _retire_target()
    yield from run.sync("Initialized")
    yield from post_rollout(run, "Initialized")
    raise Ended


def copy_to_primary(run: Run) -> Steps[None]:
    """The new version becomes the promoted one."""
    subject = run.subject
    yield from run.normal(f"Copying {subject.target} template spec to {subject.primary_workload}.{subject.namespace}")
    yield Do.PROMOTE


def promote(run: Run) -> Steps[None]:
    """Start the promotion; the traffic follows when the primary is ready."""
    yield from copy_to_primary(run)
    yield from run.enter("Promoting")
    raise Ended


def promote_unanalysed(run: Run) -> Steps[None]:
    """`skipAnalysis`: the whole promotion in one tick."""
    yield SetRoutes(ALL_PRIMARY)
    yield from copy_to_primary(run)
    yield Do.SYNC_SCALER
    yield from _retire_target()
    yield from run.enter("Succeeded")
    run.found_phase = run.phase
    yield Count(succeeded=True, skipped=True)
    yield from post_rollout(run, "Succeeded")
    yield from run.normal(f"Promotion completed! Canary analysis was skipped for {run.subject.target}")
    yield Notify("info", "Canary analysis was skipped, promotion finished.")
    raise Ended


def succeed(run: Run) -> Steps[None]:
    """All traffic is on the promoted version: the target has done its work."""
    yield from _retire_target()
    yield from run.enter("Succeeded")
    run.found_phase = run.phase
    yield Count(succeeded=True)
    yield from post_rollout(run, "Succeeded")
    yield from run.normal(f"Promotion completed! Scaling down {run.subject.target}")
    yield Notify("info", "Canary analysis completed successfully, promotion finished.")
    raise Ended


def _retire_target() -> Steps[None]:
    yield Do.PAUSE_SCALER
    yield Do.SCALE_DOWN
