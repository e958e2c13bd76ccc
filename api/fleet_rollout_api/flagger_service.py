"""The `service` part of Flagger's Canary: how Services and routing objects are generated."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, WithJsonSchema

from fleet_rollout_api.meta import Metadata, Model, Number, Rule, checked
from fleet_rollout_api.routing import CorsPolicy, Headers, RequestMatch, Retries

GROUP_PATTERN = r"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
KIND_PATTERN = r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"
LABEL_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
SECTION_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"

ApiGroup = Annotated[str, Field(max_length=253, pattern=GROUP_PATTERN)]
KindName = Annotated[str, Field(min_length=1, max_length=63, pattern=KIND_PATTERN)]
ObjectName = Annotated[str, Field(min_length=1, max_length=253)]
Namespace = Annotated[str, Field(min_length=1, max_length=63, pattern=LABEL_PATTERN)]
SectionName = Annotated[str, Field(min_length=1, max_length=253, pattern=SECTION_PATTERN)]
Port = Annotated[int, Field(ge=1, le=65535)]
IntOrString = Annotated[int | str, WithJsonSchema({"x-kubernetes-int-or-string": True})]


class ConnectionPoolHttp(Model):
    """Limits of HTTP connections."""

    h2_upgrade_policy: Literal["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"] | None = Field(
        None, description="Whether connections become HTTP/2."
    )
    http1_max_pending_requests: int | None = Field(None, description="Requests that may wait for a connection.")
    http2_max_requests: int | None = Field(None, description="Requests under way at once.")
    idle_timeout: str | None = Field(None, description="How long a connection may be idle.")
    max_requests_per_connection: int | None = Field(None, description="Requests one connection may carry.")
    max_retries: int | None = Field(None, description="Retries under way at once.")


class ConnectionPool(Model):
    """Limits of connections."""

    http: ConnectionPoolHttp | None = Field(None, description="Limits of HTTP connections.")


class HashCookie(Model):
    """A cookie to hash."""

    name: str | None = Field(None, description="Its name.")
    path: str | None = Field(None, description="Its path.")
    ttl: str | None = Field(None, description="How long it lives.")


class ConsistentHash(Model):
    """What decides which endpoint a request goes to."""

    http_cookie: HashCookie | None = Field(None, description="A cookie.")
    http_header_name: str | None = Field(None, description="A header.")
    http_query_parameter_name: str | None = Field(None, description="A query parameter.")
    use_source_ip: bool | None = Field(None, description="The address of the client.")
    minimum_ring_size: int | None = Field(None, description="Smallest number of nodes on the hash ring.")


class LocalityDistribution(Model):
    """Shares of traffic by region."""

    from_: str | None = Field(None, alias="from", description="Where requests come from.")
    to: dict[str, int] | None = Field(None, description="Percent by destination.")


class LocalityFailover(Model):
    """Where traffic goes when a region fails."""

    from_: str | None = Field(None, alias="from", description="The region that failed.")
    to: str | None = Field(None, description="The region that takes over.")


class LocalitySetting(Model):
    """Load balancing by region."""

    distribute: list[LocalityDistribution] | None = Field(None, description="Shares by region.")
    enabled: bool | None = Field(None, description="Whether regions count.")
    failover: list[LocalityFailover] | None = Field(None, description="Who takes over for whom.")


class LoadBalancer(Model):
    """How requests are spread over endpoints: a simple way, or by hash."""

    model_config = checked(
        oneOf=[
            {"required": ["simple"]},
            {
                "properties": {
                    "consistentHash": {
                        "oneOf": [
                            {"required": [way]}
                            for way in ("httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName")
                        ]
                    }
                },
                "required": ["consistentHash"],
            },
        ]
    )

    consistent_hash: ConsistentHash | None = Field(None, description="By a hash of the request.")
    locality_lb_setting: LocalitySetting | None = Field(None, description="By region.")
    simple: Literal["ROUND_ROBIN", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "LEAST_REQUEST"] | None = Field(
        None, description="By a simple rule."
    )
    warmup_duration_secs: str | None = Field(None, description="How long a new endpoint is spared.")


class OutlierDetection(Model):
    """When an endpoint is taken out of the rotation."""

    base_ejection_time: str | None = Field(None, description="How long it stays out at least.")
    consecutive5xx_errors: int | None = Field(None, alias="consecutive5xxErrors", description="After so many 5xx.")
    consecutive_errors: int | None = Field(None, description="After so many errors.")
    consecutive_gateway_errors: int | None = Field(None, description="After so many gateway errors.")
    consecutive_local_origin_failures: int | None = Field(None, description="After so many failures on this side.")
    interval: str | None = Field(None, description="How often endpoints are judged.")
    max_ejection_percent: int | None = Field(None, description="How many percent may be out at once.")
    min_health_percent: int | None = Field(None, description="Percent of healthy endpoints below which it stops.")
    split_external_local_origin_errors: bool | None = Field(None, description="Count failures on this side apart.")


class ClientTls(Model):
    """TLS towards the workload."""

    mode: Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"] | None = Field(None, description="Kind of TLS.")
    ca_certificates: str | None = Field(None, description="File with the CA.")
    client_certificate: str | None = Field(None, description="File with the client's certificate.")
    private_key: str | None = Field(None, description="File with the client's key.")
    sni: str | None = Field(None, description="Name to ask for.")
    subject_alt_names: list[str] | None = Field(None, description="Names the certificate may have.")


class TrafficPolicy(Model):
    """Istio's traffic policy, for the generated DestinationRules."""

    connection_pool: ConnectionPool | None = Field(None, description="Limits of connections.")
    load_balancer: LoadBalancer | None = Field(None, description="How requests are spread.")
    outlier_detection: OutlierDetection | None = Field(None, description="When an endpoint is taken out.")
    tls: ClientTls | None = Field(None, description="TLS towards the workload.")


