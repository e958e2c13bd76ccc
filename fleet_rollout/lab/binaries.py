"""Finds the lab's programs on this machine."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from fleet_rollout.lab.state import LabError


def find(name: str) -> Path | None:
    """The program in KUBEBUILDER_ASSETS or on PATH; None where it is in neither."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    found = shutil.which(name, path=assets) if assets else None
    found = found or shutil.which(name)
    return Path(found) if found else None


def require(name: str) -> Path:
    """Like find; raises LabError where the program is missing."""
    found = find(name)
    if found is None:
        raise LabError(f"{name} is missing: run `fleet-rollout lab binaries`")
    return found
