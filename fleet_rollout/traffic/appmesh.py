"""Provider `appmesh`: refused with a sentence, because AWS ended App Mesh on 30 September 2026."""

from __future__ import annotations

from fleet_rollout.decide.canary.objects import Live, Ref, Routes, StepFailed, Write
from fleet_rollout.decide.canary.subject import Subject
from fleet_rollout.traffic.router import Moved


class AppMeshRouter:
    """Says so at every tick; traffic stays where it is, and a deletion is not held up."""

    def reads(self, subject: Subject) -> list[Ref]:
        return []

    def reconcile(self, subject: Subject, live: Live) -> list[Write]:
        raise _refusal(subject)

    def routes(self, subject: Subject, live: Live) -> Routes:
        raise _refusal(subject)

    def set_routes(self, subject: Subject, live: Live, routes: Routes, *, token: str) -> Moved:
        raise _refusal(subject)

    def finalize(self, subject: Subject, live: Live) -> list[Write]:
        return []


def _refusal(subject: Subject) -> StepFailed:
    return StepFailed(f"{subject.full_name} provider {subject.provider} is gone: use gatewayapi:v1 or another mesh")
