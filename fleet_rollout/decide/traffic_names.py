"""Names that a rollout uses in a member: of the load tester, of what the provider reads, of what the engine makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fleet_rollout.decide import names

INGRESS = "nginx"
INGRESS_CLASS_ANNOTATION = "kubernetes.io/ingress.class"
KUMA_MESH_ANNOTATION = "kuma.io/mesh"
TESTER_SUFFIX = "-testloader"
PRIMARY_SUFFIX = "-primary"
CANARY_SUFFIX = "-canary"
SCALE_TO_ZERO_KEY = "flagger.app/scale-to-zero"

# What Flagger puts on Services it has taken over, so that GitOps tools leave them alone.
ENGINE_ANNOTATIONS: Mapping[str, str] = {
    names.RECONCILE_KEY: "disabled",
    "helm.toolkit.fluxcd.io/driftDetection": "disabled",
}


@dataclass(frozen=True)
class Provider:
    """Where the provider's own programs live in a member, and what makes a namespace take part in it."""

    namespace: str
    namespace_labels: Mapping[str, str]
    namespace_annotations: Mapping[str, str]


_KUMA = {"kuma.io/sidecar-injection": "enabled"}
PROVIDERS: Mapping[str, Provider] = {
    "istio": Provider("istio-system", {"istio-injection": "enabled"}, {}),
    # Kurator writes the annotation; current Kuma reads the label.
    "kuma": Provider("kuma-system", _KUMA, _KUMA),
    "nginx": Provider("ingress-nginx", {}, {}),
}
# Of the others Kurator knows nothing: their namespaces are their users' to prepare.
OTHER = Provider("", {}, {})


def provider_of(name: str) -> Provider:
    """What is known about the provider of this name."""
    return PROVIDERS.get(name, OTHER)


def tester_name(workload: str) -> str:
    """The private load tester of a workload, Deployment and Service alike; Services allow 63 characters."""
    name = workload + TESTER_SUFFIX
    if len(name) <= names.NAME_LIMIT:
        return name
    suffix = f"-{names.short_hash(workload)}{TESTER_SUFFIX}"
    return workload[: names.NAME_LIMIT - len(suffix)].rstrip("-.") + suffix


def private_tester_url(workload: str, namespace: str) -> str:
    """Where the private load tester of `workload` answers."""
    return f"http://{tester_name(workload)}.{namespace}/"


def public_tester_url(provider: str, cluster: str) -> str | None:
    """Where the load tester that a Fleet's Flagger plug-in installs answers; None where it installs none."""
    namespace = provider_of(provider).namespace
    if not namespace:
        return None
    return f"http://{namespace}-testloader-{cluster}-loadtester.{namespace}/"


def kuma_protocol_annotation(port: int) -> str:
    """How Kuma is told the protocol of a Service's port."""
    return f"{port}.service.kuma.io/protocol"
