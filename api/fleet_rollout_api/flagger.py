"""Flagger's kinds: Canary and AlertProvider here, MetricTemplate beside.

The schemas accept all that those of Flagger 1.44 accept, because a member may hold Canaries nobody wrote for us.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fleet_rollout_api.flagger_metrics import (
    MetricProvider,
    MetricTemplate,
    MetricTemplateSpec,
    SecretReference,
    ThresholdRange,
)
from fleet_rollout_api.flagger_service import CanaryService
from fleet_rollout_api.meta import Model, Number, ObjectMeta, Rule, Time, checked
from fleet_rollout_api.routing import RequestMatch

__all__ = [
    "AlertProvider",
    "AlertProviderSpec",
    "Analysis",
    "Canary",
    "CanaryService",
    "CanarySpec",
    "CanaryStatus",
    "MetricProvider",
    "MetricTemplate",
    "MetricTemplateSpec",
    "ThresholdRange",
]

FLAGGER_API = "flagger.app/v1beta1"
# What older guides write. The fields are the same, so that the API server converts by changing the name alone.
OLD_VERSION = "v1alpha3"
# Flagger's pattern, not anchored at the end: "1m30s" is let in, and read by its Go code.
Interval = Annotated[str, Field(pattern=r"^[0-9]+(m|s)")]

ProviderName = Literal[
    "apisix",
    "appmesh",
    "appmesh:v1beta2",
    "contour",
    "gatewayapi:v1",
    "gatewayapi:v1beta1",
    "gloo",
    "istio",
    "knative",
    "kubernetes",
    "kuma",
    "linkerd",
    "nginx",
    "osm",
    "skipper",
    "smi:v1alpha1",
    "smi:v1alpha2",
    "smi:v1alpha3",
    "traefik",
]
Phase = Literal[
    "",
    "Initializing",
    "Initialized",
    "Waiting",
    "Progressing",
    "WaitingPromotion",
    "Promoting",
    "Finalising",
    "Succeeded",
    "Failed",
    "Terminating",
    "Terminated",
]
HookType = Literal[
    "",
    "confirm-rollout",
    "pre-rollout",
    "rollout",
    "confirm-promotion",
    "post-rollout",
    "event",
    "rollback",
    "confirm-traffic-increase",
]


class TargetRef(Model):
    """The workload whose new versions are analysed."""

    api_version: str = Field(description="Its API version.")
    kind: Literal["DaemonSet", "Deployment", "Service"] = Field(description="Its kind; Service means Knative.")
    name: str = Field(description="Its name.")


class PrimaryReplicas(Model):
    """Limits of the promoted workload's scaler."""

    min_replicas: Annotated[int, Field(ge=1)] | None = Field(None, description="Fewest replicas.")
    max_replicas: Annotated[int, Field(ge=1)] | None = Field(None, description="Most replicas.")


class AutoscalerRef(Model):
    """The scaler of the workload; a copy of it scales the promoted workload."""

    api_version: str = Field(description="Its API version.")
    kind: Literal["HorizontalPodAutoscaler", "ScaledObject"] = Field(description="Its kind.")
    name: str = Field(description="Its name.")
    primary_scaler_queries: dict[str, str] | None = Field(None, description="Queries of the copy, by trigger (KEDA).")
    primary_scaler_replicas: PrimaryReplicas | None = Field(None, description="Limits of the copy.")


class IngressRef(Model):
    """The Ingress that routes to the workload (nginx, skipper)."""

    api_version: str = Field(description="Its API version.")
    kind: Literal["Ingress"] = Field(description="Its kind.")
    name: str = Field(description="Its name.")


class RouteRef(Model):
    """The route of APISIX."""

    api_version: str = Field(description="Its API version.")
    kind: Literal["ApisixRoute"] = Field(description="Its kind.")
    name: str = Field(description="Its name.")


class UpstreamRef(Model):
    """The upstream of Gloo whose settings are copied."""

    api_version: str = Field(description="Its API version.")
    kind: Literal["Upstream"] = Field(description="Its kind.")
    name: str = Field(description="Its name.")
    namespace: str | None = Field(None, description="Its namespace; the Canary's when left out.")


