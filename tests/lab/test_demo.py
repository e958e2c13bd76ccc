"""The demo as a user runs it: its own process, its exit code, its words, and the Application that it prints."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet_rollout import processes
from fleet_rollout.lab import demo, demo_acts
from fleet_rollout.lab.demo_figures import Figures

MEMBERS = ("m1", "m2", "m3")
TIMEOUT = 580
# flux-and-kurator.md A.3 and H: what Kurator shows of a rollout, and what we add beside it.
KURATORS_ROW = {"name", "kustomizationStatus", "rolloutStatus"}
OUR_ROW = {"policy", "cluster", "clusterSync", "ready", "message"}
SYNC = {"observedGeneration", "conditions", "lastAppliedRevision", "lastAttemptedRevision", "inventory"}
GIT = {"observedGeneration", "conditions", "artifact"}
ARTIFACT = {"digest", "lastUpdateTime", "path", "revision", "size", "url"}
CANARY = {
    "canaryWeight",
    "conditions",
    "failedChecks",
    "iterations",
    "lastAppliedSpec",
    "lastPromotedSpec",
    "lastTransitionTime",
    "phase",
    "trackedConfigs",
}
CANARY_CONDITION = {"type", "status", "reason", "message", "lastUpdateTime", "lastTransitionTime"}
CONDITION = {"type", "status", "reason", "message", "lastTransitionTime", "observedGeneration"}
VERDICT = re.compile(
    r"^  (?P<cluster>m\d): (?P<version>\S+) (?P<verdict>Succeeded|Failed), by its Prometheus:"
    r" success rate +(?P<rate>[\d.]+) %  p99 +(?P<p99>[\d.]+) ms  +(?P<requests>\d+) requests(?:  (?P<why>Halt .*))?$",
    re.MULTILINE,
)


@pytest.mark.conformance
async def test_the_demo_keeps_its_three_promises_and_leaves_nothing() -> None:
    # A folder of its own (and a short one, for sockets): other labs of this user may run.
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        kept = {name: os.environ[name] for name in ("HOME", "KUBEBUILDER_ASSETS") if name in os.environ}
        argv = [sys.executable, "-m", "fleet_rollout", "lab", "demo"]
        done = await processes.run(argv, timeout=TIMEOUT, env=kept | {"TMPDIR": folder})
        printed = done.stdout.decode()
        assert done.returncode == 0, printed[-5000:] + done.stderr
        assert [path for path in Path(folder).glob("*/*") if path.is_dir()] == []
    print(printed)
    verdicts_are_as_promised(printed)
    application = yaml.safe_load(between(printed, "$ kubectl get application rollout-demo -o yaml", "$ kubectl"))
    status_is_kurators(application["status"])
    last_commit_failed_in_one_member(application)


def between(text: str, first: str, last: str) -> str:
    return text.partition(first)[2].partition(last)[0]


def verdicts_are_as_promised(printed: str) -> None:
    """One line for each commit and member, with figures that explain it."""
    found = [match.groupdict() for match in VERDICT.finditer(printed)]
    seen = {(row["version"], row["cluster"]): row["verdict"] for row in found}
    assert len(found) == len(seen)
    assert seen == {
        (act.version, name): verdict for act in demo_acts.acts(MEMBERS) for name, verdict in act.verdicts.items()
    }
    for row in found:
        figures = Figures(float(row["requests"]), float(row["rate"]), float(row["p99"]))
        assert figures.requests > 0
        assert figures.agrees(row["verdict"]), row
        assert bool(row["why"]) == (row["verdict"] == "Failed"), row
    reasons = {row["version"]: row["why"] for row in found if row["why"]}
    assert "success rate" in reasons[demo_acts.BAD]
    assert "request duration" in reasons[demo_acts.CONFIGURED]


def status_is_kurators(status: dict[str, Any]) -> None:
    """The key sets of A.3; rows are told apart by name, by place and by policy."""
    git = status["sourceStatus"]["gitRepoStatus"]
    assert status["sourceStatus"].keys() == {"gitRepoStatus"}
    assert git.keys() - {"lastHandledReconcileAt"} == GIT
    assert git["artifact"].keys() - {"metadata"} == ARTIFACT
    rows = status["syncStatus"]
    assert [row["name"] for row in rows] == [
        f"rollout-demo-{index}-attachedcluster-{name}" for index in (0, 1) for name in MEMBERS
    ]
    assert len({(row["cluster"], row["policy"]) for row in rows}) == len({row["clusterSync"] for row in rows}) == 6
    for row in rows:
        has_rollout = row["policy"] == "rollout-demo-0"
        assert row.keys() - OUR_ROW == (KURATORS_ROW if has_rollout else KURATORS_ROW - {"rolloutStatus"})
        assert row["kustomizationStatus"].keys() - {"lastHandledReconcileAt"} == SYNC
        assert all(entry.keys() == {"id", "v"} for entry in row["kustomizationStatus"]["inventory"]["entries"])
        assert all(condition.keys() == CONDITION for condition in row["kustomizationStatus"]["conditions"])
        if has_rollout:
            canary_is_kurators(row["rolloutStatus"])


def canary_is_kurators(rollout: dict[str, Any]) -> None:
    assert rollout.keys() == {"clusterName", "rolloutNameInCluster", "rolloutStatusInCluster"}
    assert rollout["rolloutNameInCluster"] == "backend"
    assert rollout["rolloutStatusInCluster"].keys() == CANARY
    [condition] = rollout["rolloutStatusInCluster"]["conditions"]
    assert condition.keys() == CANARY_CONDITION


def last_commit_failed_in_one_member(application: dict[str, Any]) -> None:
    odd = demo_acts.odd_member(MEMBERS)
    status = application["status"]
    phases = {
        row["rolloutStatus"]["clusterName"]: row["rolloutStatus"]["rolloutStatusInCluster"]["phase"]
        for row in status["syncStatus"]
        if "rolloutStatus" in row
    }
    assert phases == {"m1": "Succeeded", "m2": "Failed", "m3": "Succeeded"}
    assert [row["rolloutStatus"]["clusterName"] for row in status["syncStatus"] if row["ready"] == "False"] == [odd]
    [ready] = [each for each in status["conditions"] if each["type"] == "Ready"]
    assert (ready["status"], ready["reason"]) == ("False", "RolloutFailed")
    assert f"AttachedCluster/{odd}" in ready["message"]
    assert status["summary"]["rollout"] == "2 Succeeded, 1 Failed"


@pytest.mark.conformance
async def test_a_version_with_errors_makes_it_fail_and_say_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert await demo.run(members=1, version="6.6.0-bad") == 1
    printed = capsys.readouterr().out
    assert "rolled back in m1" in printed
    assert "Halt backend.webapp advancement success rate" in printed


@pytest.mark.conformance
async def test_flagger_may_run_it_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    """One member: a commit that is promoted, and one that is rolled back."""
    assert await demo.run(members=1, engine="flagger") == 0
    seen = {match["version"]: match["verdict"] for match in VERDICT.finditer(capsys.readouterr().out)}
    assert seen == {demo_acts.GOOD: "Succeeded", demo_acts.BAD: "Failed"}
