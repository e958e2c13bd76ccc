"""A VirtualService's spec from a Canary, shares and cookies, and the shares and cookies back from a spec."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise, product
from typing import Any

from fleet_rollout.decide.canary.objects import Object, Routes
from fleet_rollout.decide.canary.subject import MOST_WEIGHT, Subject
from fleet_rollout.traffic import session_affinity
from fleet_rollout.traffic.route_text import quoted
from fleet_rollout.traffic.session_affinity import COOKIE, SET_COOKIE, Cookies

MESH = "mesh"
PRIMARY_ONLY = Routes(MOST_WEIGHT, 0)
# What we write in a spec. Whatever else is there (exportTo) belongs to whoever wrote it.
OWN_FIELDS = ("hosts", "gateways", "http", "tcp", "tls")
# What `service` says of a route and Istio calls by the same name.
_PASSED_ON = ("timeout", "retries", "corsPolicy", "headers")


def is_tcp(subject: Subject) -> bool:
    return str(subject.service.get("appProtocol") or "").lower() == "tcp"


def spec_of(subject: Subject, routes: Routes, cookies: Cookies) -> Object:
    """Our fields of the spec; without cookies where `cookies` has none."""
    spec: Object = {}
    if not subject.service.get("delegation"):
        spec = {"hosts": _hosts(subject), "gateways": list(subject.service.get("gateways") or [MESH])}
    if is_tcp(subject):
        ports = [_said({"port": match.get("port")}) for match in subject.service.get("match") or ()]
        return spec | {"tcp": [_said({"match": ports}) | {"route": _split(subject, routes)}]}
    return spec | {"http": _http(subject, routes, cookies)}


def routes_in(spec: Mapping[str, Any], subject: Subject) -> Routes | None:
    """The shares that the last rule with the canary in it gives; None where no rule says."""
    rules = spec.get("tcp" if is_tcp(subject) else "http") or []
    rule = next((rule for rule in reversed(rules) if _goes_to(rule, subject.canary)), None)
    if rule is None:
        return None
    weights = {_host(route): int(route.get("weight") or 0) for route in rule["route"]}
    primary, canary = weights.get(subject.primary, 0), weights[subject.canary]
    if primary == 0 and canary == 0:
        return None
    return Routes(primary, canary, mirrored=bool((rule.get("mirror") or {}).get("host")))


def shares_out_matches(spec: Mapping[str, Any], subject: Subject) -> bool:
    """Whether the shares are those of certain requests only, and others never get to the canary (A/B)."""
    return any(not _goes_to(rule, subject.canary) for rule in spec.get("http") or ())


def cookies_in(spec: Mapping[str, Any], subject: Subject) -> Cookies:
    """The cookies that these rules give and take away; none where they do not."""
    rules = spec.get("http") or []
    given = {_host(route): _set_cookie(route) for rule in rules for route in rule.get("route") or ()}
    return Cookies(
        canary=session_affinity.cookie_in(given.get(subject.canary)),
        primary=session_affinity.cookie_in(given.get(subject.primary)),
        previous=next(filter(None, (session_affinity.removed_in(_set_cookie(rule)) for rule in rules[:-1])), ""),
    )


def says_the_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two specs mean the same; a field that is empty or left out, and a rule said twice, make no difference."""
    return _plain(one) == _plain(other)


def distinct(rules: Sequence[Any]) -> list[Any]:
    """Without rules that repeat the one before them: they never apply."""
    return [*rules[:1], *(rule for before, rule in pairwise(rules) if rule != before)]


def _hosts(subject: Subject) -> list[str]:
    """The apex Service's own name is among them, or callers inside the mesh would not be routed."""
    hosts = list(subject.service.get("hosts") or ())
    return hosts if subject.apex in hosts or "*" in hosts else [*hosts, subject.apex]


def _http(subject: Subject, routes: Routes, cookies: Cookies) -> list[Object]:
    weighted = _rule(subject, _split(subject, routes))
    if routes.mirrored:
        weighted |= _mirror(subject)
    if subject.match:
        others = _rule(subject, [_destination(subject, subject.primary, routes.primary)])
        return [weighted | {"match": _merged(subject, subject.match)}, others]
    if session_affinity.affinity_of(subject) is None:
        return [weighted]
    return _sticky(subject, weighted, cookies)


def _rule(subject: Subject, route: list[Object]) -> Object:
    service = subject.service
    rewrite = service.get("rewrite") or {}
    rule = {
        "match": [_match(match) for match in service.get("match") or ()],
        "rewrite": _said({"uri": rewrite.get("uri"), "authority": rewrite.get("authority")}),
        **{name: copy.deepcopy(service.get(name)) for name in _PASSED_ON},
    }
    return _said(rule) | {"route": route}


