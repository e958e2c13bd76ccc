"""What a soak works on: a hub, two members behind fault proxies, Applications with a repository each, a controller."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from fleet_rollout.decide.names import HUB_LABEL
from fleet_rollout.lab.lab import Lab
from fleet_rollout.lab.repository import Repository
from tests.faults.proxy import FaultProxy
from tests.faults.rules import CutAfter, CutBefore, CutInside, Delay, Faults, refusal
from tests.soak.gauges import Gauges
from tests.stories.guarded import application, apply, ensure_namespace, path
from tests.stories.replicas import Launcher, Replica

Object = dict[str, Any]
NAMESPACE = "soak"
REQUESTED = "reconcile.fluxcd.io/requestedAt"
FILES = 5
DEADLINE = 180.0
QUIET = 5.0


class Act(NamedTuple):
    """Something that happens, and how often beside the others."""

    weight: int
    do: Callable[[random.Random], Awaitable[None]]


class Scene:
    """`wanted` is what Git says: by Application, name of ConfigMap -> its value."""

    def __init__(self, lab: Lab, folder: Path, launcher: Launcher, proxies: dict[str, FaultProxy]) -> None:
        self.hub = lab.hub
        self.members = lab.members
        self.faults = next(iter(proxies.values())).faults
        self.counted: Counter[str] = Counter()
        self.gauges = Gauges()
        self.wanted: dict[str, dict[str, str]] = {}
        self.stuck: list[str] = []
        self.controller: Replica
        self.acts = {
            "commit": Act(10, self._commit),
            "fault": Act(8, self._fault),
            "cut": Act(1, self._cut),
            "replace": Act(1, self._replace),
            "pause": Act(1, self._pause),
            "kill": Act(1, self._kill),
            "outage": Act(1, self._outage),
        }
        self.calm_acts = {name: self.acts[name] for name in ("commit", "fault", "cut", "replace")}
        self._lab = lab
        self._folder = folder
        self._launcher = launcher
        self._proxies = proxies
        self._repositories: dict[str, Repository] = {}
        self._commits: dict[str, str] = {}
        self._number = 0

    # Beginning and end

    async def begin(self, applications: int) -> None:
        await apply(self.hub, "crd")
        await self.hub.crds_established()
        for cluster in (self.hub, *self.members.values()):
            await ensure_namespace(cluster, NAMESPACE)
        for name in self.members:
            await self._attach(name)
        clusters = [{"kind": "AttachedCluster", "name": name} for name in self.members]
        await self._bring("fleets", "fleet", "Fleet", {"clusters": clusters, "rolloutEngine": {"mode": "Flagger"}})
        for number in range(applications):
            name = f"app{number}"
            self._repositories[name] = await self._lab.git.create(name)
            self.wanted[name] = {f"{name}-{each}": "0" for each in range(FILES)}
            await self._push(name, self.wanted[name])
            await self._apply(name)
        await self.start()

    async def start(self) -> None:
        hub = self._folder / "hub.kubeconfig"
        hub.write_bytes(self._proxies["hub"].kubeconfig(self.hub.kubeconfig.read_bytes()))
        self.controller = await self._launcher.fork(
            kubeconfig=hub, namespace=NAMESPACE, own_namespace=NAMESPACE, data_dir=self._folder / "data"
        )

    async def calm(self) -> None:
        """No further fault, and a last look at every source."""
        self.faults.clear()
        for name in self.wanted:
            await self._request(name)

    async def settled(self) -> None:
        """Until every Application is Ready at its last commit, and nothing was written for a while."""
        try:
            async with asyncio.timeout(DEADLINE):
                while late := await self.unfinished():
                    await asyncio.sleep(0.5)
                count = -1
                while count != len(self.faults.writes):
                    count = len(self.faults.writes)
                    await asyncio.sleep(QUIET)
        except TimeoutError:
            print(f"not settled within {DEADLINE:.0f} s: {late}")

    async def unfinished(self) -> list[str]:
        """Applications that are not Ready at their last commit and request, with what they say."""
        found = {obj["metadata"]["name"]: obj for obj in await self._all("applications")}
        return [f"{name}: {said(found.get(name, {}))}" for name in self.wanted if not self._is_done(name, found)]

    def _is_done(self, name: str, found: dict[str, Object]) -> bool:
        app = found.get(name, {})
        status, commit = app.get("status") or {}, self._commits[name]
        rows = [row.get("kustomizationStatus", {}) for row in status.get("syncStatus", [])]
        requested = app.get("metadata", {}).get("annotations", {}).get(REQUESTED)
        return (
            any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))
            and len(rows) == len(self.members)
            and all(str(row.get("lastAppliedRevision", "")).endswith(commit) for row in rows)
            and all(row.get("lastHandledReconcileAt") == requested for row in rows)
        )

    async def remove_all(self) -> list[str]:
        """Delete every Application; the names of those that do not go."""
        for name in self.wanted:
            await self.hub.api.delete(path(NAMESPACE, "applications", name))
        left = list(self.wanted)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEADLINE):
                while left := [obj["metadata"]["name"] for obj in await self._all("applications")]:
                    await asyncio.sleep(0.5)
        return left

    # Looking

    async def live(self, member: str) -> dict[str, str]:
        """The ConfigMaps on a member that say they are ours, with their values."""
        where = path(NAMESPACE, "configmaps")
        found = await self.members[member].api.items(where, labelSelector=HUB_LABEL)
        return {obj["metadata"]["name"]: obj.get("data", {}).get("value", "") for obj in found}

    async def recorded(self, member: str) -> set[str]:
        """The names in all inventories of a member."""
        syncs = [sync for sync in await self._all("clustersyncs") if sync["spec"]["cluster"]["name"] == member]
        entries = [
            e for sync in syncs for e in ((sync.get("status") or {}).get("inventory") or {}).get("entries") or []
        ]
        return {entry["id"].split("_")[1] for entry in entries}

    def words(self) -> list[Object]:
        """What every controller has logged."""
        logs = [log.read_text() for log in sorted(self._folder.glob("controller-*.log"))]
        return [json.loads(line) for text in logs for line in text[: text.rfind("\n") + 1].splitlines()]

    async def orphan_records(self) -> list[str]:
        names = [obj["metadata"]["name"] for obj in await self._all("configmaps")]
        return [name for name in names if name.startswith("fleet-rollout-orphans-")]

    async def _all(self, plural: str) -> list[Object]:
        found: list[Object] = await self.hub.api.items(path(NAMESPACE, plural))
        return found

    # Acts

    async def _commit(self, chance: random.Random) -> None:
        """Change, add or remove some ConfigMaps of an Application."""
        name = chance.choice(list(self.wanted))
        changes: dict[str, str | None] = {}
        for each in chance.sample(range(FILES), chance.randint(1, 3)):
            self._number += 1
            gone = chance.random() < 0.3
            changes[f"{name}-{each}"] = None if gone else str(self._number)
        now = {**self.wanted[name], **changes}
        self.wanted[name] = {key: value for key, value in now.items() if value is not None}
        if not self.wanted[name]:  # an empty build is refused: keep one
            changes[f"{name}-0"] = self.wanted[name][f"{name}-0"] = "kept"
        await self._push(name, changes)
        await self._request(name)

    async def _fault(self, chance: random.Random) -> None:
        """Of the next writes to a cluster one is lost, late, refused, or carried out without an answer."""
        cluster = chance.choice(list(self._proxies))
        action = chance.choice(
            [
                *(CutBefore(), CutAfter(), CutInside(), Delay(2.0)),
                *(refusal(409), refusal(410), refusal(429, retry_after=1), refusal(500), refusal(503)),
            ]
        )
        self.faults.when(
            lambda asked: asked.is_write and asked.key.cluster == cluster, action, nth=chance.randint(1, 5)
        )

    async def _cut(self, chance: random.Random) -> None:
        chance.choice(list(self._proxies.values())).cut_all()

    async def _replace(self, chance: random.Random) -> None:
        """Delete an Application, and bring it again while that is under way or done."""
        name = chance.choice(list(self.wanted))
        await self.hub.api.delete(path(NAMESPACE, "applications", name))
        try:
            async with asyncio.timeout(DEADLINE):
                while await self.hub.api.find(path(NAMESPACE, "applications", name)) is not None:
                    await asyncio.sleep(0.2)
        except TimeoutError:
            self.stuck.append(name)
            return
        await self._apply(name)

    async def _pause(self, chance: random.Random) -> None:
        """Longer than its Lease lasts."""
        self.controller.signal(signal.SIGSTOP)
        await asyncio.sleep(chance.uniform(1, 8))
        self.controller.signal(signal.SIGCONT)

    async def _kill(self, chance: random.Random) -> None:
        await self.controller.close()
        await self.start()

    async def _outage(self, chance: random.Random) -> None:
        member = self.members[chance.choice(list(self.members))]
        await member.kill()
        await asyncio.sleep(chance.uniform(1, 8))
        await member.start()

    async def _push(self, name: str, changes: dict[str, Any]) -> None:
        files = {f"{key}.yaml": None if value is None else config_map(key, value) for key, value in changes.items()}
        self._commits[name] = await self._repositories[name].commit(files)

    async def _request(self, name: str) -> None:
        self._number += 1
        annotations = {REQUESTED: str(self._number)}
        await self.hub.api.merge(path(NAMESPACE, "applications", name), {"metadata": {"annotations": annotations}})

    async def _apply(self, name: str) -> None:
        obj = application(NAMESPACE, self._repositories[name].url)
        obj["metadata"]["name"] = name
        await self.hub.api.apply(path(NAMESPACE, "applications", name), obj, manager="soak")

    async def _attach(self, name: str) -> None:
        content = self._proxies[name].kubeconfig(self.members[name].kubeconfig.read_bytes())
        secret = {"data": {"value": base64.b64encode(content).decode()}, "metadata": {"name": name}}
        await self.hub.api.apply(
            path(NAMESPACE, "secrets", name), {"apiVersion": "v1", "kind": "Secret", **secret}, manager="soak"
        )
        await self._bring("attachedclusters", name, "AttachedCluster", {"kubeconfig": {"name": name, "key": "value"}})

    async def _bring(self, plural: str, name: str, kind: str, spec: Object) -> None:
        group = path(NAMESPACE, plural).split("/")[2]
        obj = {"apiVersion": f"{group}/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}}
        await self.hub.api.apply(path(NAMESPACE, plural, name), {**obj, "spec": spec}, manager="soak")


@contextlib.asynccontextmanager
async def opened(lab: Lab, folder: Path, applications: int) -> AsyncIterator[Scene]:
    """A scene whose controller works; all of it ends with the block."""
    faults, launcher = Faults(), Launcher(folder)
    clusters = {"hub": lab.hub, **lab.members}
    with contextlib.ExitStack() as stack:
        proxies = {
            name: stack.enter_context(FaultProxy(name, cluster.server, cluster.ca, faults))
            for name, cluster in clusters.items()
        }
        scene = Scene(lab, folder, launcher, proxies)
        try:
            await scene.begin(applications)
            yield scene
            await scene.controller.close()
        finally:
            await launcher.close()


def config_map(name: str, value: str) -> str:
    metadata = {"name": name, "namespace": NAMESPACE}
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"value": value}})


def said(app: Object) -> str:
    """What it says of itself."""
    conditions = (app.get("status") or {}).get("conditions", [])
    return "; ".join(c["message"] for c in conditions if c["type"] == "Ready") or "nothing yet"
