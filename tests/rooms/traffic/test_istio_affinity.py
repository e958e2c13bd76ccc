"""Istio with cookies that keep visitors on one version: the rules, and the status that goes with them."""

from __future__ import annotations

import re

import pytest

from fleet_rollout.traffic.istio import IstioRouter
from fleet_rollout.traffic.router import Routes
from tests.rooms.traffic.scene import Member, subject

ROUTER = IstioRouter()
TOKEN = "abcdefGHIJ"
OTHER = "ABCDEFghij"  # the promoted version's value must differ from the canary's
BOTH = {"sessionAffinity": {"cookieName": "ck", "primaryCookieName": "pk"}}
CANARY_ONLY = {"sessionAffinity": {"cookieName": "ck"}}
URI = {"uri": {"prefix": "/api"}}


class Visit:
    """A Canary that goes from tick to tick: its member, and its status as control writes it."""

    def __init__(self, analysis, service=None, status=None):
        self.member, self.analysis, self.service, self.status = Member(), analysis, service, dict(status or {})
        self.member.reconcile(ROUTER, self.of)

    @property
    def of(self):
        return subject(analysis=self.analysis, service=self.service, status=self.status)

    def move(self, primary, canary, token=TOKEN, mirrored=False):
        """The changed status fields; a reconcile after it, with the new status or without, has nothing to do."""
        live = self.member.live(ROUTER, self.of)
        moved = ROUTER.set_routes(self.of, live, Routes(primary, canary, mirrored), token=token)
        self.member.carry_out(moved.writes)
        assert self.member.reconcile(ROUTER, self.of) == []
        self.status |= moved.status
        assert self.member.reconcile(ROUTER, self.of) == []
        assert self.member.routes(ROUTER, self.of) == Routes(primary, canary, mirrored)
        return moved.status

    @property
    def rules(self):
        return self.member.of_kind("VirtualService", "podinfo")["spec"]["http"]


def split(primary, canary, /, **cookies):
    return [
        {
            "destination": {"host": f"podinfo-{name}"},
            "weight": weight,
            **({"headers": {"response": {"add": {"Set-Cookie": cookies[name]}}}} if name in cookies else {}),
        }
        for name, weight in (("primary", primary), ("canary", canary))
    ]


def cookie(regex):
    return {"headers": {"Cookie": {"regex": regex}}}


def test_the_first_step_makes_three_rules_with_both_cookies():
    visit = Visit(BOTH)
    assert visit.rules == [{"route": split(100, 0)}]
    assert visit.move(80, 20) == {
        "sessionAffinityCookie": f"ck={TOKEN}",
        "primarySessionAffinityCookie": f"pk={OTHER}",
    }
    assert visit.rules == [
        {"match": [cookie(f".*ck.*{TOKEN}.*")], "route": split(0, 100)},
        {"match": [cookie(f".*pk.*{OTHER}.*")], "route": split(100, 0)},
        {"route": split(80, 20, primary=f"pk={OTHER}; Max-Age=10", canary=f"ck={TOKEN}; Max-Age=86400")},
    ]


def test_without_a_name_for_it_the_promoted_version_has_no_cookie():
    visit = Visit(CANARY_ONLY)
    assert visit.move(80, 20)["primarySessionAffinityCookie"] == f"={OTHER}"
    assert visit.rules == [
        {"match": [cookie(f".*ck.*{TOKEN}.*")], "route": split(0, 100)},
        {"route": split(80, 20, canary=f"ck={TOKEN}; Max-Age=86400")},
    ]


def test_the_cookies_stay_from_step_to_step():
    visit = Visit(BOTH)
    visit.move(80, 20)
    assert visit.move(60, 40, token="zzzzzzzzzz") == {}
    assert visit.rules[-1]["route"] == split(
        60, 40, primary=f"pk={OTHER}; Max-Age=10", canary=f"ck={TOKEN}; Max-Age=86400"
    )


