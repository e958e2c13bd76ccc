"""Every provider's name, and the router it means."""

from __future__ import annotations

import logging

import pytest

from fleet_rollout.decide.canary.objects import StepFailed
from fleet_rollout.decide.canary.strategy import can_match
from fleet_rollout.traffic.factory import router_for
from fleet_rollout.traffic.router import Routes
from tests.rooms.traffic.scene import Member, subject

NAMES = [
    ("apisix", "ApisixRouter", None),
    ("appmesh", "AppMeshRouter", None),
    ("appmesh:v1beta2", "AppMeshRouter", None),
    ("contour", "ContourRouter", "projectcontour.io/v1"),
    ("gatewayapi:v1", "GatewayApiRouter", "gateway.networking.k8s.io/v1"),
    ("gatewayapi:v1.1", "GatewayApiRouter", "gateway.networking.k8s.io/v1"),
    ("gatewayapi:v1beta1", "GatewayApiRouter", "gateway.networking.k8s.io/v1beta1"),
    ("gloo", "GlooRouter", None),
    ("gloo:v1", "GlooRouter", None),
    ("istio", "IstioRouter", "networking.istio.io/v1beta1"),
    ("knative", "KnativeRouter", "serving.knative.dev/v1"),
    ("kubernetes", "KubernetesRouter", None),
    ("kuma", "KumaRouter", "kuma.io/v1alpha1"),
    ("linkerd", "SmiRouter", "split.smi-spec.io/v1alpha1"),
    ("nginx", "NginxRouter", None),
    ("osm", "SmiRouter", "split.smi-spec.io/v1alpha2"),
    ("skipper", "SkipperRouter", None),
    ("smi:v1alpha1", "SmiRouter", "split.smi-spec.io/v1alpha1"),
    ("smi:v1alpha2", "SmiRouter", "split.smi-spec.io/v1alpha2"),
    ("smi:v1alpha3", "SmiRouter", "split.smi-spec.io/v1alpha3"),
    ("smi:v1alpha2:linkerd", "SmiRouter", "split.smi-spec.io/v1alpha2"),
    ("traefik", "TraefikRouter", "traefik.io/v1alpha1"),
]


@pytest.mark.parametrize(("name", "kind", "api"), NAMES)
def test_a_provider_has_its_router(name, kind, api, caplog):
    router = router_for(name)
    assert type(router).__name__ == kind
    if api is not None:
        assert router.reads(subject())[0].api_version == api
    assert not [r for r in caplog.records if r.name.startswith("fleet_rollout")]


@pytest.mark.parametrize("name", [name for name, *_ in NAMES])
@pytest.mark.parametrize("parts", [{}, {"targetRef": {"apiVersion": "v1", "kind": "Service", "name": "podinfo"}}])
def test_a_canary_that_says_nothing_of_its_routes_may_go(name, parts):
    """Whatever the router would need of it: there is nothing to give back."""
    assert Member().finalize(router_for(name), subject(provider=name, **parts)) == []


@pytest.mark.parametrize(("name", "kind", "api"), [*NAMES, ("consul", "IstioRouter", None)])
def test_the_strategies_know_whose_router_tells_requests_apart(name, kind, api):
    """One that does not would send everybody of an A/B test to the new version."""
    seeing = {"ContourRouter", "GatewayApiRouter", "GlooRouter", "IstioRouter", "NginxRouter"}
    assert can_match(subject(provider=name)) is (kind in seeing)


@pytest.mark.parametrize("version", ["v1alpha1", "v1alpha2", "v1alpha3"])
def test_smi_for_istio_names_the_gateways(version):
    of = subject(service={"gateways": ["public"]})
    for name, is_told in ((f"smi:{version}:istio", True), (f"smi:{version}", False)):
        member = Member()
        member.reconcile(router_for(name), of)
        assert ("gateways" in str(member.of_kind("TrafficSplit", "podinfo"))) is is_told


def test_the_guide_s_name_for_smi_means_its_first_version():
    [ref, *_] = router_for("smi:istio").reads(subject())
    assert ref.api_version == "split.smi-spec.io/v1alpha1"


@pytest.mark.parametrize("name", ["", "gatewayapi", "gatewayapi:v2", "Istio", "nginx:v1", "consul"])
def test_a_name_that_nobody_knows_means_istio_and_is_told_once(name, caplog):
    router_for.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert {type(router_for(name)).__name__ for _ in range(3)} == {"IstioRouter"}
    assert [record.message for record in caplog.records] == [
        f"provider {name!r} is unknown: its Canaries are routed by Istio"
    ]


@pytest.mark.parametrize("name", ["appmesh", "appmesh:v1beta2"])
def test_app_mesh_is_refused_and_holds_up_no_deletion(name):
    router, member, of = router_for(name), Member(), subject(provider=name)
    for attempt in (member.reconcile, member.routes, lambda *args: member.move(*args, 80, 20)):
        with pytest.raises(StepFailed, match=rf"podinfo\.test provider {name} is gone: use gatewayapi:v1"):
            attempt(router, of)
    assert member.finalize(router, of) == []


@pytest.mark.parametrize(("iterations", "routes"), [(0, Routes(100, 0)), (None, Routes(100, 0)), (3, Routes(0, 100))])
def test_kubernetes_has_no_object_and_goes_by_iterations(iterations, routes):
    router, member, of = router_for("kubernetes"), Member(), subject(status={"iterations": iterations})
    assert router.reads(of) == member.reconcile(router, of) == member.move(router, of, 0, 100) == []
    assert member.routes(router, of) == routes
    assert member.finalize(router, of) == []
