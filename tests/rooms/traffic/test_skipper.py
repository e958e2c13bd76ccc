"""Skipper: a second Ingress with both paths, weights in an annotation, and a predicate that turns it on and off."""

from __future__ import annotations

import json

import pytest

from fleet_rollout.decide.canary.objects import Remove, StepFailed
from fleet_rollout.decide.canary.subject import UNTOUCHED_BY_FLUX
from fleet_rollout.traffic.router import Routes
from fleet_rollout.traffic.skipper import PREDICATE, WEIGHTS, SkipperRouter
from tests.rooms.traffic.scene import Member, subject

ROUTER = SkipperRouter()
GIVES = "annotation zalando.org/backend-weights of ingress podinfo-canary.test gives"
REF = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "podinfo"}


def path(service, where="/"):
    backend = {"service": {"name": service, "port": {"number": 80}}}
    return {"path": where, "pathType": "Prefix", "backend": backend}


def ingress(*paths, **metadata):
    paths = list(paths) or [path("podinfo")]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "podinfo", "namespace": "test", **metadata},
        "spec": {"rules": [{"host": "app.example.org", "http": {"paths": paths}}]},
    }


def canary_of(**parts):
    return subject(ingressRef=REF, **parts)


def started(source=None):
    member = Member(source or ingress())
    member.reconcile(ROUTER, canary_of())
    return member


def annotations(member):
    return member.of_kind("Ingress", "podinfo-canary")["metadata"]["annotations"]


def test_a_new_ingress_has_paths_to_both_and_sends_everything_to_the_primary():
    given = {"zalando.org/skipper-filter": "x()", "kubectl.kubernetes.io/last-applied-configuration": "{}"}
    source = ingress(
        path("podinfo"), path("docs", "/docs"), path("podinfo", "/b"), annotations=given, labels={"a": "b"}
    )
    member, canary = Member(source), canary_of()
    [write] = member.reconcile(ROUTER, canary)
    assert write.obj["metadata"] == {
        "name": "podinfo-canary",
        "namespace": "test",
        "labels": {"a": "b"},
        "annotations": {
            "zalando.org/skipper-filter": "x()",
            WEIGHTS: '{"podinfo-canary":0,"podinfo-primary":100}',
            PREDICATE: "Weight(100)",
        }
        | UNTOUCHED_BY_FLUX,
        "ownerReferences": [canary.owner_reference],
    }
    assert write.obj["spec"]["rules"][0]["http"]["paths"] == [
        path("podinfo-primary"),
        path("docs", "/docs"),
        path("podinfo-primary", "/b"),
        path("podinfo-canary"),
        path("podinfo-canary", "/b"),
    ]
    assert member.routes(ROUTER, canary) == Routes(100, 0)


@pytest.mark.parametrize(
    ("given", "on", "off"),
    [
        (None, "Weight(100)", "False()"),
        ("Method(`GET`)", "Weight(100) && Method(`GET`)", "False() && Method(`GET`)"),
        (
            "Path(/a&&b/) && Weight(100) && Host(/x/)",
            "Weight(100) && Path(/a&&b/) && Host(/x/)",
            "False() && Path(/a&&b/) && Host(/x/)",
        ),
        ("False()", "Weight(100)", "False()"),
        ("Weight(10)", "Weight(100) && Weight(10)", "False() && Weight(10)"),
    ],
)
def test_the_predicate_turns_the_routes_on_and_off(given, on, off):
    member = started(ingress(annotations={PREDICATE: given} if given else {}))
    seen = [annotations(member)[PREDICATE]]
    for share in (30, 0, 100):
        member.move(ROUTER, canary_of(), 100 - share, share)
        assert member.routes(ROUTER, canary_of()) == Routes(100 - share, share)
        seen.append(annotations(member)[PREDICATE])
    assert seen == [on, on, off, on]


def test_rules_follow_the_user_and_shares_survive():
    member = started()
    member.move(ROUTER, canary_of(), 70, 30)
    member.edit("Ingress", "podinfo-canary", metadata={"annotations": {"x": "y"}, "labels": {"x": "y"}})
    assert member.reconcile(ROUTER, canary_of()) == []
    member.put(ingress(path("podinfo", "/v2")))
    [write] = member.reconcile(ROUTER, canary_of())
    paths = [path("podinfo-primary", "/v2"), path("podinfo-canary", "/v2")]
    assert write.obj["spec"]["rules"][0]["http"]["paths"] == paths
    assert write.obj["metadata"]["annotations"]["x"] == "y"
    assert member.routes(ROUTER, canary_of()) == Routes(70, 30)


