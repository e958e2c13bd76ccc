"""Kuma's TrafficRoute: shares of Services that are named by namespace and port; one object for the whole cluster."""

from __future__ import annotations

import pytest

from fleet_rollout.decide.canary.objects import StepFailed
from fleet_rollout.decide.canary.subject import UNTOUCHED_BY_FLUX
from fleet_rollout.traffic.kuma import KumaRouter
from fleet_rollout.traffic.router import Routes
from tests.rooms.traffic.scene import Member, subject

ROUTER = KumaRouter()
KIND = "TrafficRoute"


def split(primary, canary, port=9898):
    return [
        {"weight": primary, "destination": {"kuma.io/service": f"podinfo-primary_test_svc_{port}"}},
        {"weight": canary, "destination": {"kuma.io/service": f"podinfo-canary_test_svc_{port}"}},
    ]


def started(**parts):
    member = Member()
    member.reconcile(ROUTER, subject(**parts))
    return member


def test_a_new_route_sends_everything_to_the_primary():
    apex = {"labels": {"team": "shop"}, "annotations": {"a": "b"}}
    [write] = Member().reconcile(ROUTER, subject(service={"apex": apex}))
    assert write.obj == {
        "apiVersion": "kuma.io/v1alpha1",
        "kind": KIND,
        "mesh": "default",
        "metadata": {
            "name": "podinfo",
            "labels": {"team": "shop", "app": "podinfo"},
            "annotations": {"a": "b"} | UNTOUCHED_BY_FLUX,
        },
        "spec": {
            "sources": [{"match": {"kuma.io/service": "*"}}],
            "destinations": [{"match": {"kuma.io/service": "podinfo_test_svc_9898"}}],
            "conf": {"split": split(100, 0)},
        },
    }


def test_the_mesh_is_the_canarys_annotation():
    [write] = Member().reconcile(ROUTER, subject(annotations={"kuma.io/mesh": "blue"}))
    assert write.obj["mesh"] == "blue"
    with pytest.raises(StepFailed, match=r"^metadata\.annotations\[kuma\.io/mesh\]: "):
        Member().reconcile(ROUTER, subject(annotations={"kuma.io/mesh": "blue\n"}))


def test_shares_survive_another_port_and_what_others_wrote_stays():
    member = started()
    member.move(ROUTER, subject(), 70, 30)
    member.edit(KIND, "podinfo", metadata={"labels": {"kuma.io/mesh": "default"}}, spec={"conf": {"http": [{}]}})
    assert member.reconcile(ROUTER, subject()) == []
    [write] = member.reconcile(ROUTER, subject(service={"port": 80}))
    assert write.obj["spec"]["conf"] == {"split": split(70, 30, port=80), "http": [{}]}
    assert write.obj["metadata"]["labels"] == {"kuma.io/mesh": "default"}


def test_the_share_of_the_canary_is_what_the_primary_leaves():
    member = started()
    member.edit(KIND, "podinfo", spec={"conf": {"split": split(25, 3)}})
    assert member.routes(ROUTER, subject()) == Routes(25, 75)


@pytest.mark.parametrize("given", [None, [], [{"weight": 5, "destination": {"kuma.io/service": "x_y"}}]])
def test_a_route_that_does_not_say_where_traffic_goes(given):
    member = started()
    member.edit(KIND, "podinfo", spec={"conf": {"split": given}})
    told = r"^TrafficRoute podinfo does not contain routes for podinfo-primary and podinfo-canary$"
    with pytest.raises(StepFailed, match=told):
        member.routes(ROUTER, subject())


def test_a_lost_split_comes_back():
    member = started()
    member.edit(KIND, "podinfo", spec={"conf": None})
    member.reconcile(ROUTER, subject())
    assert member.routes(ROUTER, subject()) == Routes(100, 0)


def test_a_route_that_is_not_there():
    with pytest.raises(StepFailed, match=r"^TrafficRoute podinfo get query error: trafficroutes\.kuma\.io"):
        Member().routes(ROUTER, subject())


def test_a_canary_of_the_same_name_elsewhere_is_told_to_take_another():
    member = started()
    told = "TrafficRoute podinfo routes the Service of that name in namespace test, and the kind has no namespaces"
    other = subject(namespace="other")
    for act in (lambda: member.reconcile(ROUTER, other), lambda: member.move(ROUTER, other, 0, 100)):
        with pytest.raises(StepFailed) as failed:
            act()
        assert failed.value.message == f"{told}; choose another spec.service.name"
    assert member.routes(ROUTER, subject()) == Routes(100, 0)


def test_nothing_is_given_back():
    assert started().finalize(ROUTER, subject()) == []


async def test_on_an_api_server(crds, hands, ns):
    member = await crds("kuma")
    canary = subject(namespace=ns, service={"name": ns})  # the kind has no namespace: a name of its own
    [ref] = ROUTER.reads(canary)
    try:
        assert await hands.reconcile(ROUTER, canary) == []
        assert await hands.routes(ROUTER, canary) == Routes(100, 0)
        await hands.mark(ref)
        for shares in (Routes(80, 20), Routes(0, 100), Routes(100, 0)):
            assert await hands.move(ROUTER, canary, shares) == shares
            assert await hands.reconcile(ROUTER, canary) == []
        assert await hands.is_marked(ref)
    finally:
        await member.api.delete(await hands.path(ref))
