"""Q7, Q23: what the user wishes, as far as the router can fulfil it."""

from __future__ import annotations

from typing import Any

import pytest

from fleet_rollout.decide.canary.strategy import can_match, can_mirror, strategy_of
from tests.conformance.manifests import MATCH
from tests.conformance.scenario import Inputs, Scenario
from tests.conformance.scenarios import iterations
from tests.decide.canary.player import Player
from tests.decide.canary.workloads import subject

TCP = {"appProtocol": "TCP"}
AB_TESTING = {"iterations": 2, "match": MATCH}
SMI = ("smi:v1alpha1", "smi:v1alpha2", "smi:v1alpha3", "smi:istio", "smi:v1alpha2:istio")
BLIND = ("apisix", "appmesh", "appmesh:v1beta2", "knative", "kubernetes", "kuma", "linkerd", "osm", "skipper", *SMI)
SEEING = ("istio", "gatewayapi:v1", "gatewayapi:v1beta1", "nginx", "contour", "gloo", "gloo:v1", "consul")
# Flagger's trace of each: everybody gets the new version at the first check.
UNCHECKED = "Pg 0 100:0 → it1 0:100 → it2 → Pm it2 → Fn 0 100:0 → Su"
BLUE_GREEN = "Pg 0 100:0 → it1 → it2 → it3 0:100 → Pm it3 → Fn 0 100:0 → Su"


@pytest.mark.parametrize(
    ("provider", "service", "expected"),
    [
        *((name, {}, False) for name in (*BLIND, "traefik")),
        *((name, {}, True) for name in SEEING),
        ("istio", TCP, False),
        ("consul", TCP, False),  # a name that nobody knows means Istio
        ("istio", {"appProtocol": "http"}, True),
        ("nginx", TCP, True),
        ("gatewayapi:v1", TCP, True),
    ],
)
def test_who_can_tell_requests_apart(provider: str, service: dict[str, Any], expected: bool) -> None:
    about = subject(provider=provider, service=service, analysis=AB_TESTING)
    assert can_match(about) is expected
    assert strategy_of(about) == ("ab-testing" if expected else "blue-green")


@pytest.mark.parametrize(
    ("analysis", "expected"),
    [
        ({}, "canary"),
        ({"match": MATCH}, "canary"),
        ({"iterations": 2}, "blue-green"),
        ({"iterations": 2, "match": []}, "blue-green"),
        (AB_TESTING, "ab-testing"),
    ],
)
def test_what_the_analysis_says(analysis: dict[str, Any], expected: str) -> None:
    assert strategy_of(subject(analysis=analysis)) == expected


@pytest.mark.parametrize(
    ("provider", "service", "analysis", "expected"),
    [
        ("istio", {}, {}, True),
        ("istio", TCP, {}, False),
        ("gatewayapi:v1", {}, {}, False),
        ("gatewayapi:v1", {}, {"iterations": 2}, True),
        ("nginx", {}, {}, False),
    ],
)
def test_who_can_copy_requests(
    provider: str, service: dict[str, Any], analysis: dict[str, Any], expected: bool
) -> None:
    assert can_mirror(subject(provider=provider, service=service, analysis=analysis)) is expected


def blind(spec: dict[str, Any], **inputs: Any) -> Scenario:
    wish = {**iterations(2, match=MATCH), **spec}
    return Scenario("Q23", "A/B where the router cannot", UNCHECKED, wish, own=BLUE_GREEN, **inputs)


@pytest.mark.parametrize(
    "spec", [*({"provider": name} for name in ("kuma", "linkerd", "traefik")), {"service": TCP}], ids=str
)
def test_where_it_cannot_all_traffic_stays_until_the_checks_are_over(spec: dict[str, Any]) -> None:
    scenario = blind(spec)
    seen = Player.of(scenario).play()
    assert [str(seen[tick].step) for tick in sorted(seen) if tick >= scenario.first] == [
        str(step) for step in scenario.own_steps
    ]
    provider = scenario.provider
    told = (
        f"W A/B testing is not supported here by provider {provider}, "
        "and podinfo.test is rolled out as blue/green: remove analysis.match"
    )
    assert [(tick, event) for tick in seen for event in seen[tick].events if "A/B" in event] == [(4, told)]


def test_where_it_cannot_a_bad_version_gets_no_request() -> None:
    scenario = blind({"provider": "kuma"}, inputs={5: Inputs(metric=90.0)})
    seen = Player.of(scenario).play()
    assert {seen[tick].step.canary for tick in seen} == {0}
    assert seen[scenario.last].step.phase == "Failed"


def test_weights_that_grow_for_everybody_are_no_ab_test() -> None:
    scenario = Scenario(
        "Q23-weights", "", "Pg 0 100:0 → Pg 20 80:20", {"provider": "kuma", "analysis": {"match": MATCH}}
    )
    assert not any("A/B" in event for seen in Player.of(scenario).play().values() for event in seen.events)
