"""Everything that the service says while a test runs, to look for what must not be in it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote

POLL = 0.002
# Narrower text is found by chance.
SHORTEST = 8


class Log(logging.Handler):
    """Every record of every logger, before anything of it is masked."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{self.format(record)} {vars(record)}")

    def names(self) -> set[str]:
        return {line.partition(" ")[0].partition(".")[0] for line in self.lines}


@contextlib.contextmanager
def whole_log() -> Iterator[Log]:
    """All loggers at debug, libraries' too."""
    log, root = Log(), logging.getLogger()
    known = [logger for logger in logging.Logger.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    before = [(logger, logger.level, logger.propagate, logger.disabled) for logger in (root, *known)]
    for logger in (root, *known):
        logger.setLevel(logging.DEBUG)
        logger.propagate, logger.disabled = True, False
    root.addHandler(log)
    try:
        yield log
    finally:
        root.removeHandler(log)
        for logger, level, propagate, disabled in before:
            logger.setLevel(level)
            logger.propagate, logger.disabled = propagate, disabled


class Children:
    """Arguments and environment of every process that is started below this one and lives for a moment."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._end = threading.Event()

    def watch(self) -> None:
        while not self._end.wait(POLL):
            for pid in descendants(os.getpid()):
                for file in ("cmdline", "environ"):
                    with contextlib.suppress(OSError):
                        self.seen.add(Path(f"/proc/{pid}/{file}").read_bytes())

    def end(self) -> None:
        self._end.set()


@contextlib.asynccontextmanager
async def watched_children() -> AsyncIterator[Children]:
    children = Children()
    watching = asyncio.create_task(asyncio.to_thread(children.watch))
    try:
        yield children
    finally:
        children.end()
        await watching


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def forms(secret: str) -> set[str]:
    """How a secret may look on its way: as it is, quoted, encoded; of a longer one, each of its lines."""
    lines = [line for line in secret.splitlines() if len(line) >= SHORTEST and "-----" not in line]
    whole = base64.b64encode(secret.encode()).decode()
    return {*lines, *(quote(line, safe="") for line in lines), whole}
