"""A real Prometheus that collects what the service and a mesh count, and holds the rules of config/prometheus."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from fleet_rollout.lab import binaries, children

ROOT = Path(__file__).parents[2]
RULES = ROOT / "config" / "prometheus" / "rules.yaml"
DEADLINE = 60.0


class Watched:
    """The Prometheus, and the service that it watches."""

    def __init__(self, url: str, service: str, session: aiohttp.ClientSession) -> None:
        self._url, self._service, self._session = url, service, session

    async def query(self, query: str) -> list[dict[str, Any]]:
        """The samples; an error fails the test."""
        return (await self.ask("query", query=query))["result"]

    async def ask(self, what: str, **parameters: str) -> Any:
        async with self._session.get(f"{self._url}/api/v1/{what}", params=parameters) as answer:
            said = await answer.json()
        assert said["status"] == "success", f"{parameters}: {said.get('error')}"
        return said["data"]

    async def play(self, scene: str) -> None:
        async with self._session.post(f"{self._service}/scene/{scene}") as answer:
            assert answer.status == 200

    async def is_up(self) -> bool:
        """Whether there is enough to compute rates from."""
        try:
            return len(await self.query("count_over_time(up[10s]) > 3")) == 2
        except aiohttp.ClientError:
            return False


@pytest.fixture(scope="session")
async def watched(
    tmp_path_factory: pytest.TempPathFactory, eventually: Callable[..., Awaitable[None]]
) -> AsyncIterator[Watched]:
    folder = tmp_path_factory.mktemp("telemetry")
    service, prometheus = children.free_port(), children.free_port()
    jobs = [
        {"job_name": path, "metrics_path": f"/{path}", "static_configs": [{"targets": [f"127.0.0.1:{service}"]}]}
        for path in ("metrics", "mesh")
    ]
    every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    configuration = {"global": every, "scrape_configs": jobs, "rule_files": [str(RULES)]}
    (folder / "prometheus.json").write_text(json.dumps(configuration))
    argv = [
        binaries.require("prometheus"),
        f"--config.file={folder / 'prometheus.json'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{prometheus}",
        "--log.level=warn",
    ]
    played = [sys.executable, "-m", "tests.telemetry.service", str(service)]
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'api'}"}
    started = [
        await children.start("service", played, log=folder / "service.log", env=environment, cwd=ROOT),
        await children.start("prometheus", argv, log=folder / "prometheus.log", cwd=folder),
    ]
    try:
        async with aiohttp.ClientSession() as session:
            found = Watched(f"http://127.0.0.1:{prometheus}", f"http://127.0.0.1:{service}", session)
            try:
                await eventually(found.is_up, timeout=DEADLINE)
            except BaseException:
                print(*(child.last_words() for child in started), sep="\n")
                raise
            yield found
    finally:
        await asyncio.gather(*(child.end() for child in started))
