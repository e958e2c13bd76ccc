"""One repository as seen with one set of credentials: which commit is wanted now, and is it here?

Applications that use it share its listing and its fetches. Blocking work runs in the threads it is given.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

from fleet_rollout.decide import gitrefs
from fleet_rollout.decide.gitrefs import Wanted
from fleet_rollout.decide.versions import InvalidRange, best_tags, parse_range
from fleet_rollout.errors import Terminal, Transient
from fleet_rollout.sources.checkout import commit_facts
from fleet_rollout.sources.flights import Flights
from fleet_rollout.sources.git_errors import PREFIX
from fleet_rollout.sources.mirror import Mirror

ANYTHING = ("refs/heads/*", "refs/tags/*")
MOST_TIES = 20
MOST_PRESENT = 1000
TAGS = "refs/tags/"

Result = TypeVar("Result")


@dataclass
class Budget:
    """The seconds an operation may still work; waiting for a thread or for others does not count."""

    whole: float
    left: float

    @classmethod
    def of(cls, seconds: float) -> Budget:
        return cls(seconds, seconds)

    def spend(self, seconds: float) -> None:
        self.left = max(self.left - seconds, 0.0)


@dataclass(frozen=True)
class Target:
    """The commit to use, and what its revision is called."""

    commit: str
    revision: str


class Repository:
    """`gate` bounds how many operations one host may have under way, so that a slow one leaves threads to others."""

    def __init__(self, mirror: Mirror, threads: Executor, gate: asyncio.Semaphore) -> None:
        self.mirror = mirror
        self._threads = threads
        self._gate = gate
        self._fetching = asyncio.Lock()
        self._flights = Flights()
        self._present: set[str] = set()

    @property
    def is_unused(self) -> bool:
        """Nothing is under way, and nothing was kept: forgetting it costs nothing."""
        return not self._fetching.locked() and not self._flights.is_busy and not self.mirror.path.exists()

    async def close(self) -> None:
        await self._flights.close()

    async def find(self, wanted: Wanted, budget: Budget) -> Target:
        """Which commit `wanted` means now. Raises Transient or Terminal with a reason."""
        if wanted.kind == "commit":
            return Target(wanted.value, gitrefs.revision(wanted.label, wanted.value))
        if wanted.kind == "semver":
            return await self._find_version(wanted, budget)
        refs = await self._list(wanted.patterns, budget)
        commit = gitrefs.peeled(refs, wanted.patterns[0])
        if commit is None:
            raise await self._nothing_found(f'couldn\'t find remote ref "{wanted.patterns[0]}"; check ref', budget)
        return Target(commit, gitrefs.revision(wanted.label, commit))

    async def ensure(self, commit: str, wanted: Wanted, budget: Budget) -> None:
        """Have the commit in the mirror; one fetch at a time, and none for what is here."""
        async with self._fetching:
            if commit in self._present and (self.mirror.path / "HEAD").exists():
                return
            if not await self._work(lambda: self.mirror.has(commit)):
                started = time.monotonic()
                async with self._gate:
                    await self._work(lambda: self.mirror.fetch(commit, wanted, budget.left))
                budget.spend(time.monotonic() - started)
            if len(self._present) >= MOST_PRESENT:
                self._present.clear()
            self._present.add(commit)

    def forget_presence(self) -> None:
        """After the mirror turned out damaged."""
        self._present.clear()

    async def _find_version(self, wanted: Wanted, budget: Budget) -> Target:
        try:
            versions = parse_range(wanted.value)
        except InvalidRange as error:
            raise Terminal(
                "InvalidReference", f"semver parse error: {error}; write ref.semver as >=1.0.0 <2.0.0"
            ) from None
        refs = await self._list(wanted.patterns, budget)
        tags = [name.removeprefix(TAGS) for name in refs if name.startswith(TAGS)]
        best = best_tags((tag for tag in tags if gitrefs.is_safe_ref(TAGS + tag)), versions)
        if not best:
            raise await self._nothing_found(f"no match found for semver: {wanted.value}", budget)
        commits = {tag: commit for tag in best if (commit := gitrefs.peeled(refs, TAGS + tag))}
        tag = best[0] if len(best) == 1 else await self._newest(commits, budget)
        return Target(commits[tag], gitrefs.revision(tag, commits[tag]))

    async def _newest(self, commits: dict[str, str], budget: Budget) -> str:
        """Versions that differ in build metadata only: the newest commit wins, as in Flux."""
        times = {}
        for tag, commit in sorted(commits.items())[-MOST_TIES:]:
            await self.ensure(commit, Wanted("tag", tag, tag), budget)
            facts = await self._work(lambda commit=commit: commit_facts(self.mirror, commit))  # type: ignore[misc]
            times[tag] = (facts.committed_at, tag)
        return max(times, key=lambda tag: times[tag])

    async def _nothing_found(self, fact: str, budget: Budget) -> Transient:
        if not await self._list(ANYTHING, budget):
            return Transient("EmptyGitRepository", "git repository is empty; push a commit")
        return Transient("GitOperationFailed", f"{PREFIX}: {fact}")

    async def _list(self, patterns: tuple[str, ...], budget: Budget) -> dict[str, str]:
        refs, spent = await self._flights.share((patterns, budget.whole), lambda: self._list_now(patterns, budget.left))
        budget.spend(spent)
        listed: dict[str, str] = refs
        return listed

    async def _list_now(self, patterns: tuple[str, ...], seconds: float) -> tuple[dict[str, str], float]:
        async with self._gate:
            started = time.monotonic()
            refs = await self._work(lambda: self.mirror.list_remote(patterns, seconds))
            return refs, time.monotonic() - started

    async def _work(self, call: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)
