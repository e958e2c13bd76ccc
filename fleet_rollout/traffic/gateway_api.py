"""Providers `gatewayapi:v1` and `gatewayapi:v1beta1`: an HTTPRoute that shares out the traffic of its gateways."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from fleet_rollout.decide.canary.objects import Live, Object, Ref, Routes, StepFailed, Write
from fleet_rollout.decide.canary.subject import Subject
from fleet_rollout.traffic import session_affinity
from fleet_rollout.traffic.gateway_defaults import parent_of, says_the_same
from fleet_rollout.traffic.gateway_rules import (
    OWN_FIELDS,
    PRIMARY_ONLY,
    VERSIONS,
    cookies_in,
    routes_in,
    shares_out_matches,
    spec_of,
)
from fleet_rollout.traffic.objects import Labelled, create, dotted, found, like_apex, update
from fleet_rollout.traffic.route_text import refuse_odd_text
from fleet_rollout.traffic.router import Moved
from fleet_rollout.traffic.session_affinity import Cookies

GROUP = "gateway.networking.k8s.io"
# Phases in which copies of requests may go to the canary; in others a mirror is somebody's leftover.
_MIRRORING = ("Waiting", "Progressing", "WaitingPromotion")

log = logging.getLogger(__name__)


class GatewayApiRouter:
    """Routes by weight, match, cookie and (with iterations) mirror; `version` is v1 or v1beta1."""

    def __init__(self, version: str) -> None:
        self._version = VERSIONS[version]

    def reads(self, subject: Subject) -> list[Ref]:
        return [self._ref(subject)]

    def reconcile(self, subject: Subject, live: Live) -> list[Write]:
        """Shares, mirror and cookies stay as they are found; a new HTTPRoute sends everything to the primary."""
        refuse_odd_text(subject)
        if not subject.service.get("gatewayRefs"):
            raise StepFailed(f"service.gatewayRefs of {subject.full_name} must name a Gateway for {subject.provider}")
        ref = self._ref(subject)
        current = live[ref]
        if current is None:
            self._tell_what_has_no_effect(subject)
            spec = spec_of(subject, self._version, PRIMARY_ONLY, Cookies())
            return [create(subject, ref, like_apex(subject), spec=spec)]
        return _rewritten(current, like_apex(subject), self._spec_as_found(subject, _spec(current)))

    def routes(self, subject: Subject, live: Live) -> Routes:
        """StepFailed also while a gateway has not accepted the route as it is: its traffic is not there yet."""
        ref = self._ref(subject)
        current = found(live, ref, "HTTPRoute")
        if self._version.tells_acceptance:
            for complaint in _not_accepted(current):
                raise StepFailed(f"HTTPRoute {dotted(ref)} parent {complaint}")
        routes = routes_in(_spec(current), subject)
        if routes is None:
            names = f"{subject.primary} and {subject.canary}"
            raise StepFailed(f"HTTPRoute {dotted(ref)} does not contain routes for {names}")
        return routes

    def set_routes(self, subject: Subject, live: Live, routes: Routes, *, token: str) -> Moved:
        refuse_odd_text(subject)
        current = found(live, self._ref(subject), "HTTPRoute")
        cookies, status = Cookies(), {}
        if session_affinity.affinity_of(subject) is not None:
            there, both = cookies_in(_spec(current), subject), self._version.has_primary_cookie
            cookies = session_affinity.cookies_after(subject, routes.canary, there, token, both=both)
            status = session_affinity.status_after(subject, cookies)
        return Moved(_rewritten(current, Labelled(), spec_of(subject, self._version, routes, cookies)), status)

    def finalize(self, subject: Subject, live: Live) -> list[Write]:
        """Nothing: an HTTPRoute of our own goes with the Canary."""
        return []

    def _ref(self, subject: Subject) -> Ref:
        return Ref(f"{GROUP}/{self._version.name}", "HTTPRoute", subject.namespace, subject.apex)

    def _spec_as_found(self, subject: Subject, spec: Object) -> Object:
        """Our fields of the spec with the shares, mirror and cookies that are there."""
        routes = routes_in(spec, subject) or PRIMARY_ONLY
        if shares_out_matches(spec, subject) and not subject.match:
            # What was for chosen visitors must not become everybody's when the match is taken away.
            routes = PRIMARY_ONLY
        mirrors = routes.mirrored and subject.mirror and subject.phase in _MIRRORING
        cookies = session_affinity.in_force(subject, routes.canary, cookies_in(spec, subject))
        if not self._version.has_primary_cookie:
            cookies = Cookies(cookies.canary, previous=cookies.previous)
        return spec_of(subject, self._version, routes._replace(mirrored=mirrors), cookies)

    def _tell_what_has_no_effect(self, subject: Subject) -> None:
        if self._version.has_cors and (subject.service.get("corsPolicy") or {}).get("allowOrigins"):
            log.warning("%s service.corsPolicy.allowOrigins has no effect: use allowOrigin", subject.full_name)


def _rewritten(current: Object, labelled: Labelled, spec: Object) -> list[Write]:
    """The HTTPRoute with our metadata, and with our fields of its spec where they say something else."""
    there = _spec(current)
    wanted = {key: value for key, value in there.items() if key not in OWN_FIELDS} | spec
    return update(current, labelled) if says_the_same(there, wanted) else update(current, labelled, spec=wanted)


def _spec(current: Object) -> Object:
    spec: Object = current.get("spec") or {}
    return spec


def _not_accepted(route: Object) -> Iterator[str]:
    """One text for each parent that has not accepted this generation of the route; parents that say nothing pass."""
    metadata = route["metadata"]
    generation, namespace = int(metadata.get("generation") or 0), metadata.get("namespace", "")
    parents = [parent_of(ref, namespace) for ref in _spec(route).get("parentRefs") or ()]
    for row in (route.get("status") or {}).get("parents") or ():
        parent = parent_of(row.get("parentRef") or {}, namespace)
        for condition in row.get("conditions") or ():
            status, seen = condition.get("status"), int(condition.get("observedGeneration") or 0)
            if parent in parents and condition.get("type") == "Accepted" and (status != "True" or seen < generation):
                yield (
                    f"{parent.get('name')} is not ready (status: {status}, observed generation: {seen}, "
                    f"current generation: {generation})"
                )
