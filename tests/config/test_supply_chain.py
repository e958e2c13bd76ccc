"""What is built of, and by whom: pinned by hash, and workflows that may do nothing but read (trust.md section 4)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"uses: [\w-]+/[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")


def workflow(path: Path) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load(path.read_text("utf-8"))
    return found


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_named_by_commit(path: Path) -> None:
    uses = [line.strip().removeprefix("- ") for line in path.read_text("utf-8").splitlines() if "uses:" in line]
    assert uses
    assert all(PINNED.fullmatch(line) for line in uses), uses


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_have_no_right_but_to_read_and_run_no_foreign_text(path: Path) -> None:
    found = workflow(path)
    assert found["permissions"] == {}
    assert not {"pull_request_target", "workflow_run"} & set(found[True])  # YAML reads `on` as true
    for job in found["jobs"].values():
        assert job["permissions"] == {"contents": "read"}
        assert all("${{" not in step.get("run", "") for step in job["steps"])
        assert all(step["with"] == {"persist-credentials": False} for step in job["steps"] if "uses" in step)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_call_the_targets_that_people_call(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for job in workflow(path)["jobs"].values():
        for step in job["steps"]:
            targets = step["run"].removeprefix("make ").split() if "run" in step else []
            assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets), targets


@pytest.mark.parametrize("name", ["uv.txt", "build.txt"])
def test_what_installs_and_builds_is_pinned_with_hashes(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text("utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        assert re.fullmatch(r"[\w-]+==[\w.]+(\s+--hash=sha256:[0-9a-f]{64})+", line.strip()), line
