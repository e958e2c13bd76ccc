"""A TrafficSplit becomes a VirtualService, as the retired adapter for Istio made it."""

from __future__ import annotations

import copy
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_rollout.decide.canary.objects import StepFailed
from fleet_rollout.traffic.router import Routes
from fleet_rollout.traffic.smi import GATEWAYS_ANNOTATION, SmiRouter
from fleet_rollout.traffic.smi_adapter import percents, virtual_service, virtual_service_ref
from tests.rooms.traffic.scene import Member, subject

KIND = "VirtualService"


def split(*backends, service="podinfo", version="v1alpha2", **metadata):
    listed = [{"service": name, "weight": weight} for name, weight in backends or (("a", 20), ("b", 80))]
    return {
        "apiVersion": f"split.smi-spec.io/{version}",
        "kind": "TrafficSplit",
        "metadata": {"name": "podinfo", "namespace": "test", "uid": "split-uid", **metadata},
        "spec": {"service": service, "backends": listed},
    }


def route(*shares):
    return [{"route": [{"destination": {"host": host}, "weight": weight} for host, weight in shares]}]


def follow(member, given):
    """What is written once; the second time must write nothing."""
    ref = virtual_service_ref(given)
    writes = virtual_service(given, {ref: copy.deepcopy(member.objects.get(ref))})
    member.carry_out(writes)
    assert virtual_service(given, {ref: copy.deepcopy(member.objects[ref])}) == []
    return writes


OWNER = {
    "apiVersion": "split.smi-spec.io/v1alpha2",
    "kind": "TrafficSplit",
    "name": "podinfo",
    "uid": "split-uid",
    "controller": True,
    "blockOwnerDeletion": True,
}


def test_a_new_virtual_service():
    annotations = {GATEWAYS_ANNOTATION: '["public-gateway.istio-system.svc.cluster.local","mesh"]'}
    [write] = follow(Member(), split(service="app.example.org", annotations=annotations))
    assert write.obj == {
        "apiVersion": "networking.istio.io/v1beta1",
        "kind": KIND,
        "metadata": {
            "name": "podinfo-vs",
            "namespace": "test",
            "labels": {"traffic-split": "podinfo"},
            "ownerReferences": [OWNER],
        },
        "spec": {
            "hosts": ["app.example.org"],
            "gateways": ["public-gateway.istio-system.svc.cluster.local", "mesh"],
            "http": route(("a", 20), ("b", 80)),
        },
    }


def test_without_gateways_the_mesh_alone_is_meant():
    [write] = follow(Member(), split())
    assert write.obj["spec"] == {"hosts": ["podinfo"], "http": route(("a", 20), ("b", 80))}


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        ([1000, 2000], [33, 67]),
        ([1000, 1000, 1000], [33, 33, 34]),
        ([20, 30, 50], [20, 30, 50]),
        ([5, 10, 20], [14, 29, 57]),
        ([0, 100], [0, 100]),
        ([1], [100]),
        (["500m", "1"], [33, 67]),
        (["1k", "3e3"], [25, 75]),
        ([1, 1, 0], [50, 50, 0]),
        ([99, 1, 100], [50, 1, 49]),
        ([5, 195], [3, 97]),
    ],
)
def test_weights_become_percentages(weights, shares):
    names = [f"v{index}" for index in range(len(weights))]
    [write] = follow(Member(), split(*zip(names, weights, strict=True), version="v1alpha1"))
    assert write.obj["spec"]["http"] == route(*zip(names, shares, strict=True))


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=300).filter(any))
def test_percentages_are_100_together_and_close_to_the_weights(weights):
    shares = percents([Fraction(weight) for weight in weights])
    assert sum(shares) == 100
    assert all(0 <= share <= 100 for share in shares)
    for weight, share in list(zip(weights, shares, strict=True))[:-1]:
        assert share <= weight * 100 / sum(weights) + 0.5


def test_a_change_is_followed_and_what_others_wrote_stays():
    member = Member()
    follow(member, split())
    there = member.of_kind(KIND, "podinfo-vs")
    there["metadata"]["labels"]["x"] = "y"
    there["spec"]["exportTo"] = ["."]
    there["spec"]["http"][0]["timeout"] = "5s"
    member.put(there)
    [write] = follow(member, split(("a", 60), ("b", 40)))
    assert write.obj["metadata"]["labels"] == {"traffic-split": "podinfo", "x": "y"}
    [found] = route(("a", 60), ("b", 40))
    assert write.obj["spec"] == {"hosts": ["podinfo"], "exportTo": ["."], "http": [found | {"timeout": "5s"}]}


def test_gateways_that_are_no_longer_named_go_away():
    member = Member()
    follow(member, split(annotations={GATEWAYS_ANNOTATION: '["mesh"]'}))
    [write] = follow(member, split())
    assert "gateways" not in write.obj["spec"]


def test_a_split_that_goes_takes_nothing_with_it_by_a_write():
    gone = split(deletionTimestamp="2026-01-01T00:00:00Z")
    assert virtual_service(gone, {virtual_service_ref(gone): None}) == []


