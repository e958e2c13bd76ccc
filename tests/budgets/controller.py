"""The controller as users run it: a process of its own, whose CPU time and memory /proc tells."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")
STOP_TIMEOUT = 40.0


@dataclass
class Controller:
    """`fleet-rollout controller` for one namespace of a hub; its log lies in `folder`."""

    kubeconfig: Path
    namespace: str
    folder: Path
    flags: dict[str, Any] = field(default_factory=dict)
    receiver: str = ""
    _process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.receiver = f"127.0.0.1:{free_port()}"
        flags = {
            "kubeconfig": self.kubeconfig,
            "namespace": self.namespace,
            "own-namespace": self.namespace,
            "data-dir": self.folder / "data",
            "artifact-address": f"127.0.0.1:{free_port()}",
            "receiver-address": self.receiver,
            "telemetry-address": f"127.0.0.1:{free_port()}",
            **self.flags,
        }
        argv = ["-m", "fleet_rollout", "controller", "--allow-loopback-sources"]
        argv += [part for flag, value in flags.items() for part in (f"--{flag}", str(value))]
        if profile := os.environ.get("BUDGETS_PROFILE"):  # where cProfile is to leave what it saw
            argv = ["-m", "cProfile", "-o", profile, *argv]
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "controller.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(sys.executable, *argv, stdout=log, stderr=log)

    @property
    def pid(self) -> int:
        assert self._process is not None
        if self._process.returncode is not None:
            raise RuntimeError(f"the controller has ended; see {self.folder / 'controller.log'}")
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

    async def stop(self) -> None:
        """As SIGTERM does it."""
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT if os.environ.get("BUDGETS_PROFILE") else signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
