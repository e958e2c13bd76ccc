"""One namespace of the lab's hub with what a measurement needs: clusters, a fleet, Applications, and a view on them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from fleet_rollout.lab.api import Api, ApiAnswer
from fleet_rollout.lab.lab import Lab
from fleet_rollout.lab.repository import Repository
from tests.budgets.controller import Controller

APPS = "/apis/apps.kurator.dev/v1alpha1"
FLEETS = "/apis/fleet.kurator.dev/v1alpha1"
CLUSTERS = "/apis/cluster.kurator.dev/v1alpha1"
CRDS = Path(__file__).parents[2] / "config" / "crd"
GROUPS = {"applications": APPS, "clustersyncs": APPS, "fleets": FLEETS, "attachedclusters": CLUSTERS}
AT_ONCE = 24
HOOK_KEY = "budget"
FLAGGER = {"mode": "Flagger"}  # the members play it
# What a steady hub is written by: the leader's Lease, and the hub's own housekeeping.
OWN_WRITES = frozenset({"leases", "apiservices", "tokenreviews", "subjectaccessreviews", "endpointslices"})
WRITES = frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE"})


class Scene:
    """`view` shows Applications and ClusterSyncs as the hub tells them."""

    def __init__(self, lab: Lab, namespace: str, folder: Path) -> None:
        self.lab = lab
        self.api: Api = lab.hub.api
        self.namespace = namespace
        self.controller = Controller(lab.hub.kubeconfig, namespace, folder)
        self.view = View(self.api, namespace)

    def path(self, plural: str, name: str = "") -> str:
        parts = (GROUPS.get(plural, "/api/v1"), "namespaces", self.namespace, plural, name)
        return "/".join(part for part in parts if part)

    async def apply(self, plural: str, obj: dict[str, Any]) -> None:
        await self.api.apply(self.path(plural, obj["metadata"]["name"]), obj, manager="budgets")

    async def attach(self, kubeconfigs: Mapping[str, bytes]) -> None:
        """An AttachedCluster and its Secret for each name."""
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(name: str, content: bytes) -> None:
            async with slots:
                data = {"value": base64.b64encode(content).decode()}
                await self.apply("secrets", self.obj("v1", "Secret", f"{name}-kubeconfig", data=data))
                spec = {"kubeconfig": {"name": f"{name}-kubeconfig", "key": "value"}}
                cluster = self.obj("cluster.kurator.dev/v1alpha1", "AttachedCluster", name, spec=spec)
                await self.apply("attachedclusters", cluster)

        await asyncio.gather(*(one(name, content) for name, content in kubeconfigs.items()))

    async def fleet(self, names: Iterable[str], engine: dict[str, Any] = FLAGGER) -> None:
        clusters = [{"kind": "AttachedCluster", "name": name} for name in names]
        spec = {"clusters": clusters, "rolloutEngine": engine}
        await self.apply("fleets", self.obj("fleet.kurator.dev/v1alpha1", "Fleet", "fleet", spec=spec))

    async def application(self, repository: Repository, policies: list[dict[str, Any]], name: str = "web") -> None:
        git = {"url": repository.url, "interval": "1h", "ref": {"branch": "main"}}
        spec = {"source": {"gitRepository": git}, "syncPolicies": policies, "destination": {"fleet": "fleet"}}
        await self.apply("applications", self.obj("apps.kurator.dev/v1alpha1", "Application", name, spec=spec))

    def obj(self, api_version: str, kind: str, name: str, **content: Any) -> dict[str, Any]:
        metadata = {"name": name, "namespace": self.namespace}
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}

    async def look(self, name: str = "web") -> None:
        """Ask for a look at the source now, as the receiver does."""
        annotations = {"reconcile.fluxcd.io/requestedAt": f"{time.time()}"}
        await self.api.merge(self.path("applications", name), {"metadata": {"annotations": annotations}})

    async def hook_key(self) -> None:
        """The key that announcements are signed with."""
        data = {"token": base64.b64encode(HOOK_KEY.encode()).decode()}
        await self.apply("secrets", self.obj("v1", "Secret", "hook", data=data))

    async def announce(self, session: aiohttp.ClientSession, repository: Repository) -> float:
        """Tell the receiver of a push, as GitHub does; when that was, by the monotonic clock."""
        body = orjson.dumps({"ref": "refs/heads/main", "repository": {"clone_url": repository.url}})
        mac = hmac.new(HOOK_KEY.encode(), body, hashlib.sha256).hexdigest()
        headers = {"X-GitHub-Event": "push", "X-Hub-Signature-256": f"sha256={mac}"}
        url = f"http://{self.controller.receiver}/hook/{self.namespace}/hook"
        started = time.monotonic()
        async with session.post(url, data=body, headers=headers) as answer:
            answer.raise_for_status()
        return started

    async def hub_writes(self) -> Counter[str]:
        """Writes that the hub has carried out so far, by verb and resource; not those of its own housekeeping."""
        found: Counter[str] = Counter()
        for line in (await self.api.get("/metrics"))["text"].splitlines():
            if not line.startswith("apiserver_request_total{"):
                continue
            labels, _, value = line.partition("{")[2].rpartition("} ")
            named = dict(part.split("=", 1) for part in labels.replace('"', "").split(",") if "=" in part)
            if named["verb"] in WRITES and named["resource"] not in OWN_WRITES:
                found[f"{named['verb']} {named['resource']}/{named['subresource']}".rstrip("/")] += int(float(value))
        return found


class View:
    """Follows the ClusterSyncs and Applications of a namespace, and notes every write of their status."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self.syncs: dict[str, dict[str, Any]] = {}
        self._applied: dict[str, set[str]] = defaultdict(set)  # by commit, the ClusterSyncs that say so
        self.applications: dict[str, dict[str, Any]] = {}
        self.status_writes: Counter[str] = Counter()
        self.application_writes: list[tuple[float, int]] = []  # when, and how many bytes of status
        self.created: list[str] = []
        self.deleted: list[str] = []
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def follow(self) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(self._follow("clustersyncs", self._sync)),
            asyncio.create_task(self._follow("applications", self._application)),
        ]
        for task in tasks:
            task.add_done_callback(lambda _: self._changed.set())
        self._tasks = tasks
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def mark(self) -> None:
        """Count from here."""
        self.status_writes.clear()
        self.application_writes.clear()
        self.created.clear()
        self.deleted.clear()

    async def until(self, holds: Callable[[], bool], what: str, timeout: float = 600.0) -> float:
        """Wait for a state of the hub; when it came about, by the monotonic clock."""
        try:
            async with asyncio.timeout(timeout):
                while not holds():
                    for task in self._tasks:
                        if task.done():  # it only ends by an error
                            task.result()
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"not within {timeout:g} s: {what}; {self.describe()}") from None
        return time.monotonic()

    def applied(self, commit: str, count: int) -> Callable[[], bool]:
        """Whether `count` ClusterSyncs say that they have applied `commit`."""
        return lambda: len(self._applied[commit]) >= count

    def describe(self) -> str:
        """How ClusterSyncs stand, by the reason of their readiness."""
        reasons = Counter(_ready(sync) for sync in self.syncs.values())
        return f"{len(self.syncs)} ClusterSyncs: {dict(reasons.most_common(5))}"

    async def _follow(self, plural: str, seen: Callable[[str, dict[str, Any]], None]) -> None:
        path = f"{APPS}/namespaces/{self._namespace}/{plural}"
        version = "0"
        while True:
            try:
                async for event in self._api.watch(path, version, timeoutSeconds="3000"):
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        seen(event["type"], event["object"])
                        self._changed.set()
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(1)
            except ApiAnswer as answer:
                if answer.status not in (404, 429):  # the CRD was established a moment ago
                    raise
                await asyncio.sleep(0.2)

    def _sync(self, kind: str, obj: dict[str, Any]) -> None:
        name = obj["metadata"]["name"]
        before = self.syncs.get(name)
        self._applied[_commit(before)].discard(name)
        if kind == "DELETED":
            self.syncs.pop(name, None)
            self.deleted.append(name)
            return
        obj["metadata"].pop("managedFields", None)
        self.syncs[name] = obj
        self._applied[_commit(obj)].add(name)
        if before is None:
            self.created.append(name)
        elif before.get("status") != obj.get("status"):
            self.status_writes[name] += 1

    def _application(self, kind: str, obj: dict[str, Any]) -> None:
        obj["metadata"].pop("managedFields", None)
        before = self.applications.get(obj["metadata"]["name"])
        self.applications[obj["metadata"]["name"]] = obj
        if before is not None and before.get("status") != obj.get("status"):
            self.application_writes.append((time.monotonic(), len(orjson.dumps(obj.get("status")))))


def _commit(sync: dict[str, Any] | None) -> str:
    """The commit that it says is applied."""
    status = (sync or {}).get("status") or {}
    return str(status.get("lastAppliedRevision", "")).rpartition(":")[2]


def _ready(sync: dict[str, Any]) -> str:
    conditions = (sync.get("status") or {}).get("conditions") or []
    found = next((c for c in conditions if c["type"] == "Ready"), None)
    return f"{found['status']} {found['reason']}: {found.get('message', '')[:120]}" if found else "nothing yet"


def kustomization(**fields: Any) -> dict[str, Any]:
    """A policy's kustomization with the defaults of these measurements."""
    return {"interval": "5m", "path": "./", "prune": True, **fields}


@asynccontextmanager
async def open_scene(lab: Lab, name: str, folder: Path) -> AsyncIterator[Scene]:
    """A namespace on the hub, followed; the controller is stopped at the end, but started by the caller."""
    await lab.hub.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(CRDS))
    await lab.hub.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
    await lab.hub.api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    scene = Scene(lab, name, folder)
    try:
        async with scene.view.follow():
            yield scene
    finally:
        await scene.controller.stop()
