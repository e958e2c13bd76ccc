"""Istio, rule by rule: what is written for which Canary, and what is read back."""

from __future__ import annotations

import pytest

from fleet_rollout.decide.canary.objects import StepFailed
from fleet_rollout.traffic.istio import IstioRouter
from fleet_rollout.traffic.router import Routes
from tests.rooms.traffic.scene import Member, subject

ROUTER = IstioRouter()
FLUX = {"kustomize.toolkit.fluxcd.io/reconcile": "disabled", "helm.toolkit.fluxcd.io/driftDetection": "disabled"}
OWNER = [
    {
        "apiVersion": "flagger.app/v1beta1",
        "kind": "Canary",
        "name": "podinfo",
        "uid": "canary-uid",
        "controller": True,
        "blockOwnerDeletion": True,
    }
]
URI = [{"uri": {"prefix": "/api"}}]
X_USER = {"headers": {"x-user": {"exact": "insider"}}}


def destination(name, weight, port=None, **rest):
    where = {"host": f"podinfo-{name}"} | ({"port": {"number": port}} if port else {})
    return {"destination": where, "weight": weight, **rest}


def split(primary, canary, port=None):
    return [destination("primary", primary, port), destination("canary", canary, port)]


def made(of):
    """The VirtualService that a first reconcile makes."""
    member = Member()
    member.reconcile(ROUTER, of)
    return member.of_kind("VirtualService", "podinfo")


def moved(of, primary, canary, mirrored=False):
    """The http rules after one move."""
    member = Member()
    member.reconcile(ROUTER, of)
    member.move(ROUTER, of, primary, canary, mirrored=mirrored)
    assert member.routes(ROUTER, of) == Routes(primary, canary, mirrored)
    return member.of_kind("VirtualService", "podinfo")["spec"]["http"]


