"""The controller and the agent as users run them: processes of their own."""

from __future__ import annotations

import os
import signal
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from fleet_rollout.lab import binaries
from fleet_rollout.render.program import VARIABLE
from tests.budgets.process import Process


@dataclass
class Controller:
    """`fleet-rollout controller` for one namespace of a hub; its log lies in `folder`."""

    kubeconfig: Path
    namespace: str
    folder: Path
    flags: dict[str, Any] = field(default_factory=dict)
    receiver: str = ""
    telemetry: str = ""

    def __post_init__(self) -> None:
        self._process = Process(self.folder / "controller.log")

    async def start(self) -> None:
        self.receiver, self.telemetry = address(), address()
        flags = {
            "kubeconfig": self.kubeconfig,
            "namespace": self.namespace,
            "own-namespace": self.namespace,
            "data-dir": self.folder / "data",
            "artifact-address": address(),
            "receiver-address": self.receiver,
            "telemetry-address": self.telemetry,
            **self.flags,
        }
        builds_with = {VARIABLE: str(binaries.require("kustomize"))}  # as in the image; kubectl takes thrice the time
        await self._process.start([*program("controller", flags), "--allow-loopback-sources"], builds_with)

    def cpu(self) -> float:
        """Seconds of CPU time so far, those of its finished children (git, kustomize) included."""
        return self._process.cpu()

    def memory(self, what: str = "VmHWM") -> float:
        """MB of resident memory: the peak (VmHWM) or now (VmRSS)."""
        return self._process.memory(what)

    async def metrics(self) -> str:
        """What Prometheus would be told."""
        url = f"http://{self.telemetry}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return await answer.text()

    async def stop(self) -> None:
        """As SIGTERM does it."""
        await self._process.stop(signal.SIGINT if os.environ.get("BUDGETS_PROFILE") else signal.SIGTERM)


def program(command: str, flags: dict[str, Any]) -> list[str]:
    """The words that start `fleet-rollout`; under a profiler where one is wanted."""
    argv = [sys.executable]
    if profile := os.environ.get("BUDGETS_PROFILE"):  # where cProfile is to leave what it saw
        argv += ["-m", "cProfile", "-o", profile]
    return [*argv, "-m", "fleet_rollout", command, *(f"--{flag}={value}" for flag, value in flags.items())]


def address() -> str:
    """A free one on the loopback."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"
