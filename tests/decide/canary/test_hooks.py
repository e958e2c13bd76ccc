from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_rollout.decide.canary import hooks
from fleet_rollout.decide.canary.hooks import Hook, read_hook
from fleet_rollout.decide.canary.subject import EngineOptions, Subject

NOW = datetime(2026, 11, 5, 12, 0, 0, 123000, tzinfo=UTC)


def subject(*webhooks: dict[str, Any], status: dict[str, Any] | None = None, **options: Any) -> Subject:
    raw = {
        "metadata": {"name": "podinfo", "namespace": "test"},
        "spec": {"targetRef": {"kind": "Deployment", "name": "podinfo"}, "analysis": {"webhooks": list(webhooks)}},
    }
    return Subject(raw | ({"status": status} if status else {}), EngineOptions(**options))


def raw_hook(name: str = "h", **fields: Any) -> dict[str, Any]:
    return {"name": name, "url": "http://tester.test/", **fields}


# Appendix A of the reference: what Flagger itself computed.


def test_a_text_is_hashed_as_flagger_hashes_it():
    assert hooks.safe_hash("(string)hello-00001") == "79f999666f"


@pytest.mark.parametrize(
    ("tracked", "applied", "expected"),
    [
        ({"secret/b": "2", "configmap/a": "1"}, "5fcd", "869668dbdb"),
        (None, "", "758df7c9fc"),
    ],
)
def test_checksums_are_flaggers(tracked, applied, expected):
    assert hooks.checksum(tracked, applied) == expected


def test_an_empty_map_of_configs_is_not_the_absence_of_one():
    assert hooks.checksum({}, "") != hooks.checksum(None, "")


@given(st.text())
def test_every_hash_is_made_of_the_ten_letters_of_digits(text):
    value = hooks.safe_hash(text)
    assert 1 <= len(value) <= 10
    assert set(value) <= set("456789bcdf")


# Which hooks


def test_hooks_of_a_type_come_in_the_order_of_the_canary():
    canary = subject(
        raw_hook("a", type="pre-rollout"),
        raw_hook("b"),
        raw_hook("c", type="rollout"),
        raw_hook("d", type=""),
        raw_hook("e", type=None),
        raw_hook("f", type="event"),
    )
    assert [raw["name"] for raw in hooks.hooks_of(canary, hooks.ROLLOUT)] == ["b", "c", "d", "e"]
    assert [raw["name"] for raw in hooks.hooks_of(canary, hooks.PRE_ROLLOUT)] == ["a"]
    assert hooks.hooks_of(canary, hooks.CONFIRM_ROLLOUT) == []


def test_no_hooks_at_all_are_none_of_any_type():
    canary = Subject({"metadata": {"name": "a", "namespace": "b"}, "spec": {}})
    assert hooks.hooks_of(canary, hooks.ROLLOUT) == []
    assert hooks.event_hooks(canary) == []


def test_the_canarys_event_hooks_replace_the_engines():
    everywhere = {"event_webhook": "http://everywhere/"}
    assert [hook.name for hook in hooks.event_hooks(subject(raw_hook("own", type="event"), **everywhere))] == ["own"]
    (default,) = hooks.event_hooks(subject(raw_hook("other"), **everywhere))
    assert (default.name, default.url, default.timeout, default.retries) == ("events", "http://everywhere/", 10.0, 0)


@pytest.mark.parametrize(
    ("fields", "timeout", "problem"),
    [
        ({}, 10.0, None),
        ({"timeout": None}, 10.0, None),
        ({"timeout": ""}, 10.0, None),
        ({"timeout": "5"}, 10.0, None),
        ({"timeout": "30s"}, 30.0, None),
        ({"timeout": "1m30s"}, 90.0, None),
        ({"timeout": "0s"}, 10.0, None),
        ({"timeout": "10sx"}, 10.0, "timeout 10sx is not a duration such as 30s"),
        ({"timeout": "-1s"}, 10.0, "timeout -1s is not a duration such as 30s"),
    ],
)
def test_time_outs_are_read_as_go_reads_them_but_never_none(fields, timeout, problem):
    hook = read_hook(raw_hook(**fields))
    assert (hook.timeout, hook.problem) == (timeout, problem)


