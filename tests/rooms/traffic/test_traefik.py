"""Traefik's TraefikService: the canary is among the Services only while it has a share."""

from __future__ import annotations

import pytest

from fleet_rollout.decide.canary.objects import StepFailed
from fleet_rollout.decide.canary.subject import UNTOUCHED_BY_FLUX
from fleet_rollout.traffic.router import Routes
from fleet_rollout.traffic.traefik import TraefikRouter
from tests.rooms.traffic.scene import Member, subject

ROUTER = TraefikRouter()
KIND = "TraefikService"


def service(track, weight, port=9898):
    return {"name": f"podinfo-{track}", "namespace": "test", "port": port, "weight": weight}


def services(member):
    return member.of_kind(KIND, "podinfo")["spec"]["weighted"]["services"]


def started():
    member = Member()
    member.reconcile(ROUTER, subject())
    return member


def test_a_new_service_has_the_primary_alone():
    canary = subject(service={"apex": {"labels": {"team": "shop"}}})
    [write] = Member().reconcile(ROUTER, canary)
    assert write.obj == {
        "apiVersion": "traefik.io/v1alpha1",
        "kind": KIND,
        "metadata": {
            "name": "podinfo",
            "namespace": "test",
            "labels": {"team": "shop", "app": "podinfo"},
            "annotations": dict(UNTOUCHED_BY_FLUX),
            "ownerReferences": [canary.owner_reference],
        },
        "spec": {"weighted": {"services": [service("primary", 100)]}},
    }


@pytest.mark.parametrize(
    ("primary", "canary", "expected"),
    [
        (100, 0, [service("primary", 100)]),
        (60, 40, [service("primary", 60), service("canary", 40)]),
        (0, 100, [service("primary", 0), service("canary", 100)]),
    ],
)
def test_the_canary_is_there_while_it_has_a_share(primary, canary, expected):
    member = started()
    member.move(ROUTER, subject(), primary, canary)
    assert services(member) == expected
    assert member.routes(ROUTER, subject()) == Routes(primary, canary)
    assert member.reconcile(ROUTER, subject()) == []


def test_shares_survive_changes_and_what_others_wrote_stays():
    member = started()
    there = member.of_kind(KIND, "podinfo")
    there["spec"]["weighted"]["sticky"] = {"cookie": {"name": "c"}}
    there["spec"]["weighted"]["services"][0]["scheme"] = "h2c"
    member.put(there)
    member.move(ROUTER, subject(), 70, 30)
    [write] = member.reconcile(ROUTER, subject(service={"port": 80}))
    weighted = write.obj["spec"]["weighted"]
    assert weighted["services"] == [service("primary", 70, 80) | {"scheme": "h2c"}, service("canary", 30, 80)]
    assert weighted["sticky"] == {"cookie": {"name": "c"}}


def test_a_zero_that_flagger_left_out_is_written():
    member = started()
    left = [{key: value for key, value in service("primary", 0).items() if key != "weight"}, service("canary", 100)]
    member.edit(KIND, "podinfo", spec={"weighted": {"services": left}})
    assert member.routes(ROUTER, subject()) == Routes(0, 100)
    member.reconcile(ROUTER, subject())
    assert services(member) == [service("primary", 0), service("canary", 100)]


def test_a_primary_that_is_lost_comes_back_with_everything():
    member = started()
    member.edit(KIND, "podinfo", spec={"weighted": {"services": [service("canary", 100)]}})
    member.reconcile(ROUTER, subject())
    assert services(member) == [service("primary", 100)]


@pytest.mark.parametrize("given", [None, [], [service("canary", 100)]])
def test_a_service_that_does_not_say_where_traffic_goes(given):
    member = started()
    member.edit(KIND, "podinfo", spec={"weighted": {"services": given}})
    with pytest.raises(StepFailed, match=r"^TraefikService podinfo\.test services not found$"):
        member.routes(ROUTER, subject())


def test_a_service_that_is_not_there_and_shares_that_are_none():
    told = r'^TraefikService podinfo\.test get query error: traefikservices\.traefik\.io "podinfo" not found$'
    with pytest.raises(StepFailed, match=told):
        Member().routes(ROUTER, subject())
    with pytest.raises(StepFailed, match=r"^TraefikService podinfo\.test update failed: no valid weights$"):
        started().move(ROUTER, subject(), 0, 0)


def test_nothing_is_given_back():
    assert started().finalize(ROUTER, subject()) == []


async def test_on_an_api_server(crds, hands, ns):
    await crds("traefik")
    canary = subject(namespace=ns)
    [ref] = ROUTER.reads(canary)
    assert await hands.reconcile(ROUTER, canary) == []
    assert await hands.routes(ROUTER, canary) == Routes(100, 0)
    await hands.mark(ref)
    for shares in (Routes(80, 20), Routes(0, 100), Routes(100, 0)):
        assert await hands.move(ROUTER, canary, shares) == shares
        assert await hands.reconcile(ROUTER, canary) == []
    assert await hands.is_marked(ref)
