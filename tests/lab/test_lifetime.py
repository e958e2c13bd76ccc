"""Labs end with their last holder, leave nothing behind, and do not get in each other's way."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import sys
from pathlib import Path

import pytest

from fleet_rollout.lab import state
from fleet_rollout.lab.lab import Lab
from fleet_rollout.lab.state import LabError, LabState

HOLDER = """
import asyncio, sys
from fleet_rollout.lab.lab import Lab
async def main():
    async with Lab(members=0, name=sys.argv[1]):
        print("up", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


def processes_of(folder: Path) -> list[int]:
    """Every process that has the lab's folder in its command line."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and str(folder) in (entry / "cmdline").read_bytes().decode(errors="replace"):
                found.append(int(entry.name))
    return found


def as_in_a_terminal() -> None:
    """Let SIGINT end the program: a shell lets its background jobs ignore it, and so do the tests it starts there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.asynccontextmanager
async def command(*argv: str):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *argv,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        preexec_fn=as_in_a_terminal,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
def name() -> str:
    return f"life-{os.urandom(4).hex()}"


async def test_two_labs_side_by_side_and_nothing_left_of_them(eventually):
    async with Lab(members=0) as one, Lab(members=0) as two:
        assert one.hub.server != two.hub.server
        for lab, other in ((one, two), (two, one)):
            await lab.hub.api.create("/api/v1/namespaces", {"metadata": {"name": f"of-{lab.name}"}})
            assert await other.hub.api.find(f"/api/v1/namespaces/of-{lab.name}") is None
    assert not one.folder.exists()
    assert not two.folder.exists()

    async def gone() -> bool:  # the supervisors' interpreters take another moment
        return not processes_of(one.folder) and not processes_of(two.folder)

    await eventually(gone)


async def test_a_lab_ends_when_its_holder_is_killed(name, eventually):
    folder = state.folder_of(name)
    async with command("-c", HOLDER, name) as holder:
        assert await holder.stdout.readline() == b"up\n"
        assert len(processes_of(folder)) >= 4
        holder.kill()

        async def gone() -> bool:
            return not folder.exists() and not processes_of(folder)

        await eventually(gone)


async def test_a_lab_ends_when_its_holder_is_killed_while_it_starts(name, eventually):
    folder = state.folder_of(name)
    async with command("-c", HOLDER, name) as holder:

        async def starting() -> bool:
            return len(processes_of(folder)) >= 3

        await eventually(starting, every=0.01)
        holder.kill()

        async def gone() -> bool:
            return not folder.exists() and not processes_of(folder)

        await eventually(gone)


async def test_programs_die_with_a_killed_supervisor_and_the_next_lab_removes_its_folder(name, eventually):
    folder = state.folder_of(name)
    async with command("-c", HOLDER, name) as holder:
        assert await holder.stdout.readline() == b"up\n"

        async def all_gone() -> bool:  # a dying process loses its command line before its lock
            return not processes_of(folder) and LabState.read(folder) is None

        async with state.start_lock():  # no other lab starts meanwhile, and removes the folder before we look
            os.kill(LabState.read(folder).pid, signal.SIGKILL)
            await eventually(all_gone)
            assert folder.exists()
            assert name in state.remove_stale()
        assert not folder.exists()


async def test_the_same_name_is_the_same_lab_until_its_last_holder_goes(name, eventually):
    async with Lab(members=0, name=name) as one:
        async with Lab(members=0, name=name) as two:
            assert two.hub.server == one.hub.server
        assert await one.hub.api.is_ready()

    async def gone() -> bool:
        return not one.folder.exists()

    await eventually(gone)


async def test_who_adds_the_same_cluster_at_once_gets_the_same_when_it_is_up(name):
    async with Lab(members=0, name=name) as one, Lab(members=0, name=name) as two:
        found = await asyncio.gather(one.add("further"), two.add("further"))
        assert found[0].server == found[1].server
        assert [await each.api.find("/readyz/ping") for each in found]


async def test_many_may_ask_at_once_whether_a_lab_lives(tmp_path):
    (tmp_path / "lock").touch()
    with (tmp_path / "lock").open() as asker:
        fcntl.flock(asker, fcntl.LOCK_SH)
        assert not state.is_alive(tmp_path)
    claimed = state.claim(tmp_path)
    assert state.is_alive(tmp_path)
    with pytest.raises(LabError, match="is running"):
        state.claim(tmp_path)
    os.close(claimed)
    assert not state.is_alive(tmp_path)


async def test_attaching_to_no_lab_says_how_to_start_one(name):
    with pytest.raises(LabError, match="`fleet-rollout lab up` starts one"):
        await Lab(name=name).attach()


async def test_an_api_server_that_cannot_start_is_an_error_with_its_words(tmp_path, monkeypatch):
    scripts = {"etcd": "exec sleep 60", "kube-controller-manager": "exit 0", "kube-apiserver": "echo no luck; exit 1"}
    for program, script in scripts.items():
        (tmp_path / program).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    lab = Lab(members=0)
    with pytest.raises(LabError, match=r"kube-apiserver of hub ended:\nno luck"):
        await lab.__aenter__()
    assert not lab.folder.exists()


async def test_the_command_line_starts_shows_and_ends_a_lab(name, tmp_path):
    async def cli(*arguments: str) -> tuple[int, str]:
        async with command("-m", "fleet_rollout", "lab", *arguments) as process:
            output, _ = await process.communicate()
            return process.returncode, output.decode()

    code, output = await cli("up", "--keep", "--members", "1", "--name", name)
    assert code == 0, output
    assert "hub: ready" in output
    assert "m1: ready" in output
    assert name in (await cli("status"))[1]
    code, path = await cli("kubeconfig", "m1", "--name", name)
    assert code == 0
    assert Path(path.strip()).read_bytes().startswith(b"{")
    assert (await cli("kubeconfig", "m9", "--name", name)) == (
        1,
        f"Error: lab {name} has no cluster 'm9': there are hub, m1\n",
    )
    (tmp_path / "a.yaml").write_text("a: 1\n")
    code, url = await cli("git", "app", "--from", str(tmp_path), "--name", name)
    assert code == 0
    assert url.strip().endswith("/app.git")
    assert await cli("down", "--name", name) == (0, f"lab {name} has ended\n")
    assert not state.folder_of(name).exists()
    code, output = await cli("down", "--name", name)
    assert code == 1
    assert output == f"Error: no lab '{name}' is running: `fleet-rollout lab up` starts one\n"


async def test_ctrl_c_ends_a_lab_in_the_foreground(name):
    async with command("-m", "fleet_rollout", "lab", "up", "--members", "0", "--name", name) as process:
        async for line in process.stdout:
            if line.startswith(b"Ctrl-C"):
                break
        process.send_signal(signal.SIGINT)
        output, _ = await process.communicate()
        assert output.decode() == f"lab {name} has ended\n"
    assert not state.folder_of(name).exists()
