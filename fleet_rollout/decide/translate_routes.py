"""The routing objects that an engine makes for a rollout, and how each leads to the users' Service itself again.

While a rollout is removed such an object either is turned, where requests need it to get anywhere, or is deleted, where
requests take the Service's way without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fleet_rollout.decide.inventory import Ref
from fleet_rollout.decide.traffic_names import CANARY_SUFFIX, INGRESS, PRIMARY_SUFFIX
from fleet_rollout_api.cluster_sync import RolloutRecord

Object = Mapping[str, Any]

INGRESS_GROUP = "networking.k8s.io/v1"
# API version and kind of what is named after the Service.
_KINDS: Mapping[str, tuple[str, str]] = {
    "istio": ("networking.istio.io/v1beta1", "VirtualService"),
    "kuma": ("kuma.io/v1alpha1", "TrafficRoute"),
    "smi:v1alpha1": ("split.smi-spec.io/v1alpha1", "TrafficSplit"),
    "smi:v1alpha2": ("split.smi-spec.io/v1alpha2", "TrafficSplit"),
    "smi:v1alpha3": ("split.smi-spec.io/v1alpha3", "TrafficSplit"),
    "linkerd": ("split.smi-spec.io/v1alpha1", "TrafficSplit"),
    "osm": ("split.smi-spec.io/v1alpha2", "TrafficSplit"),
    "gatewayapi:v1": ("gateway.networking.k8s.io/v1", "HTTPRoute"),
    "gatewayapi:v1beta1": ("gateway.networking.k8s.io/v1beta1", "HTTPRoute"),
    "contour": ("projectcontour.io/v1", "HTTPProxy"),
    "traefik": ("traefik.io/v1alpha1", "TraefikService"),
    "gloo": ("gateway.solo.io/v1", "RouteTable"),
}
# Made from an object of the user's, which leads to the Service; nothing but theirs carries this name.
COPIES = frozenset({"Ingress", "ApisixRoute"})
DELETED = COPIES | {"TrafficRoute", "TrafficSplit"}


def routing_objects(record: RolloutRecord) -> tuple[Ref, ...]:
    """What the engine makes for the recorded rollout; for a record without provider, what it may have made."""
    known = (record.provider,) if record.provider else ("istio", "kuma", "nginx")
    return tuple(ref for provider in known for ref in _of(provider, record))


def _of(provider: str, record: RolloutRecord) -> tuple[Ref, ...]:
    if provider in ("nginx", "skipper"):
        source = record.ingress or INGRESS
        # The second where several rollouts share one Ingress.
        copies = (f"{source}{CANARY_SUFFIX}", f"{source}-{record.service}{CANARY_SUFFIX}")
        return tuple(_ref(record, INGRESS_GROUP, "Ingress", copy) for copy in copies)
    if provider == "apisix":
        name = f"{record.route}-{record.service}{CANARY_SUFFIX}"
        return (_ref(record, "apisix.apache.org/v2", "ApisixRoute", name),)
    if provider not in _KINDS:
        return ()
    route = _ref(record, *_KINDS[provider], record.service)
    if not provider.startswith("smi:"):
        return (route,)
    # What SMI's adapter for Istio makes of the TrafficSplit; it goes later than that.
    return route, _ref(record, *_KINDS["istio"], f"{record.service}-vs")


def _ref(record: RolloutRecord, api_version: str, kind: str, name: str) -> Ref:
    group, _, version = api_version.partition("/")
    return Ref(record.namespace, name, group, kind, version)


def turned(route: Object, service: str) -> dict[str, Any]:
    """The changes of `spec` after which a route leads to `service` alone; none where it does, or cannot be led."""
    turn = _TURNS.get(route["kind"])
    if turn is None:
        return {}
    wanted = turn(route["spec"], _Tracks(service))
    return {name: value for name, value in wanted.items() if value and value != route["spec"].get(name)}


class _Tracks:
    """The Services of the old and the new version, by whose names destinations are recognised."""

    def __init__(self, service: str) -> None:
        self.service = service
        self._names = {service + PRIMARY_SUFFIX, service + CANARY_SUFFIX}

    def hold(self, name: str | None) -> bool:
        return name in self._names

    def lead(self, destinations: Sequence[Object]) -> bool:
        """Whether any of these leads to one of the two."""
        return any(self.hold(each.get("name")) for each in destinations)


def _virtual_service(spec: Object, tracks: _Tracks) -> dict[str, Any]:
    return {
        protocol: [_istio_rule(rule, tracks) for rule in spec[protocol]]
        for protocol in ("http", "tcp")
        if spec.get(protocol)
    }


def _istio_rule(rule: Object, tracks: _Tracks) -> dict[str, Any]:
    destinations = [each["destination"] for each in rule.get("route") or ()]
    if not any(tracks.hold(each.get("host")) for each in destinations):
        return dict(rule)
    kept = {key: value for key, value in rule.items() if key not in ("mirror", "mirrorPercentage", "route")}
    return kept | {"route": [{"destination": {**destinations[0], "host": tracks.service}}]}


def _http_route(spec: Object, tracks: _Tracks) -> dict[str, Any]:
    return {"rules": [_gateway_rule(rule, tracks) for rule in spec.get("rules") or ()]}


def _gateway_rule(rule: Object, tracks: _Tracks) -> dict[str, Any]:
    backends = list(rule.get("backendRefs") or ())
    if not tracks.lead(backends):
        return dict(rule)
    kept = {key: value for key, value in rule.items() if key not in ("filters", "backendRefs")}
    filters = [each for each in rule.get("filters") or () if not _mirrors(each, tracks)]
    backend = {key: value for key, value in backends[0].items() if key not in ("filters", "weight")}
    led = {"backendRefs": [backend | {"name": tracks.service, "weight": 1}]}
    return kept | led | ({"filters": filters} if filters else {})


def _mirrors(request_filter: Object, tracks: _Tracks) -> bool:
    return tracks.lead([(request_filter.get("requestMirror") or {}).get("backendRef") or {}])


def _http_proxy(spec: Object, tracks: _Tracks) -> dict[str, Any]:
    return {"routes": [_contour_route(route, tracks) for route in spec.get("routes") or ()]}


def _contour_route(route: Object, tracks: _Tracks) -> dict[str, Any]:
    services = list(route.get("services") or ())
    if not tracks.lead(services):
        return dict(route)
    return {**route, "services": [{"name": tracks.service, "port": services[0]["port"]}]}


def _traefik_service(spec: Object, tracks: _Tracks) -> dict[str, Any]:
    weighted = spec.get("weighted") or {}
    services = list(weighted.get("services") or ())
    if not tracks.lead(services):
        return {}
    only = {key: value for key, value in services[0].items() if key != "weight"}
    return {"weighted": {**weighted, "services": [only | {"name": tracks.service}]}}


_TURNS: Mapping[str, Callable[[Object, _Tracks], dict[str, Any]]] = {
    "VirtualService": _virtual_service,
    "HTTPRoute": _http_route,
    "HTTPProxy": _http_proxy,
    "TraefikService": _traefik_service,
}
