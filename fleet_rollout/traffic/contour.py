"""Contour: an HTTPProxy whose first route has the shares, and whose second has the other requests of an A/B test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleet_rollout.decide.canary.objects import Live, Object, Ref, StepFailed, Write
from fleet_rollout.decide.canary.subject import Subject
from fleet_rollout.traffic import checks, conditions
from fleet_rollout.traffic.objects import (
    at,
    by_primary,
    create,
    dotted,
    found,
    kept,
    like_apex,
    named,
    over,
    update,
    valid,
)
from fleet_rollout.traffic.router import Moved, Routes

API = "projectcontour.io/v1"
KIND = "HTTPProxy"
# Tells Linkerd's proxy in Contour's Pod which Service was chosen.
OVERRIDE = "l5d-dst-override"
IDLE = "5m"
# Contour has no comparison with a beginning or an end.
_COMPARISONS = {"exact": "exact", "prefix": "contains", "suffix": "contains"}

Weights = tuple[Any, Any]


class ContourRouter:
    """The root HTTPProxy, with its host, is the user's and includes ours."""

    def reads(self, subject: Subject) -> list[Ref]:
        return [_ref(subject)]

    def reconcile(self, subject: Subject, live: Live) -> list[Write]:
        """Shares stay as they are found; a new HTTPProxy sends everything to the primary."""
        ref = _ref(subject)
        there = live[ref]
        old = (there or {}).get("spec") or {}
        services = at(old.get("routes"), 0).get("services")
        weights = kept(named(services, subject.primary), named(services, subject.canary))
        spec = _spec(subject, old, weights)
        if there is None:
            return [create(subject, ref, like_apex(subject), spec=spec)]
        return update(there, like_apex(subject), spec=spec)

    def routes(self, subject: Subject, live: Live) -> Routes:
        ref = _ref(subject)
        services = at((found(live, ref, KIND).get("spec") or {}).get("routes"), 0).get("services") or []
        primary = named(services, subject.primary)
        if len(services) < 2 or not primary:
            raise StepFailed(f"{KIND} {dotted(ref)} services not found")
        return by_primary(primary, subject.primary, KIND, ref)

    def set_routes(self, subject: Subject, live: Live, routes: Routes, *, token: str) -> Moved:
        ref = _ref(subject)
        weights = valid(routes, KIND, ref)[:2]
        there = found(live, ref, KIND)
        return Moved(update(there, spec=_spec(subject, there.get("spec") or {}, weights)), {})

    def finalize(self, subject: Subject, live: Live) -> list[Write]:
        """It is owned by the Canary and goes with it."""
        return []


def _ref(subject: Subject) -> Ref:
    return Ref(API, KIND, subject.namespace, subject.apex)


def _spec(subject: Subject, old: Mapping[str, Any], weights: Weights) -> Object:
    routes = old.get("routes")
    everyone: list[Object] = [{"prefix": _prefix(subject)}]
    new = [_route(subject, at(routes, 0), _chosen(subject) if subject.match else everyone, weights)]
    if subject.match:
        new.append(_route(subject, at(routes, 1), everyone, (100, 0)))
    ingress_class = subject.options.ingress_class
    return over(old, {"routes": new, **({"ingressClassName": ingress_class} if ingress_class else {})})


def _route(subject: Subject, old: Mapping[str, Any], requests: list[Object], weights: Weights) -> Object:
    services = old.get("services")
    pairs = zip((subject.primary, subject.canary), weights, strict=True)
    ours = {
        "conditions": requests,
        "timeoutPolicy": _timeouts(subject, old.get("timeoutPolicy")),
        "retryPolicy": _retries(subject, old.get("retryPolicy")),
        "services": [_service(subject, named(services, name), name, weight) for name, weight in pairs],
    }
    return over(old, ours)


def _service(subject: Subject, old: Mapping[str, Any], name: str, weight: Any) -> Object:
    address = f"{name}.{subject.namespace}.svc.cluster.local:{subject.port}"
    policy = old.get("requestHeadersPolicy") or {}
    others = [header for header in policy.get("set") or () if header.get("name") != OVERRIDE]
    headers = over(policy, {"set": [{"name": OVERRIDE, "value": address}, *others]})
    if weight == 0 and old and "weight" not in old:
        weight = None  # Flagger leaves zeros out, and they need not be written for that
    return over(old, {"name": name, "port": subject.port, "weight": weight, "requestHeadersPolicy": headers})


def _prefix(subject: Subject) -> str:
    first = at(subject.service.get("match"), 0)
    prefix = str((first.get("uri") or {}).get("prefix") or "/")
    return checks.checked("spec.service.match[0].uri.prefix", prefix, checks.PREFIX)


def _chosen(subject: Subject) -> list[Object]:
    """Who takes part in an A/B test. All conditions must hold; Contour refuses a second prefix among them."""
    chosen: list[Object] = [
        {"header": {"name": each.header, _COMPARISONS[each.comparison]: each.text}}
        for each in conditions.headers(subject, tuple(_COMPARISONS))
    ]
    if not chosen:
        raise StepFailed("spec.analysis.match: names no header; Contour tells requests apart by headers")
    chosen[0] = {"prefix": _prefix(subject), **chosen[0]}
    return chosen


def _timeouts(subject: Subject, old: Mapping[str, Any] | None) -> Object | None:
    timeout = subject.service.get("timeout")
    if not timeout:
        return None
    return over(old, {"response": checks.checked("spec.service.timeout", str(timeout), checks.TIME), "idle": IDLE})


def _retries(subject: Subject, old: Mapping[str, Any] | None) -> Object | None:
    retries = subject.service.get("retries")
    if not retries:
        return None
    each_try = str(retries.get("perTryTimeout") or "")
    reasons = [word.strip() for word in str(retries.get("retryOn") or "").split(",") if word.strip()]
    if each_try:
        checks.checked("spec.service.retries.perTryTimeout", each_try, checks.TIME)
    for word in reasons:
        checks.checked("spec.service.retries.retryOn", word, checks.RETRY)
    # Without a count the API server puts a 1 there.
    return over(
        old,
        {"count": int(retries.get("attempts") or 1), "perTryTimeout": each_try or None, "retryOn": reasons or None},
    )
