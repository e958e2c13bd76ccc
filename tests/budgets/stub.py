"""Many API servers in one small process: what a thousand members answer, as cheaply as possible.

`python -m tests.budgets.stub FOLDER` serves `https://127.0.0.1:PORT/c/<number>` with the certificate of FOLDER, prints
the port, and counts. It keeps objects as bytes and knows server-side apply by one manager an object, create, replace,
list by labels, watch and discovery: enough for the service, and nothing of an API server's own work. It measures us.
"""

from __future__ import annotations

import asyncio
import os
import random
import ssl
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl

import orjson
import uvloop

from tests.budgets.stub_objects import (
    HANGING,
    INITIALIZED,
    KINDS,
    Place,
    Stored,
    deployed,
    discovery,
    made,
    metadata_of,
    parse,
    place_of,
    sample,
    scope_of,
    status,
    with_metadata,
)

BOOKMARK_INTERVAL = 60.0
# Share of the requests that fail, half of them with 503 and half without an answer.
ERRORS = float(os.environ.get("BUDGETS_ERRORS", "0"))


@dataclass
class Virtual:
    """One virtual cluster."""

    objects: dict[Place, Stored] = field(default_factory=dict)
    version: int = 1
    watches: dict[tuple[str, str, str], set[Connection]] = field(default_factory=dict)
    # Since the last mark: when the first and the last object was changed, how many were, and what was asked.
    first: float = 0.0
    last: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def open_watches(self) -> int:
        return sum(len(connections) for connections in self.watches.values())

    def write(self) -> None:
        self.last = time.monotonic()
        self.first = self.first or self.last


class Site:
    """All clusters, and what they have in common."""

    def __init__(self, shared: list[dict[str, Any]]) -> None:
        self.clusters: dict[str, Virtual] = {}
        self.hanging: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.connections = 0
        self.shared = {place_of(obj): orjson.dumps(with_metadata(obj)) for obj in shared}
        self.discovery = {"/api": orjson.dumps(discovery([""])), "/apis": orjson.dumps(discovery(list(KINDS)[1:]))}
        self.discovery["/version"] = orjson.dumps({"gitVersion": "v1.37.2"})

    def cluster(self, number: str) -> Virtual:
        return self.clusters.setdefault(number, Virtual())

    def mark(self) -> None:
        self.counts.clear()
        for cluster in self.clusters.values():
            cluster.first = cluster.last = 0.0
            cluster.counts.clear()

    def report(self) -> dict[str, Any]:
        return {
            "counts": self.counts,
            "connections": self.connections,
            "watches": sum(cluster.open_watches for cluster in self.clusters.values()),
            "most_watches": max((cluster.open_watches for cluster in self.clusters.values()), default=0),
            "clusters": {
                number: {"first": cluster.first, "last": cluster.last, **cluster.counts}
                for number, cluster in self.clusters.items()
            },
        }


