"""Which strategy a rollout follows: what its user wishes, as far as its router can fulfil it."""

from __future__ import annotations

from typing import Final, Literal

from fleet_rollout.decide.canary.subject import Subject

Strategy = Literal["canary", "blue-green", "ab-testing"]

# Routers that divide requests by share alone, or not at all: their `match` chooses everybody.
_BLIND: Final = frozenset({"apisix", "knative", "kubernetes", "kuma", "linkerd", "osm", "skipper", "traefik"})
_BLIND_FAMILIES: Final = ("smi:", "appmesh")
_SEEING: Final = frozenset({"contour", "nginx"})
_SEEING_FAMILIES: Final = ("gatewayapi:", "gloo")


def strategy_of(subject: Subject) -> Strategy:
    """A/B testing only where requests can be told apart: else everybody would get the new version unchecked (Q23)."""
    if subject.iterations < 1:
        return "canary"
    return "ab-testing" if subject.match and can_match(subject) else "blue-green"


def can_match(subject: Subject) -> bool:
    """Whether the router of this Canary can tell requests apart by what `analysis.match` says."""
    provider = subject.provider
    if provider in _BLIND or provider.startswith(_BLIND_FAMILIES):
        return False
    if provider in _SEEING or provider.startswith(_SEEING_FAMILIES):
        return True
    return not _is_tcp(subject)  # Istio, which also a name means that nobody knows


def can_mirror(subject: Subject) -> bool:
    """Whether the router of this Canary can send copies of requests to the new version."""
    if subject.provider.startswith("gatewayapi:"):
        return subject.iterations > 0
    return subject.provider == "istio" and not _is_tcp(subject)


def _is_tcp(subject: Subject) -> bool:
    return str(subject.service.get("appProtocol") or "").lower() == "tcp"
