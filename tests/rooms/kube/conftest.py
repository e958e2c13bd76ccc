"""Clients of the lab's clusters, and small servers that misbehave in ways a real API server does not."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from fleet_rollout.kube.client import Cluster, Connection, Resource
from fleet_rollout.lab.lab import LabCluster
from fleet_rollout.settings import Settings

CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", True)
NAMESPACES = Resource("", "v1", "Namespace", "namespaces", False)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture(scope="session")
def settings() -> Settings:
    return Settings()


@pytest.fixture
def quick() -> Settings:
    """Time-outs short enough to see them end."""
    return dataclasses.replace(
        Settings(), member_connect_timeout=0.5, member_request_timeout=0.5, watch_silence=0.5, watch_timeout=5
    )


@pytest.fixture
def connection() -> Callable[..., Connection]:
    """The connection of a lab cluster's administrator."""

    def make(cluster: LabCluster, *, server: str | None = None, ca: bytes | None = None) -> Connection:
        headers = {"Authorization": f"Bearer {cluster.token}"}
        name = f"AttachedCluster/{cluster.name}"
        return Connection(name, server or cluster.server, ca or cluster.ca, headers)

    return make


@pytest.fixture
async def open_cluster(settings: Settings) -> AsyncIterator[Callable[..., Cluster]]:
    """Clients that are closed when the test is over."""
    opened: list[Cluster] = []

    def make(to: Connection, its: Settings = settings, **options: object) -> Cluster:
        opened.append(Cluster(to, its, **options))
        return opened[-1]

    yield make
    for cluster in opened:
        await cluster.close()


@pytest.fixture
async def admin(
    hub: LabCluster, connection: Callable[..., Connection], open_cluster: Callable[..., Cluster]
) -> Cluster:
    """The hub, by our client."""
    return open_cluster(connection(hub))


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Handler], Awaitable[Connection]]]:
    """Starts a plain HTTP server that answers everything by one handler; gives a connection to it."""
    runners: list[web.AppRunner] = []

    async def start(handler: Handler) -> Connection:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return Connection("AttachedCluster/odd", f"http://127.0.0.1:{runner.addresses[0][1]}")

    yield start
    for runner in runners:
        await runner.cleanup()
