"""The process that holds a lab: it starts every program, serves the control socket, and cleans up at its end.

Callers keep a connection to the control socket. The lab ends when the last of them is gone, so it cannot
outlive a test run or a demo that crashed; a lab that was asked to stay ends at SIGTERM or `down`.
The programs die with this process (children.py), the folder goes at its end (or with the next lab, state.py).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from fleet_rollout.lab import binaries, state
from fleet_rollout.lab.cluster import ControlPlane, Etcd, Programs
from fleet_rollout.lab.gitserver import GitServer
from fleet_rollout.lab.recipes import all_recipes
from fleet_rollout.lab.site import Site
from fleet_rollout.lab.state import ClusterState, LabError, LabState

CONTROL_SOCKET = "control.sock"
LOG = "supervisor.log"
# From the last caller's end to the lab's; also what a test worker has to attach between two others.
UNUSED_GRACE = 0.5
READY = b"listening"

log = logging.getLogger("lab")


@dataclass(frozen=True)
class Options:
    """What a lab is to be. `keep`: stay after the last caller has gone. `audit`: API servers write audit.log."""

    clusters: list[str]
    keep: bool = False
    audit: bool = False

    def write(self, folder: Path) -> None:
        (folder / "options.json").write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> Options:
        return cls(**json.loads((folder / "options.json").read_text()))


class Supervisor:
    """Everything of one lab that runs."""

    def __init__(self, folder: Path, options: Options) -> None:
        self.folder = folder
        self.options = options
        self.ended = asyncio.Event()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._programs = Programs(
            binaries.require("etcd"),
            binaries.require("kube-apiserver"),
            binaries.require("kube-controller-manager"),
        )
        self._etcd = Etcd(self._programs.etcd, folder)
        self._git = GitServer(folder / state.GIT_FOLDER)
        self._sites: dict[str, Site] = {}
        self._started: set[str] = set()
        self._adding: dict[str, asyncio.Task[None]] = {}
        self._recipes = all_recipes()
        self._callers = 0

    async def run(self, listening: Callable[[], None]) -> None:
        """Bring the lab up, hold it until it is to end, take it down. `listening` is called when callers may come."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.ended.set)
        socket = self.folder / CONTROL_SOCKET
        server = await asyncio.start_unix_server(self._serve, socket)
        listening()
        rising = asyncio.create_task(self._up())
        try:
            await self.ended.wait()
        finally:
            rising.cancel()
            await asyncio.wait([rising])
            server.close()
            await self._down()

    async def _up(self) -> None:
        try:
            await self._git.start()
            await self._etcd.start()
            async with asyncio.TaskGroup() as group:
                for name in self.options.clusters:
                    group.create_task(self._add(name))
            self._record()
        except* LabError as errors:
            self.ready.set_exception(LabError("\n".join(map(str, errors.exceptions))))
        else:
            self.ready.set_result(None)

    async def _down(self) -> None:
        async with asyncio.TaskGroup() as group:
            for site in self._sites.values():
                group.create_task(site.end())
        await self._etcd.end()
        await self._git.end()

    async def _add(self, name: str) -> None:
        folder = self.folder / "c" / name
        plane = ControlPlane(name, folder, self._programs, self._etcd, audit=self.options.audit)
        self._sites[name] = Site(plane, len(self._sites), self._recipes)
        await self._sites[name].start()
        self._started.add(name)

    async def _add_later(self, name: str) -> None:
        await self._add(name)
        self._record()

    def _record(self) -> None:
        clusters = [
            ClusterState(name, site.plane.server, site.plane.token, str(site.folder), site.proxy.url)
            for name, site in self._sites.items()
            if name in self._started
        ]
        LabState(self.folder.name, os.getpid(), self._git.url, clusters).write(self.folder)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One caller: a JSON request a line, a JSON answer a line. Its connection keeps the lab alive."""
        self._callers += 1
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(json.loads(line))).encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            log.info("a caller has gone")
        finally:
            writer.close()
            self._callers -= 1
            if not self.options.keep:
                asyncio.get_running_loop().call_later(UNUSED_GRACE, self._end_if_unused)

    def _end_if_unused(self) -> None:
        if self._callers == 0:
            self.ended.set()

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if self.ended.is_set():
            return {"error": "the lab is ending"}
        try:
            await self._do(request["do"], request.get("cluster", ""))
        except LabError as error:
            return {"error": str(error)}
        return {}

    async def _do(self, verb: str, name: str) -> None:
        if verb == "wait":
            await asyncio.shield(self.ready)
        elif verb == "down":
            self.ended.set()
        elif verb == "add":
            await asyncio.shield(self._added(name))
        else:
            await self._change(verb, self._site(name).plane)

    def _added(self, name: str) -> asyncio.Future[None]:
        """The one start of a cluster, for all who ask for it."""
        if name in self.options.clusters:
            return self.ready
        if name not in self._adding:
            self._adding[name] = asyncio.create_task(self._add_later(name))
        return self._adding[name]

    async def _change(self, verb: str, plane: ControlPlane) -> None:
        match verb:
            case "start":
                await plane.start()
            case "stop":
                await plane.stop()
            case "kill":
                await plane.stop(grace=0)
            case "pause":
                plane.pause()
            case "resume":
                plane.resume()
            case _:
                raise LabError(f"the lab cannot {verb!r} a cluster")

    def _site(self, name: str) -> Site:
        if name not in self._sites:
            raise LabError(f"no cluster {name!r}: there are {', '.join(self._sites)}")
        return self._sites[name]


def main(folder: Path) -> None:
    """Claim the folder, go into the background, hold the lab, remove the folder.

    The caller's process ends when the control socket listens, with the errors where it never does.
    """
    lock = state.claim(folder)
    listening, tell = os.pipe()
    if os.fork():
        os.close(tell)
        _follow(listening)
    os.close(listening)
    _go_into_background(folder / LOG)
    try:
        asyncio.run(_hold(folder, tell))
    except LabError as error:
        os.write(tell, str(error).encode())
    finally:
        state.remove(folder)
        os.close(lock)


async def _hold(folder: Path, tell: int) -> None:
    def listening() -> None:
        os.write(tell, READY)
        os.close(tell)

    await Supervisor(folder, Options.read(folder)).run(listening)


def _follow(listening: int) -> NoReturn:
    with open(listening, "rb") as words:
        said = words.read()
    if said != READY:
        os.write(2, said or b"it ended without a word")
    os._exit(0 if said == READY else 1)


def _go_into_background(output: Path) -> None:
    os.setsid()
    os.chdir("/")
    with output.open("ab") as log_file, open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(log_file.fileno(), 1)
        os.dup2(log_file.fileno(), 2)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
