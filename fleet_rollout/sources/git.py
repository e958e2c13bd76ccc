"""Runs git through GitPython, so that no text of a user becomes an option and nothing outlives its time.

GitPython starts the process; reading, limits and the end are ours: its own time-out needs `ps` or `pgrep`, and waits
for ever where an image has neither.
"""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

# GitPython looks for the program when it is imported; where there is none, `check_version` says so instead.
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import git

from fleet_rollout.errors import Terminal
from fleet_rollout.sources.git_environment import GitEnvironment, options

# The first that can be pinned to addresses (http.curloptResolve); an older one would dial what it resolves itself.
OLDEST_GIT = (2, 37)
TICK = 0.1
GRACE = 5.0
CHUNK = 65536
ERRORS_KEPT = 16 * 1024
# Address space of git and of each of its children: room for mapped packs (core.packedGitLimit) and for what git knows
# of a million objects, none for a delta, tree or message that unfolds to gigabytes.
MEMORY_CAP = 1024**3
# What the smallest file takes of a disk, whatever its size; it also gives the number of files an end.
BLOCK = 4096

Sink = Callable[[bytes], None]


class GitFailed(Exception):
    """git ended with an error; `errors` is what it said, for classification only."""

    def __init__(self, returncode: int, errors: str) -> None:
        super().__init__(f"git ended with {returncode}")
        self.returncode = returncode
        self.errors = errors


class GitTimeout(Exception):
    """Killed because its time was over."""


class GitStopped(Exception):
    """Killed because the service stops."""


class LimitPassed(Exception):
    """Killed because it printed or stored more than it may."""


@dataclass(frozen=True)
class Limits:
    """`seconds` for the whole run, `output` bytes printed, `disk` bytes of a disk below `directory`."""

    seconds: float
    output: int = 64 * 1024 * 1024
    disk: int | None = None
    directory: Path | None = None


class Git:
    """The git program. One per process; every run is independent, and safe in any thread."""

    def __init__(self) -> None:
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End all runs, now and from now on."""
        self._stopping.set()

    def output(self, arguments: Sequence[str], environment: GitEnvironment, cwd: Path, limits: Limits) -> bytes:
        """What git prints."""
        parts: list[bytes] = []
        self.stream(arguments, environment, cwd, limits, parts.append)
        return b"".join(parts)

    def stream(
        self,
        arguments: Sequence[str],
        environment: GitEnvironment,
        cwd: Path,
        limits: Limits,
        sink: Sink,
        *,
        stdin: BinaryIO | None = None,
    ) -> None:
        """Give what git prints to `sink`, piece by piece. An exception of `sink` ends git, too."""
        handle = git.Git(str(cwd)).execute(
            _command(arguments, environment), istream=stdin, as_process=True, start_new_session=True
        )
        process = handle.proc
        assert process is not None
        try:
            with contextlib.suppress(ProcessLookupError, PermissionError, ValueError):
                _limit(process.pid)
            errors = self._pump(process, limits, sink)
            _await_exit(process.pid)
        finally:
            returncode = _end(process)
        if returncode != 0:
            raise GitFailed(returncode, errors)

    def _pump(self, process: Any, limits: Limits, sink: Sink) -> str:
        """Read both pipes until they close."""
        deadline = time.monotonic() + limits.seconds
        disk = DiskWatch(limits)
        errors = bytearray()
        printed = complained = 0
        with selectors.DefaultSelector() as selector:
            for pipe in (process.stdout, process.stderr):
                selector.register(pipe, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select(TICK):
                    chunk = os.read(key.fd, CHUNK)
                    if not chunk:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is process.stdout:
                        printed += len(chunk)
                        sink(chunk)
                    else:
                        complained += len(chunk)
                        errors += chunk
                        del errors[:-ERRORS_KEPT]
                self._check(limits, deadline, printed)
                disk.check()
        disk.check(is_last=True)
        if complained > ERRORS_KEPT:  # the first line may begin inside a secret, where nothing would recognise it
            errors = errors.partition(b"\n")[2]
        return errors.decode("utf-8", "replace")

    def _check(self, limits: Limits, deadline: float, printed: int) -> None:
        if self._stopping.is_set():
            raise GitStopped
        if time.monotonic() > deadline:
            raise GitTimeout
        if printed > limits.output:
            raise LimitPassed(f"more than {limits.output} bytes of output")


class DiskWatch:
    """Looks at what a running git stores. However many files that are, looking takes a quarter of the time at most."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._again_at = 0.0

    def check(self, *, is_last: bool = False) -> None:
        limits, began = self._limits, time.monotonic()
        if limits.disk is None or limits.directory is None or (began < self._again_at and not is_last):
            return
        if holds_more(limits.directory, limits.disk):
            raise LimitPassed(f"more than {limits.disk} bytes on disk, where each reference takes {BLOCK}")
        ended = time.monotonic()
        self._again_at = ended + 3 * (ended - began)


def check_version() -> None:
    """Raises Terminal where there is no git, or one that cannot be kept to checked addresses."""
    try:
        found = git.Git().version_info
    except git.GitCommandNotFound:
        raise Terminal("GitMissing", "no git program on PATH; install git 2.37 or newer") from None
    if found < OLDEST_GIT:
        version = ".".join(map(str, found))
        raise Terminal("GitTooOld", f"git {version} cannot be kept to checked addresses; install 2.37 or newer")


def holds_more(directory: Path, most: int) -> bool:
    """Whether all below takes more than `most` bytes of a disk; counting ends where it does. What vanishes meanwhile
    does not count."""
    left, folders = most, [str(directory)]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                left -= _taken(entry)
                if left < 0:
                    return True
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
    return False


def _taken(entry: os.DirEntry[str]) -> int:
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:
        return 0
    return max(found.st_size, found.st_blocks * 512, BLOCK)


def _command(arguments: Sequence[str], environment: GitEnvironment) -> list[str]:
    """GitPython would add the whole environment of this process; `env -i` starts git from an empty one."""
    variables = [f"{name}={value}" for name, value in environment.variables.items()]
    return ["env", "-i", *variables, str(git.Git.GIT_PYTHON_GIT_EXECUTABLE), *options(), *arguments]


def _limit(pid: int) -> None:
    if hasattr(resource, "prlimit"):
        resource.prlimit(pid, resource.RLIMIT_AS, (MEMORY_CAP, MEMORY_CAP))


def _await_exit(pid: int) -> None:
    """Give a git that closed its pipes the moment it needs to exit; the child is not reaped yet."""
    deadline = time.monotonic() + GRACE
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None and time.monotonic() < deadline:
        time.sleep(0.001)


def _end(process: Any) -> int:
    """Kill what is left of the group, reap the child."""
    # Before the child is reaped: afterwards its number may belong to somebody else.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    returncode: int = process.wait()
    pipes: tuple[IO[bytes] | None, ...] = (process.stdout, process.stderr)
    for pipe in pipes:
        if pipe is not None:
            pipe.close()
    return returncode
