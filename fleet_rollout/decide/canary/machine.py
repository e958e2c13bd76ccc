"""One tick of a Canary: Flagger's steps, in Flagger's order, as a pure generator of effects.

`tick` decides, control carries out. Where it differs from Flagger, the quirk's number stands at the place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from fleet_rollout.decide.canary import finish, hooks_run, knative
from fleet_rollout.decide.canary.advance import next_iteration_or_weight, promotion_step
from fleet_rollout.decide.canary.change import has_returned, is_last_revision, is_new_revision, names_changed
from fleet_rollout.decide.canary.checks import in_order
from fleet_rollout.decide.canary.effects import Do, Measure, Notify, SetRoutes
from fleet_rollout.decide.canary.objects import StepFailed, Unasked
from fleet_rollout.decide.canary.run import ANALYSING, PROMOTING, Ended, Run, Steps
from fleet_rollout.decide.canary.spec_hash import ADOPTED
from fleet_rollout.decide.canary.status import is_promotion_failed
from fleet_rollout.decide.canary.subject import EngineOptions, Subject
from fleet_rollout.decide.canary.weights import weights_complaint

SCALED_DOWN = "is scaled to zero during the analysis"


def tick(raw: Mapping[str, Any], options: EngineOptions, now: str) -> Steps[None]:
    """Everything that one tick does about the Canary `raw`; `now` is RFC 3339."""
    run = Run(Subject(raw, options), now, dict(raw.get("status") or {}))
    try:
        for step in STEPS:
            yield from step(run)
    except Ended:
        return
    except StepFailed as error:
        yield from run.warning(error.message)


def greet(run: Run) -> Steps[None]:
    """A Canary nobody has seen yet."""
    if not run.status.get("conditions"):
        yield from run.enter("Initializing")
    run.found_phase = run.phase
    yield Do.HOLD


def respect_suspension(run: Run) -> Steps[None]:
    """Nothing is reconciled, and weights stay as they are."""
    if run.subject.is_suspended:
        yield from run.normal("skipping canary run as object is suspended")
        raise Ended


def inspect(run: Run) -> Steps[None]:
    """Target, label and ports; everything that follows needs them. A target that cannot be routed is left as it is.

    Another engine's names of the revisions have been replaced by ours then, which is not a change of the revision.
    """
    if problem := knative.complaint(run.subject):
        raise StepFailed(problem)
    run.subject = yield Do.INSPECT
    run.status.update((name, value) for name, value in run.subject.status.items() if name in ADOPTED)


def prepare_services(run: Run) -> Steps[None]:
    """The Services of both versions exist before anything is routed to them."""
    yield Do.RECONCILE_SERVICES


def probe_metrics(run: Run) -> Steps[None]:
    """Tell early that a metrics backend is missing; the tick goes on."""
    if not run.is_initialising or run.subject.skip_analysis:
        return
    failure = yield Do.PROBE_METRICS
    if failure is None:
        yield from run.normal("all the metrics providers are available!")
    else:
        yield from run.warning(f"Error checking metric providers: {failure}")


def prepare_primary(run: Run) -> Steps[None]:
    """The primary exists, and before the first promotion it is ready.

    One that will never get ready leaves the Canary initialising, to recover by itself (Q12).
    """
    yield Do.CREATE_PRIMARY
    if run.is_initialising and not run.subject.skip_analysis:
        yield Do.PRIMARY_READY


def prepare_scaler(run: Run) -> Steps[None]:
    """The primary has a scaler like the target's, which sleeps between rollouts."""
    if not run.subject.spec.get("autoscalerRef"):
        return
    yield Do.CREATE_SCALER
    if run.is_initialising:
        yield Do.PAUSE_SCALER


def prepare_traffic(run: Run) -> Steps[None]:
    """The Service that users call selects the primary before the target is scaled to zero."""
    yield Do.RECONCILE_APEX
    if run.is_initialising:
        yield Do.SCALE_DOWN
    yield Do.RECONCILE_ROUTES


