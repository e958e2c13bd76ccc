"""Gloo: a RouteTable with weighted destinations, and the Upstreams that they lead to."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from fleet_rollout.decide.canary.objects import Live, Object, Ref, StepFailed, Write
from fleet_rollout.decide.canary.subject import Subject
from fleet_rollout.traffic import conditions
from fleet_rollout.traffic.objects import (
    Labelled,
    at,
    by_primary,
    capped,
    create,
    dotted,
    found,
    kept,
    like_apex,
    over,
    update,
    valid,
)
from fleet_rollout.traffic.router import Moved, Routes

ROUTES_API = "gateway.solo.io/v1"
UPSTREAMS_API = "gloo.solo.io/v1"
KIND = "RouteTable"
_FLUX = "toolkit.fluxcd.io"
# What an Upstream of ours takes over from the one that `upstreamRef` names.
_COPIED = (
    "labels",
    "sslConfig",
    "circuitBreakers",
    "connectionConfig",
    "loadBalancerConfig",
    "useHttp2",
    "initialStreamWindowSize",
    "initialConnectionWindowSize",
    "httpProxyHostname",
)


class GlooRouter:
    """The user's VirtualService delegates to our RouteTable."""

    def reads(self, subject: Subject) -> list[Ref]:
        given = [ref] if (ref := _given(subject)) else []
        return [_ref(subject), *_services(subject), *_upstreams(subject), *given]

    def reconcile(self, subject: Subject, live: Live) -> list[Write]:
        """Shares stay as they are found; a new RouteTable sends everything to the primary."""
        writes: list[Write] = []
        pairs = zip(("primary", "canary"), _services(subject), _upstreams(subject), strict=True)
        for track, service, upstream in pairs:
            writes += _upstream(subject, live, track, service, upstream)
        ref = _ref(subject)
        there = live[ref]
        old = (there or {}).get("spec") or {}
        destinations = _destinations(old)
        primary, canary = (_to(destinations, upstream.name) for upstream in _upstreams(subject))
        spec = _spec(subject, old, kept(primary, canary))
        if there is None:
            return [*writes, create(subject, ref, like_apex(subject), spec=spec)]
        return [*writes, *update(there, like_apex(subject), spec=spec)]

    def routes(self, subject: Subject, live: Live) -> Routes:
        ref = _ref(subject)
        destinations = _destinations(found(live, ref, KIND).get("spec") or {})
        primary = _to(destinations, _upstreams(subject)[0].name)
        if len(destinations) < 2 or not primary:
            raise StepFailed(f"{KIND} {dotted(ref)} destinations not found")
        return by_primary(primary, subject.primary, KIND, ref)

    def set_routes(self, subject: Subject, live: Live, routes: Routes, *, token: str) -> Moved:
        ref = _ref(subject)
        weights = valid(routes, KIND, ref)[:2]
        there = found(live, ref, KIND)
        return Moved(update(there, spec=_spec(subject, there.get("spec") or {}, weights)), {})

    def finalize(self, subject: Subject, live: Live) -> list[Write]:
        """All of it is owned by the Canary and goes with it."""
        return []


def _ref(subject: Subject) -> Ref:
    return Ref(ROUTES_API, KIND, subject.namespace, subject.apex)


def _services(subject: Subject) -> list[Ref]:
    return [Ref("v1", "Service", subject.namespace, name) for name in (subject.primary, subject.canary)]


def _upstreams(subject: Subject) -> list[Ref]:
    start = f"{subject.namespace}-{subject.apex}"
    names = (f"{start}-{track}upstream-{subject.port}" for track in ("primary", "canary"))
    return [Ref(UPSTREAMS_API, "Upstream", subject.namespace, capped(name)) for name in names]


def _given(subject: Subject) -> Ref | None:
    """The Upstream whose settings ours take over."""
    ref = subject.spec.get("upstreamRef") or {}
    if not ref.get("name"):
        return None
    return Ref(UPSTREAMS_API, "Upstream", str(ref.get("namespace") or subject.namespace), str(ref["name"]))


