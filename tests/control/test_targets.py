"""What a ClusterSync asks of those beside it, where one of them cannot be read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from fleet_rollout.control.store import Store
from fleet_rollout.control.targets import Targets
from fleet_rollout.control.world import APPLICATIONS, ATTACHED_CLUSTERS, CLUSTER_SYNCS, FLEETS, World
from fleet_rollout.decide.names import APP_LABEL
from fleet_rollout.errors import Transient
from fleet_rollout.settings import Settings
from fleet_rollout_api.cluster_sync import ClusterSync

Object = dict[str, Any]
CLUSTER = {"kind": "AttachedCluster", "name": "m1"}


def sync(name: str, status: Any = None, **metadata: Any) -> Object:
    found = {"name": name, "namespace": "shop", "labels": {APP_LABEL: "web"}, **metadata}
    kustomization = {"interval": "5m", "prune": True, "dependsOn": [{"name": "base"}]}
    spec = {"application": "web", "policy": name, "cluster": CLUSTER, "kustomization": kustomization}
    return {"metadata": found, "spec": spec, "status": status or {}}


def targets(*others: Object) -> Targets:
    store = Store()
    store.replace_all(CLUSTER_SYNCS.plural, list(others), "1")
    return Targets(cast(World, SimpleNamespace(store=store, hub=None, settings=Settings())))


OWN = ClusterSync.model_validate(sync("own"))
ODD = {"inventory": 7}
SAID = "ClusterSync/shop/base: status.inventory: .*; correct or delete it"


async def test_t43_nothing_is_pruned_beside_what_cannot_be_read() -> None:
    with pytest.raises(Transient, match=SAID):
        await targets(sync("base", ODD)).claimed_elsewhere(OWN)


async def test_t43_what_is_being_deleted_claims_nothing_whatever_it_says() -> None:
    other = sync("base", {"inventory": {"entries": [{"id": "shop_a__ConfigMap", "v": "v1"}]}})
    leaving = sync("leaving", ODD, deletionTimestamp="2026-01-01T00:00:00Z")
    assert await targets(other, leaving).claimed_elsewhere(OWN) == {"shop_a__ConfigMap"}


def test_who_is_beside_is_the_same_until_he_has_or_wants_something_else() -> None:
    """Also of what cannot be read."""
    before = targets(sync("base", ODD), sync("other")).beside(OWN)
    assert before == targets(sync("base", ODD), sync("other", {"conditions": []}, resourceVersion="7")).beside(OWN)
    changed = sync("other")
    changed["spec"]["kustomization"]["path"] = "new"
    inventory = {"inventory": {"entries": [{"id": "shop_a__ConfigMap", "v": "v1"}]}}
    for now in (
        [sync("other")],
        [sync("base", ODD), changed],
        [sync("base", ODD), sync("other", inventory)],
        [sync("base", ODD), sync("other", {"inventoryParts": ["p"]})],
        [sync("base", ODD), sync("other", deletionTimestamp="2026-01-01T00:00:00Z")],
        [sync("base", ODD), sync("other", uid="another")],
    ):
        assert targets(*now).beside(OWN) != before


def test_t43_a_dependency_that_cannot_be_read_is_named() -> None:
    with pytest.raises(Transient, match=SAID):
        targets(sync("base", ODD)).require_dependencies(OWN)


GIT = {"gitRepository": {"url": "https://git/x", "interval": "1m"}}
POLICY = {"name": "own", "kustomization": {"interval": "5m", "prune": True}, "destination": {"fleet": "shop"}}
HERE, AWAY = [CLUSTER], [CLUSTER | {"name": "m2"}]
LEAVING = {"deletionTimestamp": "2026-01-01T00:00:00Z"}


def applied_by(policy: Any, clusters: Any, labels: Any, **metadata: Any) -> Targets:
    """The Application, the Fleet and the cluster beside OWN; None where one of them is not there."""
    found = targets()
    spec = {"source": GIT, "syncPolicies": [policy]}
    for resource, name, more in (
        (APPLICATIONS, "web", {"spec": spec} if policy is not None else None),
        (FLEETS, "shop", {"spec": {"clusters": clusters}} if clusters is not None else None),
        (ATTACHED_CLUSTERS, "m1", {}),
    ):
        if more is not None and (name != "m1" or labels is not None):
            own = metadata if name == "web" else {"labels": labels} if name == "m1" else {}
            obj = {"metadata": {"name": name, "namespace": "shop", **own}, **more}
            found._world.store.replace_all(resource.plural, [obj], "1")
    return found


@pytest.mark.parametrize(
    ("policy", "clusters", "labels", "is_wanted"),
    [
        (POLICY, HERE, {}, True),
        (POLICY | {"name": "renamed"}, HERE, {}, False),
        (POLICY, AWAY, {}, False),
        (POLICY, None, {}, True),
        (POLICY, 7, {}, True),
        (POLICY, HERE, None, True),
        (POLICY | {"destination": {"fleet": "shop", "clusterSelector": {"matchLabels": {"a": "b"}}}}, HERE, {}, False),
        (None, HERE, {}, True),
        ({"name": "renamed", "kustomization": 7}, HERE, {}, True),
    ],
    ids=["here", "renamed", "away", "no Fleet", "odd Fleet", "no cluster", "labels", "no Application", "odd"],
)
def test_whether_a_cluster_sync_is_wanted_is_known_from_application_fleet_and_cluster(
    policy: Any, clusters: Any, labels: Any, is_wanted: bool
) -> None:
    assert applied_by(policy, clusters, labels).is_wanted(OWN) is is_wanted


def test_what_goes_with_its_application_is_left_to_that() -> None:
    assert applied_by(POLICY | {"name": "renamed"}, HERE, {}, **LEAVING).is_wanted(OWN)


def test_on_the_hub_there_is_no_cluster_to_look_for() -> None:
    spec = sync("own")["spec"] | {"cluster": {"kind": "currentCluster", "name": "host"}}
    hub = ClusterSync.model_validate(sync("own") | {"spec": spec})
    bare = {name: value for name, value in POLICY.items() if name != "destination"}
    assert applied_by(bare, HERE, {}).is_wanted(hub)
    assert not applied_by(POLICY, HERE, {}).is_wanted(hub)
