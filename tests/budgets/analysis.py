"""A thousand Canaries in as many stub members, driven by the hub: at rest, in analysis, beside metrics that hang."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet_rollout.lab.lab import Lab
from tests.budgets import canaries
from tests.budgets.figures import Figure
from tests.budgets.lateness import Lateness
from tests.budgets.members import Members
from tests.budgets.scene import Scene, open_scene
from tests.budgets.stub_objects import HANGING

MEMBERS = int(os.environ.get("BUDGETS_MEMBERS", "1000"))
COUNTS = [count for count in (10, 100) if count < MEMBERS] + [MEMBERS]
ENGINE = {
    "mode": "Hub",
    "plainCanaries": "Adopt",
    "metricsServer": f"http://prometheus.{canaries.METRICS_NAMESPACE}:9090",
    "allowedAddresses": [f"{HANGING}.{canaries.METRICS_NAMESPACE}:9090"],
}
# A hundred steps, so that all of them are under way until the end; checks that fail end nothing.
ANALYSIS = {"stepWeight": 1, "maxWeight": 100, "threshold": 1000}
HANGING_SHARE = 0.1
WINDOW = 40.0
# Two rounds of member checks: within a part of one there may be twice as many as in another part.
REST = 120.0
SETTLE = 15.0
DEADLINE = 300.0
NAME = "web"
RESULTS = Path("build") / "analysis.json"
# The ticks of Canaries that were created together would fall together: a fleet's are created while a commit spreads.
BATCHES, BATCH_PAUSE = 20, 0.5


@dataclass(frozen=True)
class Window:
    """What the hub's process did within a minute, with so many Canaries under way."""

    canaries: int
    cpu: float  # % of a core
    memory: float  # MB
    lateness: Lateness
    requests: Counter[str]
    hanging: int = 0  # Canaries whose metrics never answer

    @property
    def late(self) -> float:
        """The 99th percentile, in seconds."""
        return self.lateness.quantile(0.99)

    @property
    def text(self) -> str:
        asked = ", ".join(f"{count / WINDOW:.0f}/s {what}" for what, count in self.requests.most_common(6))
        return (
            f"{self.canaries} in analysis: {self.cpu:.1f} % of a core, {self.memory:.0f} MB, {self.lateness.count} "
            f"ticks, late by p50 {self.lateness.quantile(0.5):.3f} s, p99 {self.late:.3f} s; {asked}"
        )


async def measure(folder: Path) -> list[Figure]:
    """One hub for all of it, so that what it costs without any Canary is known."""
    async with Lab(0) as lab, Members(folder / "stub") as members, open_scene(lab, "budget-analysis", folder) as scene:
        return await Measurement(scene, members).figures()


