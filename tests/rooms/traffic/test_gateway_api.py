"""The Gateway API, rule by rule and version by version: what is written for which Canary, and what is read back."""

from __future__ import annotations

import copy

import pytest

from fleet_rollout.decide.canary.objects import Ref, StepFailed
from fleet_rollout.traffic.gateway_api import GatewayApiRouter
from fleet_rollout.traffic.router import Routes
from tests.rooms.traffic.scene import Member, subject

V1, V1BETA1 = GatewayApiRouter("v1"), GatewayApiRouter("v1beta1")
BOTH = pytest.mark.parametrize("router", [V1, V1BETA1], ids=["v1", "v1beta1"])
FLUX = {"kustomize.toolkit.fluxcd.io/reconcile": "disabled", "helm.toolkit.fluxcd.io/driftDetection": "disabled"}
GATEWAY = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public", "namespace": "istio-system"}
ANY_PATH = {"path": {"type": "PathPrefix", "value": "/"}}
X_USER = {"headers": {"x-user": {"exact": "insider"}}}
X_USER_MATCH = {"headers": [{"name": "x-user", "type": "Exact", "value": "insider"}]}


def canary(service=None, analysis=None, status=None):
    return subject(
        service={"gatewayRefs": [GATEWAY], **(service or {})},
        analysis=analysis,
        status=status,
        provider="gatewayapi:v1",
    )


def backend(name, weight, **rest):
    return {"group": "", "kind": "Service", "name": f"podinfo-{name}", "port": 9898, "weight": weight, **rest}


def split(primary, canary):
    return [backend("primary", primary), backend("canary", canary)]


def made(of, router=V1):
    """The HTTPRoute that a first reconcile makes."""
    member = Member()
    member.reconcile(router, of)
    return member.of_kind("HTTPRoute", "podinfo")


def at(of, primary, canary, mirrored=False, router=V1):
    member = Member()
    member.reconcile(router, of)
    member.move(router, of, primary, canary, mirrored=mirrored)
    assert member.routes(router, of) == Routes(primary, canary, mirrored)
    return member


def rules(member):
    return member.of_kind("HTTPRoute", "podinfo")["spec"]["rules"]


@BOTH
def test_a_canary_gets_an_http_route(router):
    [ref] = router.reads(canary())
    version = "v1" if router is V1 else "v1beta1"
    assert ref == Ref(f"gateway.networking.k8s.io/{version}", "HTTPRoute", "test", "podinfo")
    assert made(canary({"hosts": ["app.example.org"]}), router) == {
        "apiVersion": f"gateway.networking.k8s.io/{version}",
        "kind": "HTTPRoute",
        "metadata": {
            "name": "podinfo",
            "namespace": "test",
            "annotations": FLUX,
            "ownerReferences": [canary().owner_reference],
            "resourceVersion": "1",
            "uid": "uid-HTTPRoute-podinfo",
        },
        "spec": {
            "parentRefs": [GATEWAY],
            "hostnames": ["app.example.org"],
            "rules": [{"matches": [ANY_PATH], "backendRefs": split(100, 0)}],
        },
    }


@pytest.mark.parametrize("refs", [[], None])
def test_without_a_gateway_there_is_no_route(refs):
    with pytest.raises(StepFailed, match=r"gatewayRefs of podinfo\.test must name a Gateway for gatewayapi:v1"):
        made(canary({"gatewayRefs": refs}))


def test_parents_are_copied_as_they_are():
    parents = [GATEWAY, {"name": "mesh", "kind": "Service", "group": "", "port": 80, "sectionName": "http"}]
    assert made(canary({"gatewayRefs": parents}))["spec"]["parentRefs"] == parents


def test_labels_and_annotations_come_from_the_apex():
    metadata = made(canary({"apex": {"labels": {"team": "a"}, "annotations": {"note": "b"}}}))["metadata"]
    assert metadata["labels"] == {"team": "a", "app": "podinfo"}
    assert metadata["annotations"] == {"note": "b", **FLUX}


# Matches


def path(kind, value):
    return {"path": {"type": kind, "value": value}}


