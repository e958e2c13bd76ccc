"""Fleet: the clusters that belong together, and what runs the canaries in them. Kurator's kind and fields."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from fleet_rollout_api.meta import Conditions, Model, ObjectMeta, OptionalText


class FleetMember(Model):
    """A cluster object, in the Fleet's namespace. Kind and name are read; the rest is an ObjectReference's."""

    kind: OptionalText = Field(None, description="AttachedCluster or Cluster.")
    name: OptionalText = Field(None, description="Name of the cluster object.")
    api_version: OptionalText = Field(None, description="API version of the cluster object; not needed.")
    namespace: OptionalText = Field(None, description="Not read: members are in the Fleet's namespace.")
    uid: OptionalText = Field(None, description="Not read.")
    resource_version: OptionalText = Field(None, description="Not read.")
    field_path: OptionalText = Field(None, description="Not read.")


class RolloutEngine(Model):
    """What runs the canaries in the members."""

    mode: Literal["Flagger"] = Field("Flagger", description="Flagger: Flagger itself, installed in the member.")


class FleetSpec(Model):
    """The members, and what they share."""

    clusters: list[FleetMember] = Field(default_factory=list, description="The members.")
    plugin: dict[str, Any] | None = Field(
        None, description="Kurator's plug-ins. Read: flagger, which says that Flagger runs the canaries."
    )
    rollout_engine: RolloutEngine | None = Field(None, description="What runs the canaries in the members.")


class FleetStatus(Model):
    """What was seen of the members. All fields but the conditions are Kurator's."""

    phase: str | None = Field(None, description="Kurator's summary: Pending, Running, Ready, Failed, Terminating, ...")
    reason: str | None = Field(None, description="Why the phase is what it is.")
    credential_secret: str | None = Field(None, description="Secret with the control plane's kubeconfig.")
    ready_clusters: int | None = Field(None, description="Number of members that answer.")
    un_ready_clusters: int | None = Field(None, description="Number of members that do not answer.")
    plugin_endpoints: dict[str, list[str]] | None = Field(None, description="Addresses of plug-ins.")
    observed_generation: int | None = Field(None, description="The generation of the spec that was looked at.")
    conditions: Conditions = Field(default_factory=list, description="What was observed.")


class Fleet(Model):
    """Clusters that belong together."""

    api_version: str = "fleet.kurator.dev/v1alpha1"
    kind: Literal["Fleet"] = "Fleet"
    metadata: ObjectMeta
    spec: FleetSpec = Field(default_factory=FleetSpec, description="The members, and what they share.")
    status: FleetStatus = Field(default_factory=FleetStatus, description="What was seen of the members.")
