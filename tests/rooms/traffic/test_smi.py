"""TrafficSplits in three versions: shares by Service, the canary first, and gateways for the adapter for Istio."""

from __future__ import annotations

import pytest

from fleet_rollout.decide.canary.objects import StepFailed
from fleet_rollout.traffic.router import Routes
from fleet_rollout.traffic.smi import GATEWAYS_ANNOTATION, SmiRouter
from tests.rooms.traffic.scene import Member, subject

VERSIONS = ("v1alpha1", "v1alpha2", "v1alpha3")
KIND = "TrafficSplit"


def weight(version, number):
    return str(number) if version == "v1alpha1" else number


def backends(version, canary, primary):
    return [
        {"service": "podinfo-canary", "weight": weight(version, canary)},
        {"service": "podinfo-primary", "weight": weight(version, primary)},
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_new_split_sends_everything_to_the_primary_and_belongs_to_the_canary(version):
    member, router, canary = Member(), SmiRouter(version), subject()
    [write] = member.reconcile(router, canary)
    assert write.obj == {
        "apiVersion": f"split.smi-spec.io/{version}",
        "kind": KIND,
        "metadata": {"name": "podinfo", "namespace": "test", "ownerReferences": [canary.owner_reference]},
        "spec": {"service": "podinfo", "backends": backends(version, 0, 100)},
    }
    assert member.routes(router, canary) == Routes(100, 0, False)


@pytest.mark.parametrize("version", VERSIONS)
def test_shares_are_moved_and_read_back(version):
    member, router, canary = Member(), SmiRouter(version), subject()
    member.reconcile(router, canary)
    member.move(router, canary, 70, 30)
    assert member.of_kind(KIND, "podinfo")["spec"]["backends"] == backends(version, 30, 70)
    assert member.routes(router, canary) == Routes(70, 30)


@pytest.mark.parametrize(
    ("service", "root"),
    [
        ({}, "podinfo"),
        ({"name": "shop"}, "shop"),
        ({"hosts": ["app.example.org", "b.example.org"]}, "app.example.org"),
        ({"hosts": ["*"]}, "*"),
    ],
)
def test_the_root_is_the_first_host_or_the_apex(service, root):
    [write] = Member().reconcile(SmiRouter("v1alpha2"), subject(service=service))
    assert write.obj["spec"]["service"] == root


@pytest.mark.parametrize(
    ("istio", "gateways", "annotation"),
    [
        (True, ["public.istio-system.svc.cluster.local", "mesh"], '["public.istio-system.svc.cluster.local","mesh"]'),
        (True, [], None),
        (False, ["mesh"], None),
    ],
)
def test_gateways_are_told_to_the_adapter_for_istio_alone(istio, gateways, annotation):
    [write] = Member().reconcile(SmiRouter("v1alpha1", istio), subject(service={"gateways": gateways}))
    assert (write.obj["metadata"].get("annotations") or {}).get(GATEWAYS_ANNOTATION) == annotation


def test_new_gateways_reach_a_split_that_is_there():
    member, router = Member(), SmiRouter("v1alpha1", istio=True)
    member.reconcile(router, subject(service={"gateways": ["mesh"]}))
    member.move(router, subject(), 60, 40)
    member.reconcile(router, subject(service={"gateways": ["istio-system/public"]}))
    assert member.of_kind(KIND, "podinfo")["metadata"]["annotations"] == {
        GATEWAYS_ANNOTATION: '["istio-system/public"]'
    }
    assert member.routes(router, subject()) == Routes(60, 40)


@pytest.mark.parametrize("version", VERSIONS)
def test_shares_survive_when_the_root_is_mended(version):
    member, router, canary = Member(), SmiRouter(version), subject()
    member.reconcile(router, canary)
    member.move(router, canary, 55, 45)
    member.edit(KIND, "podinfo", spec={"service": "elsewhere"})
    [write] = member.reconcile(router, canary)
    assert write.obj["spec"] == {"service": "podinfo", "backends": backends(version, 45, 55)}


def test_what_others_wrote_stays():
    member, router, canary = Member(), SmiRouter("v1alpha3"), subject()
    member.reconcile(router, canary)
    matches = [{"kind": "HTTPRouteGroup", "name": "insiders"}]
    member.edit(KIND, "podinfo", metadata={"labels": {"team": "shop"}}, spec={"matches": matches})
    assert member.reconcile(router, canary) == []
    member.move(router, canary, 0, 100)
    there = member.of_kind(KIND, "podinfo")
    assert there["metadata"]["labels"] == {"team": "shop"}
    assert there["spec"]["matches"] == matches


def test_a_backend_that_is_lost_or_foreign_leaves_everything_to_the_primary():
    member, router, canary = Member(), SmiRouter("v1alpha2"), subject()
    member.reconcile(router, canary)
    member.edit(KIND, "podinfo", spec={"backends": [{"service": "other", "weight": 7}]})
    [write] = member.reconcile(router, canary)
    assert write.obj["spec"]["backends"] == backends("v1alpha2", 0, 100)


@pytest.mark.parametrize(
    ("given", "shares"),
    [
        (["20", "80"], Routes(80, 20)),
        ([20, 80], Routes(80, 20)),
        (["20000m", "8e1"], Routes(80, 20)),
        ([None, "100"], Routes(100, 0)),
    ],
)
def test_weights_are_quantities(given, shares):
    member, router, canary = Member(), SmiRouter("v1alpha1"), subject()
    member.reconcile(router, canary)
    names = ("podinfo-canary", "podinfo-primary")
    member.edit(
        KIND,
        "podinfo",
        spec={
            "backends": [
                {"service": name, **({} if each is None else {"weight": each})}
                for name, each in zip(names, given, strict=True)
            ]
        },
    )
    assert member.routes(router, canary) == shares


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            [{"service": "podinfo-canary", "weight": 0}, {"service": "podinfo-primary", "weight": 0}],
            "TrafficSplit podinfo.test does not contain routes for podinfo-primary and podinfo-canary",
        ),
        (None, "TrafficSplit podinfo.test does not contain routes for podinfo-primary and podinfo-canary"),
        (
            [{"service": "podinfo-canary", "weight": "500m"}],
            'TrafficSplit podinfo.test gives podinfo-canary the weight "500m": make it a whole number',
        ),
        (
            [{"service": "podinfo-primary", "weight": "many"}],
            'TrafficSplit podinfo.test gives podinfo-primary the weight "many": make it a whole number',
        ),
        (
            [{"service": "podinfo-primary", "weight": -1}],
            "TrafficSplit podinfo.test gives podinfo-primary the weight -1: make it a whole number",
        ),
    ],
)
def test_a_split_that_does_not_say_where_traffic_goes(given, told):
    member, router, canary = Member(), SmiRouter("v1alpha1"), subject()
    member.reconcile(router, canary)
    member.edit(KIND, "podinfo", spec={"backends": given})
    with pytest.raises(StepFailed) as failed:
        member.routes(router, canary)
    assert failed.value.message == told


