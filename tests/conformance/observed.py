"""Reads from the routing objects where the traffic goes: what users see, not what an engine says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tests.conformance.manifests import NAME
from tests.conformance.scenario import Object, Scenario

CANARY = f"{NAME}-canary"


class Seen(NamedTuple):
    primary: int
    canary: int
    mirrored: bool = False


NOWHERE = Seen(100, 0)  # without a routing object requests go where the Services lead: to the primary


def observed_routes(objects: Mapping[str, Object], scenario: Scenario) -> Seen:
    """Shares of the requests that the analysis is about."""
    match scenario.provider:
        case "istio":
            return _istio(objects.get(f"VirtualService/{NAME}"))
        case "nginx":
            return _nginx(objects.get(f"Ingress/{CANARY}"))
        case "gatewayapi:v1":
            return _gateway_api(objects.get(f"HTTPRoute/{NAME}"))
    return NOWHERE


def _istio(obj: Object | None) -> Seen:
    """The last rule between both versions: rules before it are about cookies."""
    if obj is None:
        return NOWHERE
    rule = [rule for rule in obj["spec"]["http"] if len(rule["route"]) == 2][-1]
    weights = {d["destination"]["host"]: d.get("weight", 0) for d in rule["route"]}
    mirrored = (rule.get("mirror") or {}).get("host") == CANARY
    return Seen(weights[f"{NAME}-primary"], weights[CANARY], mirrored)


def _nginx(obj: Object | None) -> Seen:
    if obj is None:
        return NOWHERE
    annotations: Mapping[str, Any] = obj["metadata"]["annotations"]
    prefix = "nginx.ingress.kubernetes.io/canary"
    if f"{prefix}-by-header" in annotations or f"{prefix}-by-cookie" in annotations:
        return Seen(0, 100)
    share = int(annotations.get(f"{prefix}-weight", 0))
    return Seen(100 - share, share)


def _gateway_api(obj: Object | None) -> Seen:
    if obj is None:
        return NOWHERE
    rule = [rule for rule in obj["spec"]["rules"] if len(rule["backendRefs"]) == 2][-1]
    weights = {backend["name"]: backend["weight"] for backend in rule["backendRefs"]}
    mirrors = [f for f in rule.get("filters") or [] if f["type"] == "RequestMirror"]
    return Seen(weights[f"{NAME}-primary"], weights[CANARY], bool(mirrors))
