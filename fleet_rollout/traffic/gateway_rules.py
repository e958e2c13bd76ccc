"""An HTTPRoute's spec from a Canary, shares and cookies, and the shares and cookies back from a spec."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fleet_rollout.decide.canary.objects import Object, Routes, StepFailed
from fleet_rollout.decide.canary.subject import MOST_WEIGHT, Subject
from fleet_rollout.traffic import session_affinity
from fleet_rollout.traffic.gateway_defaults import backend_name, weight_of
from fleet_rollout.traffic.gateway_filters import added, adding, filters_of, is_mirror_to, mirror_to
from fleet_rollout.traffic.gateway_matches import ANY_PATH, matches_of, merged
from fleet_rollout.traffic.session_affinity import COOKIE, SET_COOKIE, Cookies

PRIMARY_ONLY = Routes(MOST_WEIGHT, 0)
# What we write in a spec. Whatever else is there belongs to whoever wrote it.
OWN_FIELDS = ("parentRefs", "hostnames", "rules")


@dataclass(frozen=True)
class Version:
    """What a version of the Gateway API lets a Canary say."""

    name: str
    has_timeouts: bool
    has_cors: bool
    has_primary_cookie: bool
    tells_acceptance: bool


VERSIONS = {
    "v1": Version("v1", has_timeouts=True, has_cors=True, has_primary_cookie=True, tells_acceptance=True),
    "v1beta1": Version("v1beta1", has_timeouts=False, has_cors=False, has_primary_cookie=False, tells_acceptance=False),
}


def spec_of(subject: Subject, version: Version, routes: Routes, cookies: Cookies) -> Object:
    """Our fields of the spec; without cookies where `cookies` has none."""
    service = subject.service
    spec: Object = {"parentRefs": copy.deepcopy(list(service.get("gatewayRefs") or ()))}
    if service.get("hosts"):
        spec["hostnames"] = list(service["hosts"])
    return spec | {"rules": _rules(subject, version, routes, cookies)}


def routes_in(spec: Mapping[str, Any], subject: Subject) -> Routes | None:
    """The shares of the last rule that has both versions, and whether a rule mirrors; None where no rule has both."""
    names = {subject.primary, subject.canary}
    rules = spec.get("rules") or []
    weights = next((found for rule in reversed(rules) if names <= (found := _weights(rule)).keys()), None)
    if weights is None:
        return None
    is_mirrored = any(is_mirror_to(each, subject.canary) for rule in rules for each in rule.get("filters") or ())
    return Routes(weights[subject.primary], weights[subject.canary], is_mirrored)


def shares_out_matches(spec: Mapping[str, Any], subject: Subject) -> bool:
    """Whether the shares are those of certain requests only, and others never get to the canary (A/B)."""
    return any(subject.canary not in _weights(rule) for rule in spec.get("rules") or ())


def cookies_in(spec: Mapping[str, Any], subject: Subject) -> Cookies:
    """The cookies that these rules give and take away; none where they do not."""
    rules = spec.get("rules") or []
    given = {
        backend_name(backend): added(backend.get("filters"), SET_COOKIE)
        for rule in rules
        for backend in rule.get("backendRefs") or ()
    }
    removed = (session_affinity.removed_in(added(rule.get("filters"), SET_COOKIE)) for rule in rules[:-1])
    return Cookies(
        canary=session_affinity.cookie_in(given.get(subject.canary)),
        primary=session_affinity.cookie_in(given.get(subject.primary)),
        previous=next(filter(None, removed), ""),
    )


def _weights(rule: Mapping[str, Any]) -> dict[str, int]:
    return {backend_name(backend): weight_of(backend) for backend in rule.get("backendRefs") or ()}


def _rules(subject: Subject, version: Version, routes: Routes, cookies: Cookies) -> list[Object]:
    of_service = matches_of(subject.service.get("match") or (), "service.match")
    matches = of_service or [{"path": ANY_PATH}]
    rule = _said(
        {"filters": filters_of(subject, has_cors=version.has_cors), "timeouts": _timeouts(subject, version)},
    )
    weighted = copy.deepcopy(rule) | {"matches": matches, "backendRefs": _split(subject, routes)}
    if routes.mirrored and subject.iterations > 0:
        weighted["filters"] = [*weighted.get("filters", ()), mirror_to(subject)]
    if subject.match:
        others = rule | {"matches": matches, "backendRefs": [_backend(subject, subject.primary, MOST_WEIGHT)]}
        return [weighted | {"matches": merged(_chosen(subject), matches)}, others]
    if session_affinity.affinity_of(subject) is None:
        return [weighted]
    return _sticky(subject, weighted, of_service, cookies)


def _chosen(subject: Subject) -> list[Object]:
    """The requests that A/B testing is about. With none left, everybody would get the canary."""
    chosen = matches_of(subject.match, "analysis.match")
    if not chosen:
        raise StepFailed("Invalid request matching selectors: analysis.match has neither headers nor queryParams")
    return chosen


def _timeouts(subject: Subject, version: Version) -> Object:
    if not version.has_timeouts:
        return {}
    service = subject.service
    return _said({"request": service.get("timeout"), "backendRequest": service.get("backendTimeout")})


def _split(subject: Subject, routes: Routes) -> list[Object]:
    return [
        _backend(subject, subject.primary, routes.primary),
        _backend(subject, subject.canary, routes.canary),
    ]


def _backend(subject: Subject, name: str, weight: int) -> Object:
    return {"group": "", "kind": "Service", "name": name, "port": subject.port, "weight": weight}


def _sticky(subject: Subject, weighted: Object, of_service: list[Object], cookies: Cookies) -> list[Object]:
    """Rules for visitors who have a cookie, then the one that shares out the rest."""

    def for_cookie(cookie: str, routes: Routes) -> Object:
        header = {"name": COOKIE, "type": "RegularExpression", "value": session_affinity.pattern(cookie)}
        matches = merged([{"headers": [header]}], of_service)
        return copy.deepcopy(weighted) | {"matches": matches, "backendRefs": _split(subject, routes)}

    if cookies.previous:
        removing = for_cookie(cookies.previous, PRIMARY_ONLY)
        gone = session_affinity.removal(cookies.previous)
        return [removing | {"filters": adding(removing.get("filters", []), SET_COOKIE, gone)}, weighted]
    if not cookies.canary:
        return [weighted]
    sticky = [for_cookie(cookies.canary, Routes(0, MOST_WEIGHT))]
    primary, canary = copy.deepcopy(weighted["backendRefs"])
    canary |= {"filters": adding([], SET_COOKIE, session_affinity.canary_cookie(subject, cookies))}
    text = session_affinity.primary_cookie(subject, cookies)
    if text is not None:
        primary |= {"filters": adding([], SET_COOKIE, text)}
        sticky.append(for_cookie(cookies.primary, PRIMARY_ONLY))
    return [*sticky, weighted | {"backendRefs": [primary, canary]}]


def _said(fields: Object) -> Object:
    return {name: value for name, value in fields.items() if value}
