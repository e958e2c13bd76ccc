"""Runs other programs: own process group, clean environment, time-out, and caps on output and memory.

The only module of the service that starts a process. Nothing of the caller's environment reaches the
child except PATH and what is given.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet_rollout.confinement import Confinement, Ruleset, gaps, has_namespaces, landlock

DEFAULT_OUTPUT_CAP = 64 * 1024 * 1024
ERROR_OUTPUT_CAP = 64 * 1024


@dataclass(frozen=True)
class Completed:
    """What a finished program left: exit code (negative: the signal that ended it), output, errors."""

    returncode: int
    stdout: bytes
    stderr: str


class ProgramTimeout(Exception):
    """The program was killed because its time was over."""


class OutputTooLarge(Exception):
    """The program was killed because it printed more than the cap."""


async def run(
    argv: Sequence[str | Path],
    *,
    timeout: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    output_cap: int = DEFAULT_OUTPUT_CAP,
    memory_cap: int | None = None,
    confinement: Confinement | None = None,
) -> Completed:
    """Run `argv` to its end. `timeout` in seconds, caps in bytes (`memory_cap` limits the address space).

    With `confinement` it can do nothing but read what that names, as far as the platform can see to it.

    Raises ProgramTimeout or OutputTooLarge after killing the whole process group, FileNotFoundError
    where there is no such program. Cancelling the caller kills the group, too.
    """
    ruleset = Ruleset(confinement) if confinement is not None else None
    try:
        process = await _started(
            asyncio.create_subprocess_exec(
                *map(str, argv),
                cwd=cwd,
                env=child_environment(env),
                stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                preexec_fn=_preparation(memory_cap, ruleset),
            )
        )
    finally:
        if ruleset is not None:
            ruleset.close()
    try:
        async with asyncio.timeout(timeout):
            return await _communicate(process, stdin, output_cap)
    except TimeoutError:
        raise ProgramTimeout(f"{argv[0]} did not finish within {timeout:g}s") from None
    finally:
        await _end(process)


async def _started(starting: Coroutine[Any, Any, asyncio.subprocess.Process]) -> asyncio.subprocess.Process:
    """The process; where the caller is cancelled meanwhile, its whole group is ended.

    asyncio by itself would kill the child alone, and leave what the child has started.
    """
    task = asyncio.ensure_future(starting)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            await _end(await task)
        raise


def child_environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    """The environment a child gets: PATH, a C locale, and `extra`."""
    base = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
    return base | dict(extra or {})


def _preparation(cap: int | None, ruleset: Ruleset | None) -> Callable[[], None] | None:
    """What the child does before its program starts."""
    if cap is None and ruleset is None:
        return None

    def prepare() -> None:
        if ruleset is not None:
            ruleset.apply()
        if cap is not None:
            resource.setrlimit(resource.RLIMIT_AS, (cap, cap))

    return prepare


def confinement_gaps() -> list[str]:
    """What this platform cannot take from a confined child; empty where it can take everything."""

    def probe(in_child: Callable[[], None]) -> int:
        return subprocess.run(["true"], preexec_fn=in_child, env=child_environment(None)).returncode

    return gaps(landlock(), has_namespaces(probe))


async def _communicate(process: asyncio.subprocess.Process, stdin: bytes | None, output_cap: int) -> Completed:
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.TaskGroup() as group:
            if stdin is not None:
                group.create_task(_feed(process, stdin))
            out = group.create_task(_read_capped(process.stdout, output_cap, fail=True))
            err = group.create_task(_read_capped(process.stderr, ERROR_OUTPUT_CAP, fail=False))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    code = await process.wait()
    return Completed(code, out.result(), err.result().decode("utf-8", "replace"))


async def _feed(process: asyncio.subprocess.Process, data: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(data)
        await process.stdin.drain()
    process.stdin.close()


async def _read_capped(stream: asyncio.StreamReader, cap: int, *, fail: bool) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while chunk := await stream.read(65536):
        size += len(chunk)
        if size <= cap:
            chunks.append(chunk)
        elif fail:
            raise OutputTooLarge(f"output is larger than {cap} bytes")
    return b"".join(chunks)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill what is left of the group, and reap the child, so that nothing outlives the call.

    `wait` returns only once the pipes are closed, and a pipe that nobody reads is paused and never closes.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await asyncio.shield(_drain(process))


async def _drain(process: asyncio.subprocess.Process) -> None:
    for stream in (process.stdout, process.stderr):
        while stream is not None and await stream.read(65536):
            pass
    await process.wait()


def communicate(process: subprocess.Popen[bytes], *, timeout: float, stdin: bytes | None = None) -> tuple[bytes, bytes]:
    """Like Popen.communicate for a child that leads its own session; kills its whole group at the time-out."""
    try:
        return process.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise ProgramTimeout(f"did not finish within {timeout:g}s") from None