def named(part, name, kind, value):
    return {part: [{"name": name, "type": kind, "value": value}]}


@BOTH
@pytest.mark.parametrize(
    ("wanted", "match"),
    [
        ({"uri": {"prefix": "/a"}}, path("PathPrefix", "/a")),
        ({"uri": {"exact": "/a"}}, path("Exact", "/a")),
        ({"uri": {"regex": "/a.*"}}, path("RegularExpression", "/a.*")),
        ({"uri": {"prefix": "/a", "exact": "/b", "regex": "/c"}}, path("RegularExpression", "/c")),
        ({"uri": {"prefix": "/a", "exact": "/b"}}, path("Exact", "/b")),
        ({"method": {"exact": "GET"}}, {"method": "GET"}),
        ({"headers": {"a": {"exact": "b"}}}, named("headers", "a", "Exact", "b")),
        ({"headers": {"a": {"regex": "b+"}}}, named("headers", "a", "RegularExpression", "b+")),
        ({"queryParams": {"a": {"exact": "b"}}}, named("queryParams", "a", "Exact", "b")),
        ({"queryParams": {"a": {"regex": "b+"}}}, named("queryParams", "a", "RegularExpression", "b+")),
        (
            {"headers": {"b": {"exact": "1"}, "a": {"exact": "2"}}},
            {
                "headers": [
                    {"name": "a", "type": "Exact", "value": "2"},
                    {"name": "b", "type": "Exact", "value": "1"},
                ]
            },
        ),
        ({"uri": {"prefix": "/a"}, "port": 80, "ignoreUriCase": True}, path("PathPrefix", "/a")),
        ({"port": 80}, ANY_PATH),
        ({"headers": {}}, ANY_PATH),
    ],
)
def test_a_condition_becomes_a_match(router, wanted, match):
    assert made(canary({"match": [wanted]}), router)["spec"]["rules"][0]["matches"] == [match]


def test_conditions_that_say_nothing_are_left_out():
    of = canary({"match": [{"port": 80}, {"uri": {"exact": "/a"}}, {}]})
    assert made(of)["spec"]["rules"][0]["matches"] == [path("Exact", "/a")]


@BOTH
@pytest.mark.parametrize("where", ["service", "analysis"])
@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"uri": {}}, r"\[0\].uri .* use regex or exact or prefix"),
        ({"uri": {"suffix": "/a"}}, r"\[0\].uri "),
        ({"method": {"prefix": "G"}}, r"\[0\].method .* use exact"),
        ({"headers": {"a": {"prefix": "b"}}}, r"\[0\].headers.a .* use exact or regex"),
        ({"headers": {"a": {}}}, r"\[0\].headers.a "),
        ({"queryParams": {"a": {"prefix": "b"}}}, r"\[0\].queryParams.a "),
    ],
)
def test_a_condition_that_has_no_match_is_refused(router, where, wanted, field):
    match = [wanted]
    of = canary({"match": match}) if where == "service" else canary(analysis={"iterations": 2, "match": match})
    with pytest.raises(StepFailed, match=rf"^Invalid request matching selectors: {where}\.match{field}"):
        made(of, router)


@BOTH
def test_ab_testing_has_a_rule_for_the_chosen_and_one_for_the_others(router):
    of = canary({"match": [{"uri": {"prefix": "/a"}}], "timeout": "5s"}, {"iterations": 2, "match": [X_USER]})
    timeouts = {"timeouts": {"request": "5s"}} if router is V1 else {}
    others = {"matches": [path("PathPrefix", "/a")], "backendRefs": [backend("primary", 100)], **timeouts}
    for primary, share in ((100, 0), (0, 100)):
        assert rules(at(of, primary, share, router=router)) == [
            {
                "matches": [path("PathPrefix", "/a") | X_USER_MATCH],
                "backendRefs": split(primary, share),
                **timeouts,
            },
            others,
        ]


QUERY = {"queryParams": {"v": {"exact": "2"}}}
QUERY_MATCH = named("queryParams", "v", "Exact", "2")
A, B = path("Exact", "/a"), path("Exact", "/b")


