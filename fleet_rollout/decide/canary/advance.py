"""One step of an analysis that has passed its checks, and of a promotion: more traffic, an iteration, or the end."""

from __future__ import annotations

from fleet_rollout.decide.canary.effects import SetRoutes
from fleet_rollout.decide.canary.finish import ALL_CANARY, ALL_PRIMARY, promote
from fleet_rollout.decide.canary.hooks_run import confirm_promotion, confirm_traffic_increase
from fleet_rollout.decide.canary.objects import Routes
from fleet_rollout.decide.canary.run import Ended, Run, Steps
from fleet_rollout.decide.canary.strategy import can_match, can_mirror, strategy_of
from fleet_rollout.decide.canary.subject import MOST_WEIGHT
from fleet_rollout.decide.canary.weights import next_step

# What the kubernetes provider, which cannot divide traffic, does when no number of iterations is given.
ITERATIONS_WITHOUT_TRAFFIC = 10


def next_iteration_or_weight(run: Run) -> Steps[None]:
    """The step of the Canary's strategy."""
    iterations = run.subject.iterations
    yield from _tell_of_match(run)
    if run.subject.provider == "kubernetes" and iterations < 1:
        iterations = ITERATIONS_WITHOUT_TRAFFIC
        yield from run.warning("Progressive traffic is not supported when using the kubernetes provider")
        yield from run.warning(f"Setting canaryAnalysis.iterations: {iterations}")
    if iterations < 1:
        yield from _weighted(run)
    elif strategy_of(run.subject) == "ab-testing":
        yield from _matching(run, iterations)
    else:
        yield from _blue_green(run, iterations)


def _weighted(run: Run) -> Steps[None]:
    """A growing share of the traffic. Ends silently where no step is configured."""
    subject, routes = run.subject, run.routes
    step = next_step(subject, routes.canary)
    if step <= 0:
        return
    is_mirroring = yield from _mirrors(run)
    if not routes.mirrored and run.phase != "WaitingPromotion":
        yield from confirm_traffic_increase(run)
    if routes.canary >= subject.max_weight:
        yield from confirm_promotion(run, 0)
        yield from promote(run)
    if is_mirroring and routes.canary == 0 and not routes.mirrored:
        moved = Routes(MOST_WEIGHT, 0, mirrored=True)
    else:
        share = min(MOST_WEIGHT, routes.canary + step)
        moved = Routes(MOST_WEIGHT - share, share)
    yield SetRoutes(moved)
    yield from run.write({"canaryWeight": moved.canary})
    yield from run.normal(f"Advance {subject.full_name} canary weight {moved.canary}")


def _matching(run: Run, iterations: int) -> Steps[None]:
    """A/B testing: requests that match go to the canary, for a number of checks."""
    if iterations > run.iterations:
        yield SetRoutes(ALL_CANARY)
        yield from _count_iteration(run, iterations)
    yield from confirm_promotion(run, iterations)
    yield from promote(run)


def _blue_green(run: Run, iterations: int) -> Steps[None]:
    """A number of checks, then all traffic at once; the checks go on between the switch and the promotion."""
    has_traffic = run.subject.provider != "kubernetes"
    if iterations > run.iterations:
        if has_traffic and not run.routes.mirrored and (yield from _mirrors(run)):
            yield SetRoutes(Routes(MOST_WEIGHT, 0, mirrored=True))
        yield from _count_iteration(run, iterations)
    yield from confirm_promotion(run, iterations)
    # Beyond the count and yet not switched: `iterations` was lowered meanwhile (Q9).
    is_switched = run.iterations > iterations and (not has_traffic or run.routes.canary == MOST_WEIGHT)
    if is_switched:
        yield from promote(run)
    if has_traffic:
        if run.subject.mirror:
            yield from run.normal("Stop traffic mirroring and route all traffic to canary")
        else:
            yield from run.normal("Routing all traffic to canary")
        yield SetRoutes(ALL_CANARY)
    yield from run.write({"iterations": run.iterations + 1})


def _count_iteration(run: Run, iterations: int) -> Steps[None]:
    count = run.iterations + 1
    yield from run.write({"iterations": count})
    yield from run.normal(f"Advance {run.subject.full_name} canary iteration {count}/{iterations}")
    raise Ended


def _tell_of_match(run: Run) -> Steps[None]:
    """A wish for A/B testing that the router cannot fulfil is told, and the rollout is blue/green (Q23)."""
    subject = run.subject
    if not subject.match or can_match(subject):
        return
    if subject.provider == "kubernetes":
        yield from run.warning("A/B testing is not supported when using the kubernetes provider")
    elif subject.iterations > 0 and _is_untouched(run):
        yield from run.warning(
            f"A/B testing is not supported here by provider {subject.provider}, "
            f"and {subject.full_name} is rolled out as blue/green: remove analysis.match"
        )


def _is_untouched(run: Run) -> bool:
    """Whether this is the first step of the rollout."""
    return run.routes.canary == 0 and run.iterations == 0


def _mirrors(run: Run) -> Steps[bool]:
    """Whether requests are to be mirrored; a wish that the router cannot fulfil is told and passed over (Q7)."""
    if not run.subject.mirror:
        return False
    if can_mirror(run.subject):
        return True
    if _is_untouched(run):
        yield from run.warning(
            f"Mirroring is not supported here by provider {run.subject.provider}: remove analysis.mirror"
        )
    return False


def promotion_step(run: Run) -> Steps[None]:
    """The primary runs the new version: traffic returns to it, at once or step by step."""
    subject, step = run.subject, run.subject.step_weight_promotion
    if subject.provider != "kubernetes" and step == 0:
        yield from run.normal("Routing all traffic to primary")
        yield SetRoutes(ALL_PRIMARY)
    # With nothing on the canary any more, only the phase is behind (Q6).
    elif subject.provider != "kubernetes" and run.routes.canary > 0:
        share = min(MOST_WEIGHT, run.routes.primary + step)
        yield SetRoutes(Routes(share, MOST_WEIGHT - share))
        yield from run.normal(f"Advance {subject.full_name} primary weight {share}")
        if share < MOST_WEIGHT:
            yield from run.write({"canaryWeight": MOST_WEIGHT - share})
            raise Ended
    yield from run.enter("Finalising")
    raise Ended
