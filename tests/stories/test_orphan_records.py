"""Records of what lost members still have: they fit whatever there is, and are found by whose they are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fleet_rollout.control.leftovers import stand_in
from fleet_rollout.control.loop import Key
from fleet_rollout.control.orphan_records import PREFIX, OrphanRecords, Place
from fleet_rollout.control.world import CONFIG_MAPS
from fleet_rollout.decide.names import ORPHANS_LABEL
from fleet_rollout.kube.access import connection_from_kubeconfig
from fleet_rollout.kube.client import Cluster
from fleet_rollout.settings import Settings
from fleet_rollout_api.cluster_sync import ClusterReference, ClusterSync, InventoryEntry

M1 = ClusterReference(kind="AttachedCluster", name="m1")
LEFT: dict[str, Any] = {"rollout": {"workload": "web"}}


@pytest.fixture
async def home(hub: Any, namespace: Any) -> str:
    made: str = await namespace("orphans", on=[hub])
    return made


@pytest.fixture
async def cluster(hub: Any) -> AsyncIterator[Cluster]:
    connection = connection_from_kubeconfig("hub", hub.kubeconfig.read_bytes(), allow_insecure=False)
    made = Cluster(connection, Settings())
    yield made
    await made.close()


@pytest.fixture
def records(cluster: Cluster, home: str) -> OrphanRecords:
    return OrphanRecords(cast(Any, SimpleNamespace(hub=cluster, settings=Settings(own_namespace=home))))


def sync(namespace: str, name: str = "web-0-attachedcluster-m1", cluster: ClusterReference = M1) -> ClusterSync:
    return stand_in(Key(namespace, name), "web", cluster)


def entries(count: int, length: int) -> list[InventoryEntry]:
    return [InventoryEntry(id=f"shop_{n:0{length}}_example.com_Widget", v="v1") for n in range(count)]


@pytest.mark.parametrize(("count", "length"), [(12_000, 80), (6_000, 250)], ids=["many", "long names"])
async def test_a_member_may_hold_more_than_a_config_map(records: OrphanRecords, count: int, length: int) -> None:
    """The API server refuses a ConfigMap of more than 1 MiB. Twice the same write is one."""
    given = entries(count, length)
    for _ in range(2):
        await records.write(sync("shop"), LEFT, given)
    found = [await records.read(place) for place in await records.places("shop", M1)]
    assert len(found) == 3
    assert [left["rollout"] for left in found if left] == [LEFT["rollout"], None, None]
    assert [entry["id"] for left in found if left for entry in left["entries"]] == [entry.id for entry in given]


async def test_records_are_of_one_cluster_of_one_namespace(records: OrphanRecords, cluster: Cluster, home: str) -> None:
    other = ClusterReference(kind="Cluster", name="m1")
    for each in (sync("shop"), sync("bank"), sync("shop", "db-0-attachedcluster-m1"), sync("shop", cluster=other)):
        await records.write(each, LEFT | {"of": each.metadata.namespace}, [])
    assert len(await records.places("shop", M1)) == 2
    (bank,) = await records.places("bank", M1)
    (mine,) = await records.places("shop", M1, Key("shop", "web-0-attachedcluster-m1"))
    assert mine.config_map.startswith(f"{PREFIX}shop.web-0-attachedcluster-m1-")
    found = await cluster.get(CONFIG_MAPS, mine.config_map, home)
    assert found is not None
    label = {ORPHANS_LABEL: found["metadata"]["labels"][ORPHANS_LABEL]}
    forged = {"apiVersion": "v1", "kind": "ConfigMap", "data": found["data"]}
    forged["metadata"] = {"name": "anything", "namespace": home, "labels": label}
    await cluster.create(CONFIG_MAPS, forged, manager="somebody")
    assert len(await records.places("shop", M1)) == 2  # the admission policy guards names alone
    await records.strike(mine)
    assert await records.read(mine) is None
    await records.strike(mine)
    await records.change(mine, LEFT)  # who has deleted it wants it so
    assert await records.read(mine) is None
    assert await records.read(bank) == LEFT | {"of": "bank", "entries": []}


async def test_what_an_earlier_version_wrote_is_read_and_struck(
    records: OrphanRecords, cluster: Cluster, home: str
) -> None:
    """One ConfigMap for all clusters of one name, with a key for each ClusterSync."""
    data = {"shop.web": '{"of": "shop"}', "bank.web": '{"of": "bank"}'}
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{PREFIX}m1", "namespace": home}}
    await cluster.create(CONFIG_MAPS, made | {"data": data}, manager="somebody")
    assert await records.places("shop", M1, Key("shop", "web")) == [Place(f"{PREFIX}m1", "shop.web")]
    for place in await records.places("shop", M1):
        left = await records.read(place)
        assert left is not None
        if left["of"] == "shop":
            await records.change(place, left | {"rollout": None})
            assert await records.read(place) == {"of": "shop", "rollout": None}
            await records.strike(place)
    assert await records.places("shop", M1) == [Place(f"{PREFIX}m1", "bank.web")]
