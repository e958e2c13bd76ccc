"""APISIX: the user's rule once more, with a higher priority and the shares of two backends."""

from __future__ import annotations

import pytest

from fleet_rollout.decide.canary.objects import StepFailed
from fleet_rollout.traffic.apisix import ApisixRouter
from fleet_rollout.traffic.router import Routes
from tests.rooms.traffic.scene import Member, subject

ROUTER = ApisixRouter()
KIND = "ApisixRoute"
REF = {"apiVersion": "apisix.apache.org/v2", "kind": KIND, "name": "web"}
OURS = "web-podinfo-canary"


def backend(name, **more):
    return {"serviceName": name, "servicePort": 9898, **more}


def rule(*backends, name="main"):
    return {"name": name, "match": {"paths": ["/*"], "hosts": ["app.example.org"]}, "backends": list(backends)}


def source(*rules, **metadata):
    return {
        "apiVersion": "apisix.apache.org/v2",
        "kind": KIND,
        "metadata": {"name": "web", "namespace": "test", **metadata},
        "spec": {"ingressClassName": "apisix", "http": list(rules)},
    }


USUAL = source(rule(backend("docs"), name="docs"), rule(backend("podinfo", resolveGranularity="service")))


def canary_of(**parts):
    return subject(routeRef=REF, **parts)


def started(route=USUAL):
    member = Member(route)
    member.reconcile(ROUTER, canary_of())
    return member


def backends(member):
    [found] = member.of_kind(KIND, OURS)["spec"]["http"]
    return found["backends"]


def test_a_new_route_has_the_rule_of_the_apex_alone():
    labels = {"labels": {"a": "b"}, "annotations": {"c": "d", "kubectl.kubernetes.io/last-applied-configuration": "{}"}}
    canary = canary_of()
    member = Member(source(*USUAL["spec"]["http"], **labels))
    [write] = member.reconcile(ROUTER, canary)
    assert write.obj == {
        "apiVersion": "apisix.apache.org/v2",
        "kind": KIND,
        "metadata": {
            "name": OURS,
            "namespace": "test",
            "labels": {"a": "b"},
            "annotations": {"c": "d"},
            "ownerReferences": [canary.owner_reference],
        },
        "spec": {
            "ingressClassName": "apisix",
            "http": [
                {
                    **rule(
                        backend("podinfo-primary", resolveGranularity="service", weight=100),
                        backend("podinfo-canary", resolveGranularity="service", weight=0),
                    ),
                    "priority": 10000,
                }
            ],
        },
    }
    assert member.of_kind(KIND, "web")["spec"] == USUAL["spec"]


def test_shares_survive_when_the_users_rule_changes():
    member = started()
    member.move(ROUTER, canary_of(), 70, 30)
    changed = rule(backend("podinfo"))
    changed["plugins"] = [{"name": "limit-req", "enable": True}]
    member.edit(KIND, "web", spec={"http": [changed]})
    [write] = member.reconcile(ROUTER, canary_of())
    assert write.obj["spec"]["http"] == [
        {
            **changed,
            "priority": 10000,
            "backends": [backend("podinfo-primary", weight=70), backend("podinfo-canary", weight=30)],
        }
    ]
    assert member.routes(ROUTER, canary_of()) == Routes(70, 30)


def test_foreign_metadata_stays():
    member = started()
    member.edit(KIND, OURS, metadata={"labels": {"x": "y"}, "annotations": {"x": "y"}})
    assert member.reconcile(ROUTER, canary_of()) == []
    member.move(ROUTER, canary_of(), 0, 100)
    assert member.of_kind(KIND, OURS)["metadata"]["labels"] == {"x": "y"}


def test_a_backend_that_somebody_added_lasts_until_the_next_pass():
    member = started()
    [ours] = member.of_kind(KIND, OURS)["spec"]["http"]
    member.edit(KIND, OURS, spec={"http": [ours | {"backends": [*ours["backends"], backend("other", weight=1)]}]})
    member.move(ROUTER, canary_of(), 70, 30)
    assert [each["weight"] for each in backends(member)] == [70, 30, 1]
    member.reconcile(ROUTER, canary_of())
    assert [each["weight"] for each in backends(member)] == [70, 30]


def test_weights_that_are_lost_leave_everything_to_the_primary():
    member = started()
    member.edit(KIND, OURS, spec={"http": [rule(backend("podinfo-primary"))]})
    member.reconcile(ROUTER, canary_of())
    assert [each["weight"] for each in backends(member)] == [100, 0]


@pytest.mark.parametrize(
    ("route", "told"),
    [
        (source(), "APISIX route web.test's spec.http is empty"),
        ({**source(), "spec": None}, "APISIX route web.test's spec.http is empty"),
        (source(rule(backend("other"))), "Can not find podinfo backend on apisix route web.test "),
        (
            source(rule(backend("podinfo"), backend("other"))),
            'APISIX route web.test\'s http route "main" only one http backend is supported',
        ),
    ],
)
def test_a_route_that_cannot_be_copied(route, told):
    with pytest.raises(StepFailed) as failed:
        Member(route).reconcile(ROUTER, canary_of())
    assert failed.value.message == told


def test_a_route_that_is_missing_or_not_named():
    told = r'^APISIX route web\.test get query error: apisixroutes\.apisix\.apache\.org "web" not found$'
    with pytest.raises(StepFailed, match=told):
        Member().reconcile(ROUTER, canary_of())
    with pytest.raises(StepFailed, match=r"^APISIX route web-podinfo-canary\.test get query error: "):
        Member(USUAL).routes(ROUTER, canary_of())
    with pytest.raises(StepFailed, match=r"^apisix route selector is empty$"):
        Member().reconcile(ROUTER, subject())
    assert ROUTER.reads(subject()) == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "Can not find podinfo-primary backend on apisix route web.test "),
        (
            [rule(backend("podinfo-primary", weight=101))],
            "APISIX route web-podinfo-canary.test gives podinfo-primary the weight 101: make it a whole number",
        ),
    ],
)
def test_a_route_that_does_not_say_where_traffic_goes(given, told):
    member = started()
    member.edit(KIND, OURS, spec={"http": given})
    with pytest.raises(StepFailed) as failed:
        member.routes(ROUTER, canary_of())
    assert failed.value.message.startswith(told)


def test_shares_that_are_none():
    with pytest.raises(StepFailed, match=r"^APISIX route web-podinfo-canary\.test update failed: no valid weights$"):
        started().move(ROUTER, canary_of(), 0, 0)


def test_a_long_name_is_cut():
    name = "w" * 250
    route = {**USUAL, "metadata": {"name": name, "namespace": "test"}}
    [write] = Member(route).reconcile(ROUTER, subject(routeRef={**REF, "name": name}))
    assert len(write.obj["metadata"]["name"]) == 253


def test_nothing_is_given_back():
    assert started().finalize(ROUTER, canary_of()) == []


async def test_on_an_api_server(crds, hands, ns):
    await crds("apisix")
    canary = canary_of(namespace=ns)
    await hands.create({**USUAL, "metadata": {"name": "web", "namespace": ns}})
    ref = ROUTER.reads(canary)[1]
    assert await hands.reconcile(ROUTER, canary) == []
    assert await hands.routes(ROUTER, canary) == Routes(100, 0)
    await hands.mark(ref)
    for shares in (Routes(80, 20), Routes(0, 100), Routes(100, 0)):
        assert await hands.move(ROUTER, canary, shares) == shares
        assert await hands.reconcile(ROUTER, canary) == []
    assert await hands.is_marked(ref)
