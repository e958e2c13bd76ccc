"""The gates of a load tester, kept in a ConfigMap: neither a restart nor a second Pod forgets what people have opened.

A gate that is open is a key of the ConfigMap; a closed one is none, so that closing also tidies up.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from fleet_rollout.control.loadtesting import Persistence
from fleet_rollout.kube.access import SERVICE_ACCOUNT, connection_from_file, in_cluster
from fleet_rollout.kube.client import Cluster, Resource
from fleet_rollout.kube.errors import ApiError, Unreachable
from fleet_rollout.loadtester.gates import GatesUnavailable
from fleet_rollout.settings import Settings

CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", True)
MANAGER = "fleet-rollout-loadtester"
OPEN = "open"
# A hook waits 10 s for an answer, unless its Canary says otherwise.
CONNECT_TIMEOUT, REQUEST_TIMEOUT = 2.0, 5.0


class ConfigMapGates:
    """Reads at every question: whoever edits the ConfigMap by hand, or another Pod, is believed at once."""

    def __init__(self, cluster: Cluster, namespace: str, name: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name

    async def is_open(self, key: str) -> bool:
        with self._failures("read"):
            found = await self._cluster.get(CONFIG_MAPS, self._name, self._namespace)
        return found is not None and (found.get("data") or {}).get(key) == OPEN

    async def set(self, key: str, *, is_open: bool) -> None:
        """One key alone, so that two writers never undo each other's gates."""
        patch = {"data": {key: OPEN if is_open else None}}
        with self._failures("written"):
            try:
                await self._cluster.patch(
                    CONFIG_MAPS, self._name, self._namespace, patch, kind="merge", manager=MANAGER
                )
            except ApiError as error:
                if not error.is_not_found:
                    raise
                if is_open:
                    await self._create(patch)

    async def _create(self, patch: dict[str, Any]) -> None:
        metadata = {"name": self._name, "namespace": self._namespace}
        obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **patch}
        try:
            await self._cluster.create(CONFIG_MAPS, obj, manager=MANAGER)
        except ApiError as error:
            if not error.is_already_exists:
                raise
            await self._cluster.patch(CONFIG_MAPS, self._name, self._namespace, patch, kind="merge", manager=MANAGER)

    @contextlib.contextmanager
    def _failures(self, verb: str) -> Iterator[None]:
        where = f"ConfigMap {self._namespace}/{self._name}"
        try:
            yield
        except ApiError as error:
            hint = "; apply config/loadtester, or start with --no-persistence" if error.is_forbidden else ""
            raise GatesUnavailable(f"{where} cannot be {verb}: {error.reason}{hint}") from None
        except Unreachable as error:
            raise GatesUnavailable(f"{where} cannot be {verb}: {error.fact}") from None


def connect(persistence: Persistence) -> tuple[Cluster, ConfigMapGates]:
    """The gates that `persistence` names, and the client to close after them."""
    connection = connection_from_file(persistence.kubeconfig) if persistence.kubeconfig else in_cluster()
    settings = dataclasses.replace(
        Settings(), member_connect_timeout=CONNECT_TIMEOUT, member_request_timeout=REQUEST_TIMEOUT
    )
    cluster = Cluster(connection, settings)
    return cluster, ConfigMapGates(cluster, persistence.namespace or _own_namespace(), persistence.name)


def _own_namespace() -> str:
    try:
        return (SERVICE_ACCOUNT / "namespace").read_text().strip()
    except OSError:
        return "default"
