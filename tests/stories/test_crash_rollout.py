"""The controller is killed before and after every write that a rollout brings, and loses the answer of every one.

As in test_crash.py, from the first commit over a promotion to the removal of the rollout and of the Application.
In one run are spoiled several writes that lie apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fleet_rollout.control.member_crds import labelled
from fleet_rollout.lab.lab import LabCluster
from fleet_rollout_api.crd import member_crds
from tests.stories.crashes import CRASHES, spoiled, undisturbed
from tests.stories.replicas import Launcher
from tests.stories.rollout_run import EDITED_LIFE, SHORT_LIFE, RolloutRun
from tests.stories.rollouts import TESTER
from tests.stories.scenario import Point

AT_ONCE = 5
APART = 5
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture
async def launcher(tmp_path: Path) -> Any:
    made = Launcher(tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def prepared(members: dict[str, LabCluster]) -> LabCluster:
    """A member where no Flagger acts, with the definitions of flagger.app."""
    member = members["m2"]
    for crd in member_crds():
        if await member.api.find(path := f"{CRDS}/{crd['metadata']['name']}") is None:
            await member.api.apply(path, labelled(crd), manager="fleet-rollout-rollout")
    await member.crds_established()
    return member


@pytest.fixture
def new_run(crds: None, hub: Any, namespace: Any, git_repo: Any, launcher: Launcher, tmp_path: Path) -> Any:
    async def make(member: LabCluster, **fields: Any) -> RolloutRun:
        name = await namespace("crash", on=[hub])
        settings = {"loadtester_image": TESTER}
        return RolloutRun(hub, member, name, tmp_path / name, launcher, git_repo, settings=settings, **fields)

    return make


async def spoiled_like(model: RolloutRun, run: RolloutRun, fault: str, points: Sequence[Point]) -> str | None:
    run.most = model.most
    return await spoiled(run, fault, points, model.pictures)


@pytest.mark.timeout(1800)  # on a machine that is busy with other things
async def test_after_a_crash_at_any_write_a_rollout_ends_as_without(new_run: Any, prepared: LabCluster) -> None:
    """Trust 2, classes 1 and 7, of all that a rollout brings and takes away; design section 7, removal."""
    model = await undisturbed(await new_run(prepared))
    points, turn = model.points(), asyncio.Semaphore(AT_ONCE)

    async def one(fault: str, first: int) -> str | None:
        async with turn:
            return await spoiled_like(model, await new_run(prepared), fault, points[first::APART])

    failures = await asyncio.gather(*(one(fault, first) for first in range(APART) for fault in CRASHES))
    assert not any(failures), "\n\n".join(filter(None, failures))


async def test_after_a_crash_at_the_shared_ingress_it_ends_as_without(new_run: Any, prepared: LabCluster) -> None:
    """The same of the rule that a rollout by nginx puts into its namespace's Ingress."""
    fields = {"provider": "nginx", "life": SHORT_LIFE}
    model = await undisturbed(await new_run(prepared, **fields))
    points = [point for point in model.points() if "ingresses" in point.key]
    assert len(points) == 2
    runs = [spoiled_like(model, await new_run(prepared, **fields), fault, points) for fault in CRASHES]
    failures = await asyncio.gather(*runs)
    assert not any(failures), "\n\n".join(filter(None, failures))


async def test_after_a_crash_at_an_edit_of_the_rollout_it_ends_as_without(new_run: Any, prepared: LabCluster) -> None:
    """What is on record of a translation before it is carried out must not count as carried out."""
    fields = {"life": EDITED_LIFE}
    model = await undisturbed(await new_run(prepared, **fields))
    points = [point for point in model.points() if point.act == 1]
    assert any("m1 apply canaries" in point.key for point in points)
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(fault: str, point: Point) -> str | None:
        async with turn:
            return await spoiled_like(model, await new_run(prepared, **fields), fault, [point])

    failures = await asyncio.gather(*(one(fault, point) for point in points for fault in CRASHES))
    assert not any(failures), "\n\n".join(filter(None, failures))
