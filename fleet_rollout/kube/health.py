"""One look at the health of many objects, in few requests. It never waits; the caller looks again later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fleet_rollout.decide.inventory import Ref, entry_of, parse_id
from fleet_rollout.decide.kstatus import (
    FAILED_BY_PODS,
    NOT_FOUND,
    Health,
    Status,
    Unhealthy,
    crash_looping,
    health_of,
)
from fleet_rollout.kube import refusals
from fleet_rollout.kube.client import ApiError, Cluster
from fleet_rollout.kube.health_exprs import Kind, Rule, compiled, health_by
from fleet_rollout.kube.live import Object, Reader, each
from fleet_rollout_api.cluster_sync import InventoryEntry
from fleet_rollout_api.kustomization import HealthCheck, HealthCheckExpr

__all__ = ["Checks", "Verdict", "compiled", "unhealthy"]

DEFAULT_API_VERSION = "apps/v1"
POD = Ref("", "", "", "Pod", "v1")


@dataclass(frozen=True)
class Checks:
    """What is to be healthy. `selector` (the owner's) keeps lists of `entries` small.

    `may_be_absent` holds ids of objects whose absence is no fault (`kstatus.may_be_absent`).
    """

    entries: Sequence[InventoryEntry] = ()
    references: Sequence[HealthCheck] = ()
    expressions: Sequence[HealthCheckExpr] = ()
    selector: str = ""
    may_be_absent: frozenset[str] = frozenset()

    def refs(self) -> list[Ref]:
        named = [_ref(reference) for reference in self.references]
        return list(dict.fromkeys([*map(parse_id, self.entries), *named]))


@dataclass(frozen=True)
class Verdict:
    """The objects that are not Current, as `Kind/ns/name status: '…'`: those that may become so, and the failed."""

    waiting: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


async def unhealthy(cluster: Cluster, checks: Checks, *, impersonate: str | None = None) -> Verdict:
    """Read all objects once. Raises Terminal for an expression that is no CEL, Transient for a silent cluster."""
    rules = compiled(checks.expressions)
    reader = Reader(cluster, impersonate=impersonate)
    refs = checks.refs()
    with refusals.reached(cluster.name):
        live = await reader.all(refs, checks.selector)
        looked = _Look(reader, rules, datetime.now(UTC))
        present = [live[ref] for ref in refs if ref in live]
        found = dict(zip([ref for ref in refs if ref in live], await each(looked.health, present, 4), strict=True))
    absent = [ref for ref in refs if ref not in live and entry_of(ref).id not in checks.may_be_absent]
    return _verdict(refs, found | dict.fromkeys(absent, NOT_FOUND))


@dataclass(frozen=True)
class _Look:
    reader: Reader
    rules: Mapping[Kind, Rule]
    now: datetime

    async def health(self, obj: Object) -> Health:
        kind = (obj["apiVersion"].rpartition("/")[0], obj["kind"])
        if rule := self.rules.get(kind):
            return health_by(rule, obj)
        health = health_of(obj, self.now)
        if health.status is Status.IN_PROGRESS and kind in FAILED_BY_PODS:
            return crash_looping(obj, await self._pods(obj), self.now) or health
        return health

    async def _pods(self, parent: Object) -> Iterable[Object]:
        labels: dict[str, Any] = parent["spec"]["selector"].get("matchLabels") or {}
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        try:
            pods, _ = await self.reader.cluster.list(
                await self.reader.resource(POD),
                parent["metadata"]["namespace"],
                label_selector=selector,
                impersonate=self.reader.impersonate,
            )
        except ApiError as error:
            # Who may not see the Pods learns of the failure at the time-out instead.
            if error.is_forbidden:
                return []
            raise
        return pods


def _ref(reference: HealthCheck) -> Ref:
    group, _, version = (reference.api_version or DEFAULT_API_VERSION).rpartition("/")
    return Ref(reference.namespace or "", reference.name, group, reference.kind, version)


def _verdict(refs: Sequence[Ref], found: Mapping[Ref, Health]) -> Verdict:
    rows = [Unhealthy(ref, found[ref]) for ref in refs if ref in found and found[ref].status is not Status.CURRENT]
    failed = [str(row) for row in rows if row.health.status is Status.FAILED]
    return Verdict([str(row) for row in rows if row.health.status is not Status.FAILED], failed)
