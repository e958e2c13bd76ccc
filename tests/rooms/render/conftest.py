from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fleet_rollout.lab import binaries
from fleet_rollout.render.kustomize import Renderer
from fleet_rollout.render.program import Program
from fleet_rollout.settings import Settings
from fleet_rollout_api.kustomization import KustomizationSpec

WRAPPED = "wrapped-kustomize"


def manifest(kind: str = "ConfigMap", name: str = "a", namespace: str = "apps", version: str = "v1") -> str:
    place = f", namespace: {namespace}" if namespace else ""
    return f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}{place}}}\n"


class Artifact:
    """An unpacked artifact: `add` and `put` make files, `build` renders a policy over what is there now."""

    def __init__(self, root: Path, program: Program) -> None:
        self.root = root
        self.program = program

    def add(self, name: str, content: str | bytes = "") -> Artifact:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return self

    def put(self, file: str, name: str = "a", **object) -> Artifact:
        return self.add(file, manifest(name=name, **object))

    @property
    def digest(self) -> str:
        files = sorted(path for path in self.root.rglob("*") if path.is_file())
        content = b"".join(str(path.relative_to(self.root)).encode() + path.read_bytes() for path in files)
        return "sha256:" + hashlib.sha256(content).hexdigest()

    async def build(self, settings: Settings | None = None, **policy):
        is_wrapped = self.program.path.name == WRAPPED  # it counts its runs, in a file
        its = replace(settings or Settings(), allow_unconfined_builds=is_wrapped)
        renderer = Renderer(its, self.program)
        try:
            return await renderer.build(self.root, self.digest, spec(**policy))
        finally:
            renderer.close()


def spec(**policy) -> KustomizationSpec:
    return KustomizationSpec.model_validate({"interval": "5m", "prune": True, **policy})


@pytest.fixture(scope="session")
def kustomize() -> Program:
    return Program(binaries.require("kustomize"))


@pytest.fixture
def artifact(tmp_path: Path, kustomize: Program) -> Artifact:
    root = tmp_path / "artifact"
    root.mkdir()
    return Artifact(root, kustomize)


@pytest.fixture
def named() -> Callable:
    """The objects of a build as `Kind/namespace/name`, sorted."""

    def names(objects) -> list[str]:
        parts = ((o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in objects)
        return sorted("/".join(part for part in each if part) for each in parts)

    return names


class Wrapped:
    """kustomize behind a shell script that runs `first` before, and counts the runs."""

    def __init__(self, folder: Path, kustomize: Program, first: str) -> None:
        self._runs = folder / "runs"
        path = folder / WRAPPED
        path.write_text(f'#!/bin/sh\nprintf x >> "{self._runs}"\n{first}\nexec "{kustomize.path}" "$@"\n')
        path.chmod(0o755)
        self.program = Program(path)

    @property
    def runs(self) -> int:
        return len(self._runs.read_text()) if self._runs.exists() else 0


@pytest.fixture
def wrapped(tmp_path: Path, kustomize: Program) -> Callable[[str], Wrapped]:
    return lambda first=":": Wrapped(tmp_path, kustomize, first)


@pytest.fixture
def policy() -> Callable[..., KustomizationSpec]:
    return spec
