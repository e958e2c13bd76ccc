"""The conformance suite's own tools: a suite that compares nothing would pass as well."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.conformance.deliberate import parting
from tests.conformance.flagger import Gate
from tests.conformance.notation import Step, steps
from tests.conformance.record import Names, Record, differences
from tests.conformance.scenarios import BY_NAME, SCENARIOS
from tests.conformance.servers import Asked
from tests.faults import rules


def test_a_trace_is_read_step_by_step() -> None:
    found = steps("Pg 0 100:0 → Pg 20/1 80:20 ×2 → it2 100:0m → WP 0/0/-1 → Fa 100 0:100 r1 → Su 0 100:0")
    assert [str(step) for step in found] == [
        "Pg 0/0/0 100:0 r1",
        "Pg 20/1/0 80:20 r1",
        "Pg 20/1/0 80:20 r1",
        "Pg 20/0/2 100:0m r1",
        "WP 0/0/-1 100:0m r1",
        "Fa 100/0/0 0:100 r1",
        "Su 0/0/0 100:0 r0",
    ]


def test_what_is_not_notation_is_refused() -> None:
    with pytest.raises(AssertionError, match="'twenty' is not in the notation"):
        steps("Pg twenty")


def test_every_trace_of_every_scenario_can_be_read() -> None:
    for scenario in SCENARIOS:
        assert scenario.expected_steps
        assert scenario.own_steps
        assert (parting(scenario) <= scenario.last) is bool(scenario.own), scenario.name


# Records

CANARY = {"status": {"phase": "Progressing", "lastAppliedSpec": "aaa", "lastPromotedSpec": "bbb", "cookie": ""}}
OBJECT = {
    "kind": "Service",
    "metadata": {"name": "podinfo", "namespace": "left", "uid": "1", "resourceVersion": "7"},
    "spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "selector": {"app": "podinfo"}},
}


def record(namespace: str = "left", applied: str = "aaa", obj: Any = OBJECT) -> Record:
    told = {"name": "podinfo", "namespace": namespace, "checksum": applied * 2, "metadata": {"timestamp": namespace}}
    asked = Asked(hooks=[("gate", told)], queries=[f"up{{ns='{namespace}'}}  == 1"])
    canary = {"status": {**CANARY["status"], "lastAppliedSpec": applied}}
    metadata = {**obj["metadata"], "namespace": namespace, "uid": namespace, "resourceVersion": namespace}
    objects = {"Service/podinfo": {**obj, "metadata": metadata}}
    return Names(namespace, "http://127.0.0.1:1").record(Step(), canary, asked, objects, written=True)


def test_two_runs_of_the_same_are_equal() -> None:
    assert differences(record(), record("right", applied="ccc")) == {}


def test_each_hash_is_told_from_the_others() -> None:
    assert "status" in differences(record(), record(applied="bbb"))


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("step", Step(weight=20)),
        ("status", {"phase": "Failed"}),
        ("events", ["N Something"]),
        ("event_payloads", [{"phase": "Failed"}]),
        ("alerts", [{"text": "Something"}]),
        ("hooks", []),
        ("queries", []),
        ("objects", {}),
    ],
)
def test_a_difference_in_any_part_is_found(part: str, value: Any) -> None:
    assert list(differences(record(), dataclasses.replace(record(), **{part: value}))) == [part]


def test_cookies_get_names_wherever_they_are() -> None:
    names = Names("left", "http://127.0.0.1:1")
    canary = {"status": {"phase": "Progressing", "sessionAffinityCookie": "ck=abcdefghij"}}
    rule = {"kind": "VirtualService", "spec": {"regex": ".*ck.*abcdefghij.*", "set": "ck=abcdefghij; Max-Age=-1"}}
    found = names.record(Step(), canary, Asked(), {"VirtualService/podinfo": rule}, written=True)
    assert found.status["sessionAffinityCookie"] == "ck=ck-cookie-1"
    spec = found.objects["VirtualService/podinfo"]["spec"]
    assert spec == {"regex": ".*ck.*ck-cookie-1.*", "set": "ck=ck-cookie-1; Max-Age=-1"}


# The gate


def asked(
    verb: str, resource: str, name: str = "podinfo", *, part: str = "", status: int = 200, phase: str = ""
) -> Any:
    key = rules.Key("flagger", verb, resource, "place", name, part)
    return rules.Asked(key, {"status": {"phase": phase}} if part else None, status=status)


READ = ("get", "canaries.flagger.app")


@pytest.mark.parametrize(
    ("before", "is_held"),
    [
        ([asked("get", "deployments.apps")], True),
        ([asked("get", "virtualservices.networking.istio.io")], True),  # the phase is unknown: no rollout starts
        ([asked("update", READ[1], part="status", phase="Progressing")], True),
        ([asked("update", READ[1], part="status", phase="Initialized")], False),
        ([asked("update", READ[1], part="status", phase="Progressing", status=409)], False),
        (
            [
                asked("update", READ[1], part="status", phase="Failed"),
                asked("get", "virtualservices.networking.istio.io"),
            ],
            False,
        ),
        (
            [
                asked("update", READ[1], part="status", phase="Failed"),
                asked("get", "virtualservices.networking.istio.io", status=404),
            ],
            True,
        ),
    ],
)
async def test_the_gate_holds_the_first_read_of_a_tick_alone(before: list[Any], is_held: bool) -> None:
    gate = Gate("podinfo", has_routes=True)
    for request in before:
        gate.asked(request)
    assert isinstance(gate.asked(asked(*READ)), rules.Hold) is is_held


async def test_the_gate_knows_its_canary() -> None:
    gate = Gate("podinfo", has_routes=True)
    assert gate.asked(asked(*READ, name="other")) is None
    assert isinstance(gate.asked(asked(*READ)), rules.Hold)


def test_names_of_scenarios_fit_into_namespaces() -> None:
    assert all(len(f"flagger-{name}") <= 63 and name.replace("-", "").isalnum() for name in BY_NAME)