@pytest.mark.parametrize(
    "metadata",
    [
        {"ownerReferences": [OWNER | {"uid": "an older one"}]},
        {"ownerReferences": [OWNER | {"apiVersion": "split.smi-spec.io/v1alpha1", "controller": False}]},
        {"labels": {"traffic-split": "podinfo"}},
    ],
)
def test_what_the_retired_adapter_left_is_taken_over(metadata):
    member = Member()
    follow(member, split())
    there = member.of_kind(KIND, "podinfo-vs")
    del there["metadata"]["ownerReferences"], there["metadata"]["labels"]
    there["metadata"] |= metadata
    member.put(there)
    [write] = follow(member, split())
    assert write.obj["metadata"]["ownerReferences"] == [OWNER]


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"labels": {"traffic-split": "other"}},
        {"ownerReferences": [OWNER | {"name": "other"}]},
        {"ownerReferences": [OWNER | {"kind": "Canary", "apiVersion": "flagger.app/v1beta1"}]},
        {"ownerReferences": [OWNER | {"kind": "Canary", "apiVersion": "flagger.app/v1beta1", "controller": False}]},
    ],
)
def test_somebody_elses_virtual_service_is_left_alone(metadata):
    given = split()
    theirs = {"apiVersion": "networking.istio.io/v1beta1", "kind": KIND, "metadata": metadata, "spec": {}}
    theirs["metadata"] |= {"name": "podinfo-vs", "namespace": "test"}
    with pytest.raises(StepFailed) as failed:
        virtual_service(given, {virtual_service_ref(given): theirs})
    told = "VirtualService podinfo-vs.test is not of TrafficSplit podinfo.test"
    assert failed.value.message == f"{told}; rename one of them, or label it traffic-split: podinfo"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (split(("a", 0), ("b", 0)), "spec.backends: no backend has a weight"),
        ({**split(), "spec": {"service": "podinfo"}}, "spec.backends: no backend has a weight"),
        ({**split(), "spec": {}}, "spec.service: "),
        (split(("a", "much")), "spec.backends[0].weight: "),
        (split(("a", 1), ("b", -1)), "spec.backends[1].weight: "),
        (split(("a", 1), ("b\nc", 1)), "spec.backends[1].service: "),
        (split(service="a}b"), "spec.service: "),
        (split(annotations={GATEWAYS_ANNOTATION: "mesh"}), f"metadata.annotations[{GATEWAYS_ANNOTATION}]: not a JSON"),
        (split(annotations={GATEWAYS_ANNOTATION: "[" * 9999}), f"metadata.annotations[{GATEWAYS_ANNOTATION}]: not a"),
        (split(annotations={GATEWAYS_ANNOTATION: "[1]"}), f"metadata.annotations[{GATEWAYS_ANNOTATION}]: not a JSON"),
        (split(annotations={GATEWAYS_ANNOTATION: '["a\\nb"]'}), f"metadata.annotations[{GATEWAYS_ANNOTATION}]: "),
        ({**split(), "spec": {**split()["spec"], "matches": [{"kind": "HTTPRouteGroup"}]}}, "spec.matches: "),
    ],
)
def test_a_split_that_cannot_be_followed_is_told_why(given, field):
    with pytest.raises(StepFailed) as failed:
        virtual_service(given, {virtual_service_ref(given): None})
    assert failed.value.message.startswith(f"TrafficSplit podinfo.test {field}")


def test_long_names_stay_within_limits():
    name = f"{'n' * 62}.{'m' * 188}"
    [write] = follow(Member(), split(name=name))
    assert len(write.obj["metadata"]["name"]) == 253
    label = write.obj["metadata"]["labels"]["traffic-split"]
    assert len(label) <= 63
    assert label[-9] == "-"
    assert label[-10] != "."


@pytest.mark.parametrize("version", ["v1alpha1", "v1alpha2", "v1alpha3"])
async def test_on_an_api_server(version, crds, hands, ns):
    """From a Canary's router through the adapter to what Istio reads."""
    await crds("smi", "istio")
    router = SmiRouter(version, istio=True)
    canary = subject(namespace=ns, service={"gateways": ["mesh"], "hosts": ["app.example.org"]})
    await hands.reconcile(router, canary)
    [ref] = router.reads(canary)
    for shares in ((100, 0), (70, 30), (0, 100)):
        moved = router.set_routes(canary, await hands.live(router, canary), Routes(*shares), token="")
        await hands.carry_out(moved.writes)
        given = await hands.get(ref)
        target = virtual_service_ref(given)
        await hands.carry_out(virtual_service(given, {target: await hands.get(target)}))
        there = await hands.get(target)
        assert virtual_service(given, {target: there}) == []
        assert there["spec"] == {
            "hosts": ["app.example.org"],
            "gateways": ["mesh"],
            "http": route(("podinfo-canary", shares[1]), ("podinfo-primary", shares[0])),
        }
        assert there["metadata"]["ownerReferences"][0]["uid"] == given["metadata"]["uid"]