class Connection(asyncio.Protocol):
    """One connection: requests in, answers out, in order; a watch keeps it for itself."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.buffer = b""
        self.transport: asyncio.Transport
        self.watched: tuple[Virtual, tuple[str, str, str]] | None = None
        self.is_metadata = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.site.connections += 1
        self.site.counts["connections"] += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.site.connections -= 1
        if self.watched is not None:
            cluster, scope = self.watched
            cluster.watches.get(scope, set()).discard(self)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end]
            length = _content_length(head)
            if len(self.buffer) < end + 4 + length:
                return
            body, self.buffer = self.buffer[end + 4 : end + 4 + length], self.buffer[end + 4 + length :]
            method, target, _ = head[: head.find(b"\r\n")].decode().split(" ", 2)
            self.answer(method, target, body, is_metadata=b"as=PartialObjectMetadata" in head)

    def answer(self, method: str, target: str, body: bytes, *, is_metadata: bool) -> None:
        path, _, query = target.partition("?")
        if path.startswith("/control/"):
            self.send(200, orjson.dumps(control(self.site, path, orjson.loads(body) if body else {})))
            return
        _, _, number, rest = path.split("/", 3)
        if number in self.site.hanging or (ERRORS and self.fails()):
            return
        cluster = self.site.cluster(number)
        if "/proxy/" in rest:
            self.relay(cluster, rest, query)
            return
        params = dict(parse_qsl(query))
        if "watch" in params:
            since = int(params.get("resourceVersion") or 0)
            self.watch(cluster, scope_of(f"/{rest}"), since, is_metadata=is_metadata)
            return
        code, content = Handler(self.site, cluster).answer(method, f"/{rest}", params, body)
        self.send(code, metadata_of(content) if is_metadata and code == 200 else content)

    def fails(self) -> bool:
        """Whether this request is one of those that fail; then it has."""
        if random.random() >= ERRORS:
            return False
        self.site.counts["failed"] += 1
        if random.random() < 0.5:
            self.send(*status(503, "ServiceUnavailable", "the stub is told to fail"))
        else:
            self.transport.abort()
        return True

    def send(self, status: int, body: bytes) -> None:
        head = b"HTTP/1.1 %d -\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
        self.transport.write(head + body)

    def relay(self, cluster: Virtual, path: str, query: str) -> None:
        """To a Prometheus, one of which never answers."""
        self.site.counts["relay"] += 1
        cluster.counts["relay"] += 1
        if f"/{HANGING}:" not in path:
            self.send(200, sample("1" if "vector" in query else "99.9"))

    def watch(self, cluster: Virtual, scope: tuple[str, str, str], since: int, *, is_metadata: bool) -> None:
        """What was changed after `since` comes first; what was deleted since then is not told."""
        self.site.counts["watch"] += 1
        self.watched = (cluster, scope)
        self.is_metadata = is_metadata
        cluster.watches.setdefault(scope, set()).add(self)
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        for (group, plural, namespace, _), stored in cluster.objects.items():
            if stored.version > since and (group, plural) == scope[:2] and scope[2] in ("", namespace):
                self.event("MODIFIED", metadata_of(stored.body) if is_metadata else stored.body)

    def event(self, kind: str, body: bytes) -> None:
        line = b'{"type":"%s","object":%s}\n' % (kind.encode(), body)
        self.transport.write(b"%x\r\n%s\r\n" % (len(line), line))


class Handler:
    """Answers one request to one cluster."""

    def __init__(self, site: Site, cluster: Virtual) -> None:
        self.site = site
        self.cluster = cluster

    def answer(self, method: str, path: str, params: dict[str, str], body: bytes) -> tuple[int, bytes]:
        if path in self.site.discovery:
            return 200, self.site.discovery[path]
        place, is_list, subresource = parse(path)
        if method == "GET":
            self.count("list" if is_list else "get")
            return self.list(place, params) if is_list else self.get(place)
        if method == "PATCH" and not subresource:
            return self.apply(place, params, body)
        if method == "POST" and is_list:
            self.count(f"create {place[1]}")
            return self.create(place, body)
        if method == "PUT":
            self.count(f"replace {place[1]}{'/' if subresource else ''}{subresource}")
            return self.replace(place, body, is_status=subresource == "status")
        if method == "DELETE":
            return self.delete(place)
        return status(405, "MethodNotAllowed", f"{method} {path}")

    def count(self, what: str) -> None:
        self.site.counts[what] += 1
        self.cluster.counts[what] += 1

    def get(self, place: Place) -> tuple[int, bytes]:
        found = self.cluster.objects.get(place)
        if found is not None:
            return 200, found.body
        if place in self.site.shared:
            return 200, self.site.shared[place]
        if place[1] == "namespaces":
            obj = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place[3]}}
            return 200, orjson.dumps(with_metadata(obj | {"status": {"phase": "Active"}}))
        return status(404, "NotFound", f"{place[1]} {place[3]} not found")

    def list(self, place: Place, params: dict[str, str]) -> tuple[int, bytes]:
        wanted = dict(part.split("=", 1) for part in params.get("labelSelector", "").split(",") if part)
        group, plural, namespace, _ = place
        found = [
            stored.body
            for (g, p, n, _), stored in self.cluster.objects.items()
            if (g, p) == (group, plural) and namespace in ("", n) and wanted.items() <= stored.labels.items()
        ]
        items = b",".join(found)
        return 200, b'{"kind":"List","metadata":{"resourceVersion":"%d"},"items":[%s]}' % (self.cluster.version, items)

    def apply(self, place: Place, params: dict[str, str], body: bytes) -> tuple[int, bytes]:
        live = self.cluster.objects.get(place)
        is_dry = "dryRun" in params
        self.count("dry" if is_dry else "apply")
        if live is not None and live.applied == body:
            return 200, live.body
        version = live.version if live is not None and is_dry else self.cluster.version + 1
        stored = made(body, live, version, params.get("fieldManager", ""), self.cluster.version)
        if not is_dry:
            self.keep(place, stored, is_new=live is None)
        return 201 if live is None else 200, stored.body

    def create(self, place: Place, body: bytes) -> tuple[int, bytes]:
        """Events are counted and forgotten."""
        obj = orjson.loads(body)
        place = (*place[:3], obj["metadata"]["name"])
        if place[1] == "events":
            return 201, body
        if place in self.cluster.objects:
            return status(409, "AlreadyExists", f"{place[1]} {place[3]} already exists")
        put(self.cluster, place, obj)
        return 201, self.cluster.objects[place].body

    def replace(self, place: Place, body: bytes, *, is_status: bool) -> tuple[int, bytes]:
        live = self.cluster.objects.get(place)
        if live is None:
            return status(404, "NotFound", f"{place[1]} {place[3]} not found")
        obj = orjson.loads(body)
        if obj["metadata"].get("resourceVersion") not in (None, str(live.version)):
            return status(409, "Conflict", f"{place[1]} {place[3]} has been changed")
        if is_status:
            set_status(self.cluster, place, obj["status"])
            return 200, live.body
        put(self.cluster, place, obj)
        return 200, self.cluster.objects[place].body

    def keep(self, place: Place, stored: Stored, *, is_new: bool) -> None:
        self.cluster.version += 1
        self.cluster.objects[place] = stored
        self.count("created" if is_new else "changed")
        self.cluster.write()
        tell(self.cluster, place, "ADDED" if is_new else "MODIFIED", stored.body)
        if is_new and place[1] == "canaries":
            set_status(self.cluster, place, INITIALIZED)

    def delete(self, place: Place) -> tuple[int, bytes]:
        found = self.cluster.objects.pop(place, None)
        if found is None:
            return status(404, "NotFound", f"{place[1]} {place[3]} not found")
        self.cluster.version += 1
        self.count("deleted")
        self.cluster.write()
        tell(self.cluster, place, "DELETED", found.body)
        return 200, b'{"kind":"Status","apiVersion":"v1","status":"Success"}'


def control(site: Site, path: str, order: dict[str, Any]) -> Any:
    """What the measuring side asks: counts, a fresh start of them, a hanging member, objects, a Canary's new status."""
    if path == "/control/mark":
        site.mark()
    if path == "/control/hang":
        site.hanging = set(order["clusters"])
    if path == "/control/canary":
        cluster = site.cluster(order["cluster"])
        set_status(cluster, ("flagger.app", "canaries", order["namespace"], order["name"]), order["status"])
        return {"at": time.monotonic()}
    if path == "/control/put":
        for number in order["clusters"]:
            for obj in order["objects"]:
                put(site.cluster(number), place_of(obj), orjson.loads(orjson.dumps(obj)))
    if path == "/control/phases":
        return Counter(phase_of(cluster) for cluster in site.clusters.values())
    return site.report() if path == "/control/report" else {}