@pytest.mark.parametrize(
    ("analysis", "service", "merged"),
    [
        ([X_USER], [], [ANY_PATH | X_USER_MATCH]),
        ([X_USER, QUERY], [], [ANY_PATH | X_USER_MATCH, ANY_PATH | QUERY_MATCH]),
        (
            [X_USER, QUERY],
            [{"uri": {"exact": "/a"}}, {"uri": {"exact": "/b"}}],
            [A | X_USER_MATCH, B | X_USER_MATCH, A | QUERY_MATCH, B | QUERY_MATCH],
        ),
        ([X_USER], [{"headers": {"z": {"exact": "1"}}, **QUERY}], [QUERY_MATCH | X_USER_MATCH]),
        ([QUERY], [{"headers": {"z": {"exact": "1"}}, **QUERY}], [named("headers", "z", "Exact", "1") | QUERY_MATCH]),
    ],
)
def test_conditions_of_analysis_and_service_are_combined(analysis, service, merged):
    of = canary({"match": service}, {"iterations": 2, "match": analysis})
    assert rules(at(of, 0, 100))[0]["matches"] == merged


def test_ab_testing_without_a_condition_it_knows_does_not_send_everybody_to_the_canary():
    of = canary(analysis={"iterations": 2, "match": [{"sourceLabels": {"app": "web"}}]})
    with pytest.raises(StepFailed, match=r"analysis\.match has neither headers nor queryParams"):
        made(of)


# Filters and time-outs


def change(kind, **parts):
    field = "urlRewrite" if kind == "URLRewrite" else kind[0].lower() + kind[1:]
    return {"type": kind, field: parts}


REQUEST = change(
    "RequestHeaderModifier",
    add=[{"name": "a", "value": "1"}, {"name": "b", "value": "2"}],
    set=[{"name": "c", "value": "3"}],
    remove=["z", "d"],
)
RESPONSE = change("ResponseHeaderModifier", remove=["e"])
REWRITE = change(
    "URLRewrite", hostname="b.example.org", path={"type": "ReplacePrefixMatch", "replacePrefixMatch": "/v2"}
)
MIRROR = change("RequestMirror", backendRef={"group": "", "kind": "Service", "name": "copy", "port": 80})
CORS = {
    "type": "CORS",
    "cors": {
        "allowOrigins": ["https://example.org"],
        "allowMethods": ["GET"],
        "allowHeaders": ["x-a"],
        "exposeHeaders": ["x-b"],
        "allowCredentials": True,
        "maxAge": 86400,
    },
}
FULL = {
    "headers": {
        "request": {"add": {"b": "2", "a": "1"}, "set": {"c": "3"}, "remove": ["z", "d"]},
        "response": {"remove": ["e"]},
    },
    "rewrite": {"uri": "/v2", "authority": "b.example.org", "type": "ReplacePrefixMatch"},
    "mirror": [{"backendRef": {"name": "copy", "port": 80}}],
    "corsPolicy": {
        "allowOrigin": ["https://example.org"],
        "allowOrigins": [{"prefix": "https://"}],
        "allowMethods": ["GET"],
        "allowHeaders": ["x-a"],
        "exposeHeaders": ["x-b"],
        "allowCredentials": True,
        "maxAge": "24h",
    },
    "timeout": "5s",
    "backendTimeout": "2s",
}


def test_v1_says_everything_in_a_fixed_order(caplog):
    of = canary(FULL)
    [rule] = made(of)["spec"]["rules"]
    assert rule["filters"] == [REQUEST, RESPONSE, REWRITE, MIRROR, CORS]
    assert rule["timeouts"] == {"request": "5s", "backendRequest": "2s"}
    assert "service.corsPolicy.allowOrigins has no effect" in caplog.text
    assert rules(at(of, 60, 40)) == [rule | {"backendRefs": split(60, 40)}]


def test_v1beta1_knows_neither_cors_nor_time_outs():
    [rule] = made(canary(FULL), V1BETA1)["spec"]["rules"]
    assert rule["filters"] == [REQUEST, RESPONSE, REWRITE, MIRROR]
    assert "timeouts" not in rule


