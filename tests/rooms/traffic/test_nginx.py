"""ingress-nginx: a copy of the user's Ingress for the canary, with annotations that pick requests."""

from __future__ import annotations

import copy

import pytest

from fleet_rollout.decide.canary.objects import StepFailed
from fleet_rollout.decide.canary.subject import UNTOUCHED_BY_FLUX, EngineOptions
from fleet_rollout.traffic.nginx import NginxRouter
from fleet_rollout.traffic.router import Routes
from tests.rooms.traffic.scene import Member, matching, subject

X = "nginx.ingress.kubernetes.io"
ROUTER = NginxRouter()
REF = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "podinfo"}
START = {f"{X}/canary": "true", f"{X}/canary-weight": "0"}


def path(service, where="/"):
    return {
        "path": where,
        "pathType": "Prefix",
        "backend": {"service": {"name": service, "port": {"number": 80}}},
    }


def ingress(*rules, name="podinfo", **metadata):
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": "test", **metadata},
        "spec": {"ingressClassName": "nginx", "rules": list(rules) or [rule(path("podinfo"))]},
    }


def rule(*paths, host="app.example.org"):
    return {"host": host, "http": {"paths": list(paths)}}


def canary_of(**parts):
    return subject(ingressRef=REF, **parts)


def annotations(member, name="podinfo-canary"):
    return member.of_kind("Ingress", name)["metadata"]["annotations"]


def started(*, of=None, source=None):
    member = Member(source or ingress())
    member.reconcile(ROUTER, of or canary_of())
    return member


def test_a_new_ingress_is_the_users_with_the_canary_in_place_of_the_apex():
    other = rule(path("elsewhere"), host="b.example.org")
    source = ingress(rule(path("podinfo"), path("docs", "/docs")), other, labels={"team": "shop"})
    source["spec"]["tls"] = [{"hosts": ["app.example.org"], "secretName": "s"}]
    member, canary = Member(source), canary_of()
    [write] = member.reconcile(ROUTER, canary)
    assert write.obj["metadata"] == {
        "name": "podinfo-canary",
        "namespace": "test",
        "labels": {"team": "shop"},
        "annotations": START | UNTOUCHED_BY_FLUX,
        "ownerReferences": [canary.owner_reference],
    }
    expected = copy.deepcopy(source["spec"])
    expected["rules"] = [rule(path("podinfo-canary"), path("docs", "/docs")), other]
    assert write.obj["spec"] == expected
    assert member.of_kind("Ingress", "podinfo")["spec"] == source["spec"]


def test_annotations_of_the_user_are_copied_but_for_canaries_and_kubectl():
    given = {
        f"{X}/rewrite-target": "/",
        f"{X}/canary-by-header": "x",
        f"{X}/canary-weight-total": "1000",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        "kubernetes.io/ingress.class": "nginx",
    }
    kept = {f"{X}/rewrite-target": "/", "kubernetes.io/ingress.class": "nginx"}
    assert annotations(started(source=ingress(annotations=given))) == kept | START | UNTOUCHED_BY_FLUX


def test_the_annotations_prefix_is_an_option():
    canary = canary_of(options=EngineOptions(ingress_annotations_prefix="custom.example.org"))
    member = started(of=canary)
    member.move(ROUTER, canary, 60, 40)
    assert annotations(member)["custom.example.org/canary-weight"] == "40"
    assert member.routes(ROUTER, canary) == Routes(60, 40)


def test_a_weighted_run_as_scenario_s60():
    member, seen = started(), []
    for share in (0, 20, 40, 60, 60, 0, 0):
        member.move(ROUTER, canary_of(), 100 - share, share)
        assert member.routes(ROUTER, canary_of()) == Routes(100 - share, share)
        assert annotations(member)[f"{X}/canary"] == "true"
        seen.append(annotations(member)[f"{X}/canary-weight"])
    assert seen == ["0", "20", "40", "60", "60", "0", "0"]


def test_a_mirror_is_ignored_as_in_scenario_s24():
    member = started()
    member.move(ROUTER, canary_of(), 80, 20, mirrored=True)
    assert member.routes(ROUTER, canary_of()) == Routes(80, 20, False)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"x_canary": {"exact": "insider"}}, {"canary-by-header": "x-canary", "canary-by-header-value": "insider"}),
        ({"x_c": {"regex": "^(a|b){2}$"}}, {"canary-by-header": "x-c", "canary-by-header-pattern": "^(a|b){2}$"}),
        ({"cookie": {"exact": "can.ary"}}, {"canary-by-cookie": "can.ary"}),
        (
            {"cookie": {"exact": "c"}, "a": {"regex": "x"}, "b": {"exact": "y"}},
            {"canary-by-cookie": "c", "canary-by-header": "b", "canary-by-header-value": "y"},
        ),
    ],
)
def test_an_ab_test_picks_requests_until_all_is_routed_back(headers, said):
    canary = canary_of(analysis=matching(**headers))
    member = started(of=canary)
    assert annotations(member) == START | UNTOUCHED_BY_FLUX
    member.move(ROUTER, canary, 0, 100)
    assert annotations(member) == START | UNTOUCHED_BY_FLUX | {f"{X}/{key}": value for key, value in said.items()}
    assert member.routes(ROUTER, canary) == Routes(0, 100)
    assert member.reconcile(ROUTER, canary) == []
    member.move(ROUTER, canary, 100, 0)
    assert annotations(member) == START | UNTOUCHED_BY_FLUX
    assert member.routes(ROUTER, canary) == Routes(100, 0)


