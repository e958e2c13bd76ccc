"""How long a push takes to its first object, and a Canary's news to the hub."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import aiohttp

from fleet_rollout.lab.lab import Lab
from fleet_rollout.lab.repository import Repository
from tests.budgets import content
from tests.budgets.figures import Figure, percentile
from tests.budgets.members import Members
from tests.budgets.scene import Scene, kustomization, open_scene

NAMES = [f"m{number}" for number in range(10)]
NAMESPACE = "web"
PUSHES = 30
CHANGES = 20
LONGEST_PAUSE = 1.0
DEADLINE = 60.0


async def measure(folder: Path) -> list[Figure]:
    """Ten members with a rollout each; pushes through the receiver, then changes of Canaries one after the other."""
    async with Lab(0) as lab, Members(folder / "stub") as members, open_scene(lab, "budget-push", folder) as scene:
        repository = await lab.git.create("push")
        await scene.attach({name: members.kubeconfig(name) for name in NAMES})
        await scene.fleet(NAMES)
        await scene.hook_key()
        commit = await repository.commit(content.with_rollout("first"))
        policy = {"kustomization": kustomization(targetNamespace=NAMESPACE), "rollout": content.rollout(NAMESPACE)}
        await scene.application(repository, [policy])
        await scene.controller.start()
        await scene.view.until(scene.view.applied(commit, len(NAMES)), "the first commit")
        return [await _pushes(scene, members, repository), await _canaries(scene, members)]


async def _pushes(scene: Scene, members: Members, repository: Repository) -> Figure:
    taken: list[float] = []
    async with aiohttp.ClientSession() as session:
        for number in range(PUSHES):
            commit = await repository.commit(content.with_rollout(f"push-{number}"))
            await members.mark()
            announced = await scene.announce(session, repository)
            await scene.view.until(scene.view.applied(commit, len(NAMES)), "a push", DEADLINE)
            clusters = (await members.report())["clusters"]
            taken += [clusters[name]["first"] - announced for name in NAMES]
            await asyncio.sleep(random.random() * LONGEST_PAUSE)
    how = f"p99 of {len(taken)}: {PUSHES} pushes to {len(NAMES)} members; median {percentile(taken, 0.5):.2f} s"
    return Figure("push announced to first object applied", percentile(taken, 0.99), 2, "s", how)


async def _canaries(scene: Scene, members: Members) -> Figure:
    taken: list[float] = []
    await asyncio.gather(*(_one_member(scene, members, name, taken) for name in NAMES))
    how = f"p99 of {len(taken)}: {CHANGES} changes of weight in each of {len(NAMES)} members at random moments; "
    how += f"median {percentile(taken, 0.5):.2f} s"
    return Figure("a Canary's change to the Application's status", percentile(taken, 0.99), 1.5, "s", how)


async def _one_member(scene: Scene, members: Members, name: str, taken: list[float]) -> None:
    for number in range(1, CHANGES + 1):
        await asyncio.sleep(random.random() * 4 * LONGEST_PAUSE)
        changed = await members.set_canary(name, NAMESPACE, "web", {"phase": "Progressing", "canaryWeight": number})
        seen = await scene.view.until(lambda n=number: _weight(scene, name) == n, f"{name}: weight {number}", DEADLINE)
        taken.append(seen - changed)


def _weight(scene: Scene, name: str) -> int | None:
    """The weight that the Application's row for this member shows."""
    rows = (scene.view.applications["web"].get("status") or {}).get("syncStatus") or []
    row = next((row for row in rows if row["cluster"] == f"AttachedCluster/{name}"), {})
    canary = ((row.get("rolloutStatus") or {}).get("rolloutStatusInCluster")) or {}
    weight: int | None = canary.get("canaryWeight")
    return weight