@pytest.mark.parametrize(
    ("service", "filters"),
    [
        ({"rewrite": {"uri": "/a"}}, [change("URLRewrite", path={"type": "ReplaceFullPath", "replaceFullPath": "/a"})]),
        (
            {"rewrite": {"uri": "/a", "type": "Odd"}},
            [change("URLRewrite", path={"type": "ReplaceFullPath", "replaceFullPath": "/a"})],
        ),
        ({"rewrite": {"authority": "a.b"}}, [change("URLRewrite", hostname="a.b")]),
        ({"rewrite": {"type": "ReplacePrefixMatch"}}, None),
        ({"headers": {"request": {}, "response": {"set": {}}}}, None),
        ({"corsPolicy": {}}, [{"type": "CORS", "cors": {}}]),
        ({"corsPolicy": {"allowCredentials": False, "maxAge": "x"}}, [{"type": "CORS", "cors": {}}]),
        ({"corsPolicy": {"maxAge": "1m30s"}}, [{"type": "CORS", "cors": {"maxAge": 90}}]),
        (
            {"mirror": [{"backendRef": {"name": "a", "namespace": "b", "kind": "Odd", "group": "x.y"}}]},
            [change("RequestMirror", backendRef={"name": "a", "namespace": "b", "kind": "Odd", "group": "x.y"})],
        ),
    ],
)
def test_filters(service, filters):
    assert made(canary(service))["spec"]["rules"][0].get("filters") == filters


def test_a_mirror_needs_somebody_to_mirror_to():
    with pytest.raises(StepFailed, match=r"service\.mirror\[0\]\.backendRef is missing"):
        made(canary({"mirror": [{}]}))


@pytest.mark.parametrize(
    ("service", "timeouts"),
    [({"timeout": "5s"}, {"request": "5s"}), ({"backendTimeout": "2s"}, {"backendRequest": "2s"}), ({}, None)],
)
def test_time_outs(service, timeouts):
    assert made(canary(service))["spec"]["rules"][0].get("timeouts") == timeouts


# Mirroring

MIRRORING = {"iterations": 2, "mirror": True}
TO_CANARY = change("RequestMirror", backendRef={"group": "", "kind": "Service", "name": "podinfo-canary", "port": 9898})


@BOTH
def test_with_iterations_requests_are_mirrored_after_all_other_filters(router):
    of = canary({"rewrite": {"authority": "a.b"}}, MIRRORING, {"phase": "Progressing"})
    member = at(of, 100, 0, mirrored=True, router=router)
    assert rules(member)[0]["filters"] == [change("URLRewrite", hostname="a.b"), TO_CANARY]
    assert member.reconcile(router, of) == []
    member.move(router, of, 0, 100)
    assert member.routes(router, of) == Routes(0, 100)


def test_without_iterations_nothing_is_mirrored():
    member, of = Member(), canary(analysis={"mirror": True})
    member.reconcile(V1, of)
    assert member.move(V1, of, 100, 0, mirrored=True) == []
    assert member.routes(V1, of) == Routes(100, 0)


@pytest.mark.parametrize(
    ("phase", "stays"),
    [("Waiting", True), ("Progressing", True), ("WaitingPromotion", True), ("Promoting", False), ("Succeeded", False)],
)
def test_a_mirror_outside_an_analysis_is_a_leftover(phase, stays):
    member = at(canary(analysis=MIRRORING), 100, 0, mirrored=True)
    of = canary(analysis=MIRRORING, status={"phase": phase})
    member.reconcile(V1, of)
    assert member.routes(V1, of) == Routes(100, 0, stays)


# What is read


