"""Gloo: a RouteTable with the shares, and an Upstream each for primary and canary."""

from __future__ import annotations

import pytest

from fleet_rollout.decide.canary.objects import StepFailed
from fleet_rollout.decide.canary.subject import UNTOUCHED_BY_FLUX, EngineOptions
from fleet_rollout.traffic.gloo import GlooRouter
from fleet_rollout.traffic.router import Routes
from tests.rooms.traffic.scene import Member, matching, subject

ROUTER = GlooRouter()
KIND = "RouteTable"


def service(track, namespace="test"):
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"podinfo-{track}", "namespace": namespace},
        "spec": {"selector": {"app": f"podinfo-{track}"}, "ports": [{"port": 9898}]},
    }


def upstream(track):
    return f"test-podinfo-{track}upstream-9898"


def destination(track, weight):
    where = {"upstream": {"name": upstream(track), "namespace": "test"}}
    return {"destination": where, "weight": weight}


def route(primary, canary, **more):
    destinations = [destination("primary", primary), destination("canary", canary)]
    return {"inheritablePathMatchers": True, "routeAction": {"multi": {"destinations": destinations}}, **more}


SERVICES = (service("primary"), service("canary"))
SETTINGS = {
    "labels": {"team": "shop", "toolkit.fluxcd.io/x": "y"},
    "loadBalancerConfig": {"leastRequest": {"choiceCount": 3}},
    "circuitBreakers": {"maxConnections": 5},
    "useHttp2": True,
    "httpProxyHostname": "proxy.example.org:443",
    "static": {"hosts": []},
}
CONFIG = {
    "apiVersion": "gloo.solo.io/v1",
    "kind": "Upstream",
    "metadata": {"name": "config", "namespace": "gloo-system"},
    "spec": SETTINGS,
}
REF = {"apiVersion": "gloo.solo.io/v1", "kind": "Upstream", "name": "config", "namespace": "gloo-system"}


def started(canary=None, *more):
    member = Member(*SERVICES, *more)
    member.reconcile(ROUTER, canary or subject())
    return member


def test_a_new_table_sends_everything_to_the_primary():
    canary = subject()
    writes = Member(*SERVICES).reconcile(ROUTER, canary)
    assert [write.ref.name for write in writes] == [upstream("primary"), upstream("canary"), "podinfo"]
    assert writes[0].obj == {
        "apiVersion": "gloo.solo.io/v1",
        "kind": "Upstream",
        "metadata": {"name": upstream("primary"), "namespace": "test", "ownerReferences": [canary.owner_reference]},
        "spec": {
            "kube": {
                "serviceName": "podinfo-primary",
                "serviceNamespace": "test",
                "servicePort": 9898,
                "selector": {"app": "podinfo-primary"},
            }
        },
    }
    assert writes[2].obj == {
        "apiVersion": "gateway.solo.io/v1",
        "kind": KIND,
        "metadata": {
            "name": "podinfo",
            "namespace": "test",
            "annotations": dict(UNTOUCHED_BY_FLUX),
            "ownerReferences": [canary.owner_reference],
        },
        "spec": {"routes": [route(100, 0)]},
    }


@pytest.mark.parametrize(
    ("prefixes", "labels"),
    [((), None), (("te",), {"team": "shop"}), (("*",), {"team": "shop"}), (("", "x"), None)],
)
def test_upstreams_take_over_the_settings_of_another(prefixes, labels):
    canary = subject(upstreamRef=REF, options=EngineOptions(include_label_prefix=prefixes))
    spec = started(canary, CONFIG).of_kind("Upstream", upstream("canary"))
    assert spec["metadata"].get("labels") == labels
    kube = spec["spec"].pop("kube")
    assert kube["serviceName"] == "podinfo-canary"
    assert spec["spec"] == {key: value for key, value in SETTINGS.items() if key != "static"}


