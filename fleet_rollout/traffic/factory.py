"""Which router a provider's name means. A name that nobody knows means Istio, as it does for Flagger."""

from __future__ import annotations

import functools
import logging

from fleet_rollout.traffic.apisix import ApisixRouter
from fleet_rollout.traffic.appmesh import AppMeshRouter
from fleet_rollout.traffic.contour import ContourRouter
from fleet_rollout.traffic.gateway_api import GatewayApiRouter
from fleet_rollout.traffic.gloo import GlooRouter
from fleet_rollout.traffic.istio import IstioRouter
from fleet_rollout.traffic.knative import KnativeRouter
from fleet_rollout.traffic.kubernetes import KubernetesRouter
from fleet_rollout.traffic.kuma import KumaRouter
from fleet_rollout.traffic.nginx import NginxRouter
from fleet_rollout.traffic.router import Router
from fleet_rollout.traffic.skipper import SkipperRouter
from fleet_rollout.traffic.smi import SmiRouter
from fleet_rollout.traffic.traefik import TraefikRouter

log = logging.getLogger(__name__)

_BY_NAME: dict[str, Router] = {
    "apisix": ApisixRouter(),
    "appmesh": AppMeshRouter(),
    "contour": ContourRouter(),
    "istio": IstioRouter(),
    "knative": KnativeRouter(),
    "kubernetes": KubernetesRouter(),
    "kuma": KumaRouter(),
    "linkerd": SmiRouter("v1alpha1"),
    "nginx": NginxRouter(),
    "osm": SmiRouter("v1alpha2"),
    "skipper": SkipperRouter(),
    # Flagger dropped this name, and guides still use it.
    "smi:istio": SmiRouter("v1alpha1", istio=True),
    "smi:v1alpha1:istio": SmiRouter("v1alpha1", istio=True),
    "smi:v1alpha2:istio": SmiRouter("v1alpha2", istio=True),
    "smi:v1alpha3:istio": SmiRouter("v1alpha3", istio=True),
    "traefik": TraefikRouter(),
}
# The first that fits, so the longer of two comes first.
_BY_PREFIX: dict[str, Router] = {
    "appmesh:v1beta2": _BY_NAME["appmesh"],
    "smi:v1alpha1": SmiRouter("v1alpha1"),
    "smi:v1alpha2": SmiRouter("v1alpha2"),
    "smi:v1alpha3": SmiRouter("v1alpha3"),
    "gloo": GlooRouter(),
    "gatewayapi:v1beta1": GatewayApiRouter("v1beta1"),
    "gatewayapi:v1": GatewayApiRouter("v1"),
}


@functools.lru_cache(maxsize=256)  # also so that a name nobody knows is told once, and not at every tick
def router_for(provider: str) -> Router:
    """The router of a Canary's provider, or of the engine's default."""
    if provider in _BY_NAME:
        return _BY_NAME[provider]
    for prefix, router in _BY_PREFIX.items():
        if provider.startswith(prefix):
            return router
    log.warning("provider %r is unknown: its Canaries are routed by Istio", provider)
    return _BY_NAME["istio"]
