"""The flagger.app CRDs of a member: installed where absent, kept current where ours, never written where not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from fleet_rollout.decide.names import CRD_LABEL, MANAGER_ROLLOUT
from fleet_rollout.errors import Waiting
from fleet_rollout.kube.client import Cluster, NoSuchKind, Resource
from fleet_rollout_api.crd import member_crds

CRDS = Resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", False)
OURS = "fleet-rollout"
# How long a look is believed, in seconds: three drift checks. What a write meets before that makes us look again.
BELIEVED = 900.0
# CRDs read whole at the same time: one takes a megabyte and more while it is looked at, and a fleet has many members.
READ_AT_ONCE = 8


@dataclass(frozen=True)
class _Known:
    """One CRD of a member as it was looked at; `foreign` is its schema where it is not ours."""

    version: tuple[str, str]
    foreign: dict[str, Any] | None


class MemberCrds:
    """Looks at the CRDs now and then: three small reads, and larger ones only of what has changed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wanted = wanted_crds()
        # What was looked at whole, by cluster and name, in which version.
        self._known: WeakKeyDictionary[Cluster, dict[str, _Known]] = WeakKeyDictionary()
        self._reading = asyncio.Semaphore(READ_AT_ONCE)
        self._looked: WeakKeyDictionary[Cluster, float] = WeakKeyDictionary()

    async def ensure(self, cluster: Cluster) -> dict[str, Any]:
        """Install what is missing. Returns, by kind, the schemas of CRDs that are not ours to write."""
        if self._clock() - self._looked.get(cluster, float("-inf")) < BELIEVED:
            found = [self._known[cluster][name].foreign for name in self._wanted]
        else:
            found = await asyncio.gather(*(self._one(cluster, name) for name in self._wanted))
            await self._served(cluster)
            self._looked[cluster] = self._clock()
        kinds = (wanted["spec"]["names"]["kind"] for wanted in self._wanted.values())
        return {kind: schema for kind, schema in zip(kinds, found, strict=True) if schema is not None}

    def doubt(self, cluster: Cluster) -> None:
        """Look again next time."""
        self._looked.pop(cluster, None)

    async def _one(self, cluster: Cluster, name: str) -> dict[str, Any] | None:
        """The schema of a CRD that is not ours."""
        known = self._known.setdefault(cluster, {})
        seen = await cluster.get(CRDS, name, metadata_only=True)
        if seen is not None and name in known and known[name].version == _version(seen):
            return known[name].foreign
        known.pop(name, None)
        async with self._reading:
            known[name] = await self._read(cluster, name)
        return known[name].foreign

    async def _read(self, cluster: Cluster, name: str) -> _Known:
        """Look at the CRD whole; write it where it is missing, or ours and not current."""
        live, wanted = await cluster.get(CRDS, name), self._wanted[name]
        foreign = None
        if live is not None and (live["metadata"].get("labels") or {}).get(CRD_LABEL) != OURS:
            foreign = schema_of(live, wanted["spec"]["versions"][0]["name"])
        elif live is None or not _is_current(live, wanted):
            live, _ = await cluster.apply(CRDS, wanted, manager=MANAGER_ROLLOUT)
        return _Known(_version(live), foreign)

    async def _served(self, cluster: Cluster) -> None:
        for wanted in self._wanted.values():
            spec = wanted["spec"]
            try:
                await cluster.resource_for(f"{spec['group']}/{spec['versions'][0]['name']}", spec["names"]["kind"])
            except NoSuchKind:
                kind = spec["names"]["kind"]
                raise Waiting("CRDNotServed", f"the member does not serve {kind} yet", retry_after=1.0) from None


@cache
def wanted_crds() -> dict[str, dict[str, Any]]:
    """The CRDs by name. Made once: it takes a tenth of a second, in which a new leader would do nothing else."""
    return {crd["metadata"]["name"]: labelled(crd) for crd in member_crds()}


def labelled(crd: dict[str, Any]) -> dict[str, Any]:
    """The CRD with the label that says who put it there."""
    labels = {**(crd["metadata"].get("labels") or {}), CRD_LABEL: OURS}
    return {**crd, "metadata": {**crd["metadata"], "labels": labels}}


def schema_of(crd: dict[str, Any], version: str) -> dict[str, Any]:
    """The schema that the CRD has for `version`; an empty one where it does not serve it."""
    for served in crd["spec"]["versions"]:
        if served["name"] == version:
            schema: dict[str, Any] = served["schema"]["openAPIV3Schema"]
            return schema
    return {"properties": {}}


def _version(obj: dict[str, Any]) -> tuple[str, str]:
    metadata = obj["metadata"]
    return metadata["uid"], metadata["resourceVersion"]


def _is_current(live: dict[str, Any], wanted: dict[str, Any]) -> bool:
    versions = [version["name"] for version in wanted["spec"]["versions"]]
    return all(schema_of(live, version) == schema_of(wanted, version) for version in versions)
