"""Gates and rollback switches over HTTP: Flagger's paths, statuses and words."""

from __future__ import annotations

import json
import re

import pytest

from fleet_rollout.loadtester import gates as gates_module
from fleet_rollout.loadtester.gates import GatesUnavailable, MemoryGates
from fleet_rollout.loadtester.server import LARGEST_BODY


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_fixed_answers_take_every_method_and_every_body(tester, method):
    assert await tester.ask("/healthz", b"", method) == (200, "OK")
    assert await tester.ask("/gate/approve", b"no json", method) == (200, "OK")
    assert await tester.ask("/gate/halt", b"", method) == (403, "Forbidden")


@pytest.mark.parametrize("kind", ["gate", "rollback"])
async def test_a_switch_is_closed_until_it_is_opened_and_then_until_it_is_closed(tester, kind):
    assert await tester.ask(f"/{kind}/check") == (403, "Forbidden")
    assert await tester.ask(f"/{kind}/open") == (202, "")
    assert await tester.ask(f"/{kind}/open") == (202, "")
    assert await tester.ask(f"/{kind}/check") == (200, "Approved")
    assert await tester.ask(f"/{kind}/close") == (202, "")
    assert await tester.ask(f"/{kind}/check") == (403, "Forbidden")


async def test_switches_are_apart_by_name_namespace_and_kind(tester):
    await tester.ask("/gate/open")
    assert (await tester.ask("/rollback/check")).status == 403
    assert (await tester.ask("/gate/check", {"name": "podinfo", "namespace": "other"})).status == 403
    assert (await tester.ask("/gate/check", {"name": "other", "namespace": "test"})).status == 403
    assert (await tester.ask("/gate/check", {"namespace": "test", "name": "podinfo"})).status == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is no JSON"),
        (b"{", "the body is no JSON"),
        (b"\xff", "the body is no JSON"),
        (b"[" * 5000 + b"]" * 5000, "the body is no JSON"),
        (b"[]", "the body is no JSON object"),
        (b'{"name": 1, "namespace": "test"}', "name is no text"),
        (b'{"name": "a", "namespace": []}', "namespace is no text"),
        (b'{"name": "a", "namespace": "b", "metadata": {"x": 1}}', "metadata is no object of texts"),
        (b'{"name": "a", "namespace": "b", "metadata": []}', "metadata is no object of texts"),
        (b"null", "name and namespace are not those of a Canary"),
        (b"{}", "name and namespace are not those of a Canary"),
        (b'{"name": "a b", "namespace": "test"}', "name and namespace are not those of a Canary"),
        (b'{"name": "../a", "namespace": "test"}', "name and namespace are not those of a Canary"),
        (b'{"name": "a", "namespace": "b.c"}', "name and namespace are not those of a Canary"),
        (
            json.dumps({"name": "a" * 253, "namespace": "b" * 63}).encode(),
            "name and namespace are not those of a Canary",
        ),
    ],
)
@pytest.mark.parametrize("path", ["/gate/open", "/gate/check", "/rollback/close"])
async def test_what_is_no_canary_is_a_bad_request(tester, path, body, message):
    assert await tester.ask(path, body) == (400, message)
    assert (await tester.ask("/healthz")).status == 200


async def test_fields_that_are_not_known_are_passed_over(tester):
    body = {"name": "podinfo", "namespace": "test", "metadata": None, "later": {"x": [1]}}
    assert await tester.ask("/gate/open", body) == (202, "")


async def test_a_body_over_a_mebibyte_is_refused(tester):
    assert (await tester.ask("/gate/open", b" " * (LARGEST_BODY + 1))).status == 413
    assert (await tester.ask("/", b" " * (LARGEST_BODY + 1))).status == 413


async def test_t17_a_packed_body_is_refused_unread(tester):
    said = await tester.ask("/gate/open", b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    assert said == (415, "send the body without Content-Encoding")


async def test_only_canaries_of_matching_namespaces_are_served(open_tester):
    tester = await open_tester(namespaces=re.compile("^team-"))
    mine, others = {"name": "a", "namespace": "team-a"}, {"name": "a", "namespace": "other"}
    for path in ("/gate/open", "/gate/close", "/gate/check", "/rollback/open", "/rollback/check"):
        assert await tester.ask(path, others) == (403, "Forbidden")
    assert await tester.ask("/", others | {"metadata": {"cmd": "hey http://h/"}}) == (403, "Forbidden")
    assert (await tester.ask("/gate/open", mine)).status == 202
    assert (await tester.ask("/gate/check", mine)).status == 200
    assert (await tester.ask("/gate/approve", others)).status == 200


async def test_t39_a_slow_expression_is_never_given_a_long_text(open_tester):
    tester = await open_tester(namespaces=re.compile("^(a+)+$"))
    assert (await tester.ask("/gate/check", {"name": "a", "namespace": "a" * 100_000 + "!"})).status == 403


async def test_switches_that_cannot_be_read_or_kept_stay_closed_and_say_so(open_tester):
    class Broken:
        async def is_open(self, key):
            raise GatesUnavailable("ConfigMap test/gates cannot be read: Timeout")

        async def set(self, key, *, is_open):
            raise GatesUnavailable("ConfigMap test/gates cannot be written: Forbidden")

    tester = await open_tester(Broken())
    assert await tester.ask("/gate/check") == (503, "ConfigMap test/gates cannot be read: Timeout")
    assert await tester.ask("/rollback/check") == (503, "ConfigMap test/gates cannot be read: Timeout")
    assert await tester.ask("/gate/open") == (503, "ConfigMap test/gates cannot be written: Forbidden")


async def test_memory_for_open_gates_is_bounded(open_tester, monkeypatch):
    monkeypatch.setattr(gates_module, "MOST_OPEN", 2)
    tester = await open_tester(MemoryGates())
    names = [{"name": f"a{number}", "namespace": "test"} for number in range(3)]
    assert [(await tester.ask("/gate/open", name)).status for name in names] == [202, 202, 503]
    await tester.ask("/gate/close", names[0])
    assert (await tester.ask("/gate/open", names[2])).status == 202


async def test_metrics_count_questions_and_tasks(tester):
    await tester.ask("/gate/check")
    status, text = await tester.ask("/metrics", b"", "GET")
    assert status == 200
    assert 'fleet_rollout_loadtester_checks_total{answer="closed",gate="gate"}' in text
    assert "process_resident_memory_bytes" in text
