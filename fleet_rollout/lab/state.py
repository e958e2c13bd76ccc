"""Where running labs are recorded, so that other shells and test processes find them.

Every lab has a folder under the temporary folder of its user. Its supervisor holds a lock on it as long
as it lives: a folder that is not locked belongs to a lab that crashed, and is removed by whoever finds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# sun_path holds 107 bytes; the longest socket of ours is <folder>/c/<cluster>/egress.sock.
LONGEST_FOLDER = 75
GIT_FOLDER = "git"
LOCK = "lock"
LOCK_POLL = 0.02
CLAIM_TIMEOUT = 1.0


class LabError(Exception):
    """The lab cannot go on; the message says why and what helps."""


@dataclass(frozen=True)
class ClusterState:
    """How to reach one cluster of a running lab."""

    name: str
    server: str
    token: str
    folder: str
    proxy: str  # plain HTTP proxy that resolves `service.namespace` in this cluster


@dataclass(frozen=True)
class LabState:
    """What a running lab tells about itself. `git` is the base URL of its Git server."""

    name: str
    pid: int
    git: str
    clusters: list[ClusterState] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        new = folder / ".state.json"
        new.touch(mode=0o600)
        new.write_text(json.dumps(asdict(self), indent=1))
        new.replace(folder / "state.json")

    @classmethod
    def read(cls, folder: Path) -> LabState | None:
        """None where no lab of that folder is up."""
        try:
            content: dict[str, Any] = json.loads((folder / "state.json").read_text())
        except FileNotFoundError:
            return None
        clusters = [ClusterState(**cluster) for cluster in content.pop("clusters")]
        return cls(clusters=clusters, **content) if is_alive(folder) else None


def base() -> Path:
    """The folder that holds all labs of this user; nobody else may enter it."""
    folder = Path(tempfile.gettempdir()) / f"fleet-rollout-lab-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.is_symlink():
        raise LabError(f"{folder} belongs to somebody else: set TMPDIR to a folder of your own")
    return folder


def folder_of(name: str) -> Path:
    folder = base() / name
    if len(str(folder)) > LONGEST_FOLDER:
        raise LabError(f"{folder} is too long for Unix sockets: set TMPDIR to a shorter path")
    return folder


@contextlib.asynccontextmanager
async def locked(path: Path) -> AsyncIterator[None]:
    """Hold an exclusive lock on a file; the kernel releases it when the process ends, however that happens.

    Polled, because a thread that waits in flock could not be cancelled.
    """
    with path.open("a") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(LOCK_POLL)
        yield


def start_lock() -> contextlib.AbstractAsyncContextManager[None]:
    """One lab starts at a time: looking for it, cleaning up and making its folder belong together."""
    return locked(base() / ".start")


def claim(folder: Path) -> int:
    """Take the folder's lock for this process and keep it. Raises LabError where a living lab has it."""
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + CLAIM_TIMEOUT
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except BlockingIOError:
            # `is_alive` of another process holds it for a moment.
            if time.monotonic() > deadline:
                os.close(handle)
                raise LabError(f"lab {folder.name} is running: `fleet-rollout lab down` ends it") from None
            time.sleep(LOCK_POLL)


def is_alive(folder: Path) -> bool:
    """Does a supervisor hold the folder's lock?"""
    try:
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared: two who ask at the same time must not take each other for the supervisor.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


async def wait_gone(folder: Path) -> None:
    """Return when the supervisor of a folder has ended."""
    while is_alive(folder):  # noqa: ASYNC110 - another process' doing
        await asyncio.sleep(LOCK_POLL)


def remove(folder: Path) -> None:
    """Remove a lab's folder, its lock last: a folder without a lock counts as gone."""
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name != LOCK:
            entry.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def remove_stale() -> list[str]:
    """Remove the folders of labs that crashed; their processes died with them. Returns the labs' names.

    Only under the start lock, else a folder that is about to be locked would go, too.
    """
    stale = [folder for folder in base().iterdir() if folder.is_dir() and not is_alive(folder)]
    for folder in stale:
        remove(folder)
    return [folder.name for folder in stale]


def running() -> list[LabState]:
    """The labs of this user that are up, by name."""
    found = (LabState.read(folder) for folder in sorted(base().iterdir()) if folder.is_dir())
    return [state for state in found if state is not None]
