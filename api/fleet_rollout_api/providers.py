"""What routes the traffic in a member: the names, and what each needs to be told.

Rules on a rollout say which field is missing, or is not the provider's to read. What Kurator lets in stays let in.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fleet_rollout_api.meta import Model, NamespaceText, Rule

# App Mesh is left out: AWS ends it, and nothing of it can be tested any more.
Provider = Literal[
    "istio",
    "kuma",
    "nginx",
    "kubernetes",
    "smi:v1alpha1",
    "smi:v1alpha2",
    "smi:v1alpha3",
    "linkerd",
    "osm",
    "gatewayapi:v1",
    "gatewayapi:v1beta1",
    "contour",
    "traefik",
    "apisix",
    "gloo",
    "skipper",
    "knative",
]
# The default of a whole engine may also name the mesh that carries a TrafficSplit out.
MeshProvider = Literal[
    Provider,
    "smi:istio",
    "smi:v1alpha1:istio",
    "smi:v1alpha2:istio",
    "smi:v1alpha3:istio",
]

KNATIVE_API = "serving.knative.dev/v1"
Name = Annotated[str, Field(min_length=1, max_length=253)]
# The copy is called `<name>-<service>-canary`, which has to fit in 253 characters.
CopiedName = Annotated[str, Field(min_length=1, max_length=253 - len("-canary") - 64)]


class IngressReference(Model):
    """An Ingress of one's own that leads to the Service; in the workload's namespace."""

    api_version: str = Field("networking.k8s.io/v1", description="Its API version.")
    kind: Literal["Ingress"] = Field("Ingress", description="Its kind.")
    name: CopiedName = Field(description="Its name.")


class RouteReference(Model):
    """The ApisixRoute that leads to the Service; in the workload's namespace."""

    api_version: str = Field("apisix.apache.org/v2", description="Its API version.")
    kind: Literal["ApisixRoute"] = Field("ApisixRoute", description="Its kind.")
    name: CopiedName = Field(description="Its name.")


class UpstreamReference(Model):
    """The Upstream of Gloo whose settings the generated ones copy."""

    api_version: str = Field("gloo.solo.io/v1", description="Its API version.")
    kind: Literal["Upstream"] = Field("Upstream", description="Its kind.")
    name: Name = Field(description="Its name.")
    namespace: NamespaceText = Field(None, description="Its namespace; the workload's when left out.")


_PROVIDER = "self.trafficRoutingProvider"
_ROUTING = "self.rolloutPolicy.trafficRouting"
_ANALYSIS = "self.rolloutPolicy.trafficAnalysis"
_AT_ROUTING = ".rolloutPolicy.trafficRouting"
_IS_GATEWAY = f"{_PROVIDER}.startsWith('gatewayapi:')"


def _lacks(field: str) -> str:
    return f"!has({_ROUTING}) || !has({_ROUTING}.{field})"


def _is_empty(field: str) -> str:
    return f"{_lacks(field)} || size({_ROUTING}.{field}) == 0"


def _is_one_of(*names: str) -> str:
    return f"{_PROVIDER} in [{', '.join(repr(name) for name in names)}]"


def _needs(condition: str, field: str, message: str) -> Rule:
    return Rule(f"!({condition}) || !({_is_empty(field)})", message, _AT_ROUTING)


def _needs_reference(name: str, field: str, what: str) -> Rule:
    message = f"provider {name} needs rolloutPolicy.trafficRouting.{field}, {what} that leads to the Service"
    return Rule(f"!({_is_one_of(name)}) || !({_lacks(field)})", message, _AT_ROUTING)


# Kuma and nginx take some fields without reading them: Kurator lets such Applications in.
PROVIDER_RULES = (
    Rule(
        f"{_PROVIDER} != 'nginx' || !({_is_empty('host')}) || !({_lacks('ingressRef')})",
        "provider nginx needs rolloutPolicy.trafficRouting.host, the domain name of the Ingress, or ingressRef,"
        " an Ingress of one's own",
        _AT_ROUTING,
    ),
    _needs(
        _IS_GATEWAY,
        "gatewayRefs",
        "provider gatewayapi needs rolloutPolicy.trafficRouting.gatewayRefs, the Gateways that the route attaches to",
    ),
    _needs_reference("skipper", "ingressRef", "the Ingress"),
    _needs_reference("apisix", "routeRef", "the ApisixRoute"),
    Rule(
        f"({_PROVIDER} == 'knative') == (self.workload.kind == 'Service')",
        f"provider knative needs workload.kind: Service with apiVersion: {KNATIVE_API}, and no other provider takes it",
        ".workload.kind",
    ),
    Rule(
        f"{_PROVIDER} != 'kubernetes' || (({_lacks('canaryStrategy')}) && ({_is_empty('match')}))",
        "provider kubernetes cannot split traffic: set analysisTimes (blue/green) and leave out canaryStrategy and"
        " match",
        _AT_ROUTING,
    ),
    Rule(
        f"{_IS_GATEWAY} || {_is_one_of('istio', 'kuma', 'nginx', 'contour', 'gloo', 'kubernetes')}"
        f" || {_is_empty('match')}",
        "match works with istio, nginx, gatewayapi:v1, gatewayapi:v1beta1, contour and gloo; this provider cannot"
        " tell requests apart",
        f"{_AT_ROUTING}.match",
    ),
    Rule(
        f"{_IS_GATEWAY} || {_PROVIDER} == 'istio' || !has({_ROUTING}) || !has({_ROUTING}.mirror) || !{_ROUTING}.mirror",
        "mirror works with istio, gatewayapi:v1 and gatewayapi:v1beta1; remove it",
        f"{_AT_ROUTING}.mirror",
    ),
    Rule(
        f"!{_IS_GATEWAY} || !has({_ROUTING}) || !has({_ROUTING}.mirror) || !{_ROUTING}.mirror"
        f" || (has({_ROUTING}.analysisTimes) && {_ROUTING}.analysisTimes > 0)",
        "with provider gatewayapi, mirror needs analysisTimes (blue/green) instead of canaryStrategy",
        f"{_AT_ROUTING}.mirror",
    ),
    Rule(
        f"({_lacks('gatewayRefs')} || {_IS_GATEWAY})"
        f" && ({_lacks('ingressRef')} || {_is_one_of('nginx', 'skipper')})"
        f" && ({_lacks('routeRef')} || {_is_one_of('apisix')})"
        f" && ({_lacks('upstreamRef')} || {_is_one_of('gloo')})",
        "gatewayRefs is read by gatewayapi:v1 and gatewayapi:v1beta1, ingressRef by nginx and skipper, routeRef by"
        " apisix, upstreamRef by gloo; remove the others",
        _AT_ROUTING,
    ),
    Rule(
        f"{_IS_GATEWAY} || {_is_one_of('istio', 'kuma', 'nginx')} || !has({_ANALYSIS})"
        f" || !has({_ANALYSIS}.sessionAffinity)",
        "sessionAffinity works with istio, gatewayapi:v1 and gatewayapi:v1beta1; remove it",
        ".rolloutPolicy.trafficAnalysis.sessionAffinity",
    ),
)
