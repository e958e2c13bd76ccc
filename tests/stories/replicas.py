"""The controller as processes of their own: started, stopped, killed, and asked how they are."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from fleet_rollout.lab import binaries, children
from fleet_rollout.lab.children import LOCALHOST
from fleet_rollout.processes import child_environment

ROOT = Path(__file__).parents[2]
# Small numbers, so that stories are short; on a busy machine a renewal may still take a second.
PACE = {"retry-min": 0.3, "retry-max": 2.0, "status-interval": 0.2, "member-check-interval": 5.0}
LEADERSHIP = {"lease-duration": 4.0, "lease-renew-deadline": 3.0, "lease-retry": 0.3}


class Replica:
    """One running controller."""

    def __init__(self, pid: int, log: Path, telemetry: str) -> None:
        self.pid = pid
        self.log = log
        self._telemetry = telemetry
        self._fd = os.pidfd_open(pid)

    def signal(self, number: int) -> None:
        """Nothing happens where it has ended. The descriptor cannot mean another process that got its number."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    async def ended(self) -> None:
        """Returns when the process is gone."""
        loop = asyncio.get_running_loop()
        gone = loop.create_future()
        loop.add_reader(self._fd, lambda: gone.done() or gone.set_result(None))
        try:
            await gone
        finally:
            loop.remove_reader(self._fd)

    async def close(self) -> None:
        """End it, however it is."""
        self.kill()
        await self.ended()
        os.close(self._fd)

    async def get(self, page: str) -> tuple[int, str]:
        """Status and text of a page of its telemetry; (0, "") where it does not answer."""
        limit = aiohttp.ClientTimeout(total=5)
        try:
            async with (
                aiohttp.ClientSession(timeout=limit) as session,
                session.get(f"http://{self._telemetry}{page}") as answer,
            ):
                return answer.status, await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            return 0, ""

    async def metric(self, name: str) -> float:
        """The sum of a metric's series; -1 where it does not answer."""
        status, text = await self.get("/metrics")
        if status != 200:
            return -1.0
        lines = (line.rpartition(" ") for line in text.splitlines() if line.startswith(name))
        return sum(float(value) for series, _, value in lines if series.partition("{")[0] == name)

    async def leads(self) -> bool:
        return await self.metric("fleet_rollout_leader") == 1.0

    def words(self) -> list[dict[str, Any]]:
        """Its log so far, one record a line; a line that is being written is left out."""
        text = self.log.read_text() if self.log.exists() else ""
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


class Launcher:
    """Starts controllers. `fork` costs a fraction of a start; `program` is the command as a user would run it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._turn = asyncio.Lock()
        self._server: asyncio.subprocess.Process | None = None
        self._count = 0

    def arguments(self, **settings: Any) -> tuple[list[str], str]:
        """The command's arguments, and where its telemetry will be."""
        telemetry = f"{LOCALHOST}:{children.free_port()}"
        flags: dict[str, Any] = {
            "artifact-address": f"{LOCALHOST}:0",
            "receiver-address": f"{LOCALHOST}:0",
            "telemetry-address": telemetry,
            **PACE,
            **LEADERSHIP,
            **{name.replace("_", "-"): value for name, value in settings.items()},
        }
        given = [f"--{name}={value}" for name, value in flags.items()]
        return ["controller", "--allow-loopback-sources", *given], telemetry

    async def fork(self, **settings: Any) -> Replica:
        arguments, telemetry = self.arguments(**settings)
        log = settings["data_dir"].parent / f"controller-{self._number()}.log"
        order = {"arguments": arguments, "environment": self.environment(), "log": str(log)}
        async with self._turn:
            server = await self._started()
            assert server.stdin is not None
            assert server.stdout is not None
            server.stdin.write(json.dumps(order).encode() + b"\n")
            pid = int(await server.stdout.readline())
        return Replica(pid, log, telemetry)

    @contextlib.asynccontextmanager
    async def program(
        self, *, environment: Mapping[str, str] | None = None, **settings: Any
    ) -> AsyncIterator[tuple[Replica, asyncio.subprocess.Process]]:
        """`python -m fleet_rollout controller`; killed at the end of the block."""
        arguments, telemetry = self.arguments(**settings)
        log = self._folder / f"controller-{self._number()}.log"
        process = await self.start(arguments, log, self.environment() | dict(environment or {}))
        replica = Replica(process.pid, log, telemetry)
        try:
            yield replica, process
        finally:
            replica.kill()
            await process.wait()
            os.close(replica._fd)

    @staticmethod
    async def start(arguments: list[str], log: Path, environment: Mapping[str, str]) -> asyncio.subprocess.Process:
        argv = [sys.executable, "-m", "fleet_rollout", *arguments]
        started = await children.start(arguments[0], argv, log=log, env=environment, cwd=ROOT)
        return started.process

    def environment(self) -> dict[str, str]:
        """Like a container's: PATH with git and kustomize, a HOME, and nothing of the tests' own."""
        programs = self._folder / "bin"
        programs.mkdir(parents=True, exist_ok=True)
        if not (programs / "kustomize").exists():
            (programs / "kustomize").symlink_to(binaries.require("kustomize"))
        inherited = child_environment(None)
        return inherited | {"PATH": f"{programs}:{inherited['PATH']}", "HOME": str(self._folder)}

    async def close(self) -> None:
        if self._server is not None:
            self._server.kill()
            await self._server.wait()

    def _number(self) -> int:
        self._count += 1
        return self._count

    async def _started(self) -> asyncio.subprocess.Process:
        if self._server is None:
            self._server = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.stories.fork_server"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=child_environment({"PYTHONPATH": f"{ROOT}:{ROOT / 'api'}"}),
                cwd=ROOT,
                preexec_fn=children.die_with_parent(),
            )
            assert self._server.stdout is not None
            assert await self._server.stdout.readline() == b"ready\n"
        return self._server
