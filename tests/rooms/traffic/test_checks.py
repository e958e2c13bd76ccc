"""Text that users write: what may become part of a proxy's configuration, and what may not."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_rollout.decide.canary.objects import Ref, StepFailed
from fleet_rollout.traffic import checks
from fleet_rollout.traffic.checks import checked
from fleet_rollout.traffic.objects import capped, dotted, found, over
from fleet_rollout.traffic.quantities import amount
from tests.rooms.traffic.scene import subject

RULES = {
    "header": checks.HEADER,
    "cookie": checks.COOKIE,
    "value": checks.VALUE,
    "method": checks.METHOD,
    "prefix": checks.PREFIX,
    "host": checks.HOST,
    "gateway": checks.GATEWAY,
    "mesh": checks.MESH,
    "time": checks.TIME,
    "retry": checks.RETRY,
}


@pytest.mark.parametrize(
    ("rule", "texts"),
    [
        ("header", ["x-canary", "X_Canary", "a.b"]),
        ("cookie", ["canary", "a.b"]),
        ("value", ["insider", "a b", "Mozilla/5.0 (X11; no)".replace(";", ","), "a=b&c", "100%"]),
        ("method", ["GET", "PATCH"]),
        ("prefix", ["/", "/api/v1", "/a%20b", "/~me"]),
        ("host", ["*", "*.example.org", "app.example.org", "podinfo", "a.test.svc.cluster.local"]),
        ("gateway", ["mesh", "istio-system/public", "public.istio-system.svc.cluster.local"]),
        ("mesh", ["default", "blue-1"]),
        ("time", ["15s", "1m30s", "1.5s", ".5s", "infinity", "100ms"]),
        ("retry", ["5xx", "connect-failure"]),
    ],
)
def test_usual_text_passes(rule, texts):
    for text in texts:
        assert checked("f", text, RULES[rule]) == text


@pytest.mark.parametrize(
    ("rule", "texts"),
    [
        ("header", ["", "a b", "a:b", "a\n", "é", "a}", "a" * 257]),
        ("cookie", ["", "a;b", "a=b", "a\n", "a}"]),
        (
            "value",
            ["", "a\n", "a\rb", "a\0", "a\x7f", "}", "{", '"', "'", "`", "\\", "$host", "a;b", "<a>", "é", "a" * 1025],
        ),
        ("method", ["", "get", "GET\n", "G T"]),
        ("prefix", ["", "api", "/a b", "/a\n", "/{a}", "/a;b", "/$a", "/a?b", "/a#b"]),
        (
            "host",
            ["", "a_b", "a..b", "-a", "a.*", "**", "A.example.org", "a\n", "a.b\n", "a b", "x" * 64, "a." * 130 + "a"],
        ),
        ("gateway", ["", "a/b/c", "*", "a\n", '"', "a,b"]),
        ("mesh", ["", "a.b", "A", "a\n"]),
        ("time", ["", "5", "s", "5 s", "-5s", "5s\n", "1d"]),
        ("retry", ["", "5xx,a", "A", "a b"]),
    ],
)
def test_odd_text_is_refused_with_field_and_fix(rule, texts):
    for text in texts:
        with pytest.raises(StepFailed) as failed:
            checked("spec.x", text, RULES[rule])
        assert failed.value.message.startswith("spec.x: ")
        assert RULES[rule].fix in failed.value.message
        assert failed.value.message.isprintable()
        assert len(failed.value.message) < 700


@settings(derandomize=True, deadline=None)
@given(st.sampled_from(sorted(RULES)), st.text(max_size=20))
def test_whatever_passes_is_one_line_of_plain_ascii(rule, text):
    try:
        checked("f", text, RULES[rule])
    except StepFailed as failed:
        told = failed.message
    else:
        told = ""
        assert text.isascii() or rule == "time"
        assert text.isprintable()
        assert not set(text) & set("{}\"'`\\$;<>")
    assert told.isprintable()


@pytest.mark.parametrize(
    "text", ["a", "a.b", ".*", "^(.*?;)?(type=insider)(;.*)?$", "a{2,3}", "a{2}", r"\{a\}", "[a-z]+"]
)
def test_expressions_of_users_pass(text):
    assert checks.pattern("f", text) == text


@pytest.mark.parametrize(
    "text", ["", "a\n", "a}", "{", "a{x}", "(", "a)", "[", "*", '"', "'", "`", "é", "a" * 1025, "a\0"]
)
def test_expressions_that_could_be_more_are_refused(text):
    with pytest.raises(StepFailed, match=r"^f: .* is not a regular expression; "):
        checks.pattern("f", text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("20", 20),
        (20, 20),
        (2.5, Fraction(5, 2)),
        ("+5", 5),
        ("-5", -5),
        ("1.5", Fraction(3, 2)),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("500m", Fraction(1, 2)),
        ("3u", Fraction(3, 10**6)),
        ("3n", Fraction(3, 10**9)),
        ("2k", 2000),
        ("2M", 2 * 10**6),
        ("2E", 2 * 10**18),
        ("1e2", 100),
        ("1E2", 100),
        ("1e-2", Fraction(1, 100)),
        ("1Ki", 1024),
        ("1Ei", 1024**6),
    ],
)
def test_quantities(text, number):
    assert amount(text) == number


@pytest.mark.parametrize(
    "text", ["", " 1", "1 ", "1\n", "a", "1K", "1ki", "1e", "1e999", "--1", "1.2.3", None, True, [], {}]
)
def test_what_is_no_quantity(text):
    assert amount(text) is None


def test_names_are_cut_only_when_they_must_be():
    assert capped("a" * 253) == "a" * 253
    long = capped("a" * 243 + ".canary-and-more")
    assert len(long) <= 253
    assert long != capped("a" * 243 + ".canary-and-other")
    assert ".-" not in long


def test_a_missing_object_is_named_as_the_api_server_does():
    for ref, told in (
        (Ref("v1", "Service", "ns", "x"), 'service x.ns get query error: services "x" not found'),
        (Ref("a.io/v1", "Proxy", "", "x"), 'service x get query error: proxies.a.io "x" not found'),
    ):
        with pytest.raises(StepFailed) as failed:
            found({ref: None}, ref, "service")
        assert failed.value.message == told
        assert dotted(ref) in told


def test_a_key_without_a_value_goes_away():
    assert over({"a": 1, "b": 2}, {"a": None, "c": 3}) == {"b": 2, "c": 3}
    assert over(None, {}) == {}


def test_canaries_of_the_tests_have_names():
    assert (subject().apex, subject().primary, subject().canary) == ("podinfo", "podinfo-primary", "podinfo-canary")