def test_weights_that_are_lost_leave_everything_to_the_primary():
    member = started()
    there = member.of_kind("Ingress", "podinfo-canary")
    del there["metadata"]["annotations"]
    member.put(there)
    member.reconcile(ROUTER, canary_of())
    assert member.routes(ROUTER, canary_of()) == Routes(100, 0)


def test_a_rule_without_paths_stays_as_it_is():
    source = ingress()
    source["spec"]["rules"].insert(0, {"host": "bare.example.org"})
    assert started(source).of_kind("Ingress", "podinfo-canary")["spec"]["rules"][0] == {"host": "bare.example.org"}


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ("{", "ingress podinfo-canary.test get backendWeights error: zalando.org/backend-weights: "),
        ("[" * 100_000, "ingress podinfo-canary.test get backendWeights error: zalando.org/backend-weights: "),
        ("[]", f"{GIVES} podinfo-primary the weight null: make it a whole number from 0 to 100"),
        ('{"podinfo-primary":1}', f"{GIVES} podinfo-canary the weight null"),
        (json.dumps({"podinfo-primary": "1"}), f'{GIVES} podinfo-primary the weight "1"'),
        (json.dumps({"podinfo-primary": True}), f"{GIVES} podinfo-primary the weight true"),
        (json.dumps({"podinfo-primary": 101}), f"{GIVES} podinfo-primary the weight 101"),
    ],
)
def test_weights_that_cannot_be_read(weights, told):
    member = started()
    member.edit("Ingress", "podinfo-canary", metadata={"annotations": {WEIGHTS: weights}})
    with pytest.raises(StepFailed) as failed:
        member.routes(ROUTER, canary_of())
    assert failed.value.message.startswith(told)


def test_weights_that_are_not_there():
    member = started()
    there = member.of_kind("Ingress", "podinfo-canary")
    del there["metadata"]["annotations"][WEIGHTS]
    member.put(there)
    with pytest.raises(StepFailed, match=r"backendWeights error: zalando\.org/backend-weights: no such annotation$"):
        member.routes(ROUTER, canary_of())


def test_an_ingress_that_is_missing_not_named_or_leads_elsewhere():
    with pytest.raises(StepFailed, match=r"^ingress podinfo\.test get query error: "):
        Member().reconcile(ROUTER, canary_of())
    with pytest.raises(StepFailed, match=r"^ingress selector is empty$"):
        Member().reconcile(ROUTER, subject())
    with pytest.raises(StepFailed, match=r"^backend podinfo not found in ingress podinfo$"):
        Member(ingress(path("other"))).reconcile(ROUTER, canary_of())


def test_the_ingress_is_removed_in_the_end():
    member = started()
    [write] = member.finalize(ROUTER, canary_of())
    assert isinstance(write, Remove)
    assert write.ref.name == "podinfo-canary"
    assert member.finalize(ROUTER, canary_of()) == []
    assert len(member.objects) == 1


def test_a_canary_that_names_no_ingress_may_go():
    for of in (subject(), subject(ingressRef={}), subject(ingressRef={"kind": "Ingress"})):
        assert Member(ingress()).finalize(ROUTER, of) == []


async def test_on_an_api_server(hands, ns):
    source = ingress(path("podinfo"), path("docs", "/docs"))
    source["metadata"]["namespace"] = ns
    await hands.create(source)
    canary = canary_of(namespace=ns)
    assert await hands.reconcile(ROUTER, canary) == []
    ref = ROUTER.reads(canary)[1]
    await hands.mark(ref)
    for shares in (Routes(80, 20), Routes(0, 100), Routes(100, 0)):
        assert await hands.move(ROUTER, canary, shares) == shares
        assert await hands.reconcile(ROUTER, canary) == []
    assert await hands.is_marked(ref)
    await hands.carry_out(ROUTER.finalize(canary, await hands.live(ROUTER, canary)))
    assert await hands.get(ref) is None
