"""Whom a replica that stands by asks for artifacts, and what the hub says of them."""

from __future__ import annotations

from fleet_rollout.control.artifacts import artifact_of, source_in
from fleet_rollout.control.world import APPLICATIONS
from fleet_rollout.kube.client import Cluster
from fleet_rollout.kube.errors import kube_errors
from fleet_rollout.kube.lease import Leadership
from fleet_rollout.settings import Settings
from fleet_rollout.sources import Artifact


class Standby:
    """The sources room's guide. `hub` must be a client without a fence."""

    def __init__(self, hub: Cluster, leadership: Leadership, settings: Settings) -> None:
        self._hub = hub
        self._leadership = leadership
        self._settings = settings

    @property
    def leads(self) -> bool:
        return self._leadership.is_leading

    @property
    def address(self) -> str | None:
        return self._leadership.artifacts_of_holder

    async def named(self, namespace: str, name: str) -> Artifact | None:
        if self._settings.namespace not in (None, namespace):
            return None
        with kube_errors("ArtifactUnavailable", f"Application/{namespace}/{name}"):
            obj = await self._hub.get(APPLICATIONS, name, namespace)
        return artifact_of(source_in(obj)) if obj is not None else None
