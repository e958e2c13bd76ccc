"""Stories: the whole service on real API servers, one service a test, confined to the test's own namespace.

A story is told with `story`: push to Git, apply objects on the hub, look at hub and members.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import yaml

from fleet_rollout.control import world
from fleet_rollout.control.run import Health, run
from fleet_rollout.lab import flagger
from fleet_rollout.lab.lab import LabCluster
from fleet_rollout.lab.repository import Repository
from fleet_rollout.settings import Settings
from tests.ssh_server import SshServer

CRDS = Path(__file__).parents[2] / "config" / "crd"
APPS = "/apis/apps.kurator.dev/v1alpha1"
FLEETS = "/apis/fleet.kurator.dev/v1alpha1"
CLUSTERS = "/apis/cluster.kurator.dev/v1alpha1"
DEADLINE = 60.0


@pytest.fixture(scope="session")
async def crds(hub: LabCluster) -> None:
    """Our CRDs on the hub, established."""
    await hub.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(CRDS))
    await hub.crds_established()


@pytest.fixture
async def mesh(member: LabCluster) -> LabCluster:
    """The member m1 with gateway, Prometheus and real Flagger, which works on every Canary there."""
    await flagger.install(member)
    return member


@pytest.fixture
async def story(
    crds: None,
    hub: LabCluster,
    members: dict[str, LabCluster],
    namespace: Callable[..., Awaitable[str]],
    git_repo: Callable[..., Awaitable[Repository]],
    tmp_path: Path,
) -> AsyncIterator[Story]:
    name = await namespace("story")
    told = Story(name, hub, dict(members), git_repo, tmp_path)
    try:
        yield told
    finally:
        await told.end()


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the service's wall clock so many hours ahead."""
    ahead = timedelta()

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + ahead

    def set_(hours: float) -> None:
        nonlocal ahead
        ahead = timedelta(hours=hours)

    monkeypatch.setattr(world, "datetime", Clock)
    return set_


@pytest.fixture
async def ssh_server(story: Any) -> AsyncIterator[SshServer]:
    server = SshServer(story.folder / "ssh")
    server.root.mkdir()
    await server.start()
    yield server
    await story.stop()
    await server.end()


