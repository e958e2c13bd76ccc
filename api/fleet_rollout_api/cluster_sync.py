"""ClusterSync: one policy of one Application on one cluster; the durable unit of work.

To an Application what a ReplicaSet is to a Deployment. Only the controller writes it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from fleet_rollout_api.kustomization import KustomizationSpec
from fleet_rollout_api.meta import Conditions, Model, ObjectMeta, Rule, Time, checked
from fleet_rollout_api.rollout import RolloutConfig

Engine = Literal["hub", "agent", "flagger"]

# One writer alone: which of the fields is whose is not worth a third of the object, and of the time of each write.
OF_ONE_WRITER = {"x-kubernetes-map-type": "atomic"}


class ClusterReference(Model):
    """A member, or the hub itself (`kind: currentCluster`, `name: host`)."""

    kind: Literal["AttachedCluster", "Cluster", "currentCluster"] = Field(
        description="Kind of the cluster object; currentCluster is the hub itself."
    )
    name: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="Its name; host for the hub.")


class WantedArtifact(Model):
    """Which content to apply: `revision` for people, `digest` (sha256 of the served file) for identity."""

    revision: Annotated[str, Field(max_length=1024)] = Field(description="What it was made from, for people.")
    digest: Annotated[str, Field(max_length=256)] = Field(description="What it is: the digest of the stored file.")


class ClusterSyncSpec(Model):
    """What the planner decided for this cluster."""

    model_config = checked(
        Rule(
            "self.application == oldSelf.application && self.policy == oldSelf.policy"
            " && self.cluster == oldSelf.cluster",
            "application, policy and cluster cannot be changed: the inventory in the status belongs to them",
        ),
        **OF_ONE_WRITER,
    )

    application: Annotated[str, Field(max_length=63)] = Field(description="Name of the Application.")
    policy: Annotated[str, Field(max_length=253)] = Field(description="Name of the policy.")
    cluster: ClusterReference = Field(description="The cluster.")
    artifact: WantedArtifact | None = Field(None, description="The content to apply; nothing yet when left out.")
    kustomization: KustomizationSpec = Field(description="What to make of it.")
    rollout: RolloutConfig | None = Field(None, description="How new versions get their traffic.")
    engine: Engine = Field("hub", description="What runs the canary: hub, agent or flagger.")
    requested_at: Annotated[str, Field(max_length=256)] | None = Field(
        None, description="The last request to look again."
    )


class InventoryEntry(Model):
    """An object on the cluster: `id` is `<namespace>_<name>_<group>_<kind>`, `v` the API version."""

    id: Annotated[str, Field(max_length=1024)] = Field(description="namespace_name_group_kind.")
    v: Annotated[str, Field(max_length=63)] = Field(description="Its API version.")


class Inventory(Model):
    """Everything that was brought to the cluster, and is taken away again when it is no longer wanted."""

    entries: list[InventoryEntry] = Field(default_factory=list, description="The objects.")


class Attempt(Model):
    """The run under way or last finished: what was wanted, since when, by which leader, how often it failed."""

    fingerprint: str = Field(description="What was wanted, as a hash.")
    started_at: Time = Field(description="Since when.")
    epoch: int = Field(0, description="Which leader started it.")
    failures: int = Field(0, description="How often it failed since the last success.")


class Attribution(Model):
    """What tells a Canary's verdict on the wanted content from a verdict on older content.

    `base_*` is what a verdict on the wanted state has to differ from, `seen_*` what was there just before it was
    applied; both are written before it is, the rest after. Hashes of inputs are ours (pod template and tracked
    configuration); those of specs are the engine's, and opaque.
    """

    wanted: str = Field(description="What is wanted, as a hash of content and policy.")
    seen_spec: str | None = Field(None, description="The Canary's lastAppliedSpec when the intent was written.")
    seen_inputs: str | None = Field(None, description="Hash of the inputs when the intent was written.")
    base_spec: str | None = Field(None, description="The Canary's lastAppliedSpec before.")
    base_verdict: str | None = Field(None, description="When the Canary's verdict of before was reached.")
    base_inputs: str | None = Field(None, description="Hash of pod template and tracked configuration before.")
    inputs: str | None = Field(None, description="Hash of pod template and tracked configuration after.")
    changed_at: str | None = Field(None, description="When the inputs changed, by the member's clock.")
    promoted_inputs: str | None = Field(None, description="Hash of the inputs that were promoted last.")
    promoted_spec: str | None = Field(None, description="The Canary's lastPromotedSpec that belongs to them.")


class RolloutRecord(Model):
    """What the translation brought, so that it can be taken away again, and the Canary's mirrored status."""

    namespace: str = Field(description="Namespace of the workload.")
    workload: str = Field(description="Name of the workload.")
    workload_kind: str = Field("Deployment", description="Kind of the workload.")
    workload_version: str = Field("apps/v1", description="API version of the workload.")
    service: str = Field(description="Service in front of it.")
    provider: str = Field("", description="What routes the traffic.")
    host: str | None = Field(None, description="Host of the rule that was written into the shared Ingress.")
    ingress: str | None = Field(None, description="The user's own Ingress that the canary's is made from.")
    route: str | None = Field(None, description="The user's own ApisixRoute that the canary's is made from.")
    replicas: int | None = Field(None, description="Git's number of replicas, for when the rollout is removed.")
    objects: list[InventoryEntry] = Field(default_factory=list, description="What the translation brought.")
    canary: str | None = Field(None, description="Name of the Canary.")
    canary_status: dict[str, Any] | None = Field(None, description="The Canary's status, as it is in the member.")
    attribution: Attribution | None = Field(None, description="Which content the Canary's verdict is about.")
    removing: bool = Field(False, description="The rollout is being taken away.")


class ClusterSyncStatus(Model):
    """What is on the cluster. `inventory` is written before objects are created and after they are pruned."""

    model_config = checked(**OF_ONE_WRITER)

    observed_generation: int = Field(-1, description="The generation of the spec that was looked at.")
    conditions: Conditions = Field(default_factory=list, description="What was observed; Ready sums it up.")
    last_applied_revision: str | None = Field(None, description="The revision that is applied.")
    last_attempted_revision: str | None = Field(None, description="The revision that was tried last.")
    last_applied_digest: str | None = Field(None, description="The content that is applied.")
    last_handled_reconcile_at: str | None = Field(None, description="The last request that was carried out.")
    applied_fingerprint: str | None = Field(None, description="What is applied, as a hash of content and policy.")
    applied_at: Time | None = Field(None, description="When it was applied.")
    attempt: Attempt | None = Field(None, description="The run under way, or the last one.")
    inventory: Inventory | None = Field(None, description="What is on the cluster.")
    inventory_parts: list[str] = Field(
        default_factory=list, description="Names of the ConfigMaps that hold the rest of a long inventory."
    )
    rollout: RolloutRecord | None = Field(None, description="What the rollout brought, and how it goes.")


class ClusterSync(Model):
    """One policy of one Application on one cluster. Written by the service; change the Application instead."""

    api_version: str = "apps.kurator.dev/v1alpha1"
    kind: Literal["ClusterSync"] = "ClusterSync"
    metadata: ObjectMeta
    spec: ClusterSyncSpec = Field(description="What the planner decided for this cluster.")
    status: ClusterSyncStatus = Field(default_factory=ClusterSyncStatus, description="What is on the cluster.")
