"""Finds the lab's programs: in KUBEBUILDER_ASSETS, on PATH, in the user's cache. Downloads and builds nothing.

What is missing is got by builder.py, behind `fleet-rollout lab binaries`.
"""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from fleet_rollout.lab.programs import NEEDED, PROGRAMS, OnPath, ProgramFile
from fleet_rollout.lab.state import LabError

ASSETS = "KUBEBUILDER_ASSETS"
VERSION_TIMEOUT = 10.0
MANIFESTS = Path(__file__).with_name("assets")


@dataclass(frozen=True)
class Found:
    """Where a program is; `source` is KUBEBUILDER_ASSETS, PATH or cache."""

    path: Path
    source: str


def cache_folder() -> Path:
    """Where downloaded and built programs stay."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "fleet-rollout"


def cached(program: ProgramFile) -> Path:
    return cache_folder() / "bin" / f"{program.name}-{program.version}"


def system() -> tuple[str, str]:
    """Operating system and processor by Go's names."""
    machine = platform.machine().lower()
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    return platform.system().lower(), names.get(machine, machine)


def find(name: str) -> Path | None:
    """The program; None where it is nowhere yet."""
    found = locate(name)
    return found.path if found else None


def require(name: str) -> Path:
    """Like find; raises LabError where the program is missing."""
    found = find(name)
    if found is None:
        raise LabError(f"{name} is missing: `fleet-rollout lab binaries` downloads or builds it")
    return found


def missing(names: tuple[str, ...] = NEEDED) -> list[str]:
    return [name for name in names if locate(name) is None]


def locate(name: str) -> Found | None:
    program = PROGRAMS[name]
    # What is in the assets folder was put there on purpose: no question about its version.
    assets = os.environ.get(ASSETS)
    if assets and (path := shutil.which(name, path=assets)):
        return Found(Path(path), ASSETS)
    path = shutil.which(name)
    if path and program.on_path and is_recent(Path(path), program.on_path):
        return Found(Path(path), "PATH")
    if os.access(cached(program), os.X_OK):
        return Found(cached(program), "cache")
    return None


@functools.lru_cache
def is_recent(path: Path, wanted: OnPath) -> bool:
    """Does the program print a version that will do? One that cannot be run, or prints none, will not."""
    try:
        done = subprocess.run(
            [path, *wanted.arguments], capture_output=True, text=True, timeout=VERSION_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    found = wanted.pattern.search(done.stdout + done.stderr)
    return found is not None and tuple(map(int, found.groups())) >= wanted.oldest


def manifest(name: str) -> Path:
    """CRDs that belong to the programs: `flagger-crds`, `istio-crds`."""
    path = MANIFESTS / f"{name}.yaml"
    if not path.exists():
        raise LabError(f"no manifest {name!r} in the lab")
    return path
