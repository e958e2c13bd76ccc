"""What to do where a member's API server does not serve a kind that a Canary needs: which CRDs, or which provider."""

from __future__ import annotations

from typing import Final

from fleet_rollout.decide.canary.subject import Subject

# Whose CRDs bring the kinds of a group. What is not here is not an object that traffic goes by.
ROUTED_BY: Final = {
    "apisix.apache.org": "APISIX's ingress controller",
    "gateway.networking.k8s.io": "the Gateway API",
    "gateway.solo.io": "Gloo",
    "gloo.solo.io": "Gloo",
    "kuma.io": "Kuma",
    "networking.istio.io": "Istio",
    "projectcontour.io": "Contour",
    "serving.knative.dev": "Knative Serving",
    "split.smi-spec.io": "SMI",
    "traefik.io": "Traefik",
}
KEDA: Final = "keda.sh"


def missing_kind(subject: Subject, api_version: str, kind: str) -> str:
    """What the user reads."""
    group = api_version.rpartition("/")[0]
    fact = f'no matches for kind "{kind}" in version "{api_version}"'
    if group == KEDA:
        return f"{fact}; install KEDA, or take spec.autoscalerRef out of Canary {subject.full_name}"
    if subject.is_knative and group in ROUTED_BY:
        return f"{fact}; install the CRDs of {ROUTED_BY[group]}, which spec.targetRef names"
    if group in ROUTED_BY:
        where = "spec.provider of the Canary" if subject.spec.get("provider") else "meshProvider, the engine's default"
        return (
            f"{fact}, which provider {subject.provider} routes by; install the CRDs of {ROUTED_BY[group]}, "
            f"or choose another provider ({where})"
        )
    return f"{fact}; install its CRD"