def _split(subject: Subject, routes: Routes) -> list[Object]:
    return [
        _destination(subject, subject.primary, routes.primary),
        _destination(subject, subject.canary, routes.canary),
    ]


def _destination(subject: Subject, host: str, weight: int) -> Object:
    """With a port where a Service has several, and requests come from outside the mesh."""
    service = subject.service
    gateways = service.get("gateways") or [MESH]
    destination: Object = {"host": host}
    if service.get("portDiscovery") and (gateways[0] != MESH or service.get("delegation")):
        destination["port"] = {"number": subject.port}
    return {"destination": destination, "weight": weight}


def _mirror(subject: Subject) -> Object:
    share = subject.analysis.get("mirrorWeight") or 0
    mirror: Object = {"mirror": {"host": subject.canary}}
    return mirror | {"mirrorPercentage": {"value": share}} if share > 0 else mirror


def _sticky(subject: Subject, weighted: Object, cookies: Cookies) -> list[Object]:
    """Rules for visitors who have a cookie, then the one that shares out the rest."""
    if cookies.previous:
        return [_removing(subject, weighted, cookies.previous), weighted]
    if not cookies.canary:
        return [weighted]
    sticky = [_for_cookie(subject, weighted, cookies.canary, Routes(0, MOST_WEIGHT))]
    primary, canary = copy.deepcopy(weighted["route"])
    canary["headers"] = {"response": {"add": {SET_COOKIE: session_affinity.canary_cookie(subject, cookies)}}}
    text = session_affinity.primary_cookie(subject, cookies)
    if text is not None:
        primary["headers"] = {"response": {"add": {SET_COOKIE: text}}}
        sticky.append(_for_cookie(subject, weighted, cookies.primary, PRIMARY_ONLY))
    return [*sticky, weighted | {"route": [primary, canary]}]


def _for_cookie(subject: Subject, rule: Object, cookie: str, routes: Routes) -> Object:
    match = {"headers": {COOKIE: {"regex": session_affinity.pattern(cookie)}}}
    return copy.deepcopy(rule) | {"match": _merged(subject, [match]), "route": _split(subject, routes)}


def _removing(subject: Subject, weighted: Object, cookie: str) -> Object:
    rule = _for_cookie(subject, weighted, cookie, PRIMARY_ONLY)
    added = rule.setdefault("headers", {}).setdefault("response", {}).setdefault("add", {})
    added[SET_COOKIE] = session_affinity.removal(cookie)
    return rule


def _merged(subject: Subject, matches: Iterable[Mapping[str, Any]]) -> list[Object]:
    """Each of `matches` with each of the service's; headers and source labels of the former replace the latter's."""
    of_service = [_match(match) for match in subject.service.get("match") or ()]
    wanted = [_match(match) for match in matches]
    if not of_service:
        return wanted
    replacing = [{key: match[key] for key in ("headers", "sourceLabels") if key in match} for match in wanted]
    return [copy.deepcopy(base | new) for new, base in product(replacing, of_service)]


def _match(match: Mapping[str, Any]) -> Object:
    """A condition as Istio knows it: there is no suffix, and one that the API server dropped would match everything."""
    converted = copy.deepcopy(dict(match))
    for name, how in (converted.get("headers") or {}).items():
        if "suffix" in how:
            converted["headers"][name] = {"regex": f".*{quoted(how['suffix'])}"}
    return converted


def _goes_to(rule: Mapping[str, Any], host: str) -> bool:
    return any(_host(route) == host for route in rule.get("route") or ())


def _host(route: Mapping[str, Any]) -> str:
    return str((route.get("destination") or {}).get("host", ""))


def _set_cookie(part: Mapping[str, Any]) -> str | None:
    """The Set-Cookie header that a rule or a destination adds to responses."""
    found: str | None = (((part.get("headers") or {}).get("response") or {}).get("add") or {}).get(SET_COOKIE)
    return found


def _plain(spec: Mapping[str, Any]) -> Object:
    plain = _said(spec)
    for kind in ("http", "tcp"):
        if kind in plain:
            plain[kind] = distinct([_plain_rule(rule) for rule in plain[kind]])
    return plain


def _plain_rule(rule: Mapping[str, Any]) -> Object:
    routes = [{**route, "weight": int(route.get("weight") or 0)} for route in rule.get("route") or ()]
    return _said(rule) | {"route": routes}


def _said(fields: Mapping[str, Any]) -> Object:
    """Without what says nothing: None and empty lists, maps and texts."""
    return {name: value for name, value in fields.items() if value not in (None, [], {}, "")}