PREPARATIONS = (prepare_services, probe_metrics, prepare_primary, prepare_scaler, prepare_traffic)


def prepare(run: Run) -> Steps[None]:
    """What everything that follows stands on. Without it the tick ends, but what nobody has judged serves nobody."""
    try:
        for step in PREPARATIONS:
            yield from step(run)
    except StepFailed:
        if not run.is_initialising:
            with suppress(StepFailed):  # the first complaint is the one to mend
                yield from _look_at_target(run)
                yield from withhold_traffic(run)
        raise


def _look_at_target(run: Run) -> Steps[None]:
    """What it is now. Of configs that cannot be told, those on record count (Q24)."""
    run.fingerprint = yield Do.FINGERPRINT
    if run.fingerprint.missing is not None:
        run.fingerprint = replace(run.fingerprint, configs=run.status.get("trackedConfigs"))


def initialise(run: Run) -> Steps[None]:
    """Take the target as it is for the promoted revision.

    Where a config that it needs is missing, nothing begins; what is under way goes on by the spec alone, so that
    traffic that is on the target comes away from it (Q24).
    """
    yield from _look_at_target(run)
    if run.fingerprint.missing is not None:
        yield from run.warning(run.fingerprint.missing)
        if run.is_initialising:
            raise Ended
    if run.is_initialising:
        yield from run.sync("Initialized")
        run.found_phase = run.phase
        yield from run.normal(f"Initialization done! {run.subject.full_name}")
        message = f"New {run.subject.target_kind} detected, initialization completed."
        yield Notify("info", message, with_details=True)


def withhold_traffic(run: Run) -> Steps[None]:
    """What nobody has judged serves nobody before its analysis, whatever keeps it waiting (Q3).

    A failed promotion has left all traffic on the target, whose Pods are of another revision as soon as it is
    written: a broken primary, a gate or a complaint must not come first. So it is where the primary has no Pod left,
    as in Flagger's rollback: of the new ones nothing is known, and `skipAnalysis` promotes them where more is known.
    """
    if run.phase in (*ANALYSING, *PROMOTING):
        return
    if run.phase != "Waiting" and is_last_revision(run.status, run.fingerprint):
        yield from _give_traffic_back(run)
        return
    routes = yield Do.READ_ROUTES
    if routes.canary > 0:
        yield from run.normal(f"Routing all traffic to primary: {run.subject.target} has not been analysed")
    if run.status.get("canaryWeight"):
        yield from run.write({"canaryWeight": 0})  # first: after a stop between the two the routes decide
    if routes.canary > 0:
        yield SetRoutes(finish.ALL_PRIMARY)


def _give_traffic_back(run: Run) -> Steps[None]:
    """The revision that a failed promotion has left all traffic is on the target again, after another one.

    It was judged good, and the primary that has it is not ready: where its Pods are, they serve. With a ready primary
    nothing has to be done. Where the traffic is there already, a stop has left the status behind.
    """
    is_judged = is_promotion_failed(run.status) and run.fingerprint.missing is None
    if not is_judged or run.fingerprint.is_scaled_down or run.subject.provider == "kubernetes":
        return
    if run.status.get("canaryWeight"):
        return
    routes = yield Do.READ_ROUTES
    if routes.canary == 0:
        try:
            yield Do.PRIMARY_READY
        except StepFailed as error:
            complaint = error.message
        else:
            return
        try:
            yield Do.CANARY_READY
        except StepFailed as error:
            yield from run.warning(complaint)
            yield from run.warning(error.message)
            return
        yield from run.normal(f"Routing all traffic back to {run.subject.target}, which was analysed: {complaint}")
        routes = finish.ALL_CANARY
        yield SetRoutes(routes)
    yield from run.write({"canaryWeight": routes.canary})


