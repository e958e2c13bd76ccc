"""Providers that ask a backend on the loopback through the real dialer."""

from __future__ import annotations

import pytest
from aiohttp import web

from fleet_rollout.control.engine.dialing import DirectDial
from fleet_rollout.decide.canary.addresses import read_reach
from fleet_rollout.metrics.bulkheads import Bulkheads
from fleet_rollout.metrics.factory import provider_for
from fleet_rollout.metrics.query import Options
from tests.rooms.metrics.backends import NOW, SECRETS, Server


@pytest.fixture
async def server():
    found = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


@pytest.fixture
def bulkheads():
    found = Bulkheads()
    yield found
    found.close()


@pytest.fixture
async def dial(bulkheads):
    found = DirectDial(read_reach(["127.0.0.1", "localhost"]), bulkheads)
    yield found
    await found.close()


@pytest.fixture
def options(bulkheads):
    return Options(bulkheads=bulkheads, interval="1m", now=lambda: NOW)


@pytest.fixture
def make(server, options, dial):
    """`make("datadog")`: the provider of that type, at the server."""

    def provider(kind, credentials=..., **spec):
        given = SECRETS.get(kind) if credentials is ... else credentials
        found = {"type": kind, "address": server.url, **spec}
        return provider_for(found, given, spec.pop("options", options), dial)

    return provider
