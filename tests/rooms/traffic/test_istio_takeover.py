"""A VirtualService that was there before: taken over, its original kept, given back."""

from __future__ import annotations

import json

import pytest

from fleet_rollout.traffic.istio import ORIGINAL, IstioRouter
from fleet_rollout.traffic.objects import LAST_APPLIED
from fleet_rollout.traffic.router import Routes
from tests.rooms.traffic.scene import Member, subject

ROUTER = IstioRouter()
OF = subject()
FLUX = {"kustomize.toolkit.fluxcd.io/reconcile": "disabled", "helm.toolkit.fluxcd.io/driftDetection": "disabled"}
THEIRS = {
    "hosts": ["podinfo", "app.example.org"],
    "exportTo": ["."],
    "http": [{"name": "all", "route": [{"destination": {"host": "podinfo"}}]}],
}


def foreign(spec=THEIRS, **metadata):
    metadata = {"name": "podinfo", "namespace": "test", "labels": {"team": "a"}, **metadata}
    return {"apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService", "metadata": metadata, "spec": spec}


def found(member):
    return member.of_kind("VirtualService", "podinfo")


def applied(spec=THEIRS, **metadata):
    return {LAST_APPLIED: json.dumps(foreign(spec, **metadata))}


def test_it_becomes_ours_but_for_what_we_do_not_write():
    member = Member(foreign(annotations={"note": "x"}))
    member.reconcile(ROUTER, OF)
    taken = found(member)
    assert taken["spec"]["exportTo"] == ["."]
    assert taken["spec"]["hosts"] == ["podinfo"]
    assert member.routes(ROUTER, OF) == Routes(100, 0)
    metadata = taken["metadata"]
    assert metadata["labels"] == {"team": "a"}
    assert "ownerReferences" not in metadata
    assert json.loads(metadata["annotations"].pop(ORIGINAL)) == THEIRS
    assert metadata["annotations"] == {"note": "x", **FLUX}


def test_the_original_is_that_of_the_first_take_over():
    member = Member(foreign())
    member.reconcile(ROUTER, OF)
    member.move(ROUTER, OF, 60, 40)
    for change in ({"hosts": ["x"]}, {"http": []}, {"gateways": ["y"]}):
        member.edit("VirtualService", "podinfo", spec=change)
        assert member.reconcile(ROUTER, OF)
    assert json.loads(found(member)["metadata"]["annotations"][ORIGINAL]) == THEIRS


def test_what_already_says_what_we_want_is_kept_before_the_first_move():
    ours = {
        "hosts": ["podinfo"],
        "gateways": ["mesh"],
        "http": [
            {
                "route": [
                    {"destination": {"host": "podinfo-primary"}, "weight": 100},
                    {"destination": {"host": "podinfo-canary"}, "weight": 0},
                ]
            }
        ],
    }
    member = Member(foreign(ours))
    member.reconcile(ROUTER, OF)
    assert ORIGINAL not in found(member)["metadata"]["annotations"]
    member.move(ROUTER, OF, 80, 20)
    assert json.loads(found(member)["metadata"]["annotations"][ORIGINAL]) == ours


def test_what_kubectl_applied_is_kept_by_kubectl():
    member = Member(foreign(annotations=applied()))
    member.reconcile(ROUTER, OF)
    member.move(ROUTER, OF, 80, 20)
    assert ORIGINAL not in found(member)["metadata"]["annotations"]


def test_one_of_our_own_has_no_original():
    member = Member()
    member.reconcile(ROUTER, OF)
    member.edit("VirtualService", "podinfo", spec={"hosts": ["x"]})
    member.reconcile(ROUTER, OF)
    assert ORIGINAL not in found(member)["metadata"]["annotations"]
    assert member.finalize(ROUTER, OF) == []


@pytest.mark.parametrize("annotations", [{}, applied(), {"note": "x"}, applied() | {"note": "x"}])
def test_it_is_given_back_as_it_was(annotations):
    member = Member(foreign(annotations=annotations))
    member.reconcile(ROUTER, OF)
    member.move(ROUTER, OF, 40, 60)
    [_] = member.finalize(ROUTER, OF)
    assert found(member)["spec"] == THEIRS
    assert found(member)["metadata"]["annotations"] == annotations
    assert member.finalize(ROUTER, OF) == []


def test_one_whose_original_was_ours_is_let_go():
    member = Member()
    member.reconcile(ROUTER, OF)
    ours = found(member)["spec"]
    member = Member(foreign(ours))
    member.reconcile(ROUTER, OF)
    member.finalize(ROUTER, OF)
    assert found(member)["spec"] == ours
    assert found(member)["metadata"].get("annotations", {}) == {}


@pytest.mark.parametrize(
    "original",
    [
        {ORIGINAL: "{"},
        {ORIGINAL: "[]"},
        {ORIGINAL: "[" * 100_000},
        {LAST_APPLIED: '{"kind": "VirtualService"}'},
        {LAST_APPLIED: '{"spec": 1}'},
        {},
    ],
)
def test_an_original_that_cannot_be_read_leaves_the_routes_and_stops_nothing(original, caplog):
    member = Member(foreign(annotations=original | FLUX))
    assert len(member.finalize(ROUTER, OF)) == 1
    assert found(member)["spec"] == THEIRS
    assert not {ORIGINAL, *FLUX} & found(member)["metadata"]["annotations"].keys()
    assert "podinfo.test keeps its routes" in caplog.text


def test_where_there_is_none_there_is_nothing_to_give_back():
    assert Member().finalize(ROUTER, OF) == []
