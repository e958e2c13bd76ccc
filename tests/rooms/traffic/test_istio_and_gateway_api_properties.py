"""Whatever a Canary says: what is set is read back, and what is as wanted is left alone."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_rollout.traffic.gateway_api import GatewayApiRouter
from fleet_rollout.traffic.istio import IstioRouter
from fleet_rollout.traffic.router import Routes
from tests.rooms.traffic.scene import Member, subject

ROUTERS = {"istio": IstioRouter(), "v1": GatewayApiRouter("v1"), "v1beta1": GatewayApiRouter("v1beta1")}
KINDS = {"istio": "VirtualService", "v1": "HTTPRoute", "v1beta1": "HTTPRoute"}

words = st.text("abcxyz", min_size=1, max_size=4)
values = st.sampled_from(["exact", "regex"]).flatmap(lambda way: words.map(lambda text: {way: text}))
named_values = st.dictionaries(words, values, max_size=2)
uris = st.sampled_from(["exact", "prefix", "regex"]).flatmap(lambda way: words.map(lambda text: {way: f"/{text}"}))
conditions = st.fixed_dictionaries(
    {}, optional={"uri": uris, "headers": named_values, "queryParams": named_values, "port": st.just(80)}
)
chosen = st.fixed_dictionaries({"headers": st.dictionaries(words, values, min_size=1, max_size=2)})
changes = st.fixed_dictionaries(
    {}, optional={"add": st.dictionaries(words, words), "set": st.dictionaries(words, words), "remove": st.lists(words)}
)
services = st.fixed_dictionaries(
    {"gatewayRefs": st.just([{"name": "public"}])},
    optional={
        "match": st.lists(conditions, max_size=3),
        "hosts": st.lists(words, max_size=2),
        "gateways": st.lists(st.sampled_from(["mesh", "public"]), max_size=2),
        "rewrite": st.fixed_dictionaries({}, optional={"uri": st.just("/a"), "authority": st.just("a.b")}),
        "timeout": st.just("5s"),
        "retries": st.just({"attempts": 2}),
        "headers": st.fixed_dictionaries({}, optional={"request": changes, "response": changes}),
        "corsPolicy": st.fixed_dictionaries({}, optional={"allowOrigin": st.lists(words), "maxAge": st.just("1m")}),
        "portDiscovery": st.booleans(),
        "appProtocol": st.sampled_from(["http", "tcp"]),
        "apex": st.fixed_dictionaries({}, optional={"labels": st.dictionaries(words, words)}),
        "mirror": st.lists(st.just({"backendRef": {"name": "copy", "port": 80}}), max_size=1),
    },
)
cookies = st.fixed_dictionaries(
    {"cookieName": st.sampled_from(["ck", "c.k"])},
    optional={"primaryCookieName": st.just("pk"), "secure": st.booleans()},
)
analyses = st.fixed_dictionaries(
    {"mirror": st.just(True)},
    optional={
        "iterations": st.just(3),
        "match": st.lists(chosen, max_size=2),
        "sessionAffinity": cookies,
        "mirrorWeight": st.integers(0, 100),
    },
)
moves = st.lists(st.tuples(st.integers(0, 100), st.booleans()), min_size=1, max_size=5)
damages = st.sampled_from(
    [
        {"metadata": {"labels": {"theirs": "x"}}},
        {"metadata": {"annotations": {"theirs": "x"}}},
        {"metadata": {"annotations": None}},
        {"spec": {"hosts": ["elsewhere"], "hostnames": ["elsewhere"]}},
        {"spec": {"gateways": ["elsewhere"], "parentRefs": [{"name": "elsewhere"}]}},
        {"spec": {"exportTo": ["."]}},
    ]
)


def can_mirror(provider, of):
    if provider == "istio":
        return of.service.get("appProtocol") != "tcp"
    return of.iterations > 0


@pytest.mark.parametrize("provider", ROUTERS)
@settings(deadline=None, max_examples=60)
@given(service=services, analysis=analyses, moves=moves, damage=damages)
def test_a_move_is_read_back_and_reconciling_moves_nothing(provider, service, analysis, moves, damage):
    router, member, status = ROUTERS[provider], Member(), {"phase": "Progressing"}
    before = json.dumps([service, analysis])

    def of():
        return subject(service=service, analysis=analysis, status=status)

    member.reconcile(router, of())
    assert member.routes(router, of()) == Routes(100, 0)
    for canary, mirrored in moves:
        wanted = Routes(100 - canary, canary, mirrored and can_mirror(provider, of()))
        live = member.live(router, of())
        untouched = copy.deepcopy(live)
        moved = router.set_routes(of(), live, wanted, token="abcdefGHIJ")
        assert live == untouched
        member.carry_out(moved.writes)
        status |= moved.status
        assert member.routes(router, of()) == wanted
        assert router.reconcile(of(), member.live(router, of())) == []
        spec = member.of_kind(KINDS[provider], "podinfo")["spec"]
        member.edit(KINDS[provider], "podinfo", **damage)
        member.reconcile(router, of())
        assert member.routes(router, of()) == wanted
        mended = member.of_kind(KINDS[provider], "podinfo")["spec"]
        assert {key: mended[key] for key in spec} == spec
    assert json.dumps([service, analysis]) == before


@pytest.mark.parametrize("provider", ROUTERS)
@settings(deadline=None, max_examples=60)
@given(services=st.tuples(services, services), analyses=st.tuples(analyses, analyses), canary=st.integers(0, 100))
def test_an_edit_of_the_canary_never_gives_the_new_version_more_traffic(provider, services, analyses, canary):
    router, member = ROUTERS[provider], Member()
    old, new = (
        subject(service=service, analysis=analysis) for service, analysis in zip(services, analyses, strict=True)
    )
    member.reconcile(router, old)
    member.move(router, old, 100 - canary, canary)
    member.reconcile(router, new)
    assert member.routes(router, new).canary in (0, canary)
    if old.match and not new.match and old.service.get("appProtocol") != "tcp":
        assert member.routes(router, new).canary == 0
