"""What the user reads where a kind is not served: what to install, or what to choose instead."""

from __future__ import annotations

import pytest

from fleet_rollout.decide.canary.missing_kinds import missing_kind
from fleet_rollout.decide.canary.subject import EngineOptions
from tests.decide.canary.workloads import subject

ISTIO = ("networking.istio.io/v1beta1", "VirtualService")
KEDA = ("keda.sh/v1alpha1", "ScaledObject")
KNATIVE = ("serving.knative.dev/v1", "Service")


@pytest.mark.parametrize(
    ("about", "kind", "fix"),
    [
        (
            subject(provider="istio"),
            ISTIO,
            ", which provider istio routes by; install the CRDs of Istio, "
            "or choose another provider (spec.provider of the Canary)",
        ),
        (
            subject(options=EngineOptions(mesh_provider="smi:istio")),
            ("split.smi-spec.io/v1alpha1", "TrafficSplit"),
            ", which provider smi:istio routes by; install the CRDs of SMI, "
            "or choose another provider (meshProvider, the engine's default)",
        ),
        (
            subject("Service", api_version=KNATIVE[0]),
            KNATIVE,
            "; install the CRDs of Knative Serving, which spec.targetRef names",
        ),
        (subject(), KEDA, "; install KEDA, or take spec.autoscalerRef out of Canary podinfo.test"),
        (subject(), ("apps/v2", "Deployment"), "; install its CRD"),
    ],
)
def test_a_kind_that_is_not_served_is_told_with_the_fix(about, kind, fix):
    api_version, name = kind
    assert missing_kind(about, api_version, name) == f'no matches for kind "{name}" in version "{api_version}"{fix}'