def test_the_other_fields_have_flaggers_defaults():
    plain = read_hook(raw_hook())
    assert (plain.retries, plain.verify, plain.mute_alert, plain.metadata) == (0, True, False, {})
    full = read_hook(raw_hook(retries=3, disableTLS=True, muteAlert=True, metadata={"a": "b"}))
    assert (full.retries, full.verify, full.mute_alert, full.metadata) == (3, False, True, {"a": "b"})
    assert read_hook(raw_hook(retries=-1)).retries == 0


def test_t21_a_hooks_address_is_not_in_its_repr():
    assert "s3cr3t" not in repr(Hook("h", "http://h/?token=s3cr3t"))


# What they are told


def test_a_body_is_flaggers():
    status = {"trackedConfigs": {"configmap/a": "1", "secret/b": "2"}, "lastAppliedSpec": "5fcd", "phase": "Waiting"}
    canary = subject(status=status)
    body = hooks.payload(canary, read_hook(raw_hook(metadata={"type": "cmd", "cmd": "hey"})), "Progressing")
    assert list(body.items()) == [
        ("name", "podinfo"),
        ("namespace", "test"),
        ("phase", "Progressing"),
        ("checksum", "869668dbdb"),
        ("metadata", {"cmd": "hey", "type": "cmd"}),
    ]


def test_empty_metadata_is_left_out_and_an_empty_status_has_a_checksum():
    body = hooks.payload(subject(), read_hook(raw_hook()), "")
    assert body == {"name": "podinfo", "namespace": "test", "phase": "", "checksum": "758df7c9fc"}


def test_an_event_is_told_with_the_hooks_own_metadata_beside_it():
    canary = subject(status={"phase": "Progressing"})
    hook = read_hook(raw_hook(metadata={"environment": "prod", "eventType": "overridden"}))
    body = hooks.event_payload(canary, hook, "Warning", "Halt podinfo.test", now=NOW)
    assert body["phase"] == "Progressing"
    assert body["metadata"] == {
        "environment": "prod",
        "eventMessage": "Halt podinfo.test",
        "eventType": "Warning",
        "timestamp": "1793880000123",
    }


def test_an_event_may_be_about_a_phase_that_is_not_stored_yet():
    canary = subject(status={"phase": "Succeeded"})
    body = hooks.event_payload(canary, read_hook(raw_hook()), "Normal", "m", now=NOW, phase="Progressing")
    assert body["phase"] == "Progressing"


# What they answer


@pytest.mark.parametrize(
    ("status", "passes", "repeated"),
    [
        (200, True, False),
        (201, True, False),
        (202, True, False),
        (203, True, False),
        (204, True, False),
        (299, True, False),
        (199, False, False),
        (300, False, False),
        (302, False, False),
        (403, False, False),
        (404, False, False),
        (429, False, True),
        (500, False, True),
        (501, False, False),
        (502, False, True),
        (503, False, True),
        (599, False, True),
    ],
)
def test_q15_any_2xx_passes_and_only_busy_or_broken_servers_are_asked_again(status, passes, repeated):
    assert (hooks.is_success(status), hooks.is_worth_repeating(status)) == (passes, repeated)


def test_waits_double_from_one_second_to_thirty():
    assert [hooks.pause(failures) for failures in (1, 2, 3, 4, 5, 6, 7, 10_000)] == [1, 2, 4, 8, 16, 30, 30, 30]


@pytest.mark.parametrize(
    ("url", "error", "expected"),
    [
        ("http://h:1/x", "", "POST http://h:1/x giving up after 2 attempt(s)"),
        ("http://h", "connection refused", "POST http://h giving up after 2 attempt(s): connection refused"),
        ("https://u:s3cr3t@h/x?token=s3cr3t#s3cr3t", "", "POST https://***@h/x?*** giving up after 2 attempt(s)"),
        ("http://[", "", "POST an invalid address giving up after 2 attempt(s)"),
    ],
)
def test_t21_giving_up_names_the_address_without_what_is_secret_in_it(url, error, expected):
    assert hooks.gave_up(Hook("h", url), 2, error) == expected


def test_t42_quoted_text_is_short_and_cannot_move_the_cursor():
    assert hooks.quoted("no\x1b[2J \u202eway\nand \x85 more\r\n") == "no\\x1b[2J \\u202eway\\nand \\x85 more"
    assert hooks.quoted("x" * 1000) == "x" * 200


@given(st.text())
def test_t42_nothing_quoted_is_long_or_unprintable(text):
    quoted = hooks.quoted(text)
    assert len(quoted) <= 200
    assert not hooks.UNPRINTABLE.search(quoted)
