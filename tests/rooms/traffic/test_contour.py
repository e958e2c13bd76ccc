"""Contour's HTTPProxy: one route with shares, or two for an A/B test; the host is in the user's own."""

from __future__ import annotations

import pytest

from fleet_rollout.decide.canary.objects import StepFailed
from fleet_rollout.decide.canary.subject import UNTOUCHED_BY_FLUX, EngineOptions
from fleet_rollout.traffic.contour import ContourRouter
from fleet_rollout.traffic.router import Routes
from tests.rooms.traffic.scene import Member, matching, subject

ROUTER = ContourRouter()
KIND = "HTTPProxy"


def service(track, weight, port=9898):
    value = f"podinfo-{track}.test.svc.cluster.local:{port}"
    headers = {"set": [{"name": "l5d-dst-override", "value": value}]}
    return {"name": f"podinfo-{track}", "port": port, "weight": weight, "requestHeadersPolicy": headers}


def services(primary, canary, port=9898):
    return [service("primary", primary, port), service("canary", canary, port)]


def started(canary=None):
    member = Member()
    member.reconcile(ROUTER, canary or subject())
    return member


def spec_of(canary):
    return started(canary).of_kind(KIND, "podinfo")["spec"]


def test_a_new_proxy_sends_everything_to_the_primary():
    canary = subject(service={"apex": {"annotations": {"a": "b"}}})
    [write] = Member().reconcile(ROUTER, canary)
    assert write.obj == {
        "apiVersion": "projectcontour.io/v1",
        "kind": KIND,
        "metadata": {
            "name": "podinfo",
            "namespace": "test",
            "labels": {"app": "podinfo"},
            "annotations": {"a": "b"} | UNTOUCHED_BY_FLUX,
            "ownerReferences": [canary.owner_reference],
        },
        "spec": {"routes": [{"conditions": [{"prefix": "/"}], "services": services(100, 0)}]},
    }


@pytest.mark.parametrize(
    ("given", "route"),
    [
        ({"match": [{"uri": {"prefix": "/api"}}]}, {"conditions": [{"prefix": "/api"}]}),
        ({"match": [{"uri": {"exact": "/api"}}]}, {"conditions": [{"prefix": "/"}]}),
        ({"match": [{"headers": {}}, {"uri": {"prefix": "/api"}}]}, {"conditions": [{"prefix": "/"}]}),
        ({"timeout": "15s"}, {"timeoutPolicy": {"response": "15s", "idle": "5m"}}),
        (
            {"retries": {"attempts": 3, "perTryTimeout": "1.5s", "retryOn": "5xx, connect-failure"}},
            {"retryPolicy": {"count": 3, "perTryTimeout": "1.5s", "retryOn": ["5xx", "connect-failure"]}},
        ),
        ({"retries": {"perTryTimeout": "1s"}}, {"retryPolicy": {"count": 1, "perTryTimeout": "1s"}}),
        ({"port": 80}, {"services": services(100, 0, port=80)}),
    ],
)
def test_what_the_service_says_of_the_route(given, route):
    [found] = spec_of(subject(service=given))["routes"]
    assert {key: found[key] for key in route} == route
    assert set(found) - set(route) <= {"conditions", "services"}


def test_the_ingress_class_is_an_option():
    assert spec_of(subject(options=EngineOptions(ingress_class="contour")))["ingressClassName"] == "contour"


def test_an_ab_test_has_a_route_for_those_chosen_and_one_for_everybody_else():
    canary = subject(analysis=matching(x={"exact": "a"}, y={"prefix": "b"}, z={"suffix": "c"}))
    member = started(canary)
    member.move(ROUTER, canary, 0, 100)
    chosen, others = member.of_kind(KIND, "podinfo")["spec"]["routes"]
    assert chosen["conditions"] == [
        {"prefix": "/", "header": {"name": "x", "exact": "a"}},
        {"header": {"name": "y", "contains": "b"}},
        {"header": {"name": "z", "contains": "c"}},
    ]
    assert chosen["services"] == services(0, 100)
    assert others == {"conditions": [{"prefix": "/"}], "services": services(100, 0)}
    assert member.routes(ROUTER, canary) == Routes(0, 100)


def test_the_end_of_an_ab_test_leaves_no_condition():
    member = started(subject(analysis=matching(x={"exact": "a"})))
    member.reconcile(ROUTER, subject())
    assert member.of_kind(KIND, "podinfo")["spec"]["routes"] == [
        {"conditions": [{"prefix": "/"}], "services": services(100, 0)}
    ]


