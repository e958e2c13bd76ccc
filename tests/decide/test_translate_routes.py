"""Each provider's routing object is found again, and leads to the users' Service once the rollout goes."""

from __future__ import annotations

import copy
from typing import get_args

import pytest

from fleet_rollout.decide.translate_routes import DELETED, routing_objects, turned
from fleet_rollout_api.cluster_sync import RolloutRecord
from fleet_rollout_api.providers import Provider


def record(provider, **fields):
    return RolloutRecord(namespace="shop", workload="cart", service="front", provider=provider, **fields)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (record("istio"), ["networking.istio.io/v1beta1 VirtualService/shop/front"]),
        (record("kuma"), ["kuma.io/v1alpha1 TrafficRoute/shop/front"]),
        (
            record("nginx"),
            [
                "networking.k8s.io/v1 Ingress/shop/nginx-canary",
                "networking.k8s.io/v1 Ingress/shop/nginx-front-canary",
            ],
        ),
        (
            record("skipper", ingress="own"),
            ["networking.k8s.io/v1 Ingress/shop/own-canary", "networking.k8s.io/v1 Ingress/shop/own-front-canary"],
        ),
        (record("apisix", route="own"), ["apisix.apache.org/v2 ApisixRoute/shop/own-front-canary"]),
        (
            record("smi:v1alpha3"),
            [
                "split.smi-spec.io/v1alpha3 TrafficSplit/shop/front",
                "networking.istio.io/v1beta1 VirtualService/shop/front-vs",
            ],
        ),
        (record("linkerd"), ["split.smi-spec.io/v1alpha1 TrafficSplit/shop/front"]),
        (record("osm"), ["split.smi-spec.io/v1alpha2 TrafficSplit/shop/front"]),
        (record("gatewayapi:v1"), ["gateway.networking.k8s.io/v1 HTTPRoute/shop/front"]),
        (record("gatewayapi:v1beta1"), ["gateway.networking.k8s.io/v1beta1 HTTPRoute/shop/front"]),
        (record("contour"), ["projectcontour.io/v1 HTTPProxy/shop/front"]),
        (record("traefik"), ["traefik.io/v1alpha1 TraefikService/shop/front"]),
        (record("gloo"), ["gateway.solo.io/v1 RouteTable/shop/front"]),
        (record("kubernetes"), []),
        (record("knative"), []),
    ],
)
def test_the_engines_routing_object_of_each_provider(found, expected):
    assert [f"{ref.api_version} {ref.subject}" for ref in routing_objects(found)] == expected


def test_no_provider_is_forgotten():
    without = {provider for provider in get_args(Provider) if not routing_objects(record(provider, route="r"))}
    assert without == {"kubernetes", "knative"}
    # An older record does not say who routes.
    assert [ref.kind for ref in routing_objects(record(""))] == ["VirtualService", "TrafficRoute", "Ingress", "Ingress"]


def gateway_backends(**more):
    return [{"kind": "Service", "name": f"front-{track}", "port": 80, "weight": 50} | more for track in TRACKS]


TRACKS = ("primary", "canary")
TO_CANARY = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "front-canary"}}}
TO_OTHERS = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "audit"}}}
REWRITE = {"type": "URLRewrite", "urlRewrite": {"hostname": "x"}}
LED = [{"kind": "Service", "name": "front", "port": 80, "weight": 1}]
CONTOUR = [{"name": f"front-{track}", "port": 80, "weight": 50, "requestHeadersPolicy": {}} for track in TRACKS]
TRAEFIK = [{"name": f"front-{track}", "kind": "Service", "port": 80, "weight": 50} for track in TRACKS]


@pytest.mark.parametrize(
    ("kind", "spec", "expected"),
    [
        (
            "HTTPRoute",
            {
                "hostnames": ["h"],
                "rules": [
                    {"matches": ["m"], "filters": [REWRITE, TO_CANARY, TO_OTHERS], "backendRefs": gateway_backends()},
                    {"filters": [TO_CANARY], "backendRefs": gateway_backends(filters=[{"type": "cookie"}])[:1]},
                    {"backendRefs": [{"name": "other", "port": 80}]},
                    {"filters": [REWRITE]},
                ],
            },
            {
                "rules": [
                    {"matches": ["m"], "filters": [REWRITE, TO_OTHERS], "backendRefs": LED},
                    {"backendRefs": LED},
                    {"backendRefs": [{"name": "other", "port": 80}]},
                    {"filters": [REWRITE]},
                ]
            },
        ),
        ("HTTPRoute", {"rules": [{"backendRefs": LED}]}, {}),
        ("HTTPRoute", {}, {}),
        (
            "HTTPProxy",
            {
                "ingressClassName": "contour",
                "routes": [
                    {"conditions": ["c"], "services": CONTOUR, "timeoutPolicy": {"idle": "5m"}},
                    {"services": [{"name": "other", "port": 80}]},
                    {},
                ],
            },
            {
                "routes": [
                    {
                        "conditions": ["c"],
                        "services": [{"name": "front", "port": 80}],
                        "timeoutPolicy": {"idle": "5m"},
                    },
                    {"services": [{"name": "other", "port": 80}]},
                    {},
                ]
            },
        ),
        ("HTTPProxy", {}, {}),
        (
            "TraefikService",
            {"weighted": {"sticky": {}, "services": TRAEFIK}},
            {"weighted": {"sticky": {}, "services": [{"name": "front", "kind": "Service", "port": 80}]}},
        ),
        ("TraefikService", {"weighted": {"services": [{"name": "front", "port": 80}]}}, {}),
        ("TraefikService", {}, {}),
        ("RouteTable", {"routes": []}, {}),
    ],
)
def test_a_route_is_turned_to_the_service_once_and_for_all(kind, spec, expected):
    given = {"kind": kind, "spec": spec}
    before = copy.deepcopy(given)
    assert turned(given, "front") == expected
    assert given == before
    assert turned({"kind": kind, "spec": spec | expected}, "front") == {}


def test_what_is_deleted_is_what_requests_do_without():
    assert set(DELETED) == {"Ingress", "ApisixRoute", "TrafficRoute", "TrafficSplit"}
