"""The Canary that a tick is about, with Flagger's defaults applied: what routers, metrics and hooks read of it.

The spec stays the user's dict, because most of it is passed on unread; only what arithmetic needs is typed here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

CANARY_API = "flagger.app/v1beta1"
# Keys that keep Flux from undoing what the engine generates.
UNTOUCHED_BY_FLUX = {
    "kustomize.toolkit.fluxcd.io/reconcile": "disabled",
    "helm.toolkit.fluxcd.io/driftDetection": "disabled",
}
MOST_WEIGHT = 100


@dataclass(frozen=True)
class EngineOptions:
    """What Flagger takes as flags: the defaults of every Canary that one engine drives. Times in seconds.

    `are_known`: False while whatever says them is not there, and they are no more than defaults.
    """

    mesh_provider: str = "istio"
    metrics_server: str = "http://prometheus:9090"
    selector_labels: tuple[str, ...] = ("app", "name", "app.kubernetes.io/name")
    include_label_prefix: tuple[str, ...] = ()
    ingress_annotations_prefix: str = "nginx.ingress.kubernetes.io"
    ingress_class: str = ""
    cluster_name: str = ""
    event_webhook: str = ""
    config_tracking: bool = True
    no_cross_namespace_refs: bool = False
    lends_identity: bool = False  # metrics may be asked with the cloud identity that the engine itself has
    shortest_interval: float = 10.0
    are_known: bool = True


@dataclass(frozen=True)
class Subject:
    """`raw` is the Canary as the API server returned it; `label_key` and `label_value` select the target's Pods."""

    raw: Mapping[str, Any]
    options: EngineOptions = EngineOptions()
    label_key: str = "app"
    label_value: str = ""
    ports: tuple[Mapping[str, Any], ...] = ()  # discovered container ports, as Service ports

    # Names

    @property
    def name(self) -> str:
        return str(self.raw["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.raw["metadata"]["namespace"])

    @property
    def full_name(self) -> str:
        """`<canary>.<namespace>`, as events name it."""
        return f"{self.name}.{self.namespace}"

    @property
    def target_kind(self) -> str:
        return str(self.spec["targetRef"]["kind"])

    @property
    def target_name(self) -> str:
        return str(self.spec["targetRef"]["name"])

    @property
    def target(self) -> str:
        """`<target>.<namespace>`, as events name it."""
        return f"{self.target_name}.{self.namespace}"

    @property
    def is_knative(self) -> bool:
        return self.target_kind == "Service" and self.spec["targetRef"].get("apiVersion") == "serving.knative.dev/v1"

    @property
    def primary_workload(self) -> str:
        return f"{self.target_name}-primary"

    @property
    def apex(self) -> str:
        """The Service that users call."""
        return str(self.service.get("name") or self.target_name)

    @property
    def primary(self) -> str:
        """The Service of the promoted version."""
        return f"{self.apex}-primary"

    @property
    def canary(self) -> str:
        """The Service of the new version."""
        return f"{self.apex}-canary"

    # Spec

    @property
    def spec(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.raw["spec"]
        return found

    @property
    def service(self) -> Mapping[str, Any]:
        return self.spec.get("service") or {}

    @property
    def analysis(self) -> Mapping[str, Any]:
        """`analysis`, or its old name."""
        return self.spec.get("analysis") or self.spec.get("canaryAnalysis") or {}

    @property
    def provider(self) -> str:
        """What routes the traffic: the Canary's own word, else the engine's default."""
        return str(self.spec.get("provider") or self.options.mesh_provider)

    @property
    def port(self) -> int:
        return int(self.service.get("port") or 0)

    @property
    def skip_analysis(self) -> bool:
        return bool(self.spec.get("skipAnalysis"))

    @property
    def is_suspended(self) -> bool:
        return bool(self.spec.get("suspend"))

    @property
    def progress_deadline(self) -> int:
        """Seconds; 600 where nothing is said."""
        return int(self.spec.get("progressDeadlineSeconds") or 600)

    @cached_property
    def interval(self) -> float:
        """Seconds from tick to tick; never below the engine's shortest."""
        return max(seconds_of(self.analysis.get("interval"), 60.0), self.options.shortest_interval)

    @property
    def threshold(self) -> int:
        """Failed checks that trigger a rollback; at least one."""
        return max(1, int(self.analysis.get("threshold") or 1))

    @property
    def iterations(self) -> int:
        return int(self.analysis.get("iterations") or 0)

    @property
    def match(self) -> list[Mapping[str, Any]]:
        return list(self.analysis.get("match") or [])

    @property
    def step_weight(self) -> int:
        return int(self.analysis.get("stepWeight") or 0)

    @property
    def step_weights(self) -> list[int]:
        return [int(weight) for weight in self.analysis.get("stepWeights") or []]

    @property
    def step_weight_promotion(self) -> int:
        """0, and what is less, is all at once."""
        return max(0, int(self.analysis.get("stepWeightPromotion") or 0))

    @property
    def max_weight(self) -> int:
        """The weight at which promotion starts: the last of stepWeights, else maxWeight, else 100.

        One of 0 or less counts as unset: it would promote what has had no traffic.
        """
        wanted = self.step_weights[-1] if self.step_weights else int(self.analysis.get("maxWeight") or 0)
        return min(MOST_WEIGHT, wanted) if wanted > 0 else MOST_WEIGHT

    @property
    def mirror(self) -> bool:
        return bool(self.analysis.get("mirror"))

    # Status

    @property
    def status(self) -> Mapping[str, Any]:
        return self.raw.get("status") or {}

    @property
    def phase(self) -> str:
        return str(self.status.get("phase") or "")

    @property
    def owner_reference(self) -> dict[str, Any]:
        """On everything that the engine creates."""
        return {
            "apiVersion": self.raw.get("apiVersion", CANARY_API),
            "kind": "Canary",
            "name": self.name,
            "uid": self.raw["metadata"].get("uid", ""),
            "controller": True,
            "blockOwnerDeletion": True,
        }


_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_LONGEST = 2.0**63 * 1e-9  # Go counts nanoseconds
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ms|us|µs|ns|h|m|s)")


def seconds_of(text: str | None, default: float) -> float:
    """A duration as Go writes it (`1m30s`), in seconds; `default` where it is empty or Go could not read it."""
    parts = _PART.findall(text or "")
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return default
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    return seconds if seconds < _LONGEST else default
