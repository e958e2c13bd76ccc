"""A thousand stub members behind a real hub: a commit, the service's memory and writes, a restart, and rest."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from fleet_rollout.lab.lab import Lab
from fleet_rollout.lab.repository import Repository
from fleet_rollout.settings import Settings
from tests.budgets import content
from tests.budgets.figures import Figure
from tests.budgets.members import Members
from tests.budgets.scene import Scene, kustomization, open_scene
from tests.budgets.stub import ERRORS

MEMBERS = int(os.environ.get("BUDGETS_MEMBERS", "1000"))
NAMESPACE = "web"
REST_SECONDS = 60.0
INTERVAL = 300.0
QUIET_SECONDS = 5.0


def names(count: int = MEMBERS) -> list[str]:
    return [f"c{number:04}" for number in range(count)]


async def measure(folder: Path) -> list[Figure]:
    """Twenty objects for every member."""
    return await _measured(folder, has_rollout=False)


async def measure_rollouts(folder: Path) -> list[Figure]:
    """The same, and two of the objects are a workload that a rollout leads."""
    figures = await _measured(folder, has_rollout=True)
    return [replace(figure, name=f"with a rollout in each member: {figure.name}") for figure in figures]


async def _measured(folder: Path, *, has_rollout: bool) -> list[Figure]:
    """One fleet for all of it: a commit, then a restart in which one member is new, then rest."""
    async with Lab(0) as lab, Members(folder / "stub") as members, open_scene(lab, "budget-fleet", folder) as scene:
        repository = await lab.git.create("fleet")
        figures = await _commit(scene, members, repository, has_rollout=has_rollout)
        figures += await _restart(scene, members)
        if ERRORS:  # drift checks that fail are told of, and tried again: there is no rest
            return [replace(figure, name=f"{ERRORS:.0%} errors: {figure.name}") for figure in figures]
        return figures + await _rest(scene, members)


async def _commit(scene: Scene, members: Members, repository: Repository, *, has_rollout: bool) -> list[Figure]:
    files = content.with_rollout if has_rollout else content.plain
    await scene.attach({name: members.kubeconfig(name) for name in names(MEMBERS + 1)})
    await scene.fleet(names())
    commit = await repository.commit(files("first"))
    policy = {"kustomization": kustomization(targetNamespace=NAMESPACE)}
    rollout = {"rollout": content.rollout(NAMESPACE)} if has_rollout else {}
    await scene.application(repository, [policy | rollout])
    started = time.monotonic()
    await scene.controller.start()
    first = await scene.view.until(scene.view.applied(commit, MEMBERS), "the first commit") - started
    print(f"first sync of {MEMBERS} members: {first:.1f} s, {scene.controller.memory():.0f} MB", flush=True)
    await _quiet(scene)

    commit = await repository.commit(files("second"))
    await members.mark()
    scene.view.mark()
    cpu = scene.controller.cpu()
    started = time.monotonic()
    await scene.look()
    taken = await scene.view.until(scene.view.applied(commit, MEMBERS), "the second commit") - started
    cpu = scene.controller.cpu() - cpu
    report = await members.report()
    print(f"second commit: {taken:.1f} s, {cpu:.1f} s of CPU, {report['counts']}", flush=True)
    await _quiet(scene)
    most = max(scene.view.status_writes.values())
    open_now = await members.report()
    watches = open_now["watches"]
    conditions = f"{MEMBERS} stub members over TLS, {watches} watches, {content.OBJECTS} objects each, interval 5m"
    return [
        Figure(
            f"a commit on {MEMBERS:,} members", taken, 20, "s", f"{conditions}; from the request to look at the source"
        ),
        Figure(
            f"the controller's memory with {MEMBERS:,} members",
            scene.controller.memory(),
            400,
            "MB",
            "peak RSS, both commits",
        ),
        Figure("status writes per ClusterSync and revision", most, 3, "writes", "the most of any, seen by a watch"),
        Figure("status writes per Application", _per_second(scene), 1, "1/s", "most within any 10 s, by a watch"),
        Figure(
            "status bytes per Application",
            _kilobytes_per_second(scene),
            30,
            "KB/s",
            "the most over any 10 s or more, as JSON",
        ),
        Figure(
            "watches per member", open_now["most_watches"], 4, "watches", "the most of any member, after both commits"
        ),
    ]


def _per_second(scene: Scene) -> float:
    times = [at for at, _ in scene.view.application_writes]
    return max((sum(at <= other < at + 10 for other in times) / 10 for at in times), default=0.0)


def _kilobytes_per_second(scene: Scene) -> float:
    """From one write to another, over 10 s or more; the last one's bytes belong to the time after it."""
    writes = scene.view.application_writes
    spans = (
        sum(size for _, size in writes[first:last]) / max(writes[last][0] - at, 10) / 1000
        for first, (at, _) in enumerate(writes)
        for last in range(first + 1, len(writes))
    )
    return max(spans, default=0.0)


