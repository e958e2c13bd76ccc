"""Records of what a lost member still has, when it is back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from fleet_rollout.control.orphan_records import Left, Place
from fleet_rollout.control.orphans import Orphans
from fleet_rollout.control.store import Store
from fleet_rollout.control.world import ATTACHED_CLUSTERS, World
from fleet_rollout.errors import Transient
from fleet_rollout.kube.client import Cluster
from fleet_rollout.settings import Settings

M1 = {"metadata": {"name": "m1", "namespace": "shop"}}


class Records:
    """Of two ClusterSyncs, the first in two parts."""

    def __init__(self) -> None:
        self.left = {Place(f"{name}-{part}", "left.json"): name for name, part in (("a", 0), ("a", 1), ("b", 0))}

    async def places(self, *_: Any) -> list[Place]:
        return list(self.left)

    async def read(self, place: Place) -> Left:
        cluster = {"kind": "AttachedCluster", "name": "m1"}
        return {"name": self.left[place], "namespace": "shop", "cluster": cluster}

    async def strike(self, place: Place) -> None:
        del self.left[place]


async def test_what_cannot_be_pruned_is_told_of_and_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    store, told = Store(), []
    store.replace_all(ATTACHED_CLUSTERS.plural, [M1], "1")
    recorder = SimpleNamespace(warning=lambda obj, *said: told.append((obj["metadata"]["name"], *said)))
    orphans = Orphans(cast(World, SimpleNamespace(store=store, recorder=recorder, hub=None, settings=Settings())))
    records = Records()
    is_refused = True

    async def is_settled(place: Place, left: Left, cluster: Cluster) -> bool:
        if left["name"] == "a" and is_refused:
            raise Transient("PruneFailed", "ConfigMap/shop/x delete: forbidden")
        return True

    monkeypatch.setattr(orphans, "_records", records)
    monkeypatch.setattr(orphans, "_is_settled", is_settled)
    assert not await orphans.resume("shop", "AttachedCluster", "m1", cast(Cluster, None))
    assert set(records.left.values()) == {"a"}
    said = "what ClusterSync/shop/a has left here stays: ConfigMap/shop/x delete: forbidden"
    assert told == [("m1", "PruneFailed", said)]
    is_refused = False
    assert await orphans.resume("shop", "AttachedCluster", "m1", cast(Cluster, None))
    assert not records.left