def test_a_canary_gets_two_destination_rules_and_a_virtual_service():
    member, of = Member(), subject(service={"trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}})
    writes = member.reconcile(ROUTER, of)
    assert [str(write.ref) for write in writes] == [
        "DestinationRule test/podinfo-canary",
        "DestinationRule test/podinfo-primary",
        "VirtualService test/podinfo",
    ]
    canary, primary, route = (write.obj for write in writes)
    assert canary == {
        "apiVersion": "networking.istio.io/v1beta1",
        "kind": "DestinationRule",
        "metadata": {"name": "podinfo-canary", "namespace": "test", "ownerReferences": OWNER},
        "spec": {"host": "podinfo-canary", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}},
    }
    assert primary["spec"]["host"] == primary["metadata"]["name"] == "podinfo-primary"
    assert route == {
        "apiVersion": "networking.istio.io/v1beta1",
        "kind": "VirtualService",
        "metadata": {"name": "podinfo", "namespace": "test", "annotations": FLUX, "ownerReferences": OWNER},
        "spec": {"hosts": ["podinfo"], "gateways": ["mesh"], "http": [{"route": split(100, 0)}]},
    }


@pytest.mark.parametrize(
    ("service", "hosts", "gateways"),
    [
        ({}, ["podinfo"], ["mesh"]),
        ({"hosts": ["app.example.org"]}, ["app.example.org", "podinfo"], ["mesh"]),
        ({"hosts": ["podinfo", "app.example.org"]}, ["podinfo", "app.example.org"], ["mesh"]),
        ({"hosts": ["*"]}, ["*"], ["mesh"]),
        ({"gateways": []}, ["podinfo"], ["mesh"]),
        ({"gateways": ["istio-system/public"]}, ["podinfo"], ["istio-system/public"]),
        ({"gateways": ["public", "mesh"]}, ["podinfo"], ["public", "mesh"]),
        ({"delegation": True}, None, None),
    ],
)
def test_hosts_and_gateways(service, hosts, gateways):
    spec = made(subject(service=service))["spec"]
    assert (spec.get("hosts"), spec.get("gateways")) == (hosts, gateways)


@pytest.mark.parametrize("more", [{"hosts": ["a"]}, {"gateways": ["public"]}])
def test_what_is_delegated_to_has_no_hosts_and_gateways(more):
    with pytest.raises(StepFailed, match=r"podinfo\.test cannot have hosts and gateways when it is delegated to"):
        made(subject(service={"delegation": True, **more}))


@pytest.mark.parametrize(
    ("service", "port"),
    [
        ({}, None),
        ({"gateways": ["public"]}, None),
        ({"portDiscovery": True}, None),
        ({"portDiscovery": True, "gateways": ["mesh", "public"]}, None),
        ({"portDiscovery": True, "gateways": ["public", "mesh"]}, 9898),
        ({"portDiscovery": True, "delegation": True}, 9898),
        ({"delegation": True}, None),
    ],
)
def test_destinations_name_a_port_only_behind_a_gateway_with_several(service, port):
    assert made(subject(service=service))["spec"]["http"] == [{"route": split(100, 0, port)}]


def test_a_rule_says_all_that_the_service_says():
    said = {
        "match": [*URI, {"port": 80}],
        "timeout": "15s",
        "retries": {"attempts": 3, "perTryTimeout": "1s", "retryOn": "gateway-error"},
        "corsPolicy": {"allowOrigin": ["example.org"], "allowCredentials": False, "maxAge": "24h"},
        "headers": {"request": {"add": {"x-envoy-upstream-rq-timeout-ms": "15000"}}, "response": {"remove": ["x-b"]}},
    }
    of = subject(service={**said, "rewrite": {"uri": "/v2", "authority": "b.example.org", "type": "ReplaceFullPath"}})
    rule = {**said, "rewrite": {"uri": "/v2", "authority": "b.example.org"}}
    assert made(of)["spec"]["http"] == [{**rule, "route": split(100, 0)}]
    assert moved(of, 60, 40) == [{**rule, "route": split(60, 40)}]


def test_what_says_nothing_is_left_out():
    of = subject(service={"match": [], "timeout": "", "rewrite": {"type": "ReplacePrefixMatch"}, "headers": {}})
    assert made(of)["spec"]["http"] == [{"route": split(100, 0)}]


@pytest.mark.parametrize("protocol", ["tcp", "TCP"])
def test_tcp_is_routed_by_port_and_weight_alone(protocol):
    of = subject(
        service={"appProtocol": protocol, "match": [{"port": 5432, **X_USER}, {"port": 5433}], "timeout": "1s"},
        analysis={"match": [X_USER], "sessionAffinity": {"cookieName": "ck"}},
    )
    member = Member()
    member.reconcile(ROUTER, of)
    member.move(ROUTER, of, 80, 20, mirrored=True)
    spec = member.of_kind("VirtualService", "podinfo")["spec"]
    assert spec == {
        "hosts": ["podinfo"],
        "gateways": ["mesh"],
        "tcp": [{"match": [{"port": 5432}, {"port": 5433}], "route": split(80, 20)}],
    }
    assert member.routes(ROUTER, of) == Routes(80, 20)
    assert member.reconcile(ROUTER, of) == []


def test_tcp_without_match_takes_every_port():
    assert made(subject(service={"appProtocol": "tcp"}))["spec"]["tcp"] == [{"route": split(100, 0)}]


@pytest.mark.parametrize(
    ("share", "percentage"), [({}, {}), ({"mirrorWeight": 10}, {"mirrorPercentage": {"value": 10}})]
)
def test_a_mirror_is_on_the_rule_until_the_next_move(share, percentage):
    of = subject(analysis={"mirror": True, **share})
    assert moved(of, 100, 0, mirrored=True) == [
        {"route": split(100, 0), "mirror": {"host": "podinfo-canary"}, **percentage}
    ]
    member = Member()
    member.reconcile(ROUTER, of)
    member.move(ROUTER, of, 100, 0, mirrored=True)
    member.move(ROUTER, of, 80, 20)
    assert member.of_kind("VirtualService", "podinfo")["spec"]["http"] == [{"route": split(80, 20)}]


def test_ab_testing_has_a_rule_for_the_chosen_and_one_for_the_others():
    of = subject(analysis={"iterations": 2, "match": [X_USER]}, service={"timeout": "5s"})
    assert moved(of, 0, 100) == [
        {"match": [X_USER], "timeout": "5s", "route": split(0, 100)},
        {"timeout": "5s", "route": [destination("primary", 0)]},
    ]
    assert made(of)["spec"]["http"] == [
        {"match": [X_USER], "timeout": "5s", "route": split(100, 0)},
        {"timeout": "5s", "route": [destination("primary", 100)]},
    ]


LABELS = {"sourceLabels": {"app": "web"}}
QUERY = {"queryParams": {"v": {"exact": "2"}}}


@pytest.mark.parametrize(
    ("analysis", "service", "merged"),
    [
        ([X_USER, QUERY], [], [X_USER, QUERY]),
        ([X_USER], URI, [URI[0] | X_USER]),
        ([LABELS], URI, [URI[0] | LABELS]),
        ([X_USER | LABELS], [URI[0] | {"headers": {"a": {"exact": "b"}}}], [URI[0] | X_USER | LABELS]),
        ([LABELS], [{"headers": {"a": {"exact": "b"}}}], [{"headers": {"a": {"exact": "b"}}} | LABELS]),
        # Query parameters of the analysis do not get into the service's conditions.
        ([QUERY], URI, URI),
        (
            [X_USER, LABELS],
            [*URI, {"port": 80}],
            [URI[0] | X_USER, {"port": 80} | X_USER, URI[0] | LABELS, {"port": 80} | LABELS],
        ),
    ],
)
def test_conditions_of_analysis_and_service_are_combined(analysis, service, merged):
    of = subject(analysis={"iterations": 2, "match": analysis}, service={"match": service})
    chosen, others = moved(of, 0, 100)
    assert chosen["match"] == merged
    assert others.get("match", []) == service


def test_a_suffix_which_istio_does_not_know_becomes_an_expression():
    of = subject(analysis={"iterations": 2, "match": [{"headers": {"host": {"suffix": ".a+b.org"}}}]})
    assert moved(of, 0, 100)[0]["match"] == [{"headers": {"host": {"regex": r".*\.a\+b\.org"}}}]


def test_labels_and_annotations_come_from_the_apex():
    plain = made(subject(service={"apex": {"labels": {"team": "a"}, "annotations": {"note": "b"}}}))["metadata"]
    assert plain["labels"] == {"team": "a", "app": "podinfo"}
    assert plain["annotations"] == {"note": "b", **FLUX}


def test_the_apex_label_names_the_service():
    member, of = Member(), subject(service={"apex": {}, "name": "web"})
    member.reconcile(ROUTER, of)
    assert member.of_kind("VirtualService", "web")["metadata"]["labels"] == {"app": "web"}
    assert member.of_kind("VirtualService", "web")["spec"]["http"][0]["route"][1]["destination"] == {
        "host": "web-canary"
    }


# What is read


HALVES = {"route": split(50, 50)}


@pytest.mark.parametrize(
    ("rules", "routes"),
    [
        ([HALVES], Routes(50, 50)),
        ([{"route": split(100, 0)}, HALVES], Routes(50, 50)),
        ([HALVES, {"route": [destination("primary", 100)]}], Routes(50, 50)),
        ([{"route": [{"destination": {"host": "podinfo-canary"}, "weight": 100}]}], Routes(0, 100)),
        ([{"route": [destination("primary", 100), {"destination": {"host": "podinfo-canary"}}]}], Routes(100, 0)),
        ([HALVES | {"mirror": {"host": "podinfo-canary"}}], Routes(50, 50, True)),
        ([HALVES | {"mirror": {}}], Routes(50, 50)),
    ],
)
def test_the_last_rule_with_the_canary_says_where_traffic_goes(rules, routes):
    of = subject()
    member = Member()
    member.reconcile(ROUTER, of)
    member.edit("VirtualService", "podinfo", spec={"http": rules})
    assert member.routes(ROUTER, of) == routes


@pytest.mark.parametrize("rules", [[], [{"route": split(0, 0)}], [{"route": [destination("primary", 100)]}], None])
def test_rules_that_do_not_say_stop_the_tick_and_are_mended(rules):
    member, of = Member(), subject()
    member.reconcile(ROUTER, of)
    member.edit("VirtualService", "podinfo", spec={"http": rules})
    with pytest.raises(StepFailed) as error:
        member.routes(ROUTER, of)
    expected = "VirtualService podinfo.test does not contain routes for podinfo-primary and podinfo-canary"
    assert error.value.message == expected
    assert error.value.retriable
    member.reconcile(ROUTER, of)
    assert member.routes(ROUTER, of) == Routes(100, 0)


def test_without_a_virtual_service_nothing_is_read_or_moved():
    member, of = Member(), subject()
    with pytest.raises(StepFailed, match=r'podinfo\.test get query error: virtualservices.* "podinfo" not found'):
        member.routes(ROUTER, of)
    with pytest.raises(StepFailed, match="not found"):
        member.move(ROUTER, of, 80, 20)


# What others do


def at(primary, canary, of, mirrored=False):
    member = Member()
    member.reconcile(ROUTER, of)
    member.move(ROUTER, of, primary, canary, mirrored=mirrored)
    return member


@pytest.mark.parametrize(
    ("parts", "is_mended"),
    [
        ({"metadata": {"labels": {"theirs": "x"}, "annotations": {"theirs": "y"}}}, False),
        ({"spec": {"exportTo": ["."]}}, False),
        ({"metadata": {"labels": {"team": "b"}}}, True),
        ({"metadata": {"annotations": {"helm.toolkit.fluxcd.io/driftDetection": "enabled"}}}, True),
        ({"spec": {"hosts": ["elsewhere"]}}, True),
        ({"spec": {"gateways": []}}, True),
        ({"spec": {"http": [{"fault": {"abort": {"httpStatus": 500}}, "route": split(60, 40)}]}}, True),
        ({"spec": {"tls": [{"match": [{"sniHosts": ["a"]}], "route": split(60, 40)}]}}, True),
    ],
)
def test_weights_survive_whatever_else_changes(parts, is_mended):
    of = subject(service={"apex": {"labels": {"team": "a"}}}, analysis={"mirror": True})
    member = at(60, 40, of, mirrored=True)
    mirror = {"mirror": {"host": "podinfo-canary"}}
    for rule in parts.get("spec", {}).get("http", []):
        rule |= mirror
    member.edit("VirtualService", "podinfo", **parts)
    assert bool(member.reconcile(ROUTER, of)) is is_mended
    assert member.routes(ROUTER, of) == Routes(60, 40, True)
    found = member.of_kind("VirtualService", "podinfo")
    theirs = parts.get("metadata", {}).get("labels", {})
    assert found["metadata"]["labels"] == theirs | {"team": "a", "app": "podinfo"}
    assert FLUX.items() <= found["metadata"]["annotations"].items()
    assert found["spec"].pop("exportTo", None) == parts.get("spec", {}).get("exportTo")
    assert found["spec"] == {
        "hosts": ["podinfo"],
        "gateways": ["mesh"],
        "http": [{"route": split(60, 40), **mirror}],
    }


def test_weights_survive_what_the_user_changes():
    member = at(60, 40, subject())
    [write] = member.reconcile(ROUTER, subject(service={"timeout": "3s", "hosts": ["a.example.org"]}))
    assert write.obj["spec"]["hosts"] == ["a.example.org", "podinfo"]
    assert write.obj["spec"]["http"] == [{"timeout": "3s", "route": split(60, 40)}]


def test_weights_of_the_chosen_do_not_become_those_of_everybody():
    chosen = subject(analysis={"iterations": 2, "match": [X_USER]})
    member = at(0, 100, chosen)
    member.reconcile(ROUTER, subject(analysis={"iterations": 2}))
    assert member.routes(ROUTER, subject()) == Routes(100, 0)
    member = at(0, 100, chosen)
    member.reconcile(ROUTER, subject(analysis={"iterations": 2, "match": [QUERY]}))
    assert member.routes(ROUTER, subject()) == Routes(0, 100)


def test_a_destination_rule_keeps_what_others_added_and_loses_what_the_user_took_away():
    with_policy = subject(service={"trafficPolicy": {"connectionPool": {"http": {"http2MaxRequests": 1}}}})
    member = at(100, 0, with_policy)
    member.edit("DestinationRule", "podinfo-primary", spec={"subsets": [{"name": "a"}]})
    assert member.reconcile(ROUTER, with_policy) == []
    member.edit("DestinationRule", "podinfo-canary", spec={"host": "elsewhere"})
    [write] = member.reconcile(ROUTER, with_policy)
    assert write.obj["spec"]["host"] == "podinfo-canary"
    member.reconcile(ROUTER, subject())
    assert member.of_kind("DestinationRule", "podinfo-primary")["spec"] == {
        "host": "podinfo-primary",
        "subsets": [{"name": "a"}],
    }


def test_a_move_to_where_the_traffic_is_writes_nothing():
    assert at(60, 40, subject()).move(ROUTER, subject(), 60, 40) == []


# What users write


@pytest.mark.parametrize(
    ("service", "analysis", "field"),
    [
        ({"hosts": ["a.example.org", "a b"]}, {}, "spec.service.hosts"),
        ({"hosts": ["a\n"]}, {}, r"spec.service.hosts\[0\]"),
        ({"hosts": ["a}"]}, {}, "spec.service.hosts"),
        ({"gateways": ["a/b/c"]}, {}, "spec.service.gateways"),
        ({"gateways": ["a;b"]}, {}, "spec.service.gateways"),
        ({"rewrite": {"uri": "/a\r\nb"}}, {}, "spec.service.rewrite.uri"),
        ({"rewrite": {"authority": "a b"}}, {}, "spec.service.rewrite.authority"),
        ({"headers": {"request": {"set": {"x y": "1"}}}}, {}, "spec.service.headers.request.set"),
        ({"headers": {"response": {"remove": ["a:b"]}}}, {}, "spec.service.headers.response.remove"),
        ({"headers": {"response": {"add": {"x": "1\nset-cookie: y"}}}}, {}, "spec.service.headers.response.add.x"),
        ({"match": [{"uri": {"prefix": "/\x00"}}]}, {}, r"spec.service.match\[0\].uri.prefix"),
        ({"match": [{"withoutHeaders": {"a b": {}}}]}, {}, r"spec.service.match\[0\].withoutHeaders"),
        ({"timeout": "1s\n"}, {}, "spec.service.timeout"),
        ({"corsPolicy": {"allowHeaders": ["a\n"]}}, {}, r"spec.service.corsPolicy.allowHeaders\[0\]"),
        ({}, {"match": [{"headers": {"x\n": {"exact": "1"}}}]}, r"spec.analysis.match\[0\].headers"),
        ({}, {"match": [{"headers": {"x": {"exact": "1\n"}}}]}, r"spec.analysis.match\[0\].headers.x.exact"),
        ({}, {"sessionAffinity": {"cookieName": "a;b"}}, "spec.analysis.sessionAffinity.cookieName"),
        ({}, {"sessionAffinity": {"cookieName": "a=b"}}, "spec.analysis.sessionAffinity.cookieName"),
        ({}, {"sessionAffinity": {"cookieName": "a\r\nb"}}, "spec.analysis.sessionAffinity.cookieName"),
        ({}, {"sessionAffinity": {"cookieName": "a", "primaryCookieName": "%"}}, "primaryCookieName"),
        ({}, {"sessionAffinity": {"cookieName": "a", "path": "/; Domain=x"}}, "spec.analysis.sessionAffinity.path"),
        ({}, {"sessionAffinity": {"cookieName": "a", "domain": "x\ny"}}, "spec.analysis.sessionAffinity.domain"),
        ({}, {"sessionAffinity": {"cookieName": "a", "path": "/%REQ(x)%"}}, "spec.analysis.sessionAffinity.path"),
    ],
)
def test_text_that_could_say_more_is_refused_with_its_field(service, analysis, field):
    member = Member()
    member.reconcile(ROUTER, subject())
    of = subject(service=service, analysis=analysis)
    for attempt in (member.reconcile, lambda *args: member.move(*args, 80, 20)):
        with pytest.raises(StepFailed, match=field) as error:
            attempt(ROUTER, of)
        assert "\n" not in error.value.message


def test_expressions_of_the_user_stay_as_they_are():
    match = [{"headers": {"cookie": {"regex": "^(.*?;)?(canary=always)(;.*)?$"}}, "uri": {"regex": "/v[0-9]+{}"}}]
    assert made(subject(service={"match": match}))["spec"]["http"][0]["match"] == match
