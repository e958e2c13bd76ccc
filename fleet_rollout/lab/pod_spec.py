"""What a played Pod's spec asks for, and the status that says how it goes: images, environment, files, conditions.

Knows nothing of processes; the only I/O is reading the ConfigMaps and Secrets that a spec refers to.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet_rollout.lab.api import Api

Object = dict[str, Any]

# No such image, for stories about bad ones: a repository whose last part starts with `broken`, or this tag.
BROKEN_REPOSITORY = "broken"
MISSING_TAG = "missing"
REFERENCE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")


class NotResolved(Exception):
    """A ConfigMap, a Secret or a key that a spec needs is not there."""


@dataclass(frozen=True)
class Image:
    """`registry/repository:tag`, without a digest."""

    repository: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> Image:
        name = text.partition("@")[0]
        head, _, last = name.rpartition("/")
        repository, _, tag = last.partition(":")
        return cls(f"{head}/{repository}" if head else repository, tag or "latest")

    @property
    def can_be_pulled(self) -> bool:
        last = self.repository.rpartition("/")[2]
        return not last.startswith(BROKEN_REPOSITORY) and self.tag != MISSING_TAG


@dataclass(frozen=True)
class ContainerState:
    """How one container does. `waiting` holds a reason, and then it does not run."""

    name: str
    image: str
    ready: bool = False
    restarts: int = 0
    started: str = ""
    waiting: str = ""
    message: str = ""

    def status(self) -> Object:
        state: Object = {"running": {"startedAt": self.started}}
        if self.waiting:
            state = {"waiting": {"reason": self.waiting, "message": self.message}}
        return {
            "name": self.name,
            "image": self.image,
            "imageID": "" if self.waiting else self.image,
            "ready": self.ready,
            "started": not self.waiting,
            "restartCount": self.restarts,
            "state": state,
        }


def status(pod: Object, ip: str, containers: list[ContainerState], previous: list[Object], now: str) -> Object:
    """The Pod's status; `previous` holds its conditions until now, whose times stay where nothing changed."""
    running = all(not container.waiting or container.restarts for container in containers)
    ready = all(container.ready for container in containers)
    old = {condition["type"]: condition for condition in previous}
    facts = {"PodScheduled": True, "Initialized": True, "ContainersReady": ready, "Ready": ready}
    return {
        "phase": "Running" if running else "Pending",
        "hostIP": "127.0.0.1",
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "startTime": pod["metadata"]["creationTimestamp"],
        "conditions": [_condition(kind, fact, old.get(kind), now) for kind, fact in facts.items()],
        "containerStatuses": [container.status() for container in containers],
        "initContainerStatuses": [_finished(init, now) for init in pod["spec"].get("initContainers", [])],
    }


def _condition(kind: str, fact: bool, old: Object | None, now: str) -> Object:
    value = "True" if fact else "False"
    since = old["lastTransitionTime"] if old and old["status"] == value else now
    condition = {"type": kind, "status": value, "lastTransitionTime": since}
    return condition if fact else condition | {"reason": "ContainersNotReady"}


def _finished(container: Object, now: str) -> Object:
    done = {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now}
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": container["image"],
        "ready": True,
        "restartCount": 0,
        "state": {"terminated": done},
    }


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Kubernetes' `$(NAME)`; unknown names stay as they are."""
    return REFERENCE.sub(lambda found: environment.get(found[1], found[0]), text)


class Resolver:
    """Reads what the specs of one cluster's Pods refer to."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def environment(self, pod: Object, container: Object, ip: str) -> dict[str, str]:
        """Raises NotResolved."""
        namespace = pod["metadata"]["namespace"]
        found: dict[str, str] = {}
        for source in container.get("envFrom", []):
            content = await self._source(namespace, source)
            found |= {source.get("prefix", "") + key: value.decode() for key, value in content.items()}
        for entry in container.get("env", []):
            value = await self._value(pod, entry, ip)
            if value is not None:
                found[entry["name"]] = expand(value, found)
        return found

    async def mounts(self, pod: Object, container: Object, folder: Path) -> dict[str, Path]:
        """Where each of the container's mounts is on this machine; ConfigMaps and Secrets are written there."""
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
        found = {}
        for mount in container.get("volumeMounts", []):
            path = folder / mount["name"]
            path.mkdir(parents=True, exist_ok=True)
            content = await self._volume(pod["metadata"]["namespace"], volumes.get(mount["name"], {}))
            for name, data in content.items():
                (path / name).write_bytes(data)
            found[mount["mountPath"]] = path / mount.get("subPath", "")
        return found

    async def _volume(self, namespace: str, volume: Object) -> dict[str, bytes]:
        if "configMap" in volume:
            return await self._source(namespace, {"configMapRef": volume["configMap"]})
        if "secret" in volume:
            reference = volume["secret"] | {"name": volume["secret"]["secretName"]}
            return await self._source(namespace, {"secretRef": reference})
        return {}

    async def _value(self, pod: Object, entry: Object, ip: str) -> str | None:
        source = entry.get("valueFrom")
        if source is None:
            return str(entry.get("value", ""))
        if "fieldRef" in source:
            return _field(pod, source["fieldRef"]["fieldPath"], ip)
        namespace = pod["metadata"]["namespace"]
        for name, kind in (("configMapKeyRef", "configMapRef"), ("secretKeyRef", "secretRef")):
            if name in source:
                content = await self._source(namespace, {kind: source[name]})
                return self._key(source[name], content)
        return None

    def _key(self, reference: Object, content: dict[str, bytes]) -> str | None:
        if reference["key"] in content:
            return content[reference["key"]].decode()
        if reference.get("optional"):
            return None
        raise NotResolved(f"couldn't find key {reference['key']} in {reference['name']}")

    async def _source(self, namespace: str, source: Object) -> dict[str, bytes]:
        if "configMapRef" in source:
            plural, reference = "configmaps", source["configMapRef"]
        else:
            plural, reference = "secrets", source["secretRef"]
        found = await self._api.find(f"/api/v1/namespaces/{namespace}/{plural}/{reference['name']}")
        if found is None:
            if reference.get("optional"):
                return {}
            raise NotResolved(f'{plural.removesuffix("s")} "{reference["name"]}" not found')
        if plural == "secrets":
            return {key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()}
        return {key: value.encode() for key, value in (found.get("data") or {}).items()}


def _field(pod: Object, path: str, ip: str) -> str:
    """A downward API field; what the lab does not play is empty."""
    if path == "status.podIP":
        return ip
    indexed = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
    if indexed:
        return str(pod["metadata"].get(indexed[1], {}).get(indexed[2], ""))
    value: Any = pod
    for part in path.split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    return str(value)