def test_a_weight_does_not_leave_a_header_of_an_ab_test_behind():
    member = started()
    member.move(ROUTER, canary_of(analysis=matching(x={"exact": "a"})), 0, 100)
    member.move(ROUTER, canary_of(), 90, 10)
    assert annotations(member) == START | UNTOUCHED_BY_FLUX | {f"{X}/canary-weight": "10"}


def test_rules_of_the_user_are_followed_and_shares_survive():
    member = started()
    member.move(ROUTER, canary_of(), 70, 30)
    member.edit("Ingress", "podinfo", spec={"rules": [rule(path("podinfo", "/v2"))]})
    [write] = member.reconcile(ROUTER, canary_of())
    assert write.obj["spec"]["rules"] == [rule(path("podinfo-canary", "/v2"))]
    assert member.routes(ROUTER, canary_of()) == Routes(70, 30)


def test_foreign_metadata_stays_and_a_lost_mark_comes_back():
    member = started()
    member.move(ROUTER, canary_of(), 70, 30)
    there = member.of_kind("Ingress", "podinfo-canary")
    there["metadata"]["annotations"] |= {"a.example.org/x": "1", f"{X}/load-balance": "ewma"}
    there["metadata"]["labels"] = {"team": "shop"}
    member.put(there)
    assert member.reconcile(ROUTER, canary_of()) == []
    del there["metadata"]["annotations"][f"{X}/canary"]
    member.put(there)
    assert len(member.reconcile(ROUTER, canary_of())) == 1
    assert annotations(member)[f"{X}/canary"] == "true"
    member.move(ROUTER, canary_of(), 100, 0)
    assert annotations(member) == START | UNTOUCHED_BY_FLUX | {"a.example.org/x": "1", f"{X}/load-balance": "ewma"}
    assert member.of_kind("Ingress", "podinfo-canary")["metadata"]["labels"] == {"team": "shop"}


@pytest.mark.parametrize(
    "bare",
    [{"host": "b.example.org"}, {"host": "b.example.org", "http": None}, {"http": {"paths": None}}],
)
def test_a_rule_without_paths_stays_as_it_is(bare):
    member = started(source=ingress(bare, rule(path("podinfo"))))
    assert member.of_kind("Ingress", "podinfo-canary")["spec"]["rules"] == [bare, rule(path("podinfo-canary"))]


def test_a_path_to_something_else_than_a_service_stays():
    other = {"path": "/", "pathType": "Prefix", "backend": {"resource": {"kind": "StorageBucket", "name": "b"}}}
    member = started(source=ingress(rule(other, path("podinfo", "/a"))))
    assert member.of_kind("Ingress", "podinfo-canary")["spec"]["rules"] == [rule(other, path("podinfo-canary", "/a"))]


@pytest.mark.parametrize(
    "source", [ingress(rule(path("other"))), ingress({"host": "x.example.org"}), {**ingress(), "spec": {}}]
)
def test_an_ingress_that_does_not_lead_to_the_apex(source):
    with pytest.raises(StepFailed, match=r"^backend podinfo not found in ingress podinfo$"):
        Member(source).reconcile(ROUTER, canary_of())


def test_an_ingress_that_is_missing_or_not_named():
    told = r'^ingress podinfo\.test get query error: ingresses\.networking\.k8s\.io "podinfo" not found$'
    with pytest.raises(StepFailed, match=told):
        Member().reconcile(ROUTER, canary_of())
    with pytest.raises(StepFailed, match=r"^ingress podinfo-canary\.test get query error"):
        Member(ingress()).routes(ROUTER, canary_of())
    with pytest.raises(StepFailed, match=r"^ingress selector is empty$"):
        Member().reconcile(ROUTER, subject())
    assert ROUTER.reads(subject()) == []


def test_a_weight_that_is_lost_counts_as_none():
    member = started()
    there = member.of_kind("Ingress", "podinfo-canary")
    there["metadata"]["annotations"] = {f"{X}/canary": "true"}
    member.put(there)
    assert member.routes(ROUTER, canary_of()) == Routes(100, 0)


