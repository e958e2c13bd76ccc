"""Provider `kubernetes`: no routing object.

The Service that users call selects the primary, and the canary is tested behind a Service of its own.
"""

from __future__ import annotations

from fleet_rollout.decide.canary.objects import Live, Ref, Routes, Write
from fleet_rollout.decide.canary.subject import MOST_WEIGHT, Subject
from fleet_rollout.traffic.router import Moved


class KubernetesRouter:
    """Traffic that nobody shifts: iterations alone say how far the analysis is."""

    def reads(self, subject: Subject) -> list[Ref]:
        return []

    def reconcile(self, subject: Subject, live: Live) -> list[Write]:
        return []

    def routes(self, subject: Subject, live: Live) -> Routes:
        """Everything on the canary once the first iteration is counted, so that the strategies need no case for us."""
        has_begun = int(subject.status.get("iterations") or 0) > 0
        return Routes(0, MOST_WEIGHT) if has_begun else Routes(MOST_WEIGHT, 0)

    def set_routes(self, subject: Subject, live: Live, routes: Routes, *, token: str) -> Moved:
        return Moved([], {})

    def finalize(self, subject: Subject, live: Live) -> list[Write]:
        return []