class Story:
    """One test's corner of the lab, and the service that works in it."""

    def __init__(
        self,
        namespace: str,
        hub: LabCluster,
        members: dict[str, LabCluster],
        git_repo: Callable[..., Awaitable[Repository]],
        folder: Path,
    ) -> None:
        self.namespace = namespace
        self.hub = hub
        self.members = members
        self.git_repo = git_repo
        self.folder = folder
        self.health = Health()
        self._service: asyncio.Task[None] | None = None
        self._joined: list[LabCluster] = []

    # The service

    def settings(self, **changes: Any) -> Settings:
        values: dict[str, Any] = {
            "kubeconfig": self.hub.kubeconfig,
            "namespace": self.namespace,
            "own_namespace": self.namespace,
            "data_dir": self.folder / "data",
            "allow_loopback_sources": True,
            "artifact_address": "127.0.0.1:0",
            "receiver_address": "127.0.0.1:0",
            "telemetry_address": "127.0.0.1:0",
            "member_check_interval": 5.0,
            "retry_min": 0.5,
            "retry_max": 5.0,
            "lease_duration": 15.0,
            "shutdown_timeout": 5.0,
        }
        return Settings(**(values | changes))

    async def start(self, **changes: Any) -> None:
        """Start the service; returns when it leads and has read the hub."""
        ready = asyncio.Event()
        self._service = asyncio.create_task(run(self.settings(**changes), ready=ready, health=self.health))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({self._service, waiting}, timeout=DEADLINE, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._service.done():
            await self._service
        assert ready.is_set(), "the service did not become ready"

    async def stop(self) -> None:
        """Stop the service as SIGTERM does."""
        if self._service is not None:
            self._service.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._service
            self._service = None

    async def end(self) -> None:
        """Stop, and let go of finalizers, so that the namespaces can go."""
        await self.stop()
        for cluster in self._joined:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):  # it may be stopped
                await cluster.api.delete(f"/api/v1/namespaces/{self.namespace}")
        for plural in ("applications", "clustersyncs"):
            for obj in await self.hub.api.items(f"{APPS}/namespaces/{self.namespace}/{plural}"):
                if obj["metadata"].get("finalizers"):
                    await self.hub.api.merge(
                        self.path(plural, obj["metadata"]["name"]), {"metadata": {"finalizers": []}}
                    )

    # The hub

    def path(self, plural: str, name: str = "", subresource: str = "") -> str:
        groups = {"applications": APPS, "clustersyncs": APPS, "fleets": FLEETS, "attachedclusters": CLUSTERS}
        group = groups.get(plural, "/api/v1")
        return "/".join(part for part in (group, "namespaces", self.namespace, plural, name, subresource) if part)

    async def apply(self, text: str | dict[str, Any], cluster: LabCluster | None = None) -> None:
        """kubectl apply, server-side, in the story's namespace unless the object names another."""
        content = text if isinstance(text, str) else yaml.safe_dump(text)
        await (cluster or self.hub).kubectl("apply", "--server-side", "-n", self.namespace, "-f", "-", stdin=content)

    async def join(self, cluster: LabCluster, name: str | None = None) -> None:
        """Make a further cluster of the lab known as a member, with the story's namespace in it."""
        self.members[name or cluster.name] = cluster
        self._joined.append(cluster)
        if await cluster.api.find(f"/api/v1/namespaces/{self.namespace}") is None:
            await cluster.api.create("/api/v1/namespaces", {"metadata": {"name": self.namespace}})

    async def attach(self, *names: str, labels: dict[str, dict[str, str]] | None = None) -> None:
        """AttachedClusters with kubeconfig Secrets for members of the lab."""
        for name in names:
            kubeconfig = self.members[name].kubeconfig.read_bytes()
            await self.attach_as(name, kubeconfig, (labels or {}).get(name, {}))

    async def attach_as(self, name: str, kubeconfig: bytes, labels: dict[str, str] | None = None) -> None:
        """An AttachedCluster that is reached by this kubeconfig."""
        await self.kubeconfig(name, kubeconfig)
        cluster = {
            "apiVersion": "cluster.kurator.dev/v1alpha1",
            "kind": "AttachedCluster",
            "metadata": {"name": name, "namespace": self.namespace, "labels": labels or {}},
            "spec": {"kubeconfig": {"name": f"{name}-kubeconfig", "key": "value"}},
        }
        await self.hub.api.apply(self.path("attachedclusters", name), cluster, manager="story")

    async def kubeconfig(self, name: str, content: bytes) -> None:
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": f"{name}-kubeconfig", "namespace": self.namespace},
            "data": {"value": base64.b64encode(content).decode()},
        }
        await self.hub.api.apply(self.path("secrets", f"{name}-kubeconfig"), secret, manager="story")

    async def fleet(self, *names: str, name: str = "fleet", labels: dict[str, dict[str, str]] | None = None) -> None:
        """A Fleet of members of the lab, attached."""
        await self.attach(*names, labels=labels)
        await self.set_fleet(names, name=name)

    async def set_fleet(self, names: Iterable[str], *, name: str = "fleet", **spec: Any) -> None:
        """Canaries are played by hand, so that no engine of ours may run them, unless the story says otherwise."""
        spec.setdefault("rolloutEngine", {"mode": "Flagger"})
        clusters = [{"kind": "AttachedCluster", "name": member} for member in names]
        fleet = {
            "apiVersion": "fleet.kurator.dev/v1alpha1",
            "kind": "Fleet",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"clusters": clusters, **spec},
        }
        await self.hub.api.apply(self.path("fleets", name), fleet, manager="story")

    async def application(
        self,
        repository: Repository | str,
        *policies: dict[str, Any],
        name: str = "web",
        fleet: str | None = "fleet",
        source: dict[str, Any] | None = None,
        interval: str = "1h",
    ) -> None:
        """Apply an Application; a policy is a kustomization's fields, or a whole policy where it has one.

        `source` changes fields of the Git source; None leaves one out.
        """
        url = repository if isinstance(repository, str) else repository.url
        whole = [p if p.keys() & {"kustomization", "helm"} else {"kustomization": kustomization(**p)} for p in policies]
        git = {"url": url, "interval": interval, "ref": {"branch": "main"}, **(source or {})}
        spec: dict[str, Any] = {
            "source": {"gitRepository": {field: value for field, value in git.items() if value is not None}},
            "syncPolicies": whole or [{"kustomization": kustomization()}],
        }
        if fleet is not None:
            spec["destination"] = {"fleet": fleet}
        obj = {
            "apiVersion": "apps.kurator.dev/v1alpha1",
            "kind": "Application",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": spec,
        }
        await self.hub.api.apply(self.path("applications", name), obj, manager="story")

    async def request(self, value: str, name: str = "web") -> None:
        """What `kubectl annotate` or the receiver does: ask for a look at the source now."""
        annotations = {"reconcile.fluxcd.io/requestedAt": value}
        await self.hub.api.merge(self.path("applications", name), {"metadata": {"annotations": annotations}})

    async def delete(self, plural: str, name: str) -> None:
        await self.hub.api.delete(self.path(plural, name))

    # Looking

    async def read(self, name: str = "web") -> dict[str, Any]:
        return await self.hub.api.get(self.path("applications", name))

    async def events(self, name: str = "web", kind: str = "Application") -> list[tuple[str, str, str]]:
        """Type, reason and message of the events about an object so far, in no order."""
        about = f"involvedObject.kind={kind},involvedObject.name={name}"
        found = await self.hub.api.items(self.path("events"), fieldSelector=about)
        return [(event["type"], event["reason"], event["message"]) for event in found]

    async def versions(
        self, since: dict[str, Any], name: str = "web", plural: str = "applications"
    ) -> list[dict[str, Any]]:
        """Every version of the object that was written after `since`, up to now."""
        latest = (await self.hub.api.get(self.path(plural, name)))["metadata"]["resourceVersion"]
        version = since["metadata"]["resourceVersion"]
        found: list[dict[str, Any]] = []
        if version == latest:
            return found
        watched = self.hub.api.watch(self.path(plural), version, fieldSelector=f"metadata.name={name}")
        async with contextlib.aclosing(watched) as events:
            async for event in events:
                if event["type"] != "BOOKMARK":
                    found.append(event["object"])
                if found and found[-1]["metadata"]["resourceVersion"] == latest:
                    break
        return found

    async def sync(self, name: str) -> dict[str, Any] | None:
        return await self.hub.api.find(self.path("clustersyncs", name))

    async def until(self, check: Callable[[], Awaitable[Any]], timeout: float = DEADLINE) -> Any:
        """Wait until `check` gives something true, and return it; fails with the state of the story."""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    self._service_is_alive()
                    if found := await check():
                        return found
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"not within {timeout:g}s: {check}\n{await self.describe()}")

    def _service_is_alive(self) -> None:
        if self._service is not None and self._service.done():
            self._service.result()
            pytest.fail("the service has ended")

    async def condition(
        self, type_: str, status: str, reason: str | None = None, *, name: str = "web", timeout: float = DEADLINE
    ) -> dict[str, Any]:
        """Wait for a condition of the Application, at its current generation."""

        async def holds() -> dict[str, Any] | None:
            obj = await self.read(name)
            return matching(obj, type_, status, reason)

        found: dict[str, Any] = await self.until(holds, timeout)
        return found

    async def sync_condition(
        self, sync: str, type_: str, status: str, reason: str | None = None, timeout: float = DEADLINE
    ) -> dict[str, Any]:
        """Wait for a condition of a ClusterSync."""

        async def holds() -> dict[str, Any] | None:
            obj = await self.sync(sync)
            return matching(obj, type_, status, reason) if obj else None

        found: dict[str, Any] = await self.until(holds, timeout)
        return found

    async def applied(self, commit: str, *syncs: str, timeout: float = DEADLINE) -> None:
        """Wait until the ClusterSyncs (all of the namespace if none is named) are Ready at `commit`."""

        async def are() -> bool:
            found = await self.hub.api.items(self.path("clustersyncs"))
            chosen = [s for s in found if not syncs or s["metadata"]["name"] in syncs]
            return len(chosen) >= max(1, len(syncs)) and all(is_applied(s, commit) for s in chosen)

        await self.until(are, timeout)

    async def row(self, name: str, application: str = "web", **wanted: str) -> dict[str, Any]:
        """Wait for a row of the Application's status in which every wanted field holds the wanted text."""

        async def holds() -> dict[str, Any] | None:
            for row in (await self.read(application)).get("status", {}).get("syncStatus", []):
                if row["name"] == name and all(text in row.get(field, "") for field, text in wanted.items()):
                    return row
            return None

        found: dict[str, Any] = await self.until(holds)
        return found

    async def gone(self, plural: str, *names: str, timeout: float = DEADLINE) -> None:
        """Wait until none of these objects is on the hub."""

        async def are() -> bool:
            return all([await self.hub.api.find(self.path(plural, name)) is None for name in names])

        await self.until(are, timeout)

    async def config_map(self, member: str, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        cluster = self.hub if member == "hub" else self.members[member]
        return await cluster.api.find(f"/api/v1/namespaces/{namespace or self.namespace}/configmaps/{name}")

    async def orphans(self) -> list[dict[str, Any]]:
        """What is on record of lost members, record by record."""
        found = await self.hub.api.items(self.path("configmaps"))
        records = [obj for obj in found if obj["metadata"]["name"].startswith("fleet-rollout-orphans-")]
        return [orjson.loads(text) for record in records for text in (record.get("data") or {}).values()]

    async def no_orphans(self) -> None:
        """Wait until nothing is on record any more."""

        async def are_none() -> bool:
            return not await self.orphans()

        await self.until(are_none)

    async def orphaned_before(self) -> None:
        """What is on record, as versions wrote it that had one record for all clusters of one name."""
        for obj in await self.hub.api.items(self.path("configmaps")):
            name = obj["metadata"]["name"]
            if not name.startswith("fleet-rollout-orphans-"):
                continue
            (text,) = obj["data"].values()
            left = orjson.loads(text)
            record = f"fleet-rollout-orphans-{left['cluster']['name']}"
            data = {f"{left['namespace']}.{left['name']}": text}
            made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": record}, "data": data}
            await self.hub.api.apply(self.path("configmaps", record), made, manager="story")
            await self.hub.api.delete(self.path("configmaps", name))

    async def describe(self) -> str:
        """Everything a failing story needs to say."""
        objects = []
        for plural in ("applications", "clustersyncs", "fleets", "attachedclusters"):
            objects += await self.hub.api.items(self.path(plural))
        for obj in objects:
            obj["metadata"].pop("managedFields", None)
        return yaml.safe_dump_all(objects)


def kustomization(**fields: Any) -> dict[str, Any]:
    """A policy's kustomization with the defaults of these tests."""
    return {"interval": "1h", "path": "./", "prune": True, **fields}


def config_map(name: str, namespace: str | None = None, **data: str) -> str:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


def matching(obj: dict[str, Any], type_: str, status: str, reason: str | None) -> dict[str, Any] | None:
    for condition in (obj.get("status") or {}).get("conditions", []):
        is_current = condition.get("observedGeneration", 0) >= obj["metadata"]["generation"]
        if condition["type"] == type_ and condition["status"] == status and is_current:
            return condition if reason in (None, condition["reason"]) else None
    return None


def is_applied(sync: dict[str, Any], commit: str) -> bool:
    status = sync.get("status") or {}
    return (
        str(status.get("lastAppliedRevision", "")).endswith(commit)
        and matching(sync, "Ready", "True", None) is not None
    )
