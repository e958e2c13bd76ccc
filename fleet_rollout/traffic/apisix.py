"""APISIX: a copy of one HTTP rule of the user's ApisixRoute, with a higher priority and two backends."""

from __future__ import annotations

import copy
import json

from fleet_rollout.decide.canary.objects import Live, Object, Ref, StepFailed, Write
from fleet_rollout.decide.canary.subject import Subject
from fleet_rollout.traffic.ingresses import inherited
from fleet_rollout.traffic.objects import (
    Labelled,
    by_primary,
    capped,
    create,
    dotted,
    found,
    kept,
    named,
    over,
    update,
    valid,
)
from fleet_rollout.traffic.router import Moved, Routes

API = "apisix.apache.org/v2"
KIND = "ApisixRoute"
TITLE = "APISIX route"
# Of two rules for the same requests APISIX takes the one with the higher priority.
PRIORITY = 10000


class ApisixRouter:
    """The user's ApisixRoute is never written."""

    def reads(self, subject: Subject) -> list[Ref]:
        return [_source_ref(subject), _ref(subject)] if _given(subject) else []

    def reconcile(self, subject: Subject, live: Live) -> list[Write]:
        """The rule follows the user's; shares stay as they are found."""
        source = found(live, _source_ref(subject), TITLE)
        there = live[_ref(subject)]
        backends = (_rule((there or {}).get("spec") or {}, subject.primary) or {}).get("backends")
        primary, canary = (named(backends, name, "serviceName") for name in (subject.primary, subject.canary))
        spec = over(source.get("spec"), {"http": [_copied(subject, source, *kept(primary, canary))]})
        if there is not None:
            return update(there, spec=spec)
        metadata = source["metadata"]
        labelled = Labelled(metadata.get("labels") or {}, inherited(metadata.get("annotations")))
        return [create(subject, _ref(subject), labelled, spec=spec)]

    def routes(self, subject: Subject, live: Live) -> Routes:
        ref = _ref(subject)
        backends = _ours(subject, found(live, ref, TITLE))["backends"]
        return by_primary(named(backends, subject.primary, "serviceName"), subject.primary, TITLE, ref)

    def set_routes(self, subject: Subject, live: Live, routes: Routes, *, token: str) -> Moved:
        ref = _ref(subject)
        shares = {subject.primary: valid(routes, TITLE, ref).primary, subject.canary: routes.canary}
        spec = copy.deepcopy(found(live, ref, TITLE).get("spec") or {})
        for backend in _ours(subject, {"spec": spec})["backends"]:
            if backend.get("serviceName") in shares:
                backend["weight"] = shares[backend["serviceName"]]
        return Moved(update(found(live, ref, TITLE), spec=spec), {})

    def finalize(self, subject: Subject, live: Live) -> list[Write]:
        """The copy is owned by the Canary and goes with it."""
        return []


def _given(subject: Subject) -> str:
    return str((subject.spec.get("routeRef") or {}).get("name") or "")


def _source_ref(subject: Subject) -> Ref:
    name = _given(subject)
    if not name:
        raise StepFailed("apisix route selector is empty")
    return Ref(API, KIND, subject.namespace, name)


def _ref(subject: Subject) -> Ref:
    return _source_ref(subject)._replace(name=capped(f"{_given(subject)}-{subject.apex}-canary"))


def _rule(spec: Object, service: str) -> Object | None:
    """The first rule that has a Service among its backends."""
    rules = (rule for rule in spec.get("http") or () if named(rule.get("backends"), service, "serviceName"))
    return next(rules, None)


def _ours(subject: Subject, route: Object) -> Object:
    rule = _rule(route.get("spec") or {}, subject.primary)
    if rule is None:
        raise StepFailed(_missing(subject, subject.primary))
    return rule


def _copied(subject: Subject, source: Object, primary: object, canary: object) -> Object:
    """The rule of the apex Service, divided between primary and canary."""
    name = dotted(_source_ref(subject))
    spec = source.get("spec") or {}
    if not spec.get("http"):
        raise StepFailed(f"{TITLE} {name}'s spec.http is empty")
    rule = _rule(spec, subject.apex)
    if rule is None:
        raise StepFailed(_missing(subject, subject.apex))
    if len(rule["backends"]) != 1:
        told = json.dumps(rule.get("name"))
        raise StepFailed(f"{TITLE} {name}'s http route {told} only one http backend is supported")
    [backend] = rule["backends"]
    pairs = ((subject.primary, primary), (subject.canary, canary))
    backends = [over(backend, {"serviceName": service, "weight": weight}) for service, weight in pairs]
    return copy.deepcopy({**rule, "priority": PRIORITY, "backends": backends})


def _missing(subject: Subject, service: str) -> str:
    return f"Can not find {service} backend on apisix route {dotted(_source_ref(subject))} "