async def _restart(scene: Scene, members: Members) -> list[Figure]:
    """While nobody leads, one more member joins the fleet; then the right decision is that one ClusterSync alone."""
    await scene.controller.stop()
    await members.mark()
    scene.view.mark()
    await scene.fleet(names(MEMBERS + 1))
    started = time.monotonic()
    await scene.controller.start()
    decided = await scene.view.until(lambda: bool(scene.view.created), "a decision after the restart") - started
    await scene.view.until(lambda: len(scene.view.syncs) == MEMBERS + 1, "the new member's ClusterSync")
    newest = names(MEMBERS + 1)[-1]
    commit = _commit_of(scene)
    await scene.view.until(scene.view.applied(commit, MEMBERS + 1), "the new member's objects")
    print(f"restart: decided after {decided:.1f} s, peak {scene.controller.memory():.0f} MB", flush=True)
    await _quiet(scene)
    memory = scene.controller.memory()
    wrong = [name for name in scene.view.created if not name.endswith(newest)] + scene.view.deleted
    clusters = (await members.report())["clusters"]
    needless = sum(found.get("apply", 0) for number, found in clusters.items() if number != newest)
    how = f"{MEMBERS} synced members, one more joined meanwhile; process start to the new ClusterSync, the only one"
    return [
        Figure("restart: first decision", decided, 10, "s", how),
        Figure("restart: memory", memory, 400, "MB", f"peak RSS of the process that found {MEMBERS} synced members"),
        Figure("restart: wrong decisions", len(wrong), 0, "ClusterSyncs", "others created or deleted"),
        Figure("restart: needless applies", needless, 0, "applies", "in the members that were synced (no dry runs)"),
    ]


def _commit_of(scene: Scene) -> str:
    status = scene.view.applications["web"]["status"]
    return str(status["sourceStatus"]["gitRepoStatus"]["artifact"]["revision"]).rpartition(":")[2]


async def _rest(scene: Scene, members: Members) -> list[Figure]:
    """After a restart drift checks lie evenly in the interval, as they do after a while; each has had its first."""
    await asyncio.sleep(INTERVAL * (1 + Settings().interval_jitter))
    await members.mark()
    writes, cpu, started = await scene.hub_writes(), scene.controller.cpu(), time.monotonic()
    await asyncio.sleep(REST_SECONDS)
    seconds = time.monotonic() - started
    share = (scene.controller.cpu() - cpu) / seconds * 100
    on_hub = await scene.hub_writes() - writes
    counts: Counter[str] = Counter((await members.report())["counts"])
    in_members = counts["created"] + counts["changed"] + counts["deleted"] + counts["apply"]
    print(f"rest: {share:.1f} % of a core, hub {dict(on_hub)}, members {dict(counts)}", flush=True)
    now = scene.controller.memory("VmRSS")
    how = f"{seconds:.0f} s, member checks every minute and drift checks every 5 minutes included; {now:.0f} MB"
    return [
        Figure(
            "steady state: writes", sum(on_hub.values()) + in_members, 0, "writes", "hub (but the Lease) and members"
        ),
        Figure("steady state: CPU", share, 5, "% of a core", how),
    ]


async def _quiet(scene: Scene, timeout: float = 180.0) -> None:
    """Until nothing was written on the hub for a while: rows settled, Events told."""
    async with asyncio.timeout(timeout):
        before, since = await scene.hub_writes(), time.monotonic()
        while time.monotonic() - since < QUIET_SECONDS:
            await asyncio.sleep(1)
            if (now := await scene.hub_writes()) != before:
                before, since = now, time.monotonic()