@pytest.mark.parametrize(
    ("weight", "told"),
    [
        ("ten", 'failed to convert ten to int: strconv.Atoi: parsing "ten": invalid syntax'),
        ("-1", 'failed to convert -1 to int: strconv.Atoi: parsing "-1": invalid syntax'),
        ("٣", 'failed to convert ٣ to int: strconv.Atoi: parsing "٣": invalid syntax'),
        ("101", "ingress podinfo-canary.test gives the canary the weight 101: make it 100 at most"),
    ],
)
def test_a_weight_that_cannot_be_read(weight, told):
    member = started()
    member.edit("Ingress", "podinfo-canary", metadata={"annotations": {f"{X}/canary-weight": weight}})
    with pytest.raises(StepFailed) as failed:
        member.routes(ROUTER, canary_of())
    assert failed.value.message == told


AT = "spec.analysis.match[0].headers"


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"x": {"exact": "a\nb"}}, f'{AT}.x.exact: "a\\nb" is not a header\'s value'),
        ({"x": {"exact": 'a"; return 200 "'}}, f"{AT}.x.exact: "),
        ({"x": {"exact": "a}"}}, f"{AT}.x.exact: "),
        ({"x}": {"exact": "a"}}, f'{AT}: "x}}" is not a header\'s name'),
        ({"x y": {"exact": "a"}}, f"{AT}: "),
        ({"x": {"regex": "a}"}}, f"{AT}.x.regex: "),
        ({"x": {"regex": "("}}, f"{AT}.x.regex: "),
        ({"x": {"prefix": "a"}}, f"{AT}.x: cannot be compared with prefix here; write one of: exact, regex"),
        ({"x": {}}, f"{AT}.x: cannot be compared with nothing here"),
        ({"cookie": {"exact": "a b"}}, f"{AT}.cookie.exact: "),
        (
            {"cookie": {"regex": "^(.*?;)?(type=insider)(;.*)?$"}},
            f"{AT}.cookie: nginx knows a cookie by its name",
        ),
        ({}, "spec.analysis.match: names no header"),
    ],
)
def test_odd_conditions_are_refused_and_never_written(headers, told):
    canary = canary_of(analysis=matching(**headers))
    member = Member(ingress())
    with pytest.raises(StepFailed) as failed:
        member.reconcile(ROUTER, canary)
    assert failed.value.message.startswith(told)
    member.reconcile(ROUTER, canary_of())
    with pytest.raises(StepFailed):
        member.move(ROUTER, canary, 0, 100)
    member.move(ROUTER, canary, 100, 0)


def test_a_long_name_is_cut_to_what_an_ingress_may_have():
    name = "a" * 250
    canary = subject(ingressRef={**REF, "name": name})
    [write] = Member(ingress(name=name)).reconcile(ROUTER, canary)
    assert len(write.obj["metadata"]["name"]) == 253
    assert write.obj["metadata"]["name"] != f"{name}-canary"[:253]


def test_two_canaries_of_one_ingress_do_not_take_each_others_rules():
    shared = ingress(rule(path("podinfo")), rule(path("shop"), host="b.example.org"))
    first, second = canary_of(), canary_of(name="shop")
    member = Member(shared)
    member.reconcile(ROUTER, first)
    [write] = member.reconcile(ROUTER, second)
    assert write.obj["metadata"]["name"] == "podinfo-shop-canary"
    member.move(ROUTER, first, 80, 20)
    member.move(ROUTER, second, 40, 60)
    assert (member.routes(ROUTER, first), member.routes(ROUTER, second)) == (Routes(80, 20), Routes(40, 60))
    assert member.reconcile(ROUTER, first) == member.reconcile(ROUTER, second) == []
    # The first goes; the second stays where it is.
    del member.objects[next(ref for ref in member.objects if ref.name == "podinfo-canary")]
    assert member.reconcile(ROUTER, second) == []
    assert member.routes(ROUTER, second) == Routes(40, 60)


def test_nothing_is_given_back():
    assert started().finalize(ROUTER, canary_of()) == []


async def test_on_an_api_server(hands, ns):
    source = ingress({"host": "bare.example.org"}, rule(path("podinfo"), path("docs", "/docs")))
    source["metadata"]["namespace"] = ns
    await hands.create(source)
    for analysis, moves in (
        ({}, (Routes(80, 20), Routes(40, 60), Routes(100, 0))),
        (matching(x={"regex": "^a{2,3}$"}, cookie={"exact": "c"}), (Routes(0, 100), Routes(100, 0))),
    ):
        canary = canary_of(namespace=ns, analysis=analysis)
        assert await hands.reconcile(ROUTER, canary) == []
        assert await hands.routes(ROUTER, canary) == Routes(100, 0)
        ref = ROUTER.reads(canary)[1]
        await hands.mark(ref)
        for shares in moves:
            assert await hands.move(ROUTER, canary, shares) == shares
            assert await hands.reconcile(ROUTER, canary) == []
        assert await hands.is_marked(ref)