class Rewrite(Model):
    """Changes of path and host before a request is forwarded."""

    uri: str | None = Field(None, description="New path.")
    authority: str | None = Field(None, description="New host.")
    type: str | None = Field(None, description="ReplacePrefixMatch, or else the full path (Gateway API).")


class MirrorBackend(Model):
    """Who gets a copy of each request."""

    model_config = checked(
        Rule(
            "(size(self.group) == 0 && self.kind == 'Service') ? has(self.port) : true",
            "port is required for a Service",
            ".port",
        )
    )

    group: ApiGroup = Field("", description="API group of the receiver.")
    kind: KindName = Field("Service", description="Kind of the receiver.")
    name: ObjectName = Field(description="Name of the receiver.")
    namespace: Namespace | None = Field(None, description="Its namespace; the Canary's when left out.")
    port: Port | None = Field(None, description="Its port.")


class Mirror(Model):
    """A copy of each request to somebody else (Gateway API)."""

    backend_ref: MirrorBackend | None = Field(None, description="Who gets the copy.")


class GatewayRef(Model):
    """A Gateway of the Gateway API that routes attach to."""

    group: ApiGroup = Field("gateway.networking.k8s.io", description="API group of the parent.")
    kind: KindName = Field("Gateway", description="Kind of the parent.")
    name: ObjectName = Field(description="Name of the parent.")
    namespace: Namespace | None = Field(None, description="Its namespace; the Canary's when left out.")
    section_name: SectionName | None = Field(None, description="Section of the parent, such as a listener.")
    port: Port | None = Field(None, description="Port of the parent.")


class UnmanagedMetadata(Model):
    """Keys on generated Services that stay as they are found."""

    annotations: list[str] | None = Field(None, description="Keys of annotations.")
    labels: list[str] | None = Field(None, description="Keys of labels.")


class CanaryService(Model):
    """How Services and routing objects are generated."""

    name: str | None = Field(None, description="Name of the Service; the workload's when left out.")
    port: Number = Field(description="Port of the Service.")
    port_name: str | None = Field(None, description="Name of the port; http when left out.")
    app_protocol: str | None = Field(None, description="Protocol of the port; tcp makes Istio route TCP.")
    traffic_distribution: Literal["PreferClose", "PreferSameZone", "PreferSameNode"] | None = Field(
        None, description="Which endpoints are preferred."
    )
    target_port: IntOrString | None = Field(None, description="Port of the container, as number or name.")
    port_discovery: bool | None = Field(None, description="Add every port of the containers.")
    headless: bool | None = Field(None, description="Make Services without an address.")
    timeout: str | None = Field(None, description="Time-out of a request, for example 30s.")
    backend_timeout: str | None = Field(None, description="Time-out of one attempt (Gateway API).")
    mesh_name: str | None = Field(None, description="Name of the mesh (App Mesh).")
    backends: list[str] | None = Field(None, description="Services the workload calls (App Mesh).")
    hosts: list[str] | None = Field(None, description="Host names of the route.")
    delegation: bool | None = Field(None, description="Make a VirtualService that another one delegates to.")
    match: list[RequestMatch] | None = Field(None, description="Requests the route is for.")
    retries: Retries | None = Field(None, description="Retries of failed requests.")
    rewrite: Rewrite | None = Field(None, description="Changes of path and host.")
    mirror: list[Mirror] | None = Field(None, description="Copies of requests to others (Gateway API).")
    headers: Headers | None = Field(None, description="Changes to headers.")
    gateways: list[str] | None = Field(None, description="Istio gateways; the mesh's own when left out.")
    gateway_refs: Annotated[list[GatewayRef], Field(max_length=32)] | None = Field(
        None, description="Gateways of the Gateway API; required by its providers."
    )
    cors_policy: CorsPolicy | None = Field(None, description="Cross-origin rules.")
    traffic_policy: TrafficPolicy | None = Field(None, description="Istio's traffic policy.")
    apex: Metadata | None = Field(None, description="Metadata of the Service users call.")
    primary: Metadata | None = Field(None, description="Metadata of the Service of the promoted version.")
    canary: Metadata | None = Field(None, description="Metadata of the Service of the new version.")
    unmanaged_metadata: UnmanagedMetadata | None = Field(None, description="Keys to keep as they are found.")
