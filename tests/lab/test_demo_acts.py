"""What the demo promises, and that its files are those of the example."""

from __future__ import annotations

import math

import pytest
import yaml

from fleet_rollout.lab import demo_acts
from fleet_rollout.lab.demo_figures import Figures, queries


def test_three_commits_and_their_promises():
    first, second, third = demo_acts.acts(["m1", "m2", "m3"])
    assert set(first.verdicts.values()) == {"Succeeded"}
    assert set(second.verdicts.values()) == {"Failed"}
    assert third.verdicts == {"m1": "Succeeded", "m2": "Failed", "m3": "Succeeded"}
    assert len(demo_acts.acts(["m1"])) == 2, "nothing can fail in a single member where there is but one"


def test_each_commit_changes_the_image_and_the_last_one_reads_settings():
    first, _, third = (yaml.safe_load(demo_acts.deployment(act)) for act in demo_acts.acts(["m1", "m2"]))
    [container] = first["spec"]["template"]["spec"]["containers"]
    assert container["image"].endswith(f":{demo_acts.GOOD}")
    assert "envFrom" not in container
    [container] = third["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"configMapRef": {"name": demo_acts.SETTINGS}}]


def test_only_one_member_has_settings_that_make_it_slow():
    found = [demo_acts.settings_of(name, ["m1", "m2", "m3"])["data"]["LATENCY_MS"] for name in ("m1", "m2", "m3")]
    assert found == ["0", "900", "0"]


@pytest.mark.parametrize(("engine", "seconds"), [("hub", 3), ("flagger", 10)])
def test_the_application_is_the_example_s_with_an_interval_that_the_engine_takes(engine, seconds):
    application = yaml.safe_load(demo_acts.application("http://git.test/podinfo", engine))
    assert application["spec"]["source"]["gitRepository"]["url"] == "http://git.test/podinfo"
    analysis = application["spec"]["syncPolicies"][0]["rollout"]["rolloutPolicy"]["trafficAnalysis"]
    assert analysis["checkIntervalSeconds"] == seconds


@pytest.mark.parametrize(
    ("figures", "succeeded", "failed"),
    [
        (Figures(100, 100.0, 20.0), True, False),
        (Figures(100, 52.0, 20.0), False, True),
        (Figures(100, 100.0, 950.0), True, True),  # a check that failed may be forgiven
        (Figures(math.nan, math.nan, math.nan), False, False),
    ],
)
def test_figures_explain_a_verdict(figures, succeeded, failed):
    assert (figures.agrees("Succeeded"), figures.agrees("Failed")) == (succeeded, failed)


def test_figures_are_of_the_new_version_alone():
    for query in queries(20):
        assert 'destination_workload="backend"' in query
        assert "[20s]" in query
