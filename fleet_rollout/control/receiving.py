"""The receiver's two ends on the hub: a Secret is read for the key, Applications are annotated as the only effect.

Every replica receives; a standby annotates as well as the leader, so that no announcement is lost in a hand-over.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime

from pydantic import ValidationError

from fleet_rollout.control.artifacts import secret_data
from fleet_rollout.control.world import APPLICATIONS, SECRETS
from fleet_rollout.decide.announcements import concerns
from fleet_rollout.decide.gitrefs import canonical_repository
from fleet_rollout.decide.names import MANAGER_HUB, REQUESTED_AT
from fleet_rollout.kube.client import Cluster
from fleet_rollout.kube.errors import kube_errors
from fleet_rollout.settings import Settings
from fleet_rollout.sources.receiver import Receiver, serve_receiver
from fleet_rollout_api.application import Application


class Receiving:
    """`url` is where it listens, once `serve` was entered."""

    def __init__(self, hub: Cluster, settings: Settings) -> None:
        self._hub = hub
        self._settings = settings
        self.url = ""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Listen until the block ends."""
        runner, self.url = await serve_receiver(Receiver(self._read_secret, self._announce), self._settings)
        try:
            yield
        finally:
            await runner.cleanup()

    async def _read_secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        if self._settings.namespace not in (None, namespace):
            return None
        with kube_errors("ReceiverFailed", f"Secret/{namespace}/{name}"):
            secret = await self._hub.get(SECRETS, name, namespace)
        return secret_data(secret) if secret is not None else None

    async def _announce(self, namespace: str, urls: tuple[str, ...], ref: str, now: datetime) -> None:
        """Ask every Application of the namespace that uses this repository, and may use this ref, to look now."""
        patch = {"metadata": {"annotations": {REQUESTED_AT: now.isoformat()}}}
        with kube_errors("ReceiverFailed", f"Applications of {namespace}"):
            objects, _ = await self._hub.list(APPLICATIONS, namespace)
            for obj in objects:
                try:
                    git = Application.model_validate(obj).spec.source.git_repository
                except ValidationError:
                    continue  # its own worker says so in its status
                if git is not None and canonical_repository(git.url) in urls and concerns(git.ref, ref):
                    name = obj["metadata"]["name"]
                    await self._hub.patch(APPLICATIONS, name, namespace, patch, kind="merge", manager=MANAGER_HUB)
