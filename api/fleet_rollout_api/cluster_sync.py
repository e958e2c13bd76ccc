"""ClusterSync: one policy of one Application on one cluster; the durable unit of work.

To an Application what a ReplicaSet is to a Deployment. Only the controller writes it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from fleet_rollout_api.application import KustomizationSpec, RolloutConfig
from fleet_rollout_api.meta import Condition, Model, ObjectMeta


class ClusterReference(Model):
    """A member, or the hub itself (`kind: currentCluster`, `name: host`)."""

    kind: Literal["AttachedCluster", "Cluster", "currentCluster"]
    name: Annotated[str, Field(min_length=1, max_length=253)]


class WantedArtifact(Model):
    """Which content to apply: `revision` for people, `digest` (sha256 of the served file) for identity."""

    revision: str
    digest: str


class ClusterSyncSpec(Model):
    """What the planner decided for this cluster."""

    application: Annotated[str, Field(max_length=63)]
    policy: Annotated[str, Field(max_length=253)]
    cluster: ClusterReference
    artifact: WantedArtifact | None = None
    kustomization: KustomizationSpec
    rollout: RolloutConfig | None = None
    engine: Literal["flagger"] = "flagger"
    requested_at: str | None = None


class InventoryEntry(Model):
    """`id` is `<namespace>_<name>_<group>_<kind>`, `v` the API version."""

    id: str
    v: str


class Inventory(Model):
    entries: list[InventoryEntry] = Field(default_factory=list)


class Attempt(Model):
    """The run under way or last finished: what was wanted, since when, by which leader, how often it failed."""

    fingerprint: str
    started_at: str
    epoch: int = 0
    failures: int = 0


class Attribution(Model):
    """What tells a Canary's verdict on the wanted content from a verdict on older content.

    `base_*` is what was there before the wanted state was applied, and is written before it is; the rest after.
    Hashes of inputs are ours (pod template and tracked configuration); those of specs are the engine's, and opaque.
    """

    wanted: str
    base_spec: str | None = None
    base_verdict: str | None = None
    base_inputs: str | None = None
    inputs: str | None = None
    changed_at: str | None = None
    promoted_inputs: str | None = None
    promoted_spec: str | None = None


class RolloutRecord(Model):
    """What the translation brought, so that it can be taken away again, and the Canary's mirrored status.

    `replicas` is Git's value, for restoration; `host` the rule written into the shared Ingress.
    """

    namespace: str
    workload: str
    workload_kind: str = "Deployment"
    workload_version: str = "apps/v1"
    service: str
    provider: str = ""
    host: str | None = None
    replicas: int | None = None
    objects: list[InventoryEntry] = Field(default_factory=list)
    canary: str | None = None
    canary_status: dict[str, Any] | None = None
    attribution: Attribution | None = None
    removing: bool = False


class ClusterSyncStatus(Model):
    """What is on the cluster. `inventory` is written before objects are created and after they are pruned."""

    observed_generation: int = -1
    conditions: list[Condition] = Field(default_factory=list)
    last_applied_revision: str | None = None
    last_attempted_revision: str | None = None
    last_applied_digest: str | None = None
    last_handled_reconcile_at: str | None = None
    applied_fingerprint: str | None = None
    applied_at: str | None = None
    attempt: Attempt | None = None
    inventory: Inventory | None = None
    inventory_parts: int = 0
    rollout: RolloutRecord | None = None


class ClusterSync(Model):
    api_version: str = "apps.kurator.dev/v1alpha1"
    kind: Literal["ClusterSync"] = "ClusterSync"
    metadata: ObjectMeta
    spec: ClusterSyncSpec
    status: ClusterSyncStatus = Field(default_factory=ClusterSyncStatus)
