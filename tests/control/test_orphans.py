"""Records of what a lost member still has, when it is back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from fleet_rollout.control.draft import Draft
from fleet_rollout.control.leftovers import stand_in
from fleet_rollout.control.loop import Key
from fleet_rollout.control.orphan_records import Left, Place
from fleet_rollout.control.orphans import Orphans
from fleet_rollout.control.store import Store
from fleet_rollout.control.world import ATTACHED_CLUSTERS, World
from fleet_rollout.errors import Transient, Waiting
from fleet_rollout.kube.client import Cluster
from fleet_rollout.kube.errors import Unreachable, kube_errors
from fleet_rollout.settings import Settings
from fleet_rollout_api.cluster_sync import ClusterReference, InventoryEntry

SETTINGS = Settings()
M1 = {"metadata": {"name": "m1", "namespace": "shop"}}


class Records:
    """Of two ClusterSyncs, the first in two parts."""

    def __init__(self) -> None:
        self.left = {Place(f"{name}-{part}", "left.json"): name for name, part in (("a", 0), ("a", 1), ("b", 0))}
        self.lists = 0

    async def places(self, *_: Any) -> list[Place]:
        self.lists += 1
        return list(self.left)

    async def read(self, place: Place) -> Left:
        cluster = {"kind": "AttachedCluster", "name": "m1"}
        left = {"name": self.left[place], "namespace": "shop", "cluster": cluster, "application": "web"}
        return left | {"entries": [{"id": "x", "v": "v1"}], "rollout": None}

    async def strike(self, place: Place) -> None:
        del self.left[place]


@pytest.fixture
def told() -> list[Any]:
    return []


@pytest.fixture
def store() -> Store:
    store = Store()
    store.replace_all(ATTACHED_CLUSTERS.plural, [M1], "1")
    return store


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
def orphans(store: Store, told: list[Any], records: Records, monkeypatch: pytest.MonkeyPatch) -> Orphans:
    recorder = SimpleNamespace(warning=lambda obj, *said: told.append((obj["metadata"]["name"], *said)))
    orphans = Orphans(cast(World, SimpleNamespace(store=store, recorder=recorder, hub=None, settings=SETTINGS)))
    monkeypatch.setattr(orphans, "_records", records)
    return orphans


async def resumed(orphans: Orphans, failures: dict[str, Exception]) -> float | None:
    """Seconds until the next try, where the removal of what `failures` names fails so."""

    async def is_settled(place: Place, left: Left, cluster: Cluster) -> bool:
        if left["name"] in failures:
            with kube_errors("PruneFailed", "AttachedCluster/m1"):
                raise failures[left["name"]]
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orphans, "_is_settled", is_settled)
        return await orphans.resume("shop", "AttachedCluster", "m1", cast(Cluster, None))


async def test_what_cannot_be_pruned_is_told_of_and_holds_up_nothing(
    orphans: Orphans, records: Records, told: list[Any]
) -> None:
    refusal = Transient("PruneFailed", "ConfigMap/shop/x delete: forbidden")
    assert await resumed(orphans, {"a": refusal}) == SETTINGS.member_check_interval
    assert set(records.left.values()) == {"a"}
    said = "what ClusterSync/shop/a has left here stays: ConfigMap/shop/x delete: forbidden"
    assert told == [("m1", "PruneFailed", said)]
    assert await resumed(orphans, {}) is None
    assert not records.left


async def test_a_write_in_between_is_looked_at_again_soon_and_not_told_of(
    orphans: Orphans, records: Records, told: list[Any]
) -> None:
    conflict = Waiting("RolloutRemovalFailed", "the object has been modified; looking again", retry_after=0.1)
    assert await resumed(orphans, {"a": conflict, "b": Waiting("X", "y")}) == 0.1
    assert not told
    assert set(records.left.values()) == {"a", "b"}


async def test_a_member_that_is_lost_again_is_told_of_once(orphans: Orphans, records: Records, told: list[Any]) -> None:
    lost = Unreachable("AttachedCluster/m1", "connection refused", maybe_sent=False)
    assert await resumed(orphans, {"a": lost, "b": lost}) == SETTINGS.member_check_interval
    assert [reason for _, reason, _ in told] == ["PruneFailed"]
    assert set(records.left.values()) == {"a", "b"}


class Drafted:
    """The draft of a ClusterSync without an inventory."""

    def __init__(self, uid: str) -> None:
        self.key = Key("shop", "a")
        sync = stand_in(self.key, "web", ClusterReference(kind="AttachedCluster", name="m1"))
        self.sync = sync.model_copy(update={"metadata": sync.metadata.model_copy(update={"uid": uid})})
        self.taken: list[str] = []

    async def keep_inventory(self, entries: list[InventoryEntry]) -> None:
        self.taken = [entry.id for entry in entries]

    def change(self, **_: Any) -> None:
        """Nothing to see."""

    async def write(self) -> None:
        """Nothing to see."""


async def test_what_was_left_is_looked_for_once_for_each_cluster_sync(orphans: Orphans, records: Records) -> None:
    """A build that keeps failing asks for it at each try, and costs a list of ConfigMaps no more than once."""

    async def adopted(uid: str) -> tuple[list[str], int]:
        draft, before = Drafted(uid), records.lists
        await orphans.adopt(cast(Draft, draft))
        return draft.taken, records.lists - before

    kept, records.left = records.left, {}
    assert [await adopted("1"), await adopted("1")] == [([], 1), ([], 0)]
    records.left = kept  # by this leader or another, as the ClusterSync went: the next one of its name has another UID
    assert await adopted("2") == (["x"], 1)
    assert set(records.left.values()) == {"b"}
    assert await adopted("2") == ([], 1)
    orphans.forget(Key("shop", "a"))
    assert await adopted("2") == ([], 1)