def test_the_end_of_a_run_takes_the_canary_s_cookie_away():
    visit = Visit(BOTH)
    visit.move(80, 20)
    assert visit.move(100, 0) == {
        "sessionAffinityCookie": "",
        "previousSessionAffinityCookie": f"ck={TOKEN}",
    }
    assert visit.rules == [
        {
            "match": [cookie(f".*ck.*{TOKEN}.*")],
            "headers": {"response": {"add": {"Set-Cookie": f"ck={TOKEN}; Max-Age=-1"}}},
            "route": split(100, 0),
        },
        {"route": split(100, 0)},
    ]
    assert visit.status["primarySessionAffinityCookie"] == f"pk={OTHER}"
    assert visit.move(100, 0) == {}
    assert visit.move(80, 20, token="newnewnewn") == {"sessionAffinityCookie": "ck=newnewnewn"}
    assert visit.rules[0]["match"] == [cookie(".*ck.*newnewnewn.*")]
    assert visit.status["previousSessionAffinityCookie"] == f"ck={TOKEN}"


def test_before_the_first_run_there_is_nothing_to_take_away():
    visit = Visit(BOTH)
    assert visit.move(100, 0) == {}
    assert visit.rules == [{"route": split(100, 0)}]


def test_two_equal_rules_as_flagger_leaves_them_are_one():
    visit = Visit(BOTH)
    visit.member.edit("VirtualService", "podinfo", spec={"http": [{"route": split(100, 0)}] * 2})
    assert visit.member.reconcile(ROUTER, visit.of) == []


def test_every_rule_says_what_the_service_says_and_its_conditions():
    headers = {"response": {"add": {"x-a": "1"}}}
    service = {"match": [URI | {"headers": {"x": {"exact": "y"}}}, {"port": 80}], "headers": headers, "timeout": "3s"}
    visit = Visit(BOTH, service)
    visit.move(80, 20)
    canary, primary, weighted = visit.rules
    assert canary["match"] == [
        URI | cookie(f".*ck.*{TOKEN}.*"),
        {"port": 80} | cookie(f".*ck.*{TOKEN}.*"),
    ]
    assert weighted["match"] == service["match"]
    assert all(rule["headers"] == headers and rule["timeout"] == "3s" for rule in (canary, primary, weighted))
    visit.move(100, 0)
    removing, plain = visit.rules
    assert removing["headers"]["response"]["add"] == {"x-a": "1", "Set-Cookie": f"ck={TOKEN}; Max-Age=-1"}
    # Only those who have the cookie are told to forget it.
    assert plain["headers"] == headers


def test_requests_are_mirrored_whatever_cookie_they_have():
    visit = Visit(BOTH | {"mirror": True})
    visit.move(80, 20)
    visit.move(100, 0)
    visit.move(100, 0, mirrored=True)
    assert [rule["mirror"] for rule in visit.rules] == [{"host": "podinfo-canary"}] * 2


ALL = {
    "cookieName": "ck",
    "maxAge": 60,
    "domain": "example.org",
    "httpOnly": True,
    "partitioned": True,
    "path": "/app",
    "sameSite": "Strict",
    "secure": True,
}


@pytest.mark.parametrize(
    ("affinity", "text"),
    [
        (
            ALL,
            "; Max-Age=60; Domain=example.org; HttpOnly; Partitioned; Path=/app; SameSite=Strict; Secure",
        ),
        ({"cookieName": "ck", "maxAge": 0, "httpOnly": False, "path": ""}, "; Max-Age=86400"),
        ({"cookieName": "ck", "secure": True, "domain": "a.b"}, "; Max-Age=86400; Domain=a.b; Secure"),
    ],
)
def test_a_cookie_says_what_is_set_in_a_fixed_order(affinity, text):
    visit = Visit({"sessionAffinity": affinity})
    visit.move(80, 20)
    assert visit.rules[-1]["route"] == split(80, 20, canary=f"ck={TOKEN}{text}")


@pytest.mark.parametrize(("interval", "age"), [("10s", 10), ("1m", 60), ("5s", 5), ("1m30s", 90)])
def test_the_promoted_version_s_cookie_lasts_until_the_next_step(interval, age):
    visit = Visit(BOTH | {"interval": interval})
    visit.move(80, 20)
    added = visit.rules[-1]["route"][0]["headers"]["response"]["add"]["Set-Cookie"]
    assert added == f"pk={OTHER}; Max-Age={age}"


@pytest.mark.parametrize("name", ["a.b", "a.b.c", "__Host-x", "a_b", "A-1"])
def test_a_cookie_s_name_stands_for_itself_in_the_expression(name):
    visit = Visit({"sessionAffinity": {"cookieName": name}})
    visit.move(80, 20)
    regex = visit.rules[0]["match"][0]["headers"]["Cookie"]["regex"]
    assert re.fullmatch(regex, f"x=y; {name}={TOKEN}; z=1")
    assert not re.fullmatch(regex, f"{name.replace('.', 'Z').replace('-', 'Z').replace('_', 'Z')}={TOKEN}")
    assert not re.fullmatch(regex, f"{name}={OTHER}")


