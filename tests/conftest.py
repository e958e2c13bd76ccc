"""Fixtures on real API servers. Nothing starts before a test asks for it; one lab serves a whole run.

With pytest-xdist the first worker that needs the lab starts it, the others attach, and it ends with the
last of them, also when they are killed (fleet_rollout/lab/lab.py).
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import aiohttp
import pytest

from fleet_rollout.lab import state
from fleet_rollout.lab.api import ApiAnswer
from fleet_rollout.lab.lab import Lab, LabCluster
from fleet_rollout.lab.repository import Content, Repository
from tests.faults.options import pytest_addoption, pytest_terminal_summary

__all__ = ["pytest_addoption", "pytest_terminal_summary"]

MEMBERS = ("m1", "m2", "m3")
SPARE = "spare"
# pytest-asyncio asks for the current loop before it sets its own. On Python 3.11 that makes one which nobody
# closes, and its warning fails a later test; after an explicit None there is nothing to make.
asyncio.set_event_loop(None)
_run = os.environ.get("PYTEST_XDIST_TESTRUNUID", secrets.token_hex(8))[:12]


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Awaitable[None]]:
    """`await eventually(check)`: returns when `await check()` is true; fails with its last value at the deadline."""

    async def wait(check: Callable[[], Awaitable[object]], timeout: float = 60, every: float = 0.1) -> None:
        result: object = None
        try:
            async with asyncio.timeout(timeout):
                while not (result := await check()):
                    await asyncio.sleep(every)
        except TimeoutError:
            pytest.fail(f"not within {timeout:g}s: {check.__name__} is {result!r}")

    return wait


@pytest.fixture(scope="session")
async def lab() -> AsyncIterator[Lab]:
    """The run's hub and three members. Shared: never stop its clusters (see `spare`), stay in your namespaces."""
    async with Lab(MEMBERS, name=f"test-{_run}") as running:
        yield running


@pytest.fixture(scope="session")
async def hub(lab: Lab) -> LabCluster:
    return lab.hub


@pytest.fixture(scope="session")
async def members(lab: Lab) -> dict[str, LabCluster]:
    """The three members by name: m1, m2, m3."""
    return {name: lab.clusters[name] for name in MEMBERS}


@pytest.fixture(scope="session")
async def member(members: dict[str, LabCluster]) -> LabCluster:
    return members["m1"]


@pytest.fixture
async def spare(lab: Lab) -> AsyncIterator[LabCluster]:
    """A further cluster that a test may stop, kill and pause; one test at a time has it, and it runs at the start."""
    async with state.locked(lab.folder / "spare.lock"):
        cluster = await lab.add(SPARE)
        await cluster.start()
        yield cluster
        await cluster.resume()
        await cluster.start()


@pytest.fixture
async def namespace(lab: Lab) -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """Makes fresh namespaces: `await namespace()` on the hub and all members, `await namespace("x", on=[hub])`.

    They are deleted in the background when the test is over.
    """
    made: list[tuple[LabCluster, str]] = []

    async def make(prefix: str = "test", *, on: list[LabCluster] | None = None) -> str:
        name = f"{prefix}-{secrets.token_hex(4)}"
        for cluster in on if on is not None else [lab.hub, *(lab.clusters[m] for m in MEMBERS)]:
            await cluster.api.create("/api/v1/namespaces", {"metadata": {"name": name}})
            made.append((cluster, name))
        return name

    yield make
    for cluster, name in made:
        try:
            await cluster.api.delete(f"/api/v1/namespaces/{name}")
        except (aiohttp.ClientError, TimeoutError, ApiAnswer) as error:
            print(f"namespace {name} of {cluster.name} stays: {error}")


@pytest.fixture
async def git_repo(lab: Lab) -> Callable[..., Awaitable[Repository]]:
    """`await git_repo({"a.yaml": "…"})`: a new repository, served over HTTP, with a first commit on main."""

    async def make(files: Mapping[str, Content] | None = None, *, name: str | None = None) -> Repository:
        repository = await lab.git.create(name)
        if files:
            await repository.commit(files, message="First commit")
        return repository

    return make
