"""A real Git server with faults to order, and the sources room over an empty data directory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from aiohttp import web

from fleet_rollout import processes
from fleet_rollout.lab.gitserver import application
from fleet_rollout.lab.repository import Repository
from fleet_rollout.settings import Settings
from fleet_rollout.sources import Sources
from fleet_rollout_api.application import GitRepositorySpec
from tests.ssh_server import SshServer

Fault = Callable[[web.Request, Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[web.StreamResponse]]


class Server:
    """`git http-backend` on the loopback. `fault` stands before every request; `seen` holds their headers."""

    def __init__(self, root):
        self.root = root
        self.fault: Fault | None = None
        self.seen: list[dict[str, str]] = []
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self):
        @web.middleware
        async def stand_before(request, handler):
            self.seen.append(dict(request.headers))
            return await (self.fault(request, handler) if self.fault else handler(request))

        app = application(self.root)
        app.middlewares.append(stand_before)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def end(self):
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def repository(self, name="shop"):
        return await Repository.create(self.root, self.url, name)


async def answer_at_once(root, request):
    """Run the backend to its end before anything is sent: whoever hangs up in the middle leaves no process behind."""
    body = await request.read()
    variables = {
        "GIT_PROJECT_ROOT": str(root),
        "GIT_HTTP_EXPORT_ALL": "1",
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query_string,
        "REQUEST_METHOD": request.method,
        "CONTENT_TYPE": request.headers.get("Content-Type", ""),
        "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
    }
    done = await processes.run(["git", "http-backend"], timeout=60, env=variables, stdin=body)
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    lines = (line.partition(": ") for line in head.decode().split("\r\n"))
    return web.Response(body=content, headers={name: value for name, _, value in lines if name != "Status"})


@pytest.fixture
def answering_at_once():
    return answer_at_once


@pytest.fixture
async def server(tmp_path):
    """A Git server of the test's own."""
    server = Server(tmp_path / "repositories")
    server.root.mkdir()
    await server.start()
    yield server
    await server.end()


@pytest.fixture
async def other_server(tmp_path):
    """A second one, with another port."""
    server = Server(tmp_path / "other-repositories")
    server.root.mkdir()
    await server.start()
    yield server
    await server.end()


@pytest.fixture
async def ssh_server(tmp_path):
    """A Git server over ssh."""
    server = SshServer(tmp_path / "ssh-repositories")
    server.root.mkdir()
    await server.start()
    yield server
    await server.end()


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path / "data", allow_loopback_sources=True, artifact_address="127.0.0.1:0")


@pytest.fixture
async def make_sources(settings):
    """Sources with other settings or another resolver; closed at the end."""
    made = []

    def make(resolver=None, **changes):
        options = {"resolver": resolver} if resolver else {}
        made.append(Sources(replace(settings, **changes), **options))
        return made[-1]

    yield make
    for sources in made:
        await sources.close()


@pytest.fixture
def sources(make_sources):
    return make_sources()


@pytest.fixture
def spec_of():
    """A source's spec: `spec_of(repository, branch="main")`; fields of ref and of the spec may be mixed."""

    def make(repository, **fields):
        url = repository if isinstance(repository, str) else repository.url
        ref = {key: fields.pop(key) for key in ("branch", "tag", "semver", "name", "commit") if key in fields}
        return GitRepositorySpec.model_validate({"url": url, "interval": "1m", "ref": ref or None} | fields)

    return make
