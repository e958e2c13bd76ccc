"""The demo as a user runs it: its own process, its exit code, its words."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

from fleet_rollout import processes
from fleet_rollout.lab import demo


@pytest.mark.conformance
async def test_the_demo_shows_three_clusters_succeed_and_leaves_nothing():
    # A folder of its own (and a short one, for sockets): other labs of this user may run.
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        kept = {name: os.environ[name] for name in ("HOME", "KUBEBUILDER_ASSETS") if name in os.environ}
        argv = [sys.executable, "-m", "fleet_rollout", "lab", "demo"]
        done = await processes.run(argv, timeout=540, env=kept | {"TMPDIR": folder})
        printed = done.stdout.decode()
        assert done.returncode == 0, printed[-5000:] + done.stderr
        assert [path for path in Path(folder).glob("*/*") if path.is_dir()] == []
    for cluster in ("m1", "m2", "m3"):
        assert any(cluster in line and "Succeeded" in line for line in printed.splitlines())
    assert "kind: Application" in printed


@pytest.mark.conformance
async def test_a_version_with_errors_makes_it_fail_and_say_why(capsys):
    assert await demo.run(members=1, version="6.6.0-bad") == 1
    printed = capsys.readouterr().out
    assert "rolled back in m1" in printed
    assert "Halt backend.webapp advancement success rate" in printed
