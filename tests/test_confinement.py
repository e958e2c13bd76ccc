"""What a confined child can still do, tried by a real child; where the kernel cannot confine, that it is said."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from fleet_rollout.confinement import Confinement, gaps, landlock
from fleet_rollout.faces.cli.main import main
from fleet_rollout.processes import confinement_gaps, run
from fleet_rollout.render.program import Program, build
from fleet_rollout.settings import Settings

# Tries everything, and prints what worked.
ATTEMPTS = """
import json, os, socket, sys
tree, token, home, port = sys.argv[1:]

def works(attempt):
    try:
        attempt()
    except OSError:
        return False
    return True

print(json.dumps({
    "reads its tree": works(lambda: open(tree + "/a.yaml").read()),
    "reads a token": works(lambda: open(token).read()),
    "lists another folder": works(lambda: os.listdir(os.path.dirname(token))),
    "writes into its home": works(lambda: open(home + "/new", "w")),
    "writes into its tree": works(lambda: open(tree + "/a.yaml", "w")),
    "deletes from its tree": works(lambda: os.unlink(tree + "/a.yaml")),
    "connects": works(lambda: socket.create_connection(("127.0.0.1", int(port)), 5)),
    "sends": works(lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", int(port)))),
}))
"""
needs_landlock = pytest.mark.skipif(landlock() < 4, reason="the kernel has no Landlock that knows TCP")


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("root/tree", "root/home", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "root/tree/a.yaml").write_text("a: b")
    (tmp_path / "elsewhere/token").write_text("secret")
    return tmp_path / "root"


async def tried(root: Path, port: int, confinement: Confinement | None) -> dict[str, bool]:
    places = (root / "tree", root.parent / "elsewhere/token", root / "home")
    argv = [sys.executable, "-I", "-c", ATTEMPTS, *places, str(port)]
    done = await run(argv, timeout=60, confinement=confinement)
    assert done.returncode == 0, done.stderr
    found: dict[str, bool] = json.loads(done.stdout)
    return found


@needs_landlock
async def test_a_confined_child_reads_its_files_and_does_nothing_else(root: Path, listener: int) -> None:
    """trust.md section 3, Render: no token, no egress, nothing writable."""
    python = (Path(sys.base_prefix), Path(sys.prefix))
    worked = await tried(root, listener, Confinement((root, *python)))
    allowed = {"reads its tree"}
    if any("UDP" in gap for gap in confinement_gaps()):
        allowed.add("sends")
    assert {name for name, did in worked.items() if did} == allowed


async def test_the_attempts_work_where_nothing_is_taken(root: Path, listener: int) -> None:
    """Otherwise the test above would show nothing."""
    assert all((await tried(root, listener, None)).values())


@needs_landlock
async def test_a_build_is_confined(root: Path, tmp_path: Path) -> None:
    """Whatever stands in for kustomize reads the tree, and not the service's token."""
    program = tmp_path / "program"
    program.write_text(
        f"#!/bin/sh\n/bin/cat {root}/tree/a.yaml; /bin/cat {tmp_path}/elsewhere/token; echo x > {root}/home/x; exit 0\n"
    )
    program.chmod(0o755)
    out = await build(Program(program), Settings(), root, "", "LoadRestrictionsRootOnly")
    assert out == b"a: b"
    assert not (root / "home/x").exists()


@pytest.mark.parametrize(
    ("version", "namespaces", "said"),
    [
        (7, True, []),
        (7, False, ["UDP is reachable"]),
        (3, False, ["the network is reachable"]),
        (0, True, ["files are readable"]),
        (0, False, ["files are readable", "the network is reachable"]),
    ],
)
def test_what_the_platform_cannot_take_is_said(version: int, namespaces: bool, said: list[str]) -> None:
    found = gaps(version, namespaces)
    assert [text.startswith(start) for text, start in zip(found, said, strict=True)] == [True] * len(said)


def test_version_says_it() -> None:
    last = CliRunner().invoke(main, ["version"]).output.splitlines()[-1]
    assert last == f"builds: {'; '.join(confinement_gaps()) or 'confined to their files, without network'}"
