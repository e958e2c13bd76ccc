"""What is shipped: the wheel is the same bytes wherever it is built, altered ones are refused, contents are listed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from fleet_rollout.lab.programs import KUSTOMIZE

ROOT = Path(__file__).parents[2]
UV = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".tools/uv/bin/uv")
UNSAFE = "OSV-TEST-1"


def run(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(each) for each in arguments], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """Built twice by `make wheel`'s script, from a commit of what it is built of."""
    source = tmp_path / "source"
    for name in ("api", "fleet_rollout", "requirements", "scripts"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "uv.lock", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    author = ("-c", "user.name=t", "-c", "user.email=t@example.com")
    for command in (("init", "--quiet"), ("add", "."), (*author, "commit", "--quiet", "--message", "All of it")):
        assert run("git", *command, cwd=source).returncode == 0
    built = run("scripts/wheel.sh", UV, cwd=source)
    assert built.returncode == 0, built.stderr
    (found,) = (source / "build/wheel").glob("*.whl")
    return found


def test_the_wheel_is_equal_bytes_and_an_altered_one_is_refused(wheel: Path, tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"{wheel} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    assert run(UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv").returncode == 0

    def install() -> subprocess.CompletedProcess[str]:
        target = ("--python", tmp_path / "venv", "--no-deps", "--no-index", "--reinstall", "--no-cache")
        return run(UV, "pip", "install", "--require-hashes", *target, "-r", requirements)

    assert install().returncode == 0
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("fleet_rollout/added.py", "")
    refused = install()
    assert refused.returncode != 0
    assert "Hash mismatch" in refused.stderr


def test_the_list_of_contents_has_the_service_s_packages_with_their_hashes() -> None:
    made = run("make", "sbom")
    assert made.returncode == 0, made.stderr
    found = json.loads((ROOT / "build/sbom.json").read_text())
    assert found["bomFormat"] == "CycloneDX"
    packages = {each["name"]: each for each in found["components"] if each.get("purl", "").startswith("pkg:pypi/")}
    assert {"kubernetes", "kopf", "gitpython", "pydantic", "prometheus-api-client"} <= set(packages)
    assert "pytest" not in packages
    for each in packages.values():
        sums = [one for reference in each["externalReferences"] for one in reference["hashes"]]
        assert sums, each["name"]
        assert {one["alg"] for one in sums} == {"SHA-256"}, each["name"]
    programs = {each["purl"] for each in found["components"]} - {each["purl"] for each in packages.values()}
    assert f"pkg:golang/sigs.k8s.io/kustomize/kustomize/v5@v{KUSTOMIZE}" in programs
    assert any(each.startswith("pkg:deb/debian/git?") for each in programs)


@pytest.fixture
async def osv() -> AsyncIterator[tuple[list[str], str]]:
    """Answers like osv.dev: each package that the list names has one vulnerability."""
    named: list[str] = []

    async def batch(request: web.Request) -> web.Response:
        asked = (await request.json())["queries"]
        known = [{"id": UNSAFE, "modified": "2026-01-01T00:00:00Z"}]
        return web.json_response(
            {"results": [{"vulns": known} if q["package"]["name"] in named else {} for q in asked]}
        )

    async def one(_: web.Request) -> web.Response:
        return web.json_response({"id": UNSAFE, "modified": "2026-01-01T00:00:00Z", "summary": "made up"})

    app = web.Application()
    app.router.add_post("/v1/querybatch", batch)
    app.router.add_get("/v1/vulns/{id}", one)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield named, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_a_known_vulnerability_ends_the_audit_with_an_error(osv: tuple[list[str], str]) -> None:
    named, url = osv

    async def audit() -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(run, "make", "audit", f"ARGS=--service-url={url}")

    found = await audit()
    assert found.returncode == 0, found.stderr
    named.append("aiohttp")
    found = await audit()
    assert found.returncode != 0
    assert UNSAFE in found.stdout + found.stderr


def test_an_audit_that_cannot_ask_does_not_pass() -> None:
    assert run("make", "audit", "ARGS=--service-url=http://127.0.0.1:1").returncode != 0