@pytest.mark.parametrize(
    ("found", "routes"),
    [
        ([{"backendRefs": split(50, 50)}], Routes(50, 50)),
        ([{"backendRefs": split(100, 0)}, {"backendRefs": split(50, 50)}], Routes(50, 50)),
        ([{"backendRefs": split(50, 50)}, {"backendRefs": [backend("primary", 100)]}], Routes(50, 50)),
        ([{"backendRefs": [{"name": "podinfo-primary"}, {"name": "podinfo-canary", "weight": 0}]}], Routes(1, 0)),
        ([{"backendRefs": split(50, 50), "filters": [TO_CANARY]}], Routes(50, 50, True)),
        ([{"backendRefs": split(50, 50), "filters": [MIRROR]}], Routes(50, 50)),
    ],
)
def test_the_last_rule_with_both_versions_says_where_traffic_goes(found, routes):
    member, of = Member(), canary()
    member.reconcile(V1, of)
    member.edit("HTTPRoute", "podinfo", spec={"rules": found})
    assert member.routes(V1, of) == routes


@pytest.mark.parametrize("found", [[], [{"backendRefs": [backend("primary", 100)]}], None])
def test_rules_that_do_not_say_stop_the_tick_and_are_mended(found):
    member, of = Member(), canary()
    member.reconcile(V1, of)
    member.edit("HTTPRoute", "podinfo", spec={"rules": found})
    with pytest.raises(StepFailed, match=r"HTTPRoute podinfo\.test does not contain routes for podinfo-primary and"):
        member.routes(V1, of)
    member.reconcile(V1, of)
    assert member.routes(V1, of) == Routes(100, 0)


def test_without_a_route_nothing_is_read_or_moved():
    with pytest.raises(StepFailed, match=r'HTTPRoute podinfo\.test get query error: httproutes.* "podinfo" not found'):
        Member().routes(V1, canary())
    with pytest.raises(StepFailed, match="not found"):
        Member().move(V1, canary(), 80, 20)


def accepted(status, seen, parent=GATEWAY, type_="Accepted"):
    return {"parentRef": parent, "conditions": [{"type": type_, "status": status, "observedGeneration": seen}]}


LOCAL = {"name": "local"}
LOCAL_SAID = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "test", "name": "local"}


@pytest.mark.parametrize(
    ("parents", "complaint"),
    [
        ([], None),
        ([accepted("True", 3)], None),
        ([accepted("True", 4)], None),
        ([accepted("True", 2)], "public is not ready (status: True, observed generation: 2, current generation: 3)"),
        ([accepted("False", 3)], "public is not ready (status: False, observed generation: 3, current generation: 3)"),
        ([accepted("Unknown", 0)], "public is not ready"),
        ([accepted("True", 3), accepted("False", 3)], "public is not ready"),
        ([accepted("True", 3), accepted("False", 3, LOCAL_SAID)], "local is not ready"),
        ([accepted("False", 3, LOCAL)], "local is not ready"),
        ([accepted("False", 3, {"name": "other"})], None),
        ([accepted("False", 3, GATEWAY | {"sectionName": "http"})], None),
        ([accepted("False", 3, type_="ResolvedRefs")], None),
        ([{"parentRef": GATEWAY}], None),
    ],
)
def test_a_parent_that_has_not_accepted_this_route_stops_the_tick(parents, complaint):
    of = canary({"gatewayRefs": [GATEWAY, LOCAL]})
    member = at(of, 80, 20)
    member.edit("HTTPRoute", "podinfo", metadata={"generation": 3}, status={"parents": parents})
    if complaint is None:
        assert member.routes(V1, of) == Routes(80, 20)
        return
    with pytest.raises(StepFailed) as error:
        member.routes(V1, of)
    assert error.value.message.startswith(f"HTTPRoute podinfo.test parent {complaint}")
    assert error.value.retriable


def test_v1beta1_does_not_ask_the_parents():
    member = at(canary(), 80, 20, router=V1BETA1)
    member.edit("HTTPRoute", "podinfo", status={"parents": [accepted("False", 0)]})
    assert member.routes(V1BETA1, canary()) == Routes(80, 20)


# What others do