def notice_revision(run: Run) -> Steps[None]:
    """Go on where a rollout is under way, or where there is a new revision; else the tick is over.

    A failed revision is forgotten only once the target is the promoted one again, never before a new one was
    compared with it (Q1).
    """
    if run.fingerprint.missing is not None and run.phase not in (*ANALYSING, *PROMOTING):
        raise Ended
    if run.phase in (*ANALYSING, *PROMOTING, "Waiting"):
        return
    if not is_new_revision(run.status, run.fingerprint):
        if run.phase == "Failed" and has_returned(run.status, run.fingerprint):
            yield from run.write({"lastAppliedSpec": run.fingerprint.spec})
        raise Ended
    complaint = weights_complaint(run.subject)
    if complaint is not None and not run.subject.skip_analysis:
        raise StepFailed(complaint)


def require_primary(run: Run) -> Steps[None]:
    """The primary serves the users: without a ready one there is no analysis.

    Where none is under way, a broken primary delays the new revision instead of failing it (Q2).
    """
    if run.subject.skip_analysis:
        return
    try:
        yield Do.PRIMARY_READY
    except StepFailed as error:
        yield from run.warning(error.message)
        if not error.retriable and run.phase in PROMOTING:
            yield from finish.fail_promotion(run, error.message)
        if not error.retriable and run.phase in ANALYSING:
            yield from finish.roll_back(run, error.message)
        raise Ended from error


def read_routes(run: Run) -> Steps[None]:
    """The routing object says where the traffic is, not the status. A start has looked at it already, and moved it."""
    if run.phase in (*ANALYSING, *PROMOTING):
        run.routes = yield Do.READ_ROUTES


def pass_start_gate(run: Run) -> Steps[None]:
    """Start a rollout where the gates allow it. Ends the tick in every phase before the analysis."""
    if run.phase in (*ANALYSING, *PROMOTING):
        return
    if run.phase == "Waiting":
        if (yield from _is_called_off(run)):
            yield from finish.call_off(run)
        if (yield from hooks_run.asks_for_rollback(run)):  # in every waiting phase (Q11)
            yield from finish.roll_back(run)
    yield from hooks_run.confirm_rollout(run)
    yield from run.normal(f"New revision detected! Scaling up {run.subject.target}", phase="Progressing")
    yield Notify("info", "New revision detected, progressing canary analysis.", with_details=True)
    yield Do.RESUME_SCALER
    yield Do.SCALE_UP
    yield from run.sync("Progressing")
    raise Ended


def restart_on_change(run: Run) -> Steps[None]:
    """Another revision during the analysis starts it anew; the promoted one ends it."""
    if run.phase not in ANALYSING:
        return
    if (yield from _is_called_off(run)):
        yield from finish.call_off(run)
    if not is_new_revision(run.status, run.fingerprint) and not has_returned(run.status, run.fingerprint):
        return
    yield from run.normal(f"New revision detected! Restarting analysis for {run.subject.target}")
    yield SetRoutes(finish.ALL_PRIMARY)
    yield from run.sync("Progressing")
    raise Ended


def _is_called_off(run: Run) -> Steps[bool]:
    """Whether spec and configs are the promoted ones again, though others were on their way.

    While waiting the status does not name what waits, so a revision that failed before is not mistaken for promoted.
    Of a config that is missing nobody can say that it is the promoted one.
    """
    if run.fingerprint.missing is not None:
        return False
    if run.phase == "Waiting":
        is_another = run.fingerprint.spec != run.status.get("lastPromotedSpec")
        if is_another or names_changed(run.status, run.fingerprint):
            return False
    elif not has_returned(run.status, run.fingerprint):
        return False
    return bool((yield Do.IS_PROMOTED))