class Measurement:
    """`figures` does all of it, in order."""

    def __init__(self, scene: Scene, members: Members) -> None:
        self._scene = scene
        self._members = members
        self._names = [f"c{number:04}" for number in range(MEMBERS)]

    async def figures(self) -> list[Figure]:
        await self._scene.attach({name: self._members.kubeconfig(name) for name in self._names})
        await self._scene.fleet(self._names, ENGINE)
        await self._scene.controller.start()
        await self._until_watched(1)
        bare, asked = await self._rest()
        print(f"without Canaries: {bare:.2f} % of a core, {self._memory():.0f} MB, {dict(asked)}", flush=True)
        await self._create()
        await self._until("Initialized", MEMBERS)
        await asyncio.sleep(3 * SETTLE)
        idle, asked = await self._rest()
        print(f"idle: {idle:.2f} % of a core, {self._memory():.0f} MB, {dict(asked)}", flush=True)
        at_rest = [_idle_cpu(idle, bare), _idle_requests(asked)]
        windows = [await self._analysed(before, count) for before, count in zip([0, *COUNTS], COUNTS, strict=False)]
        report = await self._members.report()
        hanging = await self._with_hanging()
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps([_plain(window) for window in (*windows, hanging)], indent=1) + "\n")
        return [*at_rest, *_figures(windows[-1], report), _hang(windows[-1], hanging)]

    async def _create(self) -> None:
        """A batch of members after the other."""
        size = -(-MEMBERS // BATCHES)
        for start in range(0, MEMBERS, size):
            await self._members.put(
                self._names[start : start + size],
                canaries.metrics_service(),
                canaries.deployment(NAME, "1"),
                canaries.canary(NAME, **ANALYSIS),
            )
            await asyncio.sleep(BATCH_PAUSE)

    async def _analysed(self, before: int, count: int) -> Window:
        """A new revision in as many members as are missing, then a minute with all of them."""
        await self._members.put(self._names[before:count], canaries.deployment(NAME, "2"))
        await self._until("Progressing", count)
        await asyncio.sleep(SETTLE)
        return await self._window(count)

    async def _with_hanging(self) -> Window:
        """Some of the Canaries ask a Prometheus that never answers."""
        share = self._names[: round(MEMBERS * HANGING_SHARE)]
        server = f"http://{HANGING}.{canaries.METRICS_NAMESPACE}:9090"
        canary = canaries.canary(NAME, metrics_server=server, **ANALYSIS)
        await self._members.put(share, canaries.metrics_service(HANGING), canary)
        await asyncio.sleep(SETTLE)
        return await self._window(MEMBERS, hanging=len(share))

    async def _window(self, count: int, *, hanging: int = 0) -> Window:
        await self._members.mark()
        lateness, cpu, started = await self._lateness(), self._scene.controller.cpu(), time.monotonic()
        await asyncio.sleep(WINDOW)
        share = (self._scene.controller.cpu() - cpu) / (time.monotonic() - started) * 100
        late = await self._lateness() - lateness
        counts: Counter[str] = Counter((await self._members.report())["counts"])
        window = Window(count, share, self._memory("VmHWM"), late, counts, hanging)
        print(window.text, flush=True)
        return window

    async def _rest(self) -> tuple[float, Counter[str]]:
        """Share of a core, and what the members are asked, while nothing happens."""
        await self._members.mark()
        cpu, started = self._scene.controller.cpu(), time.monotonic()
        await asyncio.sleep(REST)
        share = (self._scene.controller.cpu() - cpu) / (time.monotonic() - started) * 100
        return share, Counter((await self._members.report())["counts"])

    async def _lateness(self) -> Lateness:
        return Lateness.read(await self._scene.controller.metrics())

    def _memory(self, what: str = "VmRSS") -> float:
        return self._scene.controller.memory(what)

    async def _until(self, phase: str, count: int) -> None:
        """So many Canaries are in this phase."""
        found: dict[str, int] = {}
        try:
            async with asyncio.timeout(DEADLINE):
                while found.get(phase, 0) < count:
                    await asyncio.sleep(1)
                    found = await self._members.phases()
        except TimeoutError:
            raise TimeoutError(f"not within {DEADLINE:g} s: {count} in {phase}; {found}") from None

    async def _until_watched(self, watches: int) -> None:
        """The hub follows every member, and has nothing left to do."""
        async with asyncio.timeout(DEADLINE):
            while (await self._members.report())["watches"] < watches * MEMBERS:
                await asyncio.sleep(1)
        await asyncio.sleep(SETTLE)


def _plain(window: Window) -> dict[str, Any]:
    """Without the last bound, which JSON cannot say."""
    late = window.lateness
    return {
        "canaries": window.canaries,
        "cpu": window.cpu,
        "memory": window.memory,
        "lateness": {"bounds": late.bounds[:-1], "counts": late.counts},
        "requests": window.requests,
        "hanging": window.hanging,
    }


def _conditions(report: dict[str, Any]) -> str:
    return (
        f"{MEMBERS} stub members over TLS, one Istio Canary each at 10 s with two metrics by the API server's proxy, "
        f"{report['watches']} watches, {report['connections']} connections; a step of 1 % at every tick"
    )


def _idle_cpu(idle: float, bare: float) -> Figure:
    how = f"{idle:.1f} % against {bare:.1f} % of a core with as many members without Canaries (a check a minute)"
    return Figure(f"CPU of {MEMBERS:,} idle Canaries", max(0.0, idle - bare), MEMBERS / 1000, "% of a core", how)


def _idle_requests(asked: Counter[str]) -> Figure:
    """Watches end and are opened anew, and every member is asked once a minute whether it is there."""
    own = {what: count for what, count in asked.items() if what not in ("watch", "connections", "get")}
    gets = max(0, asked["get"] - round(1.2 * MEMBERS * REST / 60))
    how = f"within {REST:.0f} s, without watches and member checks; all that was asked: {dict(asked)}"
    return Figure(f"requests of {MEMBERS:,} idle Canaries", sum(own.values()) + gets, 0, "requests", how)


def _figures(window: Window, report: dict[str, Any]) -> list[Figure]:
    conditions = _conditions(report)
    return [
        Figure(
            f"tick lateness, {MEMBERS:,} Canaries",
            window.late,
            1,
            "s",
            f"p99 of {window.lateness.count} ticks within {WINDOW:.0f} s; {conditions}",
        ),
        Figure(f"CPU of {MEMBERS:,} Canaries in analysis", window.cpu, 100, "% of a core", f"the hub; {conditions}"),
        Figure(f"memory with {MEMBERS:,} Canaries in analysis", window.memory, 500, "MB", "peak RSS of the hub"),
        Figure("watches per member of a Canary", report["most_watches"], 4, "watches", "the most of any member"),
    ]


def _hang(before: Window, hanging: Window) -> Figure:
    how = (
        f"p99 of all ticks while {HANGING_SHARE:.0%} of the Canaries ask a metrics address that never answers; "
        f"{before.late:.3f} s without"
    )
    return Figure("tick lateness beside metrics that hang", hanging.late, 1, "s", how)
