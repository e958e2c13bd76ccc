"""The Gateway API with cookies that keep visitors on one version."""

from __future__ import annotations

import pytest

from fleet_rollout.traffic.gateway_api import GatewayApiRouter
from fleet_rollout.traffic.router import Routes
from tests.rooms.traffic.scene import Member, subject

V1, V1BETA1 = GatewayApiRouter("v1"), GatewayApiRouter("v1beta1")
TOKEN, OTHER = "abcdefGHIJ", "ABCDEFghij"
BOTH = {"sessionAffinity": {"cookieName": "c.k", "primaryCookieName": "pk", "httpOnly": True}}
ANY_PATH = {"path": {"type": "PathPrefix", "value": "/"}}
PATH = {"path": {"type": "Exact", "value": "/a"}}


class Visit:
    """A Canary that goes from tick to tick: its member, and its status as control writes it."""

    def __init__(self, router, analysis=None, **service):
        self.router, self.member, self.status = router, Member(), {"phase": "Progressing"}
        self.analysis, self.service = analysis or BOTH, {"gatewayRefs": [{"name": "public"}], **service}
        self.member.reconcile(router, self.of)

    @property
    def of(self):
        return subject(analysis=self.analysis, service=self.service, status=self.status)

    def move(self, primary, canary, token=TOKEN, mirrored=False):
        """The changed status fields; a reconcile after it, with the new status or without, has nothing to do."""
        live = self.member.live(self.router, self.of)
        moved = self.router.set_routes(self.of, live, Routes(primary, canary, mirrored), token=token)
        self.member.carry_out(moved.writes)
        assert self.member.reconcile(self.router, self.of) == []
        self.status |= moved.status
        assert self.member.reconcile(self.router, self.of) == []
        assert self.member.routes(self.router, self.of) == Routes(primary, canary, mirrored)
        return moved.status

    @property
    def rules(self):
        return self.member.of_kind("HTTPRoute", "podinfo")["spec"]["rules"]


def adds(cookie):
    return [
        {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"add": [{"name": "Set-Cookie", "value": cookie}]}}
    ]


def split(primary, canary, /, **cookies):
    return [
        {"group": "", "kind": "Service", "name": f"podinfo-{name}", "port": 9898, "weight": weight}
        | ({"filters": adds(cookies[name])} if name in cookies else {})
        for name, weight in (("primary", primary), ("canary", canary))
    ]


def cookie(value):
    return {"headers": [{"name": "Cookie", "type": "RegularExpression", "value": value}]}


def test_v1_has_a_rule_for_each_cookie_and_one_that_gives_them():
    visit = Visit(V1)
    assert visit.move(80, 20) == {
        "sessionAffinityCookie": f"c.k={TOKEN}",
        "primarySessionAffinityCookie": f"pk={OTHER}",
    }
    assert visit.rules == [
        {"matches": [cookie(rf".*c\.k.*{TOKEN}.*")], "backendRefs": split(0, 100)},
        {"matches": [cookie(f".*pk.*{OTHER}.*")], "backendRefs": split(100, 0)},
        {
            "matches": [ANY_PATH],
            "backendRefs": split(
                80,
                20,
                primary=f"pk={OTHER}; Max-Age=10; HttpOnly",
                canary=f"c.k={TOKEN}; Max-Age=86400; HttpOnly",
            ),
        },
    ]
    assert visit.move(60, 40, token="zzzzzzzzzz") == {}


def test_v1beta1_has_no_cookie_for_the_promoted_version():
    visit = Visit(V1BETA1)
    assert visit.move(80, 20) == {"sessionAffinityCookie": f"c.k={TOKEN}"}
    assert visit.rules == [
        {"matches": [cookie(rf".*c\.k.*{TOKEN}.*")], "backendRefs": split(0, 100)},
        {
            "matches": [ANY_PATH],
            "backendRefs": split(80, 20, canary=f"c.k={TOKEN}; Max-Age=86400; HttpOnly"),
        },
    ]
    visit.status.clear()
    assert visit.member.reconcile(V1BETA1, visit.of) == []


