"""How a new version gets its traffic on one cluster: Kurator's rollout fields, and their defaults.

Rules that Kurator checks late, or dies of, are CEL rules here: a user reads them from kubectl.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fleet_rollout_api.flagger_metrics import MetricTemplateSpec, ThresholdRange
from fleet_rollout_api.flagger_service import GatewayRef
from fleet_rollout_api.meta import EmptyIsUnset, Metadata, Model, NamespaceText, OptionalText, Rule, checked
from fleet_rollout_api.providers import (
    KNATIVE_API,
    PROVIDER_RULES,
    IngressReference,
    Provider,
    RouteReference,
    UpstreamReference,
)
from fleet_rollout_api.routing import CorsPolicy, Headers, RequestMatch, Retries

Weight = Annotated[int, Field(ge=1, le=100)]
Seconds = Annotated[int, Field(ge=0, le=2**31 - 1)]
# What is generated is called after them: `-primary` has to fit behind, within the limit of the kind.
WorkloadName = Annotated[str, Field(min_length=1, max_length=253 - len("-primary"))]
ServiceName = Annotated[str, Field(min_length=1, max_length=63 - len("-primary"))]
TESTER_SUFFIX = "-testloader"
METRIC_NAME = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"


class WorkloadReference(Model):
    """The workload in the member whose new versions are analysed."""

    model_config = checked(
        Rule(
            f"self.kind != 'Service' || self.apiVersion == '{KNATIVE_API}'",
            f"a workload of kind Service is Knative's: set apiVersion: {KNATIVE_API}",
            ".apiVersion",
        )
    )

    api_version: str = Field("apps/v1", description="Its API version.")
    kind: Literal["Deployment", "DaemonSet", "Service"] = Field(
        "Deployment", description="Deployment or DaemonSet; Service with provider knative."
    )
    name: WorkloadName = Field(description="Its name; the Canary gets the same.")
    namespace: NamespaceText = Field(
        None, description="Its namespace in the member; the kustomization's targetNamespace when left out."
    )


class CanaryStrategy(Model):
    """How the share of the new version grows: by equal steps, or along a list."""

    model_config = checked(
        Rule("has(self.stepWeight) != has(self.stepWeights)", "set exactly one of stepWeight and stepWeights"),
        Rule(
            "!has(self.stepWeights) || (self.stepWeights.isSorted()"
            " && self.stepWeights.all(w, self.stepWeights.exists_one(v, v == w)))",
            "stepWeights must rise from step to step, for example [5, 20, 50]",
            ".stepWeights",
        ),
    )

    max_weight: Weight | None = Field(None, description="Share in percent at which the version is promoted; 100.")
    step_weight: Weight | None = Field(None, description="Percent by which the share grows at each check.")
    step_weights: Annotated[list[Weight], Field(min_length=1, max_length=100)] | None = Field(
        None, description="The shares in percent, one after the other; maxWeight has no say then."
    )
    step_weight_promotion: Annotated[int, Field(ge=0, le=100)] | None = Field(
        None, description="Percent by which traffic returns to the promoted workload; at once when 0 or left out."
    )


class TrafficRouting(Model):
    """How requests reach the new version."""

    model_config = checked(
        Rule(
            "!has(self.canaryStrategy) || !has(self.analysisTimes) || self.analysisTimes == 0",
            "canaryStrategy and analysisTimes exclude each other: shares of traffic, or a number of checks",
            ".analysisTimes",
        ),
        Rule(
            "!has(self.match) || size(self.match) == 0 || has(self.canaryStrategy)"
            " || (has(self.analysisTimes) && self.analysisTimes > 0)",
            "match needs analysisTimes (A/B testing: how many checks), or canaryStrategy",
            ".match",
        ),
        Rule(
            "!has(self.host) || size(self.host) == 0 || !has(self.ingressRef)",
            "host and ingressRef exclude each other: an Ingress that is made for the host, or one of one's own",
            ".ingressRef",
        ),
        Rule(
            "!has(self.mirrorWeight) || (has(self.mirror) && self.mirror)",
            "mirrorWeight needs mirror: true",
            ".mirrorWeight",
        ),
    )

    timeout_seconds: Seconds | None = Field(None, description="Time-out of a request; none when 0 or left out.")
    gateways: list[str] | None = Field(None, description="Istio gateways; the mesh's own when left out.")
    gateway_refs: Annotated[list[GatewayRef], Field(max_length=32)] | None = Field(
        None, description="Gateways that the route attaches to; required with gatewayapi."
    )
    hosts: list[str] | None = Field(
        None, description="Host names of the route (istio, gatewayapi; with SMI the first is the root service)."
    )
    retries: Retries | None = Field(None, description="Retries of failed requests (istio, contour).")
    headers: Headers | None = Field(None, description="Changes to headers (istio, gatewayapi).")
    cors_policy: CorsPolicy | None = Field(None, description="Cross-origin rules (istio, gatewayapi:v1).")
    host: Annotated[Annotated[str, Field(max_length=253)] | None, EmptyIsUnset] = Field(
        None, description="Domain name of the Ingress that is made. Only for nginx: this or ingressRef is required."
    )
    ingress_ref: IngressReference | None = Field(
        None, description="An Ingress of one's own that leads to the Service; nginx may, skipper must have one."
    )
    route_ref: RouteReference | None = Field(
        None, description="The ApisixRoute that leads to the Service; required with apisix."
    )
    upstream_ref: UpstreamReference | None = Field(
        None, description="The Upstream of Gloo whose settings are copied (gloo)."
    )
    protocol: OptionalText = Field(None, description="Protocol of the Service's port. Only for kuma: http by default.")
    canary_strategy: CanaryStrategy | None = Field(None, description="Shift traffic by shares of it.")
    analysis_times: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = Field(
        None, description="Number of checks before the switch: blue/green, or A/B testing together with match."
    )
    match: Annotated[list[RequestMatch], Field(max_length=100)] | None = Field(
        None, description="Requests that get the new version; any entry is enough."
    )
    mirror: bool | None = Field(
        None, description="Send the new version copies of requests first (istio, gatewayapi with analysisTimes)."
    )
    mirror_weight: Weight | None = Field(None, description="Percent of the requests to copy; all when left out.")


class Metric(Model):
    """A measurement that decides whether a check has passed."""

    model_config = checked(
        Rule(
            f"!has(self.customMetric) || self.name.matches('{METRIC_NAME}')",
            "the name of a metric of one's own becomes an object's: lower-case letters, digits, - and . only",
            ".name",
        )
    )

    name: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        description="request-success-rate, request-duration, or the name of a metric of one's own."
    )
    interval_seconds: Annotated[int, Field(ge=1, le=2**31 - 1)] = Field(60, description="Span of time to look at.")
    threshold_range: ThresholdRange | None = Field(None, description="Values that pass; all when left out.")
    custom_metric: MetricTemplateSpec | None = Field(None, description="How to measure a metric of one's own.")


class Webhooks(Model):
    """Commands the load tester runs at each check, so that there is traffic to measure."""

    timeout_seconds: Seconds = Field(60, description="Longest time for one call.")
    command: list[str] | None = Field(None, description="The commands, one call each.")


class SessionAffinity(Model):
    """A cookie that keeps a visitor on the version the first request got."""

    cookie_name: Annotated[str, Field(min_length=1)] = Field(description="Name of the cookie.")
    max_age: Seconds | None = Field(None, description="Seconds until it expires; a day when left out.")


class TrafficAnalysis(Model):
    """What is measured, how often, and how many failures are borne."""

    check_interval_seconds: Seconds = Field(description="Seconds from check to check; fewer than 10 count as 10.")
    check_failed_times: Annotated[int, Field(ge=0, le=2**31 - 1)] = Field(
        description="Number of failed checks at which the version is rolled back."
    )
    metrics: Annotated[list[Metric], Field(max_length=100)] | None = Field(
        None, description="What is measured; all have to pass."
    )
    webhooks: Webhooks | None = Field(None, description="Load to generate during the analysis.")
    session_affinity: SessionAffinity | None = Field(None, description="Keep visitors on one version.")


class RolloutPolicy(Model):
    """The course of a rollout."""

    model_config = checked(
        Rule(
            "has(self.trafficRouting) || (has(self.skipTrafficAnalysis) && self.skipTrafficAnalysis)",
            "trafficRouting is required unless skipTrafficAnalysis is true",
            ".trafficRouting",
        ),
        Rule(
            "has(self.trafficAnalysis) || (has(self.skipTrafficAnalysis) && self.skipTrafficAnalysis)",
            "trafficAnalysis is required unless skipTrafficAnalysis is true",
            ".trafficAnalysis",
        ),
        Rule(
            "!has(self.trafficRouting) || (has(self.skipTrafficAnalysis) && self.skipTrafficAnalysis)"
            " || has(self.trafficRouting.canaryStrategy)"
            " || (has(self.trafficRouting.analysisTimes) && self.trafficRouting.analysisTimes > 0)",
            "trafficRouting needs canaryStrategy (canary) or analysisTimes of at least 1 (blue/green, A/B testing)",
            ".trafficRouting",
        ),
    )

    traffic_routing: TrafficRouting | None = Field(None, description="How requests reach the new version.")
    traffic_analysis: TrafficAnalysis | None = Field(None, description="What is measured before it is promoted.")
    rollout_timeout_seconds: Seconds | None = Field(
        None, description="Seconds a new version may take to become ready; 600 when left out."
    )
    skip_traffic_analysis: bool = Field(False, description="Promote every new version at once, unmeasured.")
    revert_on_deletion: bool = Field(
        False, description="Let the engine put workload and routes back when the rollout is removed."
    )
    suspend: bool = Field(False, description="Stop the rollout where it is, until this is false again.")


class RolloutConfig(Model):
    """Bring new versions of one workload to traffic step by step, judged by the member's own metrics."""

    model_config = checked(
        *PROVIDER_RULES,
        Rule(
            f"!has(self.testLoader) || !self.testLoader || size(self.workload.name) <= {63 - len(TESTER_SUFFIX)}",
            f"with testLoader, workload.name may have {63 - len(TESTER_SUFFIX)} characters:"
            f" the load tester is called <workload>{TESTER_SUFFIX}",
            ".workload.name",
        ),
    )

    test_loader: bool | None = Field(
        None, description="Install a load tester of the workload's own; the fleet's shared one is used otherwise."
    )
    traffic_routing_provider: Provider = Field(description="What routes the traffic in the member.")
    workload: WorkloadReference = Field(description="The workload whose new versions are analysed.")
    service_name: ServiceName = Field(description="Service in front of the workload; it must exist in the member.")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(description="Port of the Service.")
    primary: Metadata | None = Field(None, description="Labels and annotations for the Service of the old version.")
    preview: Metadata | None = Field(None, description="Labels and annotations for the Service of the new version.")
    rollout_policy: RolloutPolicy = Field(description="The course of the rollout.")
    autoscaler: bool = Field(
        True,
        description="Let a HorizontalPodAutoscaler that targets the workload scale the promoted copy too; "
        "false leaves it to the workload alone.",
    )

    def defaulted(self, target_namespace: str | None) -> RolloutConfig:
        """What the fields mean where they are left out, as far as a CRD cannot say it.

        A CEL rule cannot fill fields in, and a default of the schema cannot depend on the provider.
        """
        changes: dict[str, object] = {}
        if self.workload.namespace is None and target_namespace:
            changes["workload"] = self.workload.model_copy(update={"namespace": target_namespace})
        routing = self.rollout_policy.traffic_routing or TrafficRouting()
        if self.traffic_routing_provider == "kuma" and routing.protocol is None:
            routing = routing.model_copy(update={"protocol": "http"})
            changes["rollout_policy"] = self.rollout_policy.model_copy(update={"traffic_routing": routing})
        return self.model_copy(update=changes) if changes else self
