"""What the removal of a rollout leaves in a member: templates that somebody else's checks still ask."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from fleet_rollout.control.leftovers import Leftover
from fleet_rollout.control.loop import Key
from fleet_rollout.control.removals import Removals
from fleet_rollout.control.store import Store
from fleet_rollout.control.targets import Targets
from fleet_rollout.control.world import CLUSTER_SYNCS, World
from fleet_rollout.decide.metadata import Owner
from fleet_rollout.decide.names import APP_LABEL
from fleet_rollout.kube.client import Cluster, Resource
from fleet_rollout.settings import Settings
from fleet_rollout_api.cluster_sync import ClusterReference, RolloutRecord

Object = dict[str, Any]
CLUSTER = {"kind": "AttachedCluster", "name": "m1"}
TEMPLATE = {"id": "shop_err_flagger.app_MetricTemplate", "v": "v1beta1"}
TESTER = {"id": "shop_a-testloader_apps_Deployment", "v": "v1"}


def owner(name: str = "a", application: str = "web", hub: str = "hub") -> Owner:
    return Owner(name, "ns", application, hub)


def record(workload: str, *objects: Object, **more: Any) -> Object:
    return {"namespace": "shop", "workload": workload, "service": workload, "objects": list(objects)} | more


def sync(name: str, rollout: Object | None, wants: str = "", **metadata: Any) -> Object:
    kustomization = {"interval": "5m", "prune": True}
    spec = {"application": "web", "policy": name, "cluster": CLUSTER, "kustomization": kustomization}
    if wants:
        spec["rollout"] = wanted(name, wants)
    found = {"name": name, "namespace": "ns", "labels": {APP_LABEL: "web"}, **metadata}
    return {"metadata": found, "spec": spec, "status": {"rollout": rollout} if rollout else {}}


def wanted(workload: str, metric: str, namespace: str = "shop") -> Object:
    own = {"name": metric, "customMetric": {"provider": {"type": "prometheus"}, "query": "q"}}
    analysis = {"checkIntervalSeconds": 10, "checkFailedTimes": 1, "metrics": [own]}
    return {
        "trafficRoutingProvider": "istio",
        "workload": {"name": workload, "namespace": namespace},
        "serviceName": workload,
        "port": 80,
        "rolloutPolicy": {"skipTrafficAnalysis": True, "trafficAnalysis": analysis},
    }


class Member:
    """Holds the template and the load tester, both written for the owner given, and the Canary of `b` if it is told."""

    asks: tuple[str, ...] | None = None

    def __init__(self, written_for: Owner) -> None:
        labels = written_for.labels
        self.names = {"err": labels, "a-testloader": owner().labels}

    async def resource_for(self, api_version: str, kind: str) -> Resource:
        group, _, version = api_version.rpartition("/")
        return Resource(group, version, kind, kind.lower(), True)

    async def get(self, resource: Resource, name: str, namespace: str) -> Object | None:
        if resource.kind == "Canary" and name == "b" and self.asks is not None:
            metrics = [{"name": each, "templateRef": {"name": each}} for each in self.asks]
            return {"metadata": {"namespace": namespace}, "spec": {"analysis": {"metrics": metrics}}}
        if name not in self.names:
            return None
        metadata = {"name": name, "uid": name, "resourceVersion": "1", "labels": self.names[name]}
        return {"apiVersion": f"{resource.group}/{resource.version}", "kind": resource.kind, "metadata": metadata}

    async def delete(self, resource: Resource, name: str, namespace: str, **preconditions: Any) -> None:
        assert preconditions == {"uid": name, "resource_version": "1"}
        del self.names[name]


async def removed(*others: Object, written_for: Owner | None = None, asks: tuple[str, ...] | None = None) -> set[str]:
    """What is left in the member when the rollout of `a` is gone."""
    store = Store()
    store.replace_all(CLUSTER_SYNCS.plural, [sync("a", None), *others], "1")
    world = cast(World, SimpleNamespace(store=store, hub=None, settings=Settings()))
    member = Member(written_for or owner())
    member.asks = asks

    async def keep(_: RolloutRecord | None) -> None:
        pass

    rollout = RolloutRecord.model_validate(record("a", TESTER, TEMPLATE))
    left = Leftover(Key("ns", "a"), "web", ClusterReference.model_validate(CLUSTER), rollout, keep)
    removals = Removals(world, Targets(world), None)
    assert await removals.remove(left, cast(Cluster, member), owner(), leaving=False) is None
    assert left.status.rollout is None
    return set(member.names)


@pytest.mark.parametrize("written_for", [owner("a"), owner("b")])
async def test_a_template_that_another_rollout_works_with_stays(written_for: Owner) -> None:
    assert await removed(sync("b", record("b", TEMPLATE), "err"), written_for=written_for) == {"err"}
    assert await removed(sync("b", None, "err"), written_for=written_for) == {"err"}, "it is about to be applied"


async def test_a_template_that_a_canary_still_asks_stays_until_that_one_is_written_anew() -> None:
    """Or the analysis under way there would fail; the rollout that drops it last takes it away."""
    other = sync("b", record("b", TEMPLATE), "other")
    assert await removed(other, asks=("err",)) == {"err"}
    assert await removed(other, asks=("other",)) == set()
    assert await removed(other, asks=()) == set()


async def test_what_else_another_rollout_has_on_record_stays() -> None:
    assert await removed(sync("b", record("b", TESTER))) == {"a-testloader"}


@pytest.mark.parametrize("written_for", [owner(application="other"), owner(hub="other")])
async def test_a_template_of_another_application_stays(written_for: Owner) -> None:
    assert await removed(written_for=written_for) == {"err"}


@pytest.mark.parametrize(
    "other",
    [
        sync("b", None),
        sync("b", record("b")),
        sync("b", record("b", TEMPLATE), "other"),
        sync("b", record("b", TEMPLATE, removing=True)),
        sync("b", record("b", TEMPLATE), deletionTimestamp="2026-01-01T00:00:00Z"),
    ],
    ids=["no rollout", "another template", "dropped, too", "being removed, too", "leaving"],
)
async def test_a_template_that_nobody_works_with_goes_whoever_has_written_it_last(other: Object) -> None:
    assert await removed(other, written_for=owner("b")) == set()
