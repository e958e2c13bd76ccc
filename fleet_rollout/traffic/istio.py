"""Provider `istio`: a VirtualService that shares out the traffic, and a DestinationRule for each version.

A VirtualService that was there before is taken over; what it said is kept in an annotation until it is given back.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping

import orjson

from fleet_rollout.decide.canary.objects import Live, Object, Ref, Routes, StepFailed, Write
from fleet_rollout.decide.canary.subject import UNTOUCHED_BY_FLUX, Subject
from fleet_rollout.traffic import istio_rules, session_affinity
from fleet_rollout.traffic.istio_rules import PRIMARY_ONLY, cookies_in, routes_in, spec_of
from fleet_rollout.traffic.objects import LAST_APPLIED, Labelled, create, dotted, found, like_apex, update
from fleet_rollout.traffic.route_text import refuse_odd_text
from fleet_rollout.traffic.router import Moved
from fleet_rollout.traffic.session_affinity import Cookies

ISTIO_API = "networking.istio.io/v1beta1"
ORIGINAL = "flagger.kubernetes.io/original-configuration"
_RULE_FIELDS = ("host", "trafficPolicy")

log = logging.getLogger(__name__)


class IstioRouter:
    """Routes HTTP by weight, match, cookie and mirror, and TCP by weight."""

    def reads(self, subject: Subject) -> list[Ref]:
        rules = [_ref(subject, "DestinationRule", name) for name in (subject.canary, subject.primary)]
        return [*rules, _virtual_service(subject)]

    def reconcile(self, subject: Subject, live: Live) -> list[Write]:
        """Shares, mirror and cookies stay as they are found; a new VirtualService sends everything to the primary."""
        refuse_odd_text(subject)
        ref, service = _virtual_service(subject), subject.service
        if service.get("delegation") and (service.get("hosts") or service.get("gateways")):
            raise StepFailed(
                f"VirtualService {dotted(ref)} cannot have hosts and gateways when it is delegated to: "
                "remove service.hosts and service.gateways"
            )
        rules = [write for name in (subject.canary, subject.primary) for write in _rule(subject, name, live)]
        current = live[ref]
        if current is None:
            return [*rules, create(subject, ref, like_apex(subject), spec=spec_of(subject, PRIMARY_ONLY, Cookies()))]
        return [*rules, *_rewritten(subject, current, like_apex(subject), _spec_as_found(subject, current))]

    def routes(self, subject: Subject, live: Live) -> Routes:
        ref = _virtual_service(subject)
        routes = routes_in(_spec(found(live, ref, "VirtualService")), subject)
        if routes is None:
            names = f"{subject.primary} and {subject.canary}"
            raise StepFailed(f"VirtualService {dotted(ref)} does not contain routes for {names}")
        return routes

    def set_routes(self, subject: Subject, live: Live, routes: Routes, *, token: str) -> Moved:
        refuse_odd_text(subject)
        current = found(live, _virtual_service(subject), "VirtualService")
        cookies, status = Cookies(), {}
        if session_affinity.affinity_of(subject) is not None and not istio_rules.is_tcp(subject):
            there = cookies_in(_spec(current), subject)
            cookies = session_affinity.cookies_after(subject, routes.canary, there, token)
            status = session_affinity.status_after(subject, cookies)
        return Moved(_rewritten(subject, current, Labelled(), spec_of(subject, routes, cookies)), status)

    def finalize(self, subject: Subject, live: Live) -> list[Write]:
        """Put the spec back that was there before, and take away what kept others from it.

        A VirtualService of our own goes with the Canary.
        """
        ref = _virtual_service(subject)
        current = live[ref]
        if current is None or _is_owned(current, subject):
            return []
        original = _original(_annotations(current))
        if original is None:
            log.warning("VirtualService %s keeps its routes: no original is kept", dotted(ref))
            original = _spec(current)
        return update(current, Labelled(annotations=dict.fromkeys((ORIGINAL, *UNTOUCHED_BY_FLUX))), spec=original)


def _spec_as_found(subject: Subject, current: Object) -> Object:
    """Our fields of the spec with the shares, mirror and cookies that are there."""
    spec = _spec(current)
    routes = routes_in(spec, subject) or PRIMARY_ONLY
    if istio_rules.shares_out_matches(spec, subject) and not subject.match:
        # What was for chosen visitors must not become everybody's when the match is taken away.
        routes = PRIMARY_ONLY
    return spec_of(subject, routes, session_affinity.in_force(subject, routes.canary, cookies_in(spec, subject)))


def _rewritten(subject: Subject, current: Object, labelled: Labelled, spec: Object) -> list[Write]:
    """The VirtualService with our metadata, and with our fields of its spec where they say something else."""
    there = _spec(current)
    wanted = {key: value for key, value in there.items() if key not in istio_rules.OWN_FIELDS} | spec
    if istio_rules.says_the_same(there, wanted):
        return update(current, labelled)
    annotations = _annotations(current)
    if not (_is_owned(current, subject) or LAST_APPLIED in annotations or ORIGINAL in annotations):
        # Once only: what is there later is ours. kubectl keeps the original by itself.
        original = {ORIGINAL: json.dumps(there, separators=(",", ":"))}
        labelled = Labelled(labelled.labels, {**labelled.annotations, **original})
    return update(current, labelled, spec=wanted)


def _original(annotations: Mapping[str, str]) -> Object | None:
    """The spec from before the take-over; None where no annotation has it in a readable form."""
    applied = _parsed(annotations.get(LAST_APPLIED))
    spec = applied.get("spec") if applied else _parsed(annotations.get(ORIGINAL))
    return spec if isinstance(spec, dict) else None


def _parsed(text: str | None) -> Object | None:
    try:
        parsed = orjson.loads(text or "")
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _rule(subject: Subject, name: str, live: Live) -> list[Write]:
    """A DestinationRule with the user's traffic policy; subsets and the like are somebody else's."""
    ref = _ref(subject, "DestinationRule", name)
    policy = subject.service.get("trafficPolicy")
    spec: Object = {"host": name} | ({"trafficPolicy": policy} if policy else {})
    current = live[ref]
    if current is None:
        return [create(subject, ref, Labelled(), spec=spec)]
    foreign = {key: value for key, value in _spec(current).items() if key not in _RULE_FIELDS}
    return update(current, spec=foreign | spec)


def _is_owned(current: Object, subject: Subject) -> bool:
    """Whether this Canary created the object."""
    uid = subject.owner_reference["uid"]
    return any(owner.get("uid") == uid for owner in current["metadata"].get("ownerReferences") or ())


def _spec(current: Object) -> Object:
    spec: Object = current.get("spec") or {}
    return spec


def _annotations(current: Object) -> Mapping[str, str]:
    annotations: Mapping[str, str] = current["metadata"].get("annotations") or {}
    return annotations


def _virtual_service(subject: Subject) -> Ref:
    return _ref(subject, "VirtualService", subject.apex)


def _ref(subject: Subject, kind: str, name: str) -> Ref:
    return Ref(ISTIO_API, kind, subject.namespace, name)