def require_canary(run: Run) -> Steps[None]:
    """A new version that is not ready yet is waited for, up to its deadline; that is no failed check.

    Once it is being promoted it no longer counts: the run ends on the primary (Q4). A target at zero was
    scaled down by a rollback that did not come to its end. Without analysis it may have been a promotion as
    well: then it starts again, and its readiness decides.
    """
    if run.phase in PROMOTING:
        return
    try:
        if run.fingerprint.is_scaled_down and run.subject.skip_analysis:
            yield Do.SCALE_UP
            raise Ended
        if run.fingerprint.is_scaled_down:
            raise StepFailed(f"{run.subject.target} {SCALED_DOWN}", retriable=False)
        yield Do.CANARY_READY
    except StepFailed as error:
        yield from run.warning(error.message)
        if not error.retriable:
            yield from finish.roll_back(run, error.message)
        raise Ended from error


def skip_analysis(run: Run) -> Steps[None]:
    """Promote at once where that is wanted."""
    if run.subject.skip_analysis:
        yield from finish.promote_unanalysed(run)


def promote_further(run: Run) -> Steps[None]:
    """Traffic returns to the primary; then the target has done its work."""
    if run.phase == "Promoting":
        yield Do.SYNC_SCALER
        yield from promotion_step(run)
    if run.phase == "Finalising":
        yield from finish.succeed(run)


def roll_back_where_due(run: Run) -> Steps[None]:
    """Somebody asks for it, or too many checks have failed, whether or not somebody can be asked."""
    is_due = run.failed_checks >= run.subject.threshold
    try:
        is_due = (yield from hooks_run.asks_for_rollback(run)) or is_due
    except Unasked as error:
        if not is_due:
            raise
        yield from run.warning(error.message)
    if is_due:
        yield from finish.roll_back(run)


def analyse(run: Run) -> Steps[None]:
    """Before the first request the pre-rollout hooks; afterwards load tests and metrics."""
    is_mirroring = run.subject.mirror and run.routes.mirrored
    if run.routes.canary == 0 and run.iterations == 0 and not is_mirroring:
        yield from run.normal(f"Starting canary analysis for {run.subject.target}")
        yield from hooks_run.pre_rollout(run)
        return
    yield from hooks_run.rollout(run)
    for metric in in_order(run.subject.analysis.get("metrics") or []):
        complaint = yield Measure(metric)
        if complaint is not None:
            yield from run.warning(complaint)
            yield from run.fail_check()


Step = Callable[[Run], Steps[None]]

# The order is Flagger's: first exit wins, and at most one step changes the rollout.
STEPS: tuple[Step, ...] = (
    greet,
    respect_suspension,
    inspect,
    prepare,
    initialise,
    withhold_traffic,
    notice_revision,
    require_primary,
    read_routes,
    pass_start_gate,
    restart_on_change,
    require_canary,
    skip_analysis,
    promote_further,
    roll_back_where_due,
    analyse,
    next_iteration_or_weight,
)


def terminate(raw: Mapping[str, Any], options: EngineOptions, now: str) -> Steps[None]:
    """Give everything back when a Canary with `revertOnDeletion` is deleted; then let it go.

    A target that is gone already cannot be given back, and must not hold the Canary.
    """
    run = Run(Subject(raw, options), now, dict(raw.get("status") or {}))
    run.found_phase = run.phase
    try:
        if run.phase != "Terminating":
            yield from run.enter("Terminating")
            yield from run.normal(f"Terminating canary {run.subject.full_name}")
        yield from _give_back(run)
        yield Do.RELEASE
        yield from run.normal(f"Terminated canary {run.subject.full_name}")
    except StepFailed as error:
        yield from run.warning(error.message)


def _give_back(run: Run) -> Steps[None]:
    try:
        run.subject = yield Do.INSPECT
    except Unasked:  # the target may well be there
        raise
    except StepFailed as error:
        yield from run.warning(error.message)
        return
    yield Do.RESUME_SCALER
    yield Do.REVERT_TARGET
    if not run.subject.is_knative:  # which was never scaled, and whose traffic stays where it is
        yield Do.CANARY_READY
    yield Do.REVERT_APEX
    yield Do.REVERT_ROUTES