def test_a_split_that_is_not_there():
    told = 'TrafficSplit podinfo.test get query error: trafficsplits.split.smi-spec.io "podinfo" not found'
    router = SmiRouter("v1alpha2")
    for ask in (lambda: Member().routes(router, subject()), lambda: Member().move(router, subject(), 100, 0)):
        with pytest.raises(StepFailed) as failed:
            ask()
        assert failed.value.message == told


@pytest.mark.parametrize(
    ("service", "field"),
    [
        ({"hosts": ["a\nb"]}, "spec.service.hosts[0]"),
        ({"hosts": ["a}b"]}, "spec.service.hosts[0]"),
        ({"gateways": ["mesh", 'a","b']}, "spec.service.gateways[1]"),
        ({"gateways": ["a/b/c"]}, "spec.service.gateways[0]"),
    ],
)
def test_odd_hosts_and_gateways_are_refused(service, field):
    with pytest.raises(StepFailed) as failed:
        Member().reconcile(SmiRouter("v1alpha1", istio=True), subject(service=service))
    assert failed.value.message.startswith(f"{field}: ")


def test_nothing_is_given_back():
    member, router, canary = Member(), SmiRouter("v1alpha1"), subject()
    member.reconcile(router, canary)
    assert member.finalize(router, canary) == []


@pytest.mark.parametrize("version", VERSIONS)
async def test_on_an_api_server(version, crds, hands, ns):
    await crds("smi")
    router = SmiRouter(version, istio=True)
    canary = subject(namespace=ns, service={"gateways": ["mesh"], "hosts": ["app.example.org"]})
    assert await hands.reconcile(router, canary) == []
    assert await hands.routes(router, canary) == Routes(100, 0)
    [ref] = router.reads(canary)
    await hands.mark(ref)
    for shares in (Routes(80, 20), Routes(0, 100), Routes(100, 0)):
        assert await hands.move(router, canary, shares) == shares
        assert await hands.reconcile(router, canary) == []
    assert await hands.is_marked(ref)