def defaulted(route):
    """The same route with all that an API server fills in, and without what it would fill in."""
    route = copy.deepcopy(route)
    for ref in route["spec"]["parentRefs"]:
        ref.pop("group", None)
        ref.pop("kind", None)
    for rule in route["spec"]["rules"]:
        for match in rule["matches"]:
            match.setdefault("path", {"type": "PathPrefix", "value": "/"})
        for ref in rule["backendRefs"]:
            del ref["group"], ref["kind"]
        for each in rule.get("filters", ()):
            each.get("cors", {}).setdefault("maxAge", 5)
    return route


def test_what_the_api_server_fills_in_is_no_difference():
    of = canary({"match": [X_USER], "corsPolicy": {"allowOrigin": ["*"]}, "mirror": FULL["mirror"]})
    member = at(of, 60, 40)
    member.put(defaulted(member.of_kind("HTTPRoute", "podinfo")))
    assert member.reconcile(V1, of) == []


@pytest.mark.parametrize(
    ("parts", "is_mended"),
    [
        ({"metadata": {"labels": {"theirs": "x"}, "annotations": {"theirs": "y"}}}, False),
        ({"spec": {"useDefaultGateways": "None"}}, False),
        ({"metadata": {"labels": {"team": "b"}}}, True),
        ({"spec": {"hostnames": ["elsewhere"]}}, True),
        ({"spec": {"parentRefs": []}}, True),
        ({"spec": {"rules": [{"backendRefs": split(60, 40), "timeouts": {"request": "1s"}}]}}, True),
        ({"spec": {"rules": [{"backendRefs": [*split(60, 40), backend("other", 1)]}]}}, True),
    ],
)
def test_weights_survive_whatever_else_changes(parts, is_mended):
    of = canary({"apex": {"labels": {"team": "a"}}})
    member = at(of, 60, 40)
    member.edit("HTTPRoute", "podinfo", **parts)
    assert bool(member.reconcile(V1, of)) is is_mended
    assert member.routes(V1, of) == Routes(60, 40)
    found = member.of_kind("HTTPRoute", "podinfo")
    theirs = parts.get("metadata", {}).get("labels", {})
    assert found["metadata"]["labels"] == theirs | {"team": "a", "app": "podinfo"}
    assert found["spec"].pop("useDefaultGateways", None) == parts.get("spec", {}).get("useDefaultGateways")
    assert found["spec"] == {
        "parentRefs": [GATEWAY],
        "rules": [{"matches": [ANY_PATH], "backendRefs": split(60, 40)}],
    }


def test_weights_survive_what_the_user_changes():
    member = at(canary(), 60, 40)
    [write] = member.reconcile(V1, canary({"timeout": "3s", "hosts": ["a.example.org"]}))
    assert write.obj["spec"]["hostnames"] == ["a.example.org"]
    assert write.obj["spec"]["rules"][0]["backendRefs"] == split(60, 40)


def test_weights_of_the_chosen_do_not_become_those_of_everybody():
    member = at(canary(analysis={"iterations": 2, "match": [X_USER]}), 0, 100)
    member.reconcile(V1, canary(analysis={"iterations": 2}))
    assert member.routes(V1, canary()) == Routes(100, 0)


def test_a_move_to_where_the_traffic_is_writes_nothing():
    assert at(canary(), 60, 40).move(V1, canary(), 60, 40) == []


def test_it_is_nobody_s_to_give_back():
    assert at(canary(), 60, 40).finalize(V1, canary()) == []


@pytest.mark.parametrize(
    ("service", "analysis", "field"),
    [
        ({"hosts": ["a b"]}, {}, "spec.service.hosts"),
        ({"headers": {"request": {"set": {"x": "1\ny"}}}}, {}, "spec.service.headers.request.set.x"),
        ({}, {"sessionAffinity": {"cookieName": "a;b"}}, "spec.analysis.sessionAffinity.cookieName"),
    ],
)
def test_text_that_could_say_more_is_refused_with_its_field(service, analysis, field):
    member = Member()
    member.reconcile(V1, canary())
    of = canary(service, analysis)
    for attempt in (member.reconcile, lambda *args: member.move(*args, 80, 20)):
        with pytest.raises(StepFailed, match=field):
            attempt(V1, of)