def _settings(subject: Subject, live: Live) -> Object | None:
    """The spec of that Upstream."""
    ref = _given(subject)
    if ref is None:
        return None
    if subject.options.no_cross_namespace_refs and ref.namespace != subject.namespace:
        raise StepFailed(f"spec.upstreamRef.namespace: {ref.namespace} is not the Canary's; name an Upstream beside it")
    return found(live, ref, "config upstream").get("spec") or {}


def _upstream(subject: Subject, live: Live, track: str, service: Ref, ref: Ref) -> list[Write]:
    """Made once; later only the load balancing follows the Upstream of `upstreamRef`."""
    try:
        selector = (found(live, service, "service").get("spec") or {}).get("selector")
        settings = _settings(subject, live)
    except StepFailed as failed:
        raise StepFailed(f"error creating flagger {track} upstream: {failed.message}") from failed
    there = live[ref]
    if there is not None:
        balancing = {"loadBalancerConfig": settings.get("loadBalancerConfig")} if settings is not None else {}
        return update(there, spec=over(there.get("spec"), copy.deepcopy(balancing)))
    kube = {
        "serviceName": service.name,
        "serviceNamespace": subject.namespace,
        "servicePort": subject.port,
        "selector": selector,
    }
    spec = copy.deepcopy({key: value for key, value in (settings or {}).items() if key in _COPIED})
    return [create(subject, ref, Labelled(_labels(subject, spec)), spec={**spec, "kube": over(None, kube)})]


def _labels(subject: Subject, spec: Mapping[str, Any]) -> dict[str, str]:
    prefixes = subject.options.include_label_prefix
    return {
        key: value
        for key, value in (spec.get("labels") or {}).items()
        if _FLUX not in key and any(prefix == "*" or (prefix and key.startswith(prefix)) for prefix in prefixes)
    }


def _spec(subject: Subject, old: Mapping[str, Any], weights: tuple[Any, Any]) -> Object:
    route = at(old.get("routes"), 0)
    action = route.get("routeAction") or {}
    pairs = zip(_upstreams(subject), weights, strict=True)
    before = _destinations(old)
    destinations = [_destination(_to(before, upstream.name), upstream, weight) for upstream, weight in pairs]
    multi = over(action.get("multi"), {"destinations": destinations})
    ours = {
        "inheritablePathMatchers": True,
        "matchers": _matchers(subject),
        "routeAction": over(action, {"multi": multi}),
    }
    return over(old, {"routes": [over(route, ours)]})


def _destination(old: Mapping[str, Any], upstream: Ref, weight: Any) -> Object:
    if weight == 0 and old and "weight" not in old:
        weight = None  # Flagger leaves zeros out, and they need not be written for that
    where = {"upstream": {"name": upstream.name, "namespace": upstream.namespace}}
    return over(old, {"destination": over(old.get("destination"), where), "weight": weight})


def _destinations(spec: Mapping[str, Any]) -> list[Object]:
    action = at(spec.get("routes"), 0).get("routeAction") or {}
    return (action.get("multi") or {}).get("destinations") or []


def _to(destinations: list[Object], upstream: str) -> Object:
    """The destination that leads to an Upstream; empty where none does."""
    return next((each for each in destinations if _leads_to(each) == upstream), {})


def _leads_to(destination: Mapping[str, Any]) -> Any:
    return ((destination.get("destination") or {}).get("upstream") or {}).get("name")


def _matchers(subject: Subject) -> list[Object] | None:
    """Who takes part in an A/B test; everybody where there is none."""
    headers: list[Object] = [
        {"name": each.header, "value": each.text, **({"regex": True} if each.comparison == "regex" else {})}
        for each in conditions.headers(subject, ("exact", "regex"))
    ]
    methods = list(conditions.methods(subject))
    if headers or methods:
        return [over(None, {"headers": headers or None, "methods": methods or None})]
    if subject.match:
        raise StepFailed("spec.analysis.match: names no header; Gloo tells requests apart by headers and methods")
    return None