@pytest.mark.parametrize("router", [V1, V1BETA1], ids=["v1", "v1beta1"])
def test_the_end_of_a_run_takes_the_canary_s_cookie_away(router):
    visit = Visit(router, rewrite={"authority": "a.b"})
    rewrite = {"type": "URLRewrite", "urlRewrite": {"hostname": "a.b"}}
    visit.move(80, 20)
    assert visit.move(100, 0) == {
        "sessionAffinityCookie": "",
        "previousSessionAffinityCookie": f"c.k={TOKEN}",
    }
    assert visit.rules == [
        {
            "matches": [cookie(rf".*c\.k.*{TOKEN}.*")],
            "filters": [rewrite, *adds(f"c.k={TOKEN}; Max-Age=-1")],
            "backendRefs": split(100, 0),
        },
        {"matches": [ANY_PATH], "filters": [rewrite], "backendRefs": split(100, 0)},
    ]
    assert visit.move(80, 20, token="newnewnewn") == {"sessionAffinityCookie": "c.k=newnewnewn"}


def test_the_header_that_takes_a_cookie_away_joins_those_of_the_service():
    """The API server refuses a second filter of that kind in a rule, and with it the rollback."""
    headers = {"response": {"add": {"x-a": "1", "Set-Cookie": "theirs=1"}, "remove": ["x-b"]}}
    visit = Visit(V1, headers=headers, rewrite={"authority": "a.b"})
    visit.move(80, 20)
    visit.move(100, 0)
    removing, plain = (rule["filters"] for rule in visit.rules)
    assert [each["type"] for each in removing] == [each["type"] for each in plain]
    assert removing[0]["responseHeaderModifier"] == {
        "add": [{"name": "x-a", "value": "1"}, {"name": "Set-Cookie", "value": f"c.k={TOKEN}; Max-Age=-1"}],
        "remove": ["x-b"],
    }
    assert plain[0]["responseHeaderModifier"]["add"] == [
        {"name": "Set-Cookie", "value": "theirs=1"},
        {"name": "x-a", "value": "1"},
    ]


def test_conditions_of_the_service_hold_for_those_with_a_cookie_too():
    visit = Visit(V1, match=[{"uri": {"exact": "/a"}, "headers": {"x": {"exact": "y"}}}])
    visit.move(80, 20)
    assert [rule["matches"] for rule in visit.rules] == [
        [PATH | cookie(rf".*c\.k.*{TOKEN}.*")],
        [PATH | cookie(f".*pk.*{OTHER}.*")],
        [PATH | {"headers": [{"name": "x", "type": "Exact", "value": "y"}]}],
    ]


def test_requests_are_mirrored_whatever_cookie_they_have():
    visit = Visit(V1, BOTH | {"iterations": 2, "mirror": True})
    visit.move(0, 100)
    visit.move(100, 0)
    visit.move(100, 0, mirrored=True)
    assert [rule["filters"][0]["type"] for rule in visit.rules] == ["RequestMirror"] * 2


@pytest.mark.parametrize("kept", [slice(1, None), slice(2, None)])
def test_a_rule_that_somebody_takes_away_comes_back(kept):
    visit = Visit(V1)
    visit.move(80, 20)
    rules = visit.rules
    visit.member.edit("HTTPRoute", "podinfo", spec={"rules": rules[kept]})
    visit.member.reconcile(V1, visit.of)
    assert visit.rules == rules


def test_cookies_that_the_routes_lost_come_from_the_status():
    visit = Visit(V1)
    visit.move(80, 20)
    rules = visit.rules
    visit.member.edit("HTTPRoute", "podinfo", spec={"rules": [{"backendRefs": split(80, 20)}]})
    visit.member.reconcile(V1, visit.of)
    assert visit.rules == rules


def test_a_run_goes_on_with_the_visitors_cookies_when_the_status_was_lost():
    visit = Visit(V1)
    visit.move(80, 20)
    visit.status.clear()
    assert visit.move(60, 40, token="zzzzzzzzzz") == {
        "sessionAffinityCookie": f"c.k={TOKEN}",
        "primarySessionAffinityCookie": f"pk={OTHER}",
    }


def test_ab_testing_needs_no_cookie():
    visit = Visit(V1, BOTH | {"iterations": 2, "match": [{"headers": {"x": {"exact": "y"}}}]})
    assert visit.move(0, 100) == {}
    assert [len(rule["backendRefs"]) for rule in visit.rules] == [2, 1]
