"""`fleet-rollout version` names every program that a user may have to report: itself, git, and what builds."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from fleet_rollout.faces.cli.main import main
from fleet_rollout.lab import binaries
from fleet_rollout.lab.programs import PROGRAMS
from fleet_rollout.render.program import VARIABLE


def printed() -> list[str]:
    done = CliRunner().invoke(main, ["version"])
    assert done.exit_code == 0, done.output
    return done.output.splitlines()


def test_it_names_this_program_git_and_kustomize(monkeypatch: pytest.MonkeyPatch) -> None:
    path = binaries.require("kustomize")
    monkeypatch.setenv(VARIABLE, str(path))
    own, git, kustomize, _ = printed()
    assert own == f"fleet-rollout {importlib.metadata.version('fleet-rollout')}"
    assert re.fullmatch(r"git version \d+\..*", git)
    assert kustomize == f"kustomize v{PROGRAMS['kustomize'].version.removeprefix('v')}, {path}"


def test_kubectl_that_stands_in_for_kustomize_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    path = binaries.require("kubectl")
    monkeypatch.setenv(VARIABLE, str(path))
    assert re.fullmatch(rf"kustomize v\S+ \(in kubectl\), {re.escape(str(path))}", printed()[2])


def test_what_is_missing_is_said_with_the_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {"PATH": tmp_path, "HOME": tmp_path, "XDG_CACHE_HOME": tmp_path}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv(VARIABLE, raising=False)
    _, git, kustomize, _ = printed()
    assert git == "git: not found on the PATH; install it"
    assert kustomize.startswith("kustomize: no kustomize and no kubectl: looked at ")
    assert kustomize.endswith("install kustomize 5")