class Reference(Model):
    """An object by name; in the Canary's namespace when none is given."""

    name: str = Field(description="Its name.")
    namespace: str | None = Field(None, description="Its namespace.")


class CanaryMetric(Model):
    """A measurement that decides whether a check has passed."""

    name: str = Field(description="request-success-rate, request-duration, or any name with templateRef.")
    interval: Interval | None = Field(None, description="Span of time to look at; 1m when left out.")
    threshold: Number | None = Field(None, description="Old form of thresholdRange.")
    threshold_range: ThresholdRange | None = Field(None, description="Values that pass.")
    query: str | None = Field(None, description="Old form of templateRef: a query for the metrics server.")
    template_ref: Reference | None = Field(None, description="The MetricTemplate to use.")
    template_variables: dict[str, str] | None = Field(None, description="Values for the template's variables.")


class Alert(Model):
    """Whom to tell, and from which severity on."""

    name: str = Field(description="Name of the alert.")
    severity: Literal["", "info", "warn", "error"] | None = Field(None, description="Lowest severity; info.")
    provider_ref: Reference = Field(description="The AlertProvider.")


class Webhook(Model):
    """A call made at one point of the analysis."""

    name: str = Field(description="Name of the call, for events.")
    type: HookType | None = Field(None, description="When it is made; at every check when left out.")
    mute_alert: bool | None = Field(None, description="Send no alert about it.")
    url: str = Field(description="Whom to call.")
    timeout: Interval | None = Field(None, description="Longest time for a call; 10s when left out.")
    retries: Number | None = Field(None, description="How often to repeat a failed call.")
    disable_tls: bool | None = Field(None, alias="disableTLS", description="Accept any TLS certificate.")
    metadata: dict[str, str] | None = Field(None, description="Text to send along.")


class SessionAffinity(Model):
    """A cookie that keeps a visitor on the version the first request got."""

    cookie_name: str = Field(description="Name of the new version's cookie.")
    primary_cookie_name: str | None = Field(None, description="Name of the promoted version's cookie.")
    domain: str | None = Field(None, description="Domain of the cookie.")
    http_only: bool | None = Field(None, description="Hide it from scripts.")
    max_age: Number = Field(86400, description="Seconds until it expires.")
    partitioned: bool | None = Field(None, description="Keep it apart for each embedding site.")
    path: str | None = Field(None, description="Path of the cookie.")
    same_site: Literal["Strict", "Lax", "None"] | None = Field(None, description="When other sites send it.")
    secure: bool | None = Field(None, description="Send it over TLS only.")


class Analysis(Model):
    """How a new version is judged: shares of traffic by steps or by a list, or a number of checks."""

    model_config = checked(
        oneOf=[{"required": ["interval", "threshold", way]} for way in ("iterations", "stepWeight", "stepWeights")]
    )

    interval: Interval | None = Field(None, description="Time from check to check, at least 10s.")
    iterations: Number | None = Field(None, description="Number of checks: blue/green, with match A/B testing.")
    threshold: Number | None = Field(None, description="Failed checks at which the version is rolled back.")
    max_weight: Number | None = Field(None, description="Share at which it is promoted; 100 when left out.")
    step_weight: Number | None = Field(None, description="Percent by which the share grows.")
    step_weights: list[Number] | None = Field(None, description="The shares, one after the other.")
    step_weight_promotion: Number | None = Field(None, description="Percent by which traffic returns.")
    mirror: bool | None = Field(None, description="Copy requests to the new version first.")
    mirror_weight: Number | None = Field(None, description="Percent of requests to copy.")
    primary_ready_threshold: Number | None = Field(None, description="Percent of Pods that make the primary ready.")
    canary_ready_threshold: Number | None = Field(None, description="Percent of Pods that make the canary ready.")
    match: list[RequestMatch] | None = Field(None, description="Requests that get the new version.")
    metrics: list[CanaryMetric] | None = Field(None, description="What is measured.")
    alerts: list[Alert] | None = Field(None, description="Whom to tell.")
    webhooks: list[Webhook] | None = Field(None, description="Calls to make.")
    session_affinity: SessionAffinity | None = Field(None, description="Keep visitors on one version.")


