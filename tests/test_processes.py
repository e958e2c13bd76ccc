"""Programs we start end with the call that started them, whatever they do."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from fleet_rollout.processes import OutputTooLarge, ProgramTimeout, run


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"


async def test_output_errors_and_exit_code_come_back() -> None:
    done = await run(
        python("import sys; print(input()); print('no', file=sys.stderr); sys.exit(3)"), timeout=60, stdin=b"hi"
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, b"hi\n", "no\n")


async def test_only_path_locale_and_what_is_given_reach_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    done = await run(python("import os; print(sorted(os.environ))"), timeout=60, env={"HOME": "/nowhere"})
    assert done.stdout.decode().strip() in (
        "['HOME', 'LANG', 'LC_ALL', 'PATH']",
        "['HOME', 'LANG', 'LC_ALL', 'LC_CTYPE', 'PATH']",
    )


@pytest.mark.parametrize("size", [200_000, 50_000_000])
async def test_too_much_output_ends_the_program(size: int) -> None:
    with pytest.raises(OutputTooLarge):
        await asyncio.wait_for(run(python(f"print('x' * {size})"), timeout=60, output_cap=1000), 60)


async def test_a_time_out_ends_grandchildren_too(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = (
        "import subprocess, sys, pathlib, time;"
        f"p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        f"pathlib.Path({str(note)!r}).write_text(str(p.pid)); time.sleep(600)"
    )
    running = asyncio.create_task(run(python(code), timeout=5))
    with pytest.raises(ProgramTimeout):
        await running
    assert is_gone(int(note.read_text()))


async def test_cancelling_the_caller_ends_the_program(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = f"import os, pathlib, time; pathlib.Path({str(note)!r}).write_text(str(os.getpid())); time.sleep(600)"
    running = asyncio.create_task(run(python(code), timeout=600))
    async with asyncio.timeout(60):
        while not (note.exists() and note.read_text()):
            await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert is_gone(int(note.read_text()))


async def test_cancelling_while_the_program_is_being_started_ends_its_grandchildren(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note, started = tmp_path / "pid", asyncio.Event()
    create = asyncio.create_subprocess_exec

    async def slow(*argv: str, **options: Any) -> asyncio.subprocess.Process:
        process = await create(*argv, **options)
        started.set()
        while not (note.exists() and note.read_text()):
            await asyncio.sleep(0.01)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slow)
    code = (
        "import subprocess, sys, pathlib, time;"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        f"pathlib.Path({str(note)!r}).write_text(str(p.pid)); time.sleep(600)"
    )
    running = asyncio.create_task(run(python(code), timeout=600))
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 60)
    async with asyncio.timeout(60):
        while not is_gone(int(note.read_text())):
            await asyncio.sleep(0.01)


async def test_memory_is_capped() -> None:
    done = await run(python("x = bytearray(2_000_000_000)"), timeout=60, memory_cap=500_000_000)
    assert done.returncode != 0
    assert "MemoryError" in done.stderr
