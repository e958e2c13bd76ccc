"""Members that take requests and never answer, or answer nonsense: what does that cost the others?"""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path

from fleet_rollout.lab.lab import Lab
from fleet_rollout.lab.repository import Repository
from tests.budgets import content
from tests.budgets.figures import Figure
from tests.budgets.members import Members
from tests.budgets.scene import Scene, kustomization, open_scene
from tests.misbehaving import misbehaving

# More policies than the controller has workers: if each took one for the member that hangs, none would be left.
POLICIES = 80
FEWER_POLICIES = 20  # beside as many that misbehave as there are ways
OBJECTS = 2
WELL = [f"m{number}" for number in range(5)]
HANGING = "m9"
ROUNDS = 3


async def measure(folder: Path) -> list[Figure]:
    """Rounds with all members well, then rounds in which one hangs from just before the commit on."""
    async with Lab(0) as lab, Members(folder / "stub") as members, open_scene(lab, "budget-hang", folder) as scene:
        repository = await lab.git.create("hang")
        await scene.attach({name: members.kubeconfig(name) for name in [*WELL, HANGING]})
        await scene.fleet([*WELL, HANGING])
        commit = await _begin(scene, repository, POLICIES)
        await scene.view.until(scene.view.applied(commit, POLICIES * (len(WELL) + 1)), "the first commit")
        rounds = {is_hanging: [] for is_hanging in (False, True)}
        for number in range(ROUNDS):
            for is_hanging in (False, True):
                await members.hang(*([HANGING] if is_hanging else []))
                rounds[is_hanging].append(await _round(scene, members, repository, f"{number}-{is_hanging}", POLICIES))
                await members.hang()
                commit = await repository.commit_of()
                everyone = POLICIES * (len(WELL) + 1)
                await scene.view.until(scene.view.applied(commit, everyone), "the member that hung catches up")
        added = {name: _median(rounds[True], name) - _median(rounds[False], name) for name in WELL}
        worst = max(added.values())
        base = max(_median(rounds[False], name) for name in WELL)
        how = (
            f"{len(WELL)} stub members beside it, {POLICIES} ClusterSyncs each, medians of {ROUNDS} rounds; the "
            f"worst of them; without it a commit takes {base:.2f} s"
        )
        return [Figure("what a member that hangs costs the others", worst, 1, "s", how)]


async def measure_misbehaving(folder: Path) -> list[Figure]:
    """Rounds with members that are all well, then rounds in which one of each way to misbehave is in others' place."""
    async with (
        Lab(0) as lab,
        Members(folder / "stub") as members,
        open_scene(lab, "budget-misbehaving", folder) as scene,
        misbehaving(folder / "odd") as odd,
    ):
        repository = await lab.git.create("misbehaving")
        replaced = [f"r{number}" for number in range(len(odd))]
        await scene.attach({name: members.kubeconfig(name) for name in [*WELL, *replaced]} | odd)
        await scene.fleet([*WELL, *replaced])
        commit = await _begin(scene, repository, FEWER_POLICIES)
        everyone = FEWER_POLICIES * (len(WELL) + len(odd))
        await scene.view.until(scene.view.applied(commit, everyone), "the first commit")

        async def rounds(kind: str) -> list[dict[str, float]]:
            numbers = range(ROUNDS)
            return [await _round(scene, members, repository, f"{kind}-{number}", FEWER_POLICIES) for number in numbers]

        alone, memory = await rounds("alone"), scene.controller.memory()
        await scene.fleet([*WELL, *odd])

        def have_joined() -> bool:
            clusters = {sync["spec"]["cluster"]["name"] for sync in scene.view.syncs.values()}
            return len(scene.view.syncs) == everyone and clusters == {*WELL, *odd}

        await scene.view.until(have_joined, "the members that misbehave have joined")
        beside = await rounds("beside")
        worst = max(_median(beside, name) - _median(alone, name) for name in WELL)
        base = max(_median(alone, name) for name in WELL)
        how = (
            f"{', '.join(odd)}: {FEWER_POLICIES} ClusterSyncs each, beside {len(WELL)} stub members; medians of "
            f"{ROUNDS} rounds, the worst of them; with as many that are well in their place a commit takes {base:.2f} s"
        )
        grown = scene.controller.memory() - memory
        return [
            Figure("what members that misbehave cost the others", worst, 1, "s", how),
            Figure(
                "memory that members that misbehave take", grown, 64, "MB", f"growth of the peak of {memory:.0f} MB"
            ),
        ]


async def _begin(scene: Scene, repository: Repository, policies: int) -> str:
    """An Application with so many policies, and the controller; the first commit."""
    wanted = [
        {"name": f"p{number}", "kustomization": kustomization(targetNamespace=f"ns-{number}")}
        for number in range(policies)
    ]
    commit = await repository.commit(content.plain("first", OBJECTS))
    await scene.application(repository, wanted)
    await scene.controller.start()
    return commit


async def _round(
    scene: Scene, members: Members, repository: Repository, revision: str, policies: int
) -> dict[str, float]:
    """Seconds from the commit to the last object, for each member that is well."""
    await members.mark()
    await repository.commit(content.plain(revision, OBJECTS))
    started = time.monotonic()
    await scene.look()
    async with asyncio.timeout(120):
        while True:
            clusters = (await members.report())["clusters"]
            if all(clusters[name].get("changed", 0) >= policies * OBJECTS for name in WELL):
                return {name: clusters[name]["last"] - started for name in WELL}
            await asyncio.sleep(0.2)


def _median(rounds: list[dict[str, float]], name: str) -> float:
    return statistics.median(found[name] for found in rounds)