class CanarySpec(Model):
    """The workload, its routes and the judgement of its new versions."""

    model_config = checked(
        Rule("has(self.analysis) || has(self.canaryAnalysis)", "set analysis: how a new version is judged", ".analysis")
    )

    provider: ProviderName | None = Field(None, description="What routes the traffic; the engine's own when left out.")
    metrics_server: str | None = Field(None, description="Prometheus for the built-in queries.")
    progress_deadline_seconds: Number | None = Field(None, description="Seconds to become ready; 600.")
    target_ref: TargetRef = Field(description="The workload.")
    autoscaler_ref: AutoscalerRef | None = Field(None, description="The scaler of the workload.")
    ingress_ref: IngressRef | None = Field(None, description="The Ingress (nginx, skipper).")
    route_ref: RouteRef | None = Field(None, description="The route (APISIX).")
    upstream_ref: UpstreamRef | None = Field(None, description="The upstream (Gloo).")
    service: CanaryService | None = Field(None, description="How Services and routes are generated.")
    skip_analysis: bool | None = Field(None, description="Promote at once, unmeasured.")
    revert_on_deletion: bool | None = Field(None, description="Put workload and routes back on deletion.")
    suspend: bool | None = Field(None, description="Stop where it is.")
    analysis: Analysis | None = Field(None, description="How a new version is judged.")
    canary_analysis: Analysis | None = Field(None, description="Old name of analysis; read where that is left out.")


class CanaryCondition(Model):
    """An observation about the Canary; there is one type, Promoted."""

    type: str = Field(description="What is observed.")
    status: str = Field(description="True, False or Unknown.")
    reason: str = Field(description="The phase it came from.")
    message: str | None = Field(None, description="For people.")
    last_update_time: Time | None = Field(None, description="When it was last written.")
    last_transition_time: Time | None = Field(None, description="Since when it reads so.")


class CanaryStatus(Model):
    """How far the analysis is."""

    phase: Phase | None = Field(None, description="Where the rollout is.")
    failed_checks: Number | None = Field(None, description="Failed checks so far.")
    canary_weight: Number | None = Field(None, description="Percent of traffic on the new version.")
    iterations: Number | None = Field(None, description="Checks passed so far.")
    tracked_configs: dict[str, str] | None = Field(None, description="Checksums of ConfigMaps and Secrets.")
    last_applied_spec: str | None = Field(None, description="Hash of the version seen last.")
    last_promoted_spec: str | None = Field(None, description="Hash of the version promoted last.")
    last_transition_time: Time | None = Field(None, description="When the status was last written.")
    session_affinity_cookie: str | None = Field(None, description="Cookie of the new version.")
    primary_session_affinity_cookie: str | None = Field(None, description="Cookie of the promoted version.")
    previous_session_affinity_cookie: str | None = Field(None, description="Cookie of the version before.")
    conditions: list[CanaryCondition] | None = Field(None, description="What was observed.")


class Canary(Model):
    """New versions of one workload, brought to traffic step by step."""

    api_version: str = FLAGGER_API
    kind: Literal["Canary"] = "Canary"
    metadata: ObjectMeta
    spec: CanarySpec = Field(description="The workload, its routes and the judgement of its new versions.")
    status: CanaryStatus | None = Field(None, description="How far the analysis is.")


class AlertProviderSpec(Model):
    """A chat system and how to reach it."""

    model_config = checked(oneOf=[{"required": ["type", "address"]}, {"required": ["type", "secretRef"]}])

    type: Literal["slack", "msteams", "discord", "rocket", "gchat"] | None = Field(None, description="Which system.")
    channel: str | None = Field(None, description="Where to write.")
    username: str | None = Field(None, description="Name to write under.")
    address: str | None = Field(None, description="Address of its webhook.")
    proxy: str | None = Field(None, description="HTTP proxy to go through.")
    secret_ref: SecretReference | None = Field(None, description="Secret with address and token.")


class AlertProvider(Model):
    """A chat system that alerts go to."""

    api_version: str = FLAGGER_API
    kind: Literal["AlertProvider"] = "AlertProvider"
    metadata: ObjectMeta
    spec: AlertProviderSpec = Field(description="A chat system and how to reach it.")
