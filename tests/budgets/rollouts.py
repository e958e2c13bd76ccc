"""Fifty Istio Canaries on one real API server, driven by Flagger and then by our engine: what a rollout costs."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet_rollout.faces.cli.agent import LEASE
from fleet_rollout.lab import binaries
from fleet_rollout.lab.api import Api
from fleet_rollout.lab.certificates import Authority
from fleet_rollout.lab.cluster import kubeconfig
from tests.budgets import audited, canaries, workloads
from tests.budgets.controller import address, program
from tests.budgets.figures import Figure
from tests.budgets.process import Process
from tests.conformance.server import Server, running
from tests.conformance.servers import Servers

COUNT = int(os.environ.get("BUDGETS_CANARIES", "50"))
STEPS = {"stepWeights": [25, 50]}
CANARIES = "/apis/flagger.app/v1beta1"
DEADLINE = 400.0
# For what is still being told when the last Canary is done.
SETTLE = 15.0
IDLE = 60.0


@dataclass(frozen=True)
class Cost:
    """Of one engine: requests of an idle Canary a second, and of a rollout; its CPU in ms."""

    idle: Counter[str]
    idle_seconds: float
    idle_cpu: float
    rollout: Counter[str]
    rollout_cpu: float
    memory: float

    @property
    def a_second(self) -> float:
        return self.idle.total() / self.idle_seconds / COUNT

    @property
    def requests(self) -> float:
        return self.rollout.total() / COUNT

    @property
    def text(self) -> str:
        parts = ", ".join(f"{count / COUNT:.1f} {what}" for what, count in self.rollout.most_common())
        return (
            f"{self.requests:.1f} requests ({parts}), {self.rollout_cpu:.0f} ms of CPU; idle {self.a_second:.2f}"
            f" requests/s a Canary, {self.idle_cpu:.2f} % of a core; {self.memory:.0f} MB"
        )


async def measure(folder: Path) -> list[Figure]:
    """One after the other on the same server, with the same Canaries, metrics and played workloads."""
    async with running(["istio", "flagger"], audit=True) as server, Servers.running() as servers:
        places = [Place(server, servers, folder, name) for name in ("flagger", "ours")]
        costs = {}
        for place in places:
            costs[place.name] = await place.cost()
            print(f"{place.name}: {costs[place.name].text}", flush=True)
    return figures(costs["ours"], costs["flagger"])


def figures(ours: Cost, flagger: Cost) -> list[Figure]:
    conditions = f"{COUNT} Istio Canaries at 10 s on one kube-apiserver, steps 25 and 50, two metrics, by the audit log"
    return [
        Figure(
            "an idle Canary's requests",
            ours.idle.total(),
            0,
            "requests",
            f"{conditions}, within {ours.idle_seconds:.0f} s; Flagger 1.44: {flagger.idle.total()}",
        ),
        Figure(
            "requests of a rollout, against Flagger",
            ours.requests / flagger.requests,
            1 / 3,
            "x",
            f"{conditions}; ours: {ours.text}. Flagger 1.44: {flagger.text}",
            raw=1.0,
        ),
        Figure(
            "CPU of a rollout, against Flagger",
            ours.rollout_cpu / flagger.rollout_cpu,
            1,
            "x",
            f"{ours.rollout_cpu:.0f} ms against {flagger.rollout_cpu:.0f} ms a Canary, from the new revision to "
            "Succeeded, of the whole process, `fleet-rollout agent` and Flagger 1.44",
            raw=1.0,
        ),
    ]


class Place:
    """One engine's namespace, user and process."""

    def __init__(self, server: Server, servers: Servers, folder: Path, name: str) -> None:
        self.name = name
        self._server = server
        self._api: Api = server.api
        self._namespace = f"budget-{name}"
        self._metrics = servers.addresses(self._namespace)["METRICS"]
        self._kubeconfig = folder / f"{name}.kubeconfig"
        self._process = Process(folder / f"{name}.log")

    async def cost(self) -> Cost:
        self._write_kubeconfig()
        await self._api.create("/api/v1/namespaces", {"metadata": {"name": self._namespace}})
        await self._process.start(self._argv())
        try:
            async with workloads.played(self._api, self._namespace):
                return await self._measured()
        finally:
            await self._process.stop()

    async def _measured(self) -> Cost:
        await self._each(self._create)
        await self._until("Initialized")
        await asyncio.sleep(SETTLE)
        before, cpu = audited.now(), self._process.cpu()
        await asyncio.sleep(IDLE)
        idle = await self._asked(before)
        seconds = (audited.now() - before).total_seconds()
        idle_cpu = (self._process.cpu() - cpu) / seconds * 100
        before, cpu = audited.now(), self._process.cpu()
        await self._each(self._revise)
        await self._until("Succeeded")
        spent = (self._process.cpu() - cpu) / COUNT * 1000
        await asyncio.sleep(SETTLE / 3)
        rollout = await self._asked(before)
        memory = self._process.memory("VmRSS")
        await self._each(self._delete)
        return Cost(idle, seconds, idle_cpu, rollout, spent, memory)

    def _write_kubeconfig(self) -> None:
        pair = Authority.read(self._server.folder).client(self.name, ["system:masters"])
        self._kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        client = (pair.certificate, pair.key)
        self._kubeconfig.write_bytes(kubeconfig("budget", self._server.server, self._server.ca, client=client))

    def _argv(self) -> list[str]:
        if self.name == "flagger":
            flags: Mapping[str, Any] = {
                "kubeconfig": self._kubeconfig,
                "namespace": self._namespace,
                "mesh-provider": "istio",
                "metrics-server": self._metrics,
                "port": address().rpartition(":")[2],
                "log-level": "info",
            }
            return [str(binaries.require("flagger")), *(f"-{name}={value}" for name, value in flags.items())]
        flags = {
            "kubeconfig": self._kubeconfig,
            "namespace": self._namespace,
            "own-namespace": self._namespace,
            "lease-name": LEASE,
            "metrics-server": self._metrics,
            "telemetry-address": address(),
        }
        return program("agent", dict(flags))

    async def _each(self, what: Any) -> None:
        await asyncio.gather(*(what(f"web-{number:03}") for number in range(COUNT)))

    async def _create(self, name: str) -> None:
        await self._apply("/apis/apps/v1", "deployments", canaries.deployment(name, "1", self._namespace))
        await self._apply(CANARIES, "canaries", canaries.canary(name, self._namespace, **STEPS))

    async def _revise(self, name: str) -> None:
        container = {"name": "web", "image": "registry.example/web:2"}
        patch = canaries.deployment(name, "2", self._namespace)["spec"]["template"]["spec"]["containers"]
        assert patch[0]["image"] == container["image"]
        path = f"/apis/apps/v1/namespaces/{self._namespace}/deployments/{name}"
        await self._api.merge(path, {"spec": {"template": {"spec": {"containers": patch}}}})

    async def _delete(self, name: str) -> None:
        await self._api.delete(f"{CANARIES}/namespaces/{self._namespace}/canaries/{name}")

    async def _apply(self, group: str, plural: str, obj: dict[str, Any]) -> None:
        await self._api.apply(f"{group}/namespaces/{self._namespace}/{plural}/{obj['metadata']['name']}", obj)

    async def _until(self, phase: str) -> None:
        """All Canaries are in this phase."""
        found: Counter[str] = Counter()
        try:
            async with asyncio.timeout(DEADLINE):
                while found[phase] < COUNT:
                    await asyncio.sleep(1)
                    items = await self._api.items(f"{CANARIES}/namespaces/{self._namespace}/canaries")
                    found = Counter((item.get("status") or {}).get("phase", "") for item in items)
        except TimeoutError:
            raise TimeoutError(f"{self.name}: not within {DEADLINE:g} s: {phase}; {dict(found)}") from None

    async def _asked(self, since: Any) -> Counter[str]:
        until = audited.now()
        await asyncio.sleep(2)  # until it is written
        return audited.asked(self._server.folder / "audit.log", self.name, since, until)
