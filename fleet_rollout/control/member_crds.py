"""The flagger.app CRDs of a member: installed where absent, kept current where ours, never written where not."""

from __future__ import annotations

from typing import Any

from fleet_rollout.decide.names import CRD_LABEL, MANAGER_ROLLOUT
from fleet_rollout.errors import Waiting
from fleet_rollout.kube.client import Cluster, NoSuchKind, Resource
from fleet_rollout_api.crd import member_crds

CRDS = Resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", False)
OURS = "fleet-rollout"


class MemberCrds:
    """Looks at the CRDs whenever a rollout is written; three small reads."""

    def __init__(self) -> None:
        self._wanted = {crd["metadata"]["name"]: labelled(crd) for crd in member_crds()}

    async def ensure(self, cluster: Cluster) -> dict[str, Any]:
        """Install what is missing. Returns, by kind, the schemas of CRDs that are not ours to write."""
        foreign: dict[str, Any] = {}
        for name, wanted in self._wanted.items():
            live = await cluster.get(CRDS, name)
            if live is not None and (live["metadata"].get("labels") or {}).get(CRD_LABEL) != OURS:
                foreign[wanted["spec"]["names"]["kind"]] = schema_of(live, wanted["spec"]["versions"][0]["name"])
            elif live is None or not _is_current(live, wanted):
                await cluster.apply(CRDS, wanted, manager=MANAGER_ROLLOUT)
        await self._served(cluster)
        return foreign

    async def _served(self, cluster: Cluster) -> None:
        for wanted in self._wanted.values():
            spec = wanted["spec"]
            try:
                await cluster.resource_for(f"{spec['group']}/{spec['versions'][0]['name']}", spec["names"]["kind"])
            except NoSuchKind:
                kind = spec["names"]["kind"]
                raise Waiting("CRDNotServed", f"the member does not serve {kind} yet", retry_after=1.0) from None


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


def _is_current(live: dict[str, Any], wanted: dict[str, Any]) -> bool:
    version = wanted["spec"]["versions"][0]["name"]
    return schema_of(live, version) == schema_of(wanted, version)
