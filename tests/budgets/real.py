"""A new commit on three real API servers, beside the same server-side applies sent by a plain client."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

from fleet_rollout.lab.lab import Lab
from fleet_rollout.lab.repository import Repository
from tests.budgets import content, raw
from tests.budgets.figures import Figure
from tests.budgets.scene import Scene, kustomization, open_scene

POLICIES = 20
ROUNDS = 5
LIMIT = 2.5


async def measure(folder: Path) -> list[Figure]:
    """Rounds of raw applies and of the service, taking turns, so that both meet the same machine."""
    async with Lab(3) as lab, open_scene(lab, "budget-real", folder) as scene:
        repository = await lab.git.create("real")
        syncs = POLICIES * len(lab.members)
        await _namespaces(lab)
        commit = await repository.commit(content.plain("first"))
        await _start(scene, repository)
        await scene.view.until(scene.view.applied(commit, syncs), "the first commit")
        await raw.timed(_work(lab, "first"), lab.members)
        raws, ours, cpu = [], [], []
        for number in range(ROUNDS):
            raws.append(await raw.timed(_work(lab, f"{number}"), lab.members))
            await asyncio.sleep(1.5)
            before = scene.controller.cpu()
            ours.append(await _one_commit(scene, repository, f"{number}", syncs))
            cpu.append(scene.controller.cpu() - before)
            await asyncio.sleep(1.5)
        base, taken = statistics.median(raws), statistics.median(ours)
        how = (
            f"hub and 3 members, {syncs} ClusterSyncs x {content.OBJECTS} ConfigMaps in {POLICIES} namespaces; from "
            f"the request to look at the source until the last ClusterSync says applied; medians of {ROUNDS} rounds: "
            f"{taken:.2f} s against {base:.2f} s of raw applies; {statistics.median(cpu):.2f} s of CPU with builds"
        )
        return [Figure("a commit on real API servers, against raw applies", taken / base, LIMIT, "x", how, raw=1.0)]


async def _namespaces(lab: Lab) -> None:
    for cluster in lab.members.values():
        for number in range(POLICIES):
            for prefix in ("ours", "raw"):
                await cluster.api.create("/api/v1/namespaces", {"metadata": {"name": f"{prefix}-{number}"}})


async def _start(scene: Scene, repository: Repository) -> None:
    members = scene.lab.members
    await scene.attach({name: cluster.kubeconfig.read_bytes() for name, cluster in members.items()})
    await scene.fleet(members)
    policies = [
        {"name": f"p{number}", "kustomization": kustomization(targetNamespace=f"ours-{number}")}
        for number in range(POLICIES)
    ]
    await scene.application(repository, policies)
    await scene.controller.start()


async def _one_commit(scene: Scene, repository: Repository, revision: str, syncs: int) -> float:
    commit = await repository.commit(content.plain(revision))
    started = time.monotonic()
    await scene.look()
    return await scene.view.until(scene.view.applied(commit, syncs), "a commit") - started


def _work(lab: Lab, revision: str) -> dict[str, list[dict[str, Any]]]:
    """What the service sends, labels included, into namespaces of its own."""
    labels = {f"budget.example/{key}": "x" * 30 for key in ("name", "namespace", "application", "hub")}
    objects = [
        {**obj, "metadata": {**obj["metadata"], "namespace": f"raw-{number}", "labels": labels}}
        for number in range(POLICIES)
        for obj in content.config_maps(revision)
    ]
    return dict.fromkeys(lab.members, objects)