def test_later_only_the_load_balancing_follows():
    canary = subject(upstreamRef=REF)
    member = started(canary, CONFIG)
    member.edit("Upstream", "config", spec={"loadBalancerConfig": {"roundRobin": {}}, "useHttp2": False})
    assert len(member.reconcile(ROUTER, canary)) == 2
    spec = member.of_kind("Upstream", upstream("primary"))["spec"]
    assert (spec["loadBalancerConfig"]["roundRobin"], spec["useHttp2"]) == ({}, True)
    member.put(CONFIG | {"spec": {}})
    member.reconcile(ROUTER, canary)
    assert "loadBalancerConfig" not in member.of_kind("Upstream", upstream("primary"))["spec"]


def test_without_a_reference_upstreams_are_left_alone():
    member = started()
    member.edit("Upstream", upstream("primary"), spec={"loadBalancerConfig": {"roundRobin": {}}})
    assert member.reconcile(ROUTER, subject()) == []


@pytest.mark.parametrize(
    ("headers", "methods", "matcher"),
    [
        ({"x": {"exact": "a"}}, [], {"headers": [{"name": "x", "value": "a"}]}),
        ({"x": {"regex": "a.*"}}, [], {"headers": [{"name": "x", "value": "a.*", "regex": True}]}),
        ({}, ["GET", "HEAD"], {"methods": ["GET", "HEAD"]}),
        ({"x": {"exact": "a"}}, ["GET"], {"headers": [{"name": "x", "value": "a"}], "methods": ["GET"]}),
    ],
)
def test_an_ab_test_matches_headers_and_methods(headers, methods, matcher):
    analysis = matching(**headers)
    analysis["match"] += [{"method": {"exact": method}} for method in methods]
    member = started(subject(analysis=analysis))
    assert member.of_kind(KIND, "podinfo")["spec"]["routes"] == [route(100, 0, matchers=[matcher])]
    member.reconcile(ROUTER, subject())
    assert member.of_kind(KIND, "podinfo")["spec"]["routes"] == [route(100, 0)]


def test_shares_survive_changes_and_what_others_wrote_stays():
    member = started()
    member.move(ROUTER, subject(), 70, 30)
    there = member.of_kind(KIND, "podinfo")
    there["metadata"]["labels"] = {"x": "y"}
    there["spec"]["weight"] = 5
    there["spec"]["routes"][0]["options"] = {"timeout": "5s"}
    there["spec"]["routes"][0]["routeAction"]["multi"]["destinations"][1]["options"] = {"a": "b"}
    member.put(there)
    assert member.reconcile(ROUTER, subject()) == []
    apex = subject(service={"apex": {"labels": {"team": "shop"}}})
    [write] = member.reconcile(ROUTER, apex)
    assert write.obj["metadata"]["labels"] == {"x": "y", "team": "shop", "app": "podinfo"}
    assert write.obj["spec"] == there["spec"]
    member.move(ROUTER, apex, 100, 0)
    [found] = member.of_kind(KIND, "podinfo")["spec"]["routes"]
    assert found["routeAction"]["multi"]["destinations"] == [
        destination("primary", 100),
        destination("canary", 0) | {"options": {"a": "b"}},
    ]


def test_zeros_that_flagger_left_out_need_no_write():
    member = started()
    there = member.of_kind(KIND, "podinfo")
    del there["spec"]["routes"][0]["routeAction"]["multi"]["destinations"][1]["weight"]
    member.put(there)
    assert member.reconcile(ROUTER, subject()) == []
    assert member.routes(ROUTER, subject()) == Routes(100, 0)
    assert member.move(ROUTER, subject(), 100, 0) == []


@pytest.mark.parametrize(
    "routes",
    [
        None,
        [],
        [{}],
        [{"routeAction": {"multi": None}}],
        [{"routeAction": {"multi": {"destinations": [destination("primary", 9)]}}}],
        [{"routeAction": {"multi": {"destinations": [{}, {"destination": {}}]}}}],
    ],
)
def test_a_table_that_does_not_say_where_traffic_goes(routes):
    member = started()
    member.edit(KIND, "podinfo", spec={"routes": routes})
    with pytest.raises(StepFailed, match=r"^RouteTable podinfo\.test destinations not found$"):
        member.routes(ROUTER, subject())
    member.reconcile(ROUTER, subject())
    assert member.routes(ROUTER, subject()) == Routes(100, 0)


