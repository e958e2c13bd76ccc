"""Service Mesh Interface: a TrafficSplit with the shares, which Linkerd, OSM and an adapter for Istio read.

Its first version writes weights as quantities, the later ones as integers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from fleet_rollout.decide.canary.objects import Live, Ref, StepFailed, Write
from fleet_rollout.decide.canary.subject import Subject
from fleet_rollout.traffic import checks
from fleet_rollout.traffic.objects import Labelled, create, dotted, found, kept, named, over, update
from fleet_rollout.traffic.quantities import amount
from fleet_rollout.traffic.router import Moved, Routes

GROUP = "split.smi-spec.io"
KIND = "TrafficSplit"
# Where the adapter for Istio looks for the gateways of the VirtualService that it makes.
GATEWAYS_ANNOTATION = "VirtualService.v1alpha3.networking.istio.io/spec.gateways"

Version = Literal["v1alpha1", "v1alpha2", "v1alpha3"]


class SmiRouter:
    """`istio` tells the adapter for Istio which gateways to use."""

    def __init__(self, version: Version, istio: bool = False) -> None:
        self._version = version
        self._istio = istio

    def reads(self, subject: Subject) -> list[Ref]:
        return [self._ref(subject)]

    def reconcile(self, subject: Subject, live: Live) -> list[Write]:
        """Shares stay as they are found; a new TrafficSplit sends everything to the primary."""
        ref = self._ref(subject)
        service, labelled = _root(subject), Labelled(annotations=self._annotations(subject))
        there = live[ref]
        old = (there or {}).get("spec") or {}
        entries = [named(old.get("backends"), name, "service") for name in (subject.primary, subject.canary)]
        primary, canary = kept(entries[0], entries[1], (self._weight(100), self._weight(0)))
        spec = over(old, {"service": service, "backends": _backends(subject, old, primary, canary)})
        if there is None:
            return [create(subject, ref, labelled, spec=spec)]
        return update(there, labelled, spec=spec)

    def routes(self, subject: Subject, live: Live) -> Routes:
        ref = self._ref(subject)
        backends = (found(live, ref, KIND).get("spec") or {}).get("backends")
        primary, canary = (_share(ref, named(backends, name, "service")) for name in (subject.primary, subject.canary))
        if primary == 0 and canary == 0:
            pair = f"{subject.primary} and {subject.canary}"
            raise StepFailed(f"{KIND} {dotted(ref)} does not contain routes for {pair}")
        return Routes(primary, canary)

    def set_routes(self, subject: Subject, live: Live, routes: Routes, *, token: str) -> Moved:
        there = found(live, self._ref(subject), KIND)
        spec = there.get("spec") or {}
        weights = self._weight(routes.primary), self._weight(routes.canary)
        return Moved(update(there, spec=over(spec, {"backends": _backends(subject, spec, *weights)})), {})

    def finalize(self, subject: Subject, live: Live) -> list[Write]:
        """It is owned by the Canary and goes with it."""
        return []

    def _ref(self, subject: Subject) -> Ref:
        return Ref(f"{GROUP}/{self._version}", KIND, subject.namespace, subject.apex)

    def _weight(self, percent: int) -> int | str:
        return str(percent) if self._version == "v1alpha1" else percent

    def _annotations(self, subject: Subject) -> Mapping[str, str]:
        names = subject.service.get("gateways") or []
        if not self._istio or not names:
            return {}
        for index, name in enumerate(names):
            checks.checked(f"spec.service.gateways[{index}]", str(name), checks.GATEWAY)
        return {GATEWAYS_ANNOTATION: json.dumps(names, separators=(",", ":"))}


def _root(subject: Subject) -> str:
    """The Service or host whose traffic is split."""
    hosts = subject.service.get("hosts")
    return checks.checked("spec.service.hosts[0]", str(hosts[0]), checks.HOST) if hosts else subject.apex


def _backends(subject: Subject, old: Mapping[str, Any], primary: int | str, canary: int | str) -> list[dict[str, Any]]:
    return [
        over(named(old.get("backends"), name, "service"), {"service": name, "weight": weight})
        for name, weight in ((subject.canary, canary), (subject.primary, primary))
    ]


def _share(ref: Ref, backend: Mapping[str, Any]) -> int:
    share = amount(backend.get("weight", 0))
    if share is None or share < 0 or share.denominator != 1:
        told = json.dumps(backend.get("weight"))
        raise StepFailed(
            f"{KIND} {dotted(ref)} gives {backend.get('service')} the weight {told}: make it a whole number"
        )
    return int(share)
