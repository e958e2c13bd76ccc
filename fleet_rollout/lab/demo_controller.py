"""The service under demonstration: the real command as a process of its own, as a user would start it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import aiohttp

from fleet_rollout.lab import binaries, children
from fleet_rollout.lab.children import LOCALHOST, Child
from fleet_rollout.lab.lab import Lab
from fleet_rollout.lab.state import LabError
from fleet_rollout.processes import child_environment

READY_WITHIN = 60.0
POLL = 0.1
GRACE = 30.0
LINES = 40


class Controller:
    """`fleet-rollout controller` against the hub of a lab; ends with the block."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._child: Child | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._child is not None:
            await self._child.end(grace=GRACE)

    async def start(self, *, shortest_interval: float) -> None:
        """Returns when it is ready; LabError with its last words where it does not get so far."""
        folder = self._lab.folder / "controller"
        telemetry = f"{LOCALHOST}:{children.free_port()}"
        argv = [
            sys.executable,
            "-m",
            "fleet_rollout",
            "controller",
            *_flags(self._lab, folder, telemetry, shortest_interval),
        ]
        environment = await asyncio.to_thread(_path, folder)
        self._child = await children.start("controller", argv, log=folder / "log", env=environment)
        try:
            async with asyncio.timeout(READY_WITHIN), aiohttp.ClientSession() as session:
                while not await _is_ready(session, f"http://{telemetry}/readyz"):
                    if not self._child.is_running:
                        raise LabError("the controller ended")
                    await asyncio.sleep(POLL)
        except TimeoutError:
            raise LabError(f"the controller was not ready within {READY_WITHIN:g}s") from None

    def last_words(self) -> str:
        return f"the end of the controller's log:\n{self._child.last_words(LINES)}" if self._child else ""


def _flags(lab: Lab, folder: Path, telemetry: str, shortest_interval: float) -> list[str]:
    flags = {
        "kubeconfig": str(lab.hub.kubeconfig),
        "data-dir": str(folder / "data"),
        "artifact-address": f"{LOCALHOST}:{children.free_port()}",
        "receiver-address": f"{LOCALHOST}:{children.free_port()}",
        "telemetry-address": telemetry,
        "shortest-interval": f"{shortest_interval:g}",
        "log-format": "text",
    }
    return ["--allow-loopback-sources", *(f"--{name}={value}" for name, value in flags.items())]


def _path(folder: Path) -> Mapping[str, str]:
    """PATH with the kustomize that the lab has found, under its plain name."""
    programs = folder / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    (programs / "kustomize").symlink_to(binaries.require("kustomize"))
    inherited = child_environment(None)["PATH"]
    return {"PATH": f"{programs}:{inherited}"}


async def _is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False
