"""Traefik: a TraefikService with weighted Services; the canary is one of them only while it has a share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fleet_rollout.decide.canary.objects import Live, Object, Ref, StepFailed, Write
from fleet_rollout.decide.canary.subject import Subject
from fleet_rollout.traffic.objects import (
    by_primary,
    create,
    dotted,
    found,
    like_apex,
    named,
    over,
    update,
    valid,
)
from fleet_rollout.traffic.router import Moved, Routes

API = "traefik.io/v1alpha1"
KIND = "TraefikService"


class TraefikRouter:
    """The user's IngressRoute leads to our TraefikService."""

    def reads(self, subject: Subject) -> list[Ref]:
        return [_ref(subject)]

    def reconcile(self, subject: Subject, live: Live) -> list[Write]:
        """Shares stay as they are found; a new TraefikService sends everything to the primary."""
        ref = _ref(subject)
        there = live[ref]
        old = (there or {}).get("spec") or {}
        services = (old.get("weighted") or {}).get("services")
        primary, canary = named(services, subject.primary), named(services, subject.canary)
        # Traefik takes a weight that is left out for 1; Flagger leaves zeros out.
        shares = [(subject.primary, primary.get("weight", 0) if primary else 100)]
        if canary and primary:
            shares.append((subject.canary, canary.get("weight", 0)))
        spec = _spec(subject, old, shares)
        if there is None:
            return [create(subject, ref, like_apex(subject), spec=spec)]
        return update(there, like_apex(subject), spec=spec)

    def routes(self, subject: Subject, live: Live) -> Routes:
        ref = _ref(subject)
        weighted = (found(live, ref, KIND).get("spec") or {}).get("weighted") or {}
        primary = named(weighted.get("services"), subject.primary)
        if not primary:
            raise StepFailed(f"{KIND} {dotted(ref)} services not found")
        return by_primary(primary, subject.primary, KIND, ref)

    def set_routes(self, subject: Subject, live: Live, routes: Routes, *, token: str) -> Moved:
        ref = _ref(subject)
        shares = [(subject.primary, valid(routes, KIND, ref).primary)]
        if routes.canary > 0:
            shares.append((subject.canary, routes.canary))
        there = found(live, ref, KIND)
        return Moved(update(there, spec=_spec(subject, there.get("spec") or {}, shares)), {})

    def finalize(self, subject: Subject, live: Live) -> list[Write]:
        """It is owned by the Canary and goes with it."""
        return []


def _ref(subject: Subject) -> Ref:
    return Ref(API, KIND, subject.namespace, subject.apex)


def _spec(subject: Subject, old: Mapping[str, Any], shares: Iterable[tuple[str, Any]]) -> Object:
    weighted = old.get("weighted") or {}
    services = [
        over(
            named(weighted.get("services"), name),
            {"name": name, "namespace": subject.namespace, "port": subject.port, "weight": weight},
        )
        for name, weight in shares
    ]
    return over(old, {"weighted": over(weighted, {"services": services})})
