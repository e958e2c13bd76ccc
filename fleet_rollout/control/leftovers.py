"""What a lost member still has of a ClusterSync that is gone, as a removal of its rollout needs it.

The record of an orphan stands in for the ClusterSync's status; where progress is kept is the caller's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fleet_rollout.control.loop import Key
from fleet_rollout_api.cluster_sync import (
    ClusterReference,
    ClusterSync,
    ClusterSyncSpec,
    ClusterSyncStatus,
    RolloutRecord,
)
from fleet_rollout_api.kustomization import KustomizationSpec
from fleet_rollout_api.meta import ObjectMeta

Keep = Callable[[RolloutRecord | None], Awaitable[None]]


class Leftover:
    """Looks like the draft of a ClusterSync to which nothing happens any more but the removal."""

    def __init__(
        self, key: Key, application: str, cluster: ClusterReference, rollout: RolloutRecord, keep: Keep
    ) -> None:
        self.key = key
        self.status = ClusterSyncStatus(rollout=rollout)
        self._keep = keep
        self.sync = stand_in(key, application, cluster)

    def change(self, **fields: Any) -> None:
        self.status = self.status.model_copy(update=fields)

    async def write(self) -> None:
        await self._keep(self.status.rollout)

    def require_current(self) -> None:
        """Nobody edits what is gone."""


def stand_in(key: Key, application: str, cluster: ClusterReference) -> ClusterSync:
    """For the ClusterSync that is gone: as much of it as is known."""
    return ClusterSync(
        metadata=ObjectMeta(name=key.name, namespace=key.namespace),
        spec=ClusterSyncSpec(
            application=application,
            policy="",
            cluster=cluster,
            kustomization=KustomizationSpec(interval="0s", prune=False),
        ),
    )
