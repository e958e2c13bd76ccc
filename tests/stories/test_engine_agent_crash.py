"""`fleet-rollout agent` is killed before and after each of its writes of a rollout, and loses the answer of each."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.faults.proxy import FaultProxy
from tests.rooms.traffic.conftest import crds as meshes
from tests.rooms.traffic.conftest import member
from tests.stories.crashes import undisturbed
from tests.stories.engine_run import Act, Run, canary, deployment, settings
from tests.stories.replicas import Replica
from tests.stories.test_engine_agent import start
from tests.stories.test_engine_crash import all_spoiled

__all__ = ["member", "meshes", "start"]

LIFE = (Act("bring", "Initialized"), Act("upgrade", "Succeeded"), Act("remove", None))


@dataclass
class AgentRun(Run):
    """The engine is a process; it finds no gates and no metrics server, so that its Canary names none."""

    start: Callable[..., Awaitable[tuple[Replica, Any]]] | None = None
    folder: Path = field(default_factory=Path)

    async def bring(self) -> None:
        alone = canary()
        alone["spec"]["analysis"] |= {"interval": "1s", "metrics": [], "webhooks": []}
        await self._apply("configmaps", settings("1"))
        await self._apply("deployments", deployment("1"))
        await self._apply("canaries", alone)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        with FaultProxy("m1", self.member.server, self.member.ca, self.faults) as proxy:
            kubeconfig = self.folder / f"{self.namespace}.kubeconfig"
            kubeconfig.write_bytes(proxy.kubeconfig(self.member.kubeconfig.read_bytes()))
            running = await self._start(kubeconfig)
            reviving = asyncio.create_task(self._start_again(kubeconfig, running))
            try:
                yield
            finally:
                reviving.cancel()
                await asyncio.wait([reviving])
                self.process.kill()

    async def _start(self, kubeconfig: Path) -> Any:
        assert self.start is not None
        self.process, running = await self.start(
            kubeconfig=kubeconfig,
            namespace=self.namespace,
            own_namespace=self.namespace,
            mesh_provider="istio",
            metrics_server="http://prometheus.istio-system:9090",
        )
        return running

    async def _start_again(self, kubeconfig: Path, running: Any) -> None:
        while True:
            await running.wait()
            self.restarts += 1
            self.faults.epoch += 1
            running = await self._start(kubeconfig)


@pytest.mark.timeout(1800)
async def test_an_agent_that_is_killed_at_any_write_ends_as_without(
    meshes: Any, namespace: Any, start: Any, tmp_path: Path
) -> None:
    cluster = await meshes("istio")
    await cluster.kubectl("apply", "--server-side", "--force-conflicts", "-k", "config/crd/member")
    await cluster.crds_established()

    async def new_run(acts: Any) -> AgentRun:
        return AgentRun(cluster, await namespace("agent", on=[cluster]), acts, start=start, folder=tmp_path)

    model = await undisturbed(await new_run(LIFE))
    await all_spoiled(new_run, model, model.points(), apart=8)
