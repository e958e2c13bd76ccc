"""A program under measurement, in a process of its own: /proc tells its CPU time and memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
STOP_TIMEOUT = 40.0


class Process:
    """`log` gets what the program writes."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        given = {**os.environ, **(environment or {})}
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(*argv, stdout=log, stderr=log, env=given)

    @property
    def pid(self) -> int:
        assert self._process is not None
        if self._process.returncode is not None:
            raise RuntimeError(f"it has ended; see {self.log}")
        return self._process.pid

    def cpu(self) -> float:
        """Seconds of CPU time so far, those of its finished children (git, kustomize) included."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(ticks) for ticks in fields[11:15]) / TICKS

    def memory(self, what: str = "VmHWM") -> float:
        """MB of resident memory: the peak (VmHWM) or now (VmRSS)."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) / 1024
        raise LookupError(what)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to end, and end it."""
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
