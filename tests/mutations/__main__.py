"""`python -m tests.mutations [words]`: drops safeguards one at a time and shows that a test fails for each.

Works in a copy of the tree. Exits 1 where a safeguard can be dropped without a test that fails, where the source no
longer holds what is dropped, or where the tests fail without any change. `words` chooses safeguards by their names.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fleet_rollout.lab.lab import Lab
from tests.conftest import MEMBERS
from tests.mutations.safeguards import ROOT, SAFEGUARDS, Safeguard

PARTS = ("api", "config", "docs", "examples", "fleet_rollout", "tests")
FILES = ("pyproject.toml", "uv.lock", "README.md")
PASSED, FAILED = 0, 1  # pytest's exit codes; whatever else it ends with is no verdict
BROKEN = re.compile(
    r"- ((?:Name|Attribute|Syntax|Import)Error\b.*)"
)  # what is dropped was no safeguard, but the program


def copied(to: Path) -> Path:
    """The tree, at `to`."""
    for part in PARTS:
        shutil.copytree(ROOT / part, to / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy(ROOT / file, to / file)
    return to


async def tested(tree: Path, tests: Sequence[str], run: str) -> tuple[int, str]:
    """pytest's exit code in `tree`, and its last line, or what says that the program itself is broken."""
    environment = os.environ | {"PYTEST_XDIST_TESTRUNUID": run, "PYTHONDONTWRITEBYTECODE": "1"}
    command = (sys.executable, "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider", *tests)
    process = await asyncio.create_subprocess_exec(
        *command, cwd=tree, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    text = said.decode(errors="replace").rstrip()
    broken = BROKEN.search(text)
    return process.returncode or 0, broken[1] if broken else text.rpartition("\n")[2]


async def verdict(safeguard: Safeguard, folder: Path, run: str) -> tuple[bool, str]:
    """Whether a test notices that it is gone, and what to print about it."""
    if not safeguard.is_in_place():
        return False, f"not in {safeguard.file} any more; correct tests/mutations/safeguards.py"
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        tree = copied(Path(temporary))
        safeguard.drop(tree)
        code, said = await tested(tree, safeguard.tests, run)
    failures = re.search(r"\d+ failed", said)
    if code == FAILED and failures:
        return True, failures[0]
    return False, "no test failed" if code == PASSED else f"pytest ended with {code}: {said}"


async def measured(chosen: Sequence[Safeguard]) -> bool:
    """Prints the table; True when every one was noticed."""
    run = secrets.token_hex(6)
    with tempfile.TemporaryDirectory(prefix="mutations-") as temporary:
        folder = Path(temporary)
        async with Lab(MEMBERS, name=f"test-{run}"):
            tests = sorted({test for safeguard in chosen for test in safeguard.tests})
            code, said = await tested(copied(folder / "unchanged"), tests, run)
            print(f"{'nothing dropped':58} {said}", flush=True)
            is_noticed = code == PASSED
            for safeguard in chosen:
                found, text = await verdict(safeguard, folder, run)
                is_noticed &= found
                print(f"{safeguard.name:58} {'noticed' if found else 'NOT NOTICED'}: {text}", flush=True)
    return is_noticed


def main() -> int:
    """The exit code."""
    words = sys.argv[1:]
    chosen = [each for each in SAFEGUARDS if not words or any(word in each.name for word in words)]
    return 0 if chosen and asyncio.run(measured(chosen)) else 1


if __name__ == "__main__":
    sys.exit(main())
