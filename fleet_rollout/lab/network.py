"""The network of the lab's clusters: proxies that lead a Pod's or a Service's address to a local process.

API servers reach it by CONNECT on a Unix socket (their egress selector), programs such as Flagger as their
HTTP_PROXY over TCP. One per cluster, so that `service.namespace` means the Service of that cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from fleet_rollout.lab.api import Api, ApiAnswer
from fleet_rollout.lab.children import LOCALHOST
from fleet_rollout.lab.pod_spec import Object

Address = tuple[str, int]
Locate = Callable[[str, int], Address | None]

HEAD_LIMIT = 64 * 1024
HEAD_TIMEOUT = 30.0
CONNECT_TIMEOUT = 5.0
CHUNK = 64 * 1024
SERVICE_SUFFIXES = (".svc.cluster.local", ".svc")
# Listing Services by address is only for the API server's own calls; a second of age does not matter there.
CACHE = 1.0

log = logging.getLogger("lab")


class NotFound(Exception):
    """Nothing is behind that address; the message says what was looked for."""


class Network:
    """Finds the local process behind an address of one cluster."""

    def __init__(self, api: Api, locate: Locate) -> None:
        self._api = api
        self._locate = locate
        self._services: tuple[float, list[Object]] = (0.0, [])
        self._next = 0

    async def find(self, host: str, port: int) -> Address:
        """A Pod's address, a Service's cluster address, `service.namespace[.svc[.cluster.local]]`, or the loopback."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return await self._service(*_service_name(host), port)
        if address.is_loopback:
            return host, port
        if found := self._locate(host, port):
            return found
        for service in await self._all_services():
            if service["spec"].get("clusterIP") == host:
                meta = service["metadata"]
                return await self._service(meta["name"], meta["namespace"], port, service)
        raise NotFound(f"no process is behind {host}:{port}")

    async def _service(self, name: str, namespace: str, port: int, known: Object | None = None) -> Address:
        service = known or await self._api.find(f"/api/v1/namespaces/{namespace}/services/{name}")
        if service is None:
            raise NotFound(f"no Service {namespace}/{name}")
        wanted = [p for p in service["spec"].get("ports", []) if p["port"] == port]
        if not wanted:
            raise NotFound(f"Service {namespace}/{name} has no port {port}")
        ready = await self._ready(name, namespace, wanted[0].get("name", ""))
        if not ready:
            raise NotFound(f"Service {namespace}/{name} has no ready endpoint on port {port}")
        self._next += 1
        return ready[self._next % len(ready)]

    async def _ready(self, service: str, namespace: str, port: str) -> list[Address]:
        slices = await self._api.items(
            f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
            labelSelector=f"kubernetes.io/service-name={service}",
        )
        found = []
        for part in slices:
            numbers = [p["port"] for p in part.get("ports") or [] if p.get("name", "") == port]
            ready = [e for e in part.get("endpoints") or [] if e.get("conditions", {}).get("ready", True)]
            found += [self._locate(ip, n) for e in ready for ip in e["addresses"] for n in numbers]
        return [address for address in found if address is not None]

    async def _all_services(self) -> list[Object]:
        age, services = self._services
        if time.monotonic() - age > CACHE:
            services = await self._api.items("/api/v1/services")
            self._services = (time.monotonic(), services)
        return services


@dataclass(frozen=True)
class Head:
    """The head of a proxied request: where to, and what to send there first (nothing for CONNECT)."""

    host: str
    port: int
    first: bytes

    @classmethod
    def parse(cls, head: bytes) -> Head:
        """Raises ValueError."""
        line, _, rest = head.partition(b"\r\n")
        method, target, version = line.decode("latin-1").split(" ")
        if method == "CONNECT":
            url = urlsplit(f"//{target}")
            if url.hostname is None or url.port is None:
                raise ValueError(f"CONNECT to {target!r}")
            return cls(url.hostname, url.port, b"")
        url = urlsplit(target)
        if url.scheme != "http" or url.hostname is None:
            raise ValueError(f"not a proxy request: {target!r}")
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        first = f"{method} {path} {version}\r\n".encode("latin-1") + _for_upstream(rest)
        return cls(url.hostname, url.port or 80, first)


def _for_upstream(headers: bytes) -> bytes:
    """One request a connection: the next may be for another host, and would follow this one there."""
    kept = [
        line
        for line in headers.rstrip(b"\r\n").split(b"\r\n")
        if line and line.split(b":")[0].lower() not in (b"connection", b"proxy-connection", b"keep-alive")
    ]
    return b"\r\n".join([*kept, b"Connection: close", b"", b""])


class Proxy:
    """Serves CONNECT and plain HTTP proxy requests for one cluster, on a Unix socket and a TCP port."""

    def __init__(self, network: Network, socket: Path) -> None:
        self._network = network
        self._socket = socket
        self._servers: list[asyncio.Server] = []
        self.url = ""

    async def start(self) -> None:
        self._servers.append(await asyncio.start_unix_server(self._serve, self._socket, limit=HEAD_LIMIT))
        tcp = await asyncio.start_server(self._serve, LOCALHOST, 0, limit=HEAD_LIMIT)
        self._servers.append(tcp)
        self.url = f"http://{LOCALHOST}:{tcp.sockets[0].getsockname()[1]}"

    def end(self) -> None:
        for server in self._servers:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._handle(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError) as error:
            log.info("proxy: %r", error)
        finally:
            writer.close()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(HEAD_TIMEOUT):
            raw = await reader.readuntil(b"\r\n\r\n")
        try:
            head = Head.parse(raw)
            host, port = await self._network.find(head.host, head.port)
            async with asyncio.timeout(CONNECT_TIMEOUT):
                upstream = await asyncio.open_connection(host, port)
        except ValueError as error:
            await _refuse(writer, "400 Bad Request", str(error))
        except (NotFound, ApiAnswer, aiohttp.ClientError, OSError) as error:
            await _refuse(writer, "502 Bad Gateway", str(error))
        else:
            await _tunnel(head, reader, writer, *upstream)


async def _tunnel(
    head: Head,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    from_upstream: asyncio.StreamReader,
    to_upstream: asyncio.StreamWriter,
) -> None:
    try:
        if head.first:
            to_upstream.write(head.first)
        else:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        async with asyncio.TaskGroup() as group:
            forth = group.create_task(_copy(reader, to_upstream))
            await _copy(from_upstream, writer)
            forth.cancel()  # the answer is complete; a client that keeps its side open must not hold us
    except* OSError as errors:
        log.info("proxy: %r", errors.exceptions)
    finally:
        to_upstream.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while chunk := await source.read(CHUNK):
        target.write(chunk)
        await target.drain()
    with contextlib.suppress(OSError):
        if target.can_write_eof():
            target.write_eof()


async def _refuse(writer: asyncio.StreamWriter, status: str, message: str) -> None:
    body = f"{message}\n".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


def _service_name(host: str) -> tuple[str, str]:
    """Service and namespace of a cluster's DNS name; raises NotFound for any other."""
    name = host.rstrip(".")
    for suffix in SERVICE_SUFFIXES:
        name = name.removesuffix(suffix)
    service, dot, namespace = name.partition(".")
    if not dot or "." in namespace:
        raise NotFound(f"{host} is not of the form service.namespace")
    return service, namespace
