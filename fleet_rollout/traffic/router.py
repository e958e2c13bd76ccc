"""The seam to everything that routes traffic: five questions, answered from objects by pure functions.

A router neither reads nor writes: control fetches what `reads` names and carries out what comes back.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from fleet_rollout.decide.canary.objects import Live, Ref, Routes, Write
from fleet_rollout.decide.canary.subject import Subject

__all__ = ["Moved", "Router", "Routes"]


class Moved(NamedTuple):
    """What moves the traffic, and the status fields (session cookies) that go with it."""

    writes: list[Write]
    status: dict[str, Any]


class Router(Protocol):
    """One kind of mesh, gateway or ingress."""

    def reads(self, subject: Subject) -> list[Ref]:
        """The objects that the other methods look at; each must be in `live`, as None where it does not exist."""

    def reconcile(self, subject: Subject, live: Live) -> list[Write]:
        """Bring the routing objects to what the Canary says; weights and what others wrote stay as they are."""

    def routes(self, subject: Subject, live: Live) -> Routes:
        """Where the traffic goes now. Raises StepFailed where the objects do not say."""

    def set_routes(self, subject: Subject, live: Live, routes: Routes, *, token: str) -> Moved:
        """Move the traffic. `token` is a random text of ten letters for a new session cookie."""

    def finalize(self, subject: Subject, live: Live) -> list[Write]:
        """Give the routing objects back, for `revertOnDeletion`."""