def test_an_old_canary_cookie_beside_the_promoted_version_s_is_not_the_canary_s():
    visit = Visit(BOTH)
    visit.move(80, 20)
    canary, primary = (rule["match"][0]["headers"]["Cookie"]["regex"] for rule in visit.rules[:2])
    both = f"ck=oldoldoldo; pk={OTHER}"
    assert re.fullmatch(primary, both)
    assert not re.fullmatch(canary, both)


def test_a_run_goes_on_with_the_visitors_cookies_when_the_status_was_lost():
    visit = Visit(BOTH)
    visit.move(80, 20)
    visit.status.clear()
    assert visit.move(60, 40, token="zzzzzzzzzz") == {
        "sessionAffinityCookie": f"ck={TOKEN}",
        "primarySessionAffinityCookie": f"pk={OTHER}",
    }
    visit.status.clear()
    assert visit.move(100, 0) == {"previousSessionAffinityCookie": f"ck={TOKEN}"}
    visit.status.clear()
    assert visit.move(100, 0) == {"previousSessionAffinityCookie": f"ck={TOKEN}"}


@pytest.mark.parametrize("cookie", ["ck", "ck=", "ck=a;b", "c k=a", "ck=a\nb", "=x=y"])
def test_a_status_that_holds_no_cookie_is_not_used(cookie):
    visit = Visit(CANARY_ONLY, status={"sessionAffinityCookie": cookie})
    assert visit.move(80, 20)["sessionAffinityCookie"] == f"ck={TOKEN}"


def test_a_name_that_is_given_later_gets_a_value_of_its_own():
    visit = Visit(CANARY_ONLY)
    visit.move(80, 20)
    visit.analysis = BOTH
    assert visit.move(60, 40, token="zzzzzzzzzz") == {"primarySessionAffinityCookie": "pk=ZZZZZZZZZZ"}


# What others do


def without_cookies(visit):
    visit.member.edit("VirtualService", "podinfo", spec={"http": [{"route": split(80, 20)}]})


@pytest.mark.parametrize(
    "damage",
    [
        without_cookies,
        lambda visit: visit.member.edit("VirtualService", "podinfo", spec={"http": visit.rules[1:]}),
        lambda visit: visit.member.edit("VirtualService", "podinfo", spec={"http": visit.rules[2:]}),
        lambda visit: visit.member.edit("VirtualService", "podinfo", spec={"hosts": [], "gateways": ["x"]}),
        lambda visit: visit.member.edit("VirtualService", "podinfo", metadata={"annotations": {"a": "b"}}),
    ],
)
def test_cookies_survive_whatever_is_changed(damage):
    visit = Visit(BOTH)
    visit.move(80, 20)
    rules = visit.rules
    damage(visit)
    visit.member.reconcile(ROUTER, visit.of)
    assert visit.rules == rules


def test_cookies_survive_weights_that_somebody_sets_to_zero():
    visit = Visit(BOTH)
    visit.move(80, 20)
    rules = visit.rules
    rules[-1]["route"][0]["weight"], rules[-1]["route"][1]["weight"] = 100, 0
    visit.member.edit("VirtualService", "podinfo", spec={"http": rules})
    assert visit.member.reconcile(ROUTER, visit.of) == []


def test_cookies_that_nobody_knows_any_more_wait_for_the_next_step():
    visit = Visit(BOTH)
    visit.move(80, 20)
    without_cookies(visit)
    visit.status.clear()
    assert visit.member.reconcile(ROUTER, visit.of) == []
    visit.move(60, 40)
    assert len(visit.rules) == 3


def test_without_session_affinity_its_rules_go():
    visit = Visit(BOTH)
    visit.move(80, 20)
    visit.analysis = {}
    visit.member.reconcile(ROUTER, visit.of)
    assert visit.rules == [{"route": split(80, 20)}]


def test_ab_testing_needs_no_cookie():
    match = [{"headers": {"x": {"exact": "y"}}}]
    visit = Visit(BOTH | {"iterations": 2, "match": match})
    assert visit.move(0, 100) == {}
    assert [len(rule["route"]) for rule in visit.rules] == [2, 1]
