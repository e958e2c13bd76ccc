"""Runs tasks: at most so many at once, none twice at the same time, and none beyond the end of the service."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Self

from fleet_rollout.loadtester import measures
from fleet_rollout.loadtester.payload import Refused

log = logging.getLogger(__name__)

LOGGED_OUTPUT = 4000


class Outcome(NamedTuple):
    """How a task ended. `problem` is empty where it succeeded; `answer` is what the caller reads of it, if not that."""

    output: str = ""
    problem: str = ""
    answer: str = ""


@dataclass(frozen=True)
class Task:
    """What a Canary asked for. `what` tells it from its others and may hold credentials; `title` may be shown."""

    type: str
    canary: str
    title: str
    what: str = field(repr=False)
    work: Callable[[], Awaitable[Outcome]] = field(repr=False)
    is_awaited: bool = False
    logs_output: bool = False
    returns_output: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        return self.type, self.canary, self.what


class Runner:
    """Tasks run while the block lasts; leaving it ends them with all their processes."""

    def __init__(self, most: int, timeout: float) -> None:
        self._most = most
        self._timeout = timeout
        self._running: dict[tuple[str, str, str], asyncio.Task[Outcome]] = {}
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for running in self._running.values():
            running.cancel()
        # The group is not told of the error, which it would wrap; its tasks are ended already, and raise nothing.
        await self._group.__aexit__(None, None, None)

    def start(self, task: Task) -> asyncio.Task[Outcome]:
        """The running task: a new one, or the one that does the same already. Raises Refused where there is no room."""
        if running := self._running.get(task.key):
            log.info("%s is running already", task.title, extra={"canary": task.canary})
            return running
        if len(self._running) >= self._most:
            raise Refused(f"{self._most} tasks are running already", status=503)
        running = self._group.create_task(self._run(task))
        self._running[task.key] = running
        running.add_done_callback(lambda _: self._running.pop(task.key, None))
        return running

    async def _run(self, task: Task) -> Outcome:
        log.info("%s started", task.title, extra={"canary": task.canary})
        with measures.RUNNING.track_inprogress():
            outcome = await self._outcome(task)
        measures.TASKS.labels(type=task.type, result="failure" if outcome.problem else "success").inc()
        if outcome.problem:
            log.warning("%s failed: %s", task.title, outcome.problem, extra={"canary": task.canary})
        else:
            log.info("%s finished", task.title, extra={"canary": task.canary})
        if outcome.output and (task.logs_output or outcome.problem):
            log.info("%s", outcome.output[:LOGGED_OUTPUT], extra={"canary": task.canary})
        return outcome

    async def _outcome(self, task: Task) -> Outcome:
        try:
            async with asyncio.timeout(self._timeout):
                return await task.work()
        except TimeoutError:
            return Outcome(problem=f"not finished within {self._timeout:g}s")
        except Exception as error:  # a task of one Canary must not end those of the others
            log.exception("%s failed", task.title, extra={"canary": task.canary})
            return Outcome(problem=type(error).__name__)
