"""Each story of the service with a fault at each of its writes; it has to end as without (trust.md 2, "Harness").

A clean run learns the writes; from them come the cases, each a run of its own in fresh namespaces. `make faults`
plays all of them, `make test` forty, chosen by seed. A failure says the command that plays it again.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fleet_rollout.control.engine import sight
from fleet_rollout.control.member_crds import labelled
from fleet_rollout.lab.lab import CRDS, LabCluster
from fleet_rollout_api.crd import member_crds
from tests.faults.options import RESULTS, choice
from tests.faults.plan import Case, Write, planned
from tests.rooms.traffic import crd_files
from tests.stories import engine_run
from tests.stories.crashes import CRASHES, FAULTS, REFUSALS, RESTARTS, spoiled, undisturbed
from tests.stories.hub_run import HubRun, LostRun
from tests.stories.replicas import Launcher
from tests.stories.rollout_run import RolloutRun
from tests.stories.rollouts import TESTER
from tests.stories.scenario import Run

# An engine alone has no Lease: who leads is the hub's business.
ENGINE_FAULTS = tuple(CRASHES | REFUSALS | RESTARTS)


class Story(NamedTuple):
    """`make` gives a new run; `share` of `make test`'s forty cases are of it, `at_once` are played together."""

    make: Callable[[], Awaitable[Any]]
    faults: Sequence[str]
    share: int
    at_once: int


SHARES = {"rollout": 6, "hub": 6, "lost": 5, "sync": 9, "promotion": 8, "rollback": 6}


@pytest.fixture
async def launcher(tmp_path: Path) -> Any:
    made = Launcher(tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def prepared(members: dict[str, LabCluster]) -> LabCluster:
    """A member where no Flagger acts, with the definitions of flagger.app and Istio; what is there stays as it is."""
    member = members["m2"]
    for crd in (*map(labelled, member_crds()), *crd_files.definitions("istio")):
        if await member.api.find(path := f"{CRDS}/{crd['metadata']['name']}") is None:
            await member.api.apply(path, crd, manager="fleet-rollout-rollout")
    await member.crds_established()
    return member


@pytest.fixture
async def stories(
    crds: None,
    hub: LabCluster,
    prepared: LabCluster,
    namespace: Any,
    git_repo: Any,
    launcher: Launcher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, Story]:
    monkeypatch.setattr(sight, "REWATCH_DELAY", 0.05)

    async def sync() -> Run:
        name = await namespace("faults", on=[hub])
        return Run(hub, prepared, name, tmp_path / name, launcher, git_repo)

    async def rollout() -> RolloutRun:
        name = await namespace("faults", on=[hub])
        settings = {"loadtester_image": TESTER}
        return RolloutRun(hub, prepared, name, tmp_path / name, launcher, git_repo, settings=settings)

    async def hub_engine() -> HubRun:
        name = await namespace("faults", on=[hub])
        settings = {"loadtester_image": TESTER, "shortest_interval": 0.5}
        return HubRun(hub, prepared, name, tmp_path / name, launcher, git_repo, settings=settings)

    async def lost() -> LostRun:
        name = await namespace("faults", on=[hub])
        return LostRun(hub, prepared, name, tmp_path / name, launcher, git_repo)

    async def promotion() -> engine_run.Run:
        return engine_run.Run(prepared, await namespace("faults", on=[prepared]), engine_run.PROMOTION)

    async def rollback() -> engine_run.Run:
        return engine_run.Run(prepared, await namespace("faults", on=[prepared]), engine_run.ROLLBACK)

    return {
        "sync": Story(sync, tuple(FAULTS), SHARES["sync"], 6),
        "rollout": Story(rollout, tuple(FAULTS), SHARES["rollout"], 6),
        "lost": Story(lost, tuple(FAULTS), SHARES["lost"], 5),
        "hub": Story(hub_engine, tuple(FAULTS), SHARES["hub"], 8),
        "promotion": Story(promotion, ENGINE_FAULTS, SHARES["promotion"], 8),
        "rollback": Story(rollback, ENGINE_FAULTS, SHARES["rollback"], 8),
    }


async def failure(story: Story, model: Any, case: Case) -> str | None:
    run = await story.make()
    if isinstance(run, RolloutRun):
        run.most = model.most
    return await spoiled(run, case.fault, [case.point], model.pictures)


@pytest.mark.timeout(3600)  # all cases of a story, on a machine that is busy with other things
@pytest.mark.parametrize("name", SHARES)
async def test_spoiled_at_any_write_it_ends_as_without(
    stories: dict[str, Story],
    name: str,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    """Trust 2, classes 1, 2, 5 and 7, for every write of a story, by the writes of a clean run."""
    story, asked = stories[name], choice(request.config)
    model = await undisturbed(await story.make())
    writes = [Write(model.group(point), point) for point in model.points()]
    cases = asked.of(planned(name, writes, story.faults, asked.seed), story.share)
    turn = asyncio.Semaphore(story.at_once)

    async def one(case: Case) -> str | None:
        async with turn:
            found = await failure(story, model, case)
            return found and f"{case.name}: {found}\n{asked.replay(case)}"

    found = await asyncio.gather(*map(one, cases))
    played = Counter(case.fault for case in cases)
    failed = Counter(case.fault for case, words in zip(cases, found, strict=True) if words)
    record_property(RESULTS, json.dumps([(name, fault, played[fault], failed[fault]) for fault in played]))
    assert not any(found), "\n\n".join(filter(None, found))
