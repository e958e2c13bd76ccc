"""An engine on a real API server, whose metrics, hooks and chats are a script, and whose ticks the test makes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from fleet_rollout.kube.access import connection_from_kubeconfig
from fleet_rollout.kube.client import Cluster
from fleet_rollout.lab.lab import LabCluster
from fleet_rollout.settings import Settings
from tests.control.engine.scripted import Script


@pytest.fixture(scope="session")
async def member(members: dict[str, LabCluster]) -> LabCluster:
    """Not the member in which other tests let Flagger act on every Canary."""
    return members["m2"]


@pytest.fixture
async def member_client(member: LabCluster) -> AsyncIterator[Cluster]:
    cluster = Cluster(
        connection_from_kubeconfig("m1", member.kubeconfig.read_bytes(), allow_insecure=False), Settings()
    )
    yield cluster
    await cluster.close()


@pytest.fixture(scope="session")
async def flagger_crds(member: LabCluster) -> None:
    """Our CRDs of flagger.app, established in the member."""
    await member.kubectl("apply", "--server-side", "--force-conflicts", "-k", "config/crd/member")
    await member.crds_established()


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
async def place(
    flagger_crds: None, member: LabCluster, namespace: Callable[..., Awaitable[str]]
) -> Callable[..., Awaitable[Any]]:
    return lambda: namespace("engine", on=[member])