def test_a_weight_that_is_no_percentage():
    member = started()
    member.edit(KIND, "podinfo", spec={"routes": [route(101, 0)]})
    told = r"^RouteTable podinfo\.test gives podinfo-primary the weight 101: make it a whole number from 0 to 100$"
    with pytest.raises(StepFailed, match=told):
        member.routes(ROUTER, subject())


def test_what_is_not_there():
    with pytest.raises(
        StepFailed, match=r'^RouteTable podinfo\.test get query error: routetables\.gateway\.solo\.io "'
    ):
        Member().routes(ROUTER, subject())
    told = r'^error creating flagger primary upstream: service podinfo-primary\.test get query error: services "pod'
    with pytest.raises(StepFailed, match=told):
        Member().reconcile(ROUTER, subject())
    told = r"^error creating flagger primary upstream: config upstream config\.gloo-system get query error: upstreams\."
    with pytest.raises(StepFailed, match=told):
        Member(*SERVICES).reconcile(ROUTER, subject(upstreamRef=REF))
    with pytest.raises(StepFailed, match=r"^RouteTable podinfo\.test update failed: no valid weights$"):
        started().move(ROUTER, subject(), 0, 0)


def test_t30_another_namespace_may_be_out_of_bounds_and_none_is_the_canarys():
    options = EngineOptions(no_cross_namespace_refs=True)
    with pytest.raises(StepFailed, match=r"spec\.upstreamRef\.namespace: gloo-system is not the Canary's"):
        started(subject(upstreamRef=REF, options=options), CONFIG)
    beside = {**CONFIG, "metadata": {"name": "config", "namespace": "test"}}
    started(subject(upstreamRef={**REF, "namespace": ""}, options=options), beside)


@pytest.mark.parametrize(
    ("match", "field"),
    [
        ({"headers": {"x": {"exact": "a\nb"}}}, "spec.analysis.match[0].headers.x.exact"),
        ({"headers": {"x": {"prefix": "a"}}}, "spec.analysis.match[0].headers.x"),
        ({"headers": {"x": {"regex": "a}"}}}, "spec.analysis.match[0].headers.x.regex"),
        ({"method": {"exact": "GET\n"}}, "spec.analysis.match[0].method.exact"),
        ({"method": {"regex": "G.*"}}, "spec.analysis.match[0].method.exact"),
        ({"sourceLabels": {"a": "b"}}, "spec.analysis.match"),
    ],
)
def test_odd_conditions_are_refused(match, field):
    with pytest.raises(StepFailed) as failed:
        started(subject(analysis={"iterations": 1, "match": [match]}))
    assert failed.value.message.startswith(f"{field}: ")


def test_nothing_is_given_back():
    assert started().finalize(ROUTER, subject()) == []


async def test_on_an_api_server(crds, hands, ns):
    await crds("gloo")
    for track in ("primary", "canary"):
        await hands.create(service(track, ns))
    await hands.create({**CONFIG, "metadata": {"name": "config", "namespace": ns}})
    canary = subject(namespace=ns, upstreamRef={**REF, "namespace": ns}, analysis=matching(x={"regex": "a.*"}))
    ref = ROUTER.reads(canary)[0]
    assert await hands.reconcile(ROUTER, canary) == []
    assert await hands.routes(ROUTER, canary) == Routes(100, 0)
    await hands.mark(ref)
    for shares in (Routes(80, 20), Routes(0, 100), Routes(100, 0)):
        assert await hands.move(ROUTER, canary, shares) == shares
        assert await hands.reconcile(ROUTER, canary) == []
    assert await hands.is_marked(ref)