def test_shares_survive_changes_and_what_others_wrote_stays():
    member = started()
    member.move(ROUTER, subject(), 70, 30)
    there = member.of_kind(KIND, "podinfo")
    there["spec"]["virtualhost"] = {"fqdn": "app.example.org"}
    there["spec"]["routes"][0]["permitInsecure"] = True
    there["spec"]["routes"][0]["services"][1]["protocol"] = "h2c"
    there["spec"]["routes"][0]["services"][0]["requestHeadersPolicy"]["set"].append({"name": "x", "value": "y"})
    member.put(there)
    assert member.reconcile(ROUTER, subject()) == []
    [write] = member.reconcile(ROUTER, subject(service={"timeout": "9s"}))
    route = write.obj["spec"]["routes"][0]
    assert write.obj["spec"]["virtualhost"] == {"fqdn": "app.example.org"}
    assert [each["weight"] for each in route["services"]] == [70, 30]
    assert (route["permitInsecure"], route["services"][1]["protocol"]) == (True, "h2c")
    assert route["services"][0]["requestHeadersPolicy"]["set"][1] == {"name": "x", "value": "y"}
    [write] = member.reconcile(ROUTER, subject())
    assert "timeoutPolicy" not in write.obj["spec"]["routes"][0]


def test_what_flagger_left_needs_no_write():
    member = started()
    there = member.of_kind(KIND, "podinfo")
    del there["spec"]["routes"][0]["services"][1]["weight"]  # it leaves zeros out
    member.put(there)
    assert member.reconcile(ROUTER, subject()) == []
    assert member.routes(ROUTER, subject()) == Routes(100, 0)
    assert member.move(ROUTER, subject(), 100, 0) == []
    member.move(ROUTER, subject(), 0, 100)
    assert member.routes(ROUTER, subject()) == Routes(0, 100)


@pytest.mark.parametrize(
    "routes",
    [
        None,
        [],
        [{"services": [service("primary", 5)]}],
        [{"services": [{"name": "a", "weight": 1}, {"name": "b", "weight": 1}]}],
    ],
)
def test_a_proxy_that_does_not_say_where_traffic_goes(routes):
    member = started()
    member.edit(KIND, "podinfo", spec={"routes": routes})
    with pytest.raises(StepFailed, match=r"^HTTPProxy podinfo\.test services not found$"):
        member.routes(ROUTER, subject())


@pytest.mark.parametrize(("weight", "shown"), [(101, "101"), (-1, "-1"), (None, "null"), (1.5, "1.5"), (True, "true")])
def test_a_weight_that_is_no_percentage(weight, shown):
    member = started()
    member.edit(KIND, "podinfo", spec={"routes": [{"services": services(weight, 0)}]})
    with pytest.raises(StepFailed) as failed:
        member.routes(ROUTER, subject())
    told = f"HTTPProxy podinfo.test gives podinfo-primary the weight {shown}: make it a whole number from 0 to 100"
    assert failed.value.message == told


def test_a_proxy_that_is_not_there_and_shares_that_are_none():
    told = r'^HTTPProxy podinfo\.test get query error: httpproxies\.projectcontour\.io "podinfo" not found$'
    with pytest.raises(StepFailed, match=told):
        Member().routes(ROUTER, subject())
    with pytest.raises(StepFailed, match=r"^HTTPProxy podinfo\.test update failed: no valid weights$"):
        started().move(ROUTER, subject(), 0, 0)


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ({"service": {"match": [{"uri": {"prefix": "/a\nb"}}]}}, "spec.service.match[0].uri.prefix"),
        ({"service": {"match": [{"uri": {"prefix": "api"}}]}}, "spec.service.match[0].uri.prefix"),
        ({"service": {"timeout": "soon"}}, "spec.service.timeout"),
        ({"service": {"retries": {"perTryTimeout": "5"}}}, "spec.service.retries.perTryTimeout"),
        ({"service": {"retries": {"retryOn": "5xx,a b"}}}, "spec.service.retries.retryOn"),
        ({"analysis": matching(x={"exact": "a\r\nb"})}, "spec.analysis.match[0].headers.x.exact"),
        ({"analysis": matching(x={"regex": "a"})}, "spec.analysis.match[0].headers.x"),
        ({"analysis": {"iterations": 1, "match": [{"sourceLabels": {"a": "b"}}]}}, "spec.analysis.match"),
    ],
)
def test_odd_text_is_refused(parts, field):
    with pytest.raises(StepFailed) as failed:
        Member().reconcile(ROUTER, subject(**parts))
    assert failed.value.message.startswith(f"{field}: ")


def test_nothing_is_given_back():
    assert started().finalize(ROUTER, subject()) == []


@pytest.mark.parametrize(
    ("service", "analysis"),
    [
        ({"timeout": "15s", "retries": {"retryOn": "5xx"}, "match": [{"uri": {"prefix": "/api"}}]}, {}),
        ({}, matching(x={"exact": "a"}, y={"suffix": "b"})),
    ],
)
async def test_on_an_api_server(service, analysis, crds, hands, ns):
    await crds("contour")
    options = EngineOptions(ingress_class="contour")
    canary = subject(namespace=ns, service=service, analysis=analysis, options=options)
    [ref] = ROUTER.reads(canary)
    assert await hands.reconcile(ROUTER, canary) == []
    assert await hands.routes(ROUTER, canary) == Routes(100, 0)
    await hands.mark(ref)
    for shares in (Routes(80, 20), Routes(0, 100), Routes(100, 0)):
        assert await hands.move(ROUTER, canary, shares) == shares
        assert await hands.reconcile(ROUTER, canary) == []
    assert await hands.is_marked(ref)
