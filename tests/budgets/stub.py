"""Many API servers in one small process: what a thousand members answer, as cheaply as possible.

`python -m tests.budgets.stub FOLDER` serves `https://127.0.0.1:PORT/c/<number>` with the certificate of FOLDER, prints
the port, and counts. It keeps objects as bytes and knows server-side apply by one manager an object, list by labels,
watch and discovery: enough for the service, and nothing of an API server's own work. It measures us.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl, unquote

import orjson
import uvloop

BOOKMARK_INTERVAL = 60.0
KINDS = {
    "": {"Namespace": "namespaces", "ConfigMap": "configmaps", "Secret": "secrets", "Service": "services"},
    "apps": {"Deployment": "deployments"},
    "autoscaling": {"HorizontalPodAutoscaler": "horizontalpodautoscalers"},
    "apiextensions.k8s.io": {"CustomResourceDefinition": "customresourcedefinitions"},
    "flagger.app": {"Canary": "canaries", "MetricTemplate": "metrictemplates", "AlertProvider": "alertproviders"},
}
VERSIONS = {"": "v1", "apps": "v1", "autoscaling": "v2", "apiextensions.k8s.io": "v1", "flagger.app": "v1beta1"}
CLUSTER_SCOPED = {"namespaces", "customresourcedefinitions"}
INITIALIZED = {"phase": "Initialized", "canaryWeight": 0, "failedChecks": 0, "iterations": 0, "lastAppliedSpec": "1"}
WRITES = ("created", "changed", "deleted")

Place = tuple[str, str, str, str]  # group, plural, namespace, name


@dataclass
class Stored:
    """One object: as it is sent, and what tells whether an apply changes it."""

    body: bytes
    applied: bytes
    labels: dict[str, str]
    version: int
    uid: str
    created: str


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
        self.shared = {place_of(obj): orjson.dumps(_with_metadata(obj)) for obj in shared}
        self.discovery = {"/api": orjson.dumps(discovery([""])), "/apis": orjson.dumps(discovery(list(KINDS)[1:]))}

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
            "watches": sum(len(found) for cluster in self.clusters.values() for found in cluster.watches.values()),
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
            self.answer(method, target, body, is_metadata=b"as=PartialObjectMetadata;" in head)

    def answer(self, method: str, target: str, body: bytes, *, is_metadata: bool) -> None:
        path, _, query = target.partition("?")
        if path.startswith("/control/"):
            self.send(200, orjson.dumps(control(self.site, path, orjson.loads(body) if body else {})))
            return
        _, _, number, rest = path.split("/", 3)
        if number in self.site.hanging:
            return
        params = dict(parse_qsl(query))
        cluster = self.site.cluster(number)
        if "watch" in params:
            self.watch(cluster, scope_of(f"/{rest}"))
            return
        code, content = Handler(self.site, cluster).answer(method, f"/{rest}", params, body)
        self.send(code, metadata_of(content) if is_metadata and code == 200 else content)

    def send(self, status: int, body: bytes) -> None:
        head = b"HTTP/1.1 %d -\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
        self.transport.write(head + body)

    def watch(self, cluster: Virtual, scope: tuple[str, str, str]) -> None:
        self.site.counts["watch"] += 1
        self.watched = (cluster, scope)
        cluster.watches.setdefault(scope, set()).add(self)
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")

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
            return 200, orjson.dumps(_with_metadata(obj | {"status": {"phase": "Active"}}))
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
    """What the measuring side asks: the counts, a fresh start of them, a hanging member, a Canary's new status."""
    if path == "/control/mark":
        site.mark()
    if path == "/control/hang":
        site.hanging = set(order["clusters"])
    if path == "/control/canary":
        cluster = site.cluster(order["cluster"])
        set_status(cluster, ("flagger.app", "canaries", order["namespace"], order["name"]), order["status"])
        return {"at": time.monotonic()}
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


def tell(cluster: Virtual, place: Place, kind: str, body: bytes) -> None:
    group, plural, namespace, _ = place
    for scope in ((group, plural, namespace), (group, plural, "")):
        for connection in cluster.watches.get(scope, ()):
            connection.event(kind, body)


def made(body: bytes, live: Stored | None, version: int, manager: str, number: int) -> Stored:
    """The object that an apply leaves behind: everything is as sent, for there is one manager an object."""
    obj = orjson.loads(body)
    metadata = obj["metadata"]
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    uid, created = (live.uid, live.created) if live is not None else (f"uid-{number}", now)
    entry = {"manager": manager, "operation": "Apply", "apiVersion": obj["apiVersion"], "time": now, "fieldsV1": {}}
    metadata |= {"uid": uid, "resourceVersion": str(version), "creationTimestamp": created, "managedFields": [entry]}
    if live is not None and obj["kind"] == "Canary":
        obj["status"] = orjson.loads(live.body).get("status", {})
    return Stored(orjson.dumps(obj), body, metadata.get("labels") or {}, version, uid, created)


def status(code: int, reason: str, message: str) -> tuple[int, bytes]:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message}
    return code, orjson.dumps(body | {"code": code})


def discovery(groups: list[str]) -> dict[str, Any]:
    """An APIGroupDiscoveryList of these groups."""
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "items": [
            {
                "metadata": {"name": group},
                "versions": [{"version": VERSIONS[group], "resources": list(_resources(group))}],
            }
            for group in groups
        ],
    }


def _resources(group: str) -> Iterator[dict[str, Any]]:
    for kind, plural in KINDS[group].items():
        scope = "Cluster" if plural in CLUSTER_SCOPED else "Namespaced"
        yield {"resource": plural, "responseKind": {"kind": kind}, "scope": scope}


def parse(path: str) -> tuple[Place, bool, str]:
    """The place that a path names, whether it is a listing, and the subresource."""
    parts = [unquote(part) for part in path.split("/")[1:]]
    group, parts = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 2:
        namespace, parts = parts[1], parts[2:]
    plural, name, subresource = [*parts, "", ""][:3]
    return (group, plural, namespace, name), not name, subresource


def metadata_of(content: bytes) -> bytes:
    """A PartialObjectMetadata of one object."""
    obj = orjson.loads(content)
    return orjson.dumps({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": obj["metadata"]})


def scope_of(path: str) -> tuple[str, str, str]:
    (group, plural, namespace, _), _, _ = parse(path)
    return group, plural, namespace


def place_of(obj: dict[str, Any]) -> Place:
    group = obj["apiVersion"].rpartition("/")[0]
    metadata = obj["metadata"]
    return group, KINDS[group][obj["kind"]], metadata.get("namespace", ""), metadata["name"]


def _with_metadata(obj: dict[str, Any]) -> dict[str, Any]:
    metadata = {"uid": f"uid-{obj['metadata']['name']}", "resourceVersion": "1", **obj["metadata"]}
    return {**obj, "metadata": metadata}


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
