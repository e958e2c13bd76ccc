"""Fleet: the clusters that belong together, and what runs the canaries in them. Kurator's kind and fields."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from fleet_rollout_api.meta import Conditions, LocalReference, Model, ObjectMeta, OptionalText, Rule, checked
from fleet_rollout_api.providers import MeshProvider

EngineMode = Literal["Hub", "Agent", "Flagger"]
Url = Annotated[str, Field(pattern=r"^https?://[^\s]+$", max_length=2048)]
LabelKey = Annotated[str, Field(min_length=1, max_length=317)]
# A namespace, a Service, a host, an address or a range of them, with or without port, or a URL.
AllowedAddress = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:/\[\]-]+$", max_length=300)]
# Open but for the one part that rules have to see.
Plugins = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "properties": {
                "flagger": {
                    "type": "object",
                    "description": "Flagger in every member; it then runs the canaries.",
                    "x-kubernetes-preserve-unknown-fields": True,
                }
            },
            "x-kubernetes-preserve-unknown-fields": True,
        }
    ),
]


class FleetMember(Model):
    """A cluster object, in the Fleet's namespace. Kind and name are read; the rest is an ObjectReference's."""

    kind: OptionalText = Field(None, description="AttachedCluster or Cluster.")
    name: OptionalText = Field(None, description="Name of the cluster object.")
    api_version: OptionalText = Field(None, description="API version of the cluster object; not needed.")
    namespace: OptionalText = Field(None, description="Not read: members are in the Fleet's namespace.")
    uid: OptionalText = Field(None, description="Not read.")
    resource_version: OptionalText = Field(None, description="Not read.")
    field_path: OptionalText = Field(None, description="Not read.")


class Notifier(Model):
    """Who is told about every canary that names no alerts of its own."""

    model_config = checked(
        Rule(
            "has(self.address) != has(self.secretRef)",
            "set exactly one of address and secretRef, a Secret in the Fleet's namespace with the key address",
        )
    )

    type: Literal["slack", "msteams", "discord", "rocket", "gchat"] = Field(description="Which chat system.")
    address: Url | None = Field(None, description="Address of its webhook; whoever may read the Fleet sees it.")
    secret_ref: LocalReference | None = Field(
        None, description="Secret in the Fleet's namespace: address, and token for Slack's API."
    )
    channel: str | None = Field(None, description="Where to write; general when left out.")
    username: str | None = Field(None, description="Name to write under; flagger when left out.")
    proxy: Url | None = Field(None, description="HTTP proxy to go through.")
    severity: Literal["info", "warn", "error"] = Field("info", description="Lowest severity that is sent.")


class RolloutEngine(Model):
    """What runs the canaries in the members, and what it takes as given where a Canary says nothing.

    In modes Agent and Flagger only the mode is read: both have flags of their own.
    """

    mode: EngineMode | None = Field(
        None,
        description="Hub: this service, from the hub. Agent: fleet-rollout agent in the member. Flagger: Flagger in "
        "the member. Hub when left out, Flagger where spec.plugin.flagger is set.",
    )
    mesh_provider: MeshProvider | None = Field(
        None, description="What routes the traffic of Canaries that name no provider; istio when left out."
    )
    metrics_server: Url | None = Field(
        None,
        description="Prometheus for the built-in queries; http://prometheus.istio-system:9090 when left out.",
    )
    event_webhook: Url | None = Field(None, description="Gets every event of a canary as a POST.")
    alerts: Notifier | None = Field(None, description="Who is told about canaries that name no alerts.")
    selector_labels: Annotated[list[LabelKey], Field(min_length=1, max_length=20)] | None = Field(
        None,
        description="Labels by which a workload selects its Pods, tried in this order; app, name and "
        "app.kubernetes.io/name when left out.",
    )
    include_label_prefix: Annotated[list[LabelKey], Field(max_length=20)] | None = Field(
        None, description="Prefixes of labels that generated objects take over from the workload; * is all of them."
    )
    ingress_class: str | None = Field(None, description="Class of generated routing objects (contour).")
    cluster_name: str | None = Field(
        None, description="Name of the cluster in alerts; each member's own when left out."
    )
    plain_canaries: Literal["Ignore", "Adopt"] = Field(
        "Ignore", description="Canaries that no Application has brought: leave them alone, or run them too."
    )
    allowed_addresses: Annotated[list[AllowedAddress], Field(max_length=100)] | None = Field(
        None,
        description="Where webhooks and metrics of Canaries may lead beside their own namespace: namespaces, "
        "service.namespace, addresses, ranges, hosts; with :port that port alone.",
    )
    smi_adapter: bool = Field(
        False, description="Turn TrafficSplits into Istio's VirtualServices, as SMI's adapter for Istio did."
    )


class FleetSpec(Model):
    """The members, and what they share."""

    model_config = checked(
        Rule(
            "!has(self.plugin) || !has(self.plugin.flagger) || !has(self.rolloutEngine)"
            " || !has(self.rolloutEngine.mode) || self.rolloutEngine.mode == 'Flagger'",
            "plugin.flagger lets Flagger run the canaries: remove it, or set rolloutEngine.mode to Flagger",
            ".rolloutEngine.mode",
        )
    )

    clusters: list[FleetMember] = Field(default_factory=list, description="The members.")
    plugin: Plugins | None = Field(
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
