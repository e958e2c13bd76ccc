"""The demo as a user runs it: its own process, its exit code, its words."""

from __future__ import annotations

import os
import sys

import pytest

from fleet_rollout import processes
from fleet_rollout.lab import state


@pytest.mark.conformance
async def test_the_demo_shows_three_clusters_succeed_and_leaves_nothing():
    argv = [sys.executable, "-m", "fleet_rollout", "lab", "demo"]
    environment = {name: os.environ[name] for name in ("HOME", "KUBEBUILDER_ASSETS", "TMPDIR") if name in os.environ}
    before = set(state.base().iterdir())
    done = await processes.run(argv, timeout=540, env=environment)
    printed = done.stdout.decode()
    assert done.returncode == 0, printed[-5000:] + done.stderr
    for cluster in ("m1", "m2", "m3"):
        assert any(cluster in line and "Succeeded" in line for line in printed.splitlines())
    assert "kind: Application" in printed
    assert {folder for folder in state.base().iterdir() if folder.is_dir()} <= before
