"""Starts the lab's programs so that none of them outlives the process that started it, and picks their ports.

A child gets SIGKILL from the kernel when its parent dies, however that happens. The parent must start
children from its main thread: the kernel counts the death of the starting thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import random
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet_rollout.processes import child_environment

PR_SET_PDEATHSIG = 1
LOCALHOST = "127.0.0.1"
# Below Linux' ephemeral range (32768 and up), so that no outgoing connection takes the port meanwhile.
PORTS = range(20_000, 32_000)

_libc = ctypes.CDLL(None, use_errno=True)
_given: set[int] = set()


def die_with_parent() -> Callable[[], None]:
    """A preexec function: the child is killed when this process dies."""
    parent = os.getpid()

    def prepare() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)

    return prepare


@dataclass
class Child:
    """A running program in a process group of its own; its output goes to `log`."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process.returncode is None

    def signal(self, number: int) -> None:
        """Send a signal to the whole group; nothing happens where it has ended."""
        if self.is_running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def end(self, grace: float = 0) -> None:
        """SIGTERM, then SIGKILL after `grace` seconds (at once by default); returns when it is gone."""
        if grace > 0:
            self.signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), grace)
        self.signal(signal.SIGKILL)
        await self.process.wait()

    def last_words(self, lines: int = 15) -> str:
        """The end of the log, for error messages."""
        with contextlib.suppress(FileNotFoundError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""


async def start(
    name: str, argv: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Child:
    """Start `argv` with PATH and `env` alone as its environment; the log file is appended to."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *map(str, argv),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=child_environment(env),
            cwd=cwd,
            start_new_session=True,
            preexec_fn=die_with_parent(),
        )
    return Child(name, process, log)


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on now, and that this process has not given out before."""
    while True:
        port = random.choice(PORTS)  # noqa: S311 - not a secret
        if port in _given:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOCALHOST, port))
            _given.add(port)
            return port


@dataclass
class ReservedPort:
    """A port that stays ours while its program is stopped.

    The socket is bound and never listens. The program binds beside it with SO_REUSEPORT, so the port
    cannot be lost between picking it and starting (or restarting) the program.
    """

    socket: socket.socket

    @classmethod
    def pick(cls) -> ReservedPort:
        while True:
            port = random.choice(PORTS)  # noqa: S311 - not a secret
            with socket.socket() as probe:  # without SO_REUSEPORT: fails where anybody holds the port
                try:
                    probe.bind((LOCALHOST, port))
                except OSError:
                    continue
            holder = socket.socket()
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            try:
                holder.bind((LOCALHOST, port))
            except OSError:
                holder.close()
                continue
            _given.add(port)
            return cls(holder)

    @property
    def number(self) -> int:
        port: int = self.socket.getsockname()[1]
        return port

    def release(self) -> None:
        self.socket.close()