def set_status(cluster: Virtual, place: Place, changes: dict[str, Any]) -> None:
    """What Flagger would write into a Canary."""
    stored = cluster.objects[place]
    cluster.version += 1
    obj = orjson.loads(stored.body)
    obj["status"] = {**obj.get("status", {}), **changes}
    obj["metadata"]["resourceVersion"] = str(cluster.version)
    stored.body, stored.version = orjson.dumps(obj), cluster.version
    tell(cluster, place, "MODIFIED", stored.body)


def put(cluster: Virtual, place: Place, obj: dict[str, Any]) -> None:
    """What a user or an engine writes; Pods of Deployments are ready at once, by a write of their own."""
    live = cluster.objects.get(place)
    before = orjson.loads(live.body) if live is not None else {}
    cluster.version += 1
    uid = live.uid if live is not None else f"uid-{cluster.version}"
    created = live.created if live is not None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    generation = before.get("metadata", {}).get("generation", 0) + (before.get("spec") != obj.get("spec"))
    obj["metadata"] |= {
        "uid": uid,
        "resourceVersion": str(cluster.version),
        "creationTimestamp": created,
        "generation": generation,
    }
    if "status" in before:
        obj["status"] = before["status"]
    labels = obj["metadata"].get("labels") or {}
    stored = Stored(orjson.dumps(obj), b"", labels, cluster.version, uid, created)
    cluster.objects[place] = stored
    tell(cluster, place, "ADDED" if live is None else "MODIFIED", stored.body)
    if place[1] == "deployments":
        set_status(cluster, place, deployed(obj))


def phase_of(cluster: Virtual) -> str:
    """How the Canary of a cluster stands."""
    found = (stored.body for place, stored in cluster.objects.items() if place[1] == "canaries")
    body = next(found, b"{}")
    return str((orjson.loads(body).get("status") or {}).get("phase", ""))


def tell(cluster: Virtual, place: Place, kind: str, body: bytes) -> None:
    group, plural, namespace, _ = place
    metadata = b""
    for scope in ((group, plural, namespace), (group, plural, "")):
        for connection in cluster.watches.get(scope, ()):
            if connection.is_metadata:
                metadata = metadata or metadata_of(body)
            connection.event(kind, metadata if connection.is_metadata else body)


def _content_length(head: bytes) -> int:
    start = head.lower().find(b"content-length:")
    if start < 0:
        return 0
    end = head.find(b"\r\n", start)
    return int(head[start + 15 : end if end >= 0 else len(head)])


async def _bookmarks(site: Site) -> None:
    """As an API server does, so that a quiet watch is not taken for a lost one."""
    while True:
        await asyncio.sleep(BOOKMARK_INTERVAL)
        for cluster in list(site.clusters.values()):
            for (group, plural, _), watches in cluster.watches.items():
                kind = {plural: kind for kind, plural in KINDS[group].items()}[plural]
                body = {"kind": kind, "metadata": {"resourceVersion": str(cluster.version)}}
                for connection in watches:
                    connection.event("BOOKMARK", orjson.dumps(body))
            await asyncio.sleep(0)


async def serve(folder: Path) -> None:
    """Serve until the standard input ends, which is when the starter ends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "serving.crt", folder / "serving.key")
    site = Site(orjson.loads((folder / "shared.json").read_bytes()))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(site), "127.0.0.1", 0, ssl=context, backlog=4096)
    bookmarks = asyncio.create_task(_bookmarks(site))
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    bookmarks.cancel()
    server.close()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
