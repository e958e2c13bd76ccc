"""What the watches of members have shown stays known as long as they run, whoever follows it."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from fleet_rollout.control.canaries import Canaries, Place
from fleet_rollout.control.loop import Key
from fleet_rollout.kube.client import Event
from fleet_rollout_api.cluster_sync import ClusterReference

MEMBER = ClusterReference(kind="AttachedCluster", name="m1")
OLD, NEW, OTHER = Key("hub", "old"), Key("hub", "new"), Key("hub", "other")


class Watches:
    """The members' side: which namespaces are watched, and a way to tell of a Canary in them."""

    def __init__(self) -> None:
        self.namespaces: set[str] = set()
        self.tell: Any = None

    def watch_canaries(self, kind: str, name: str, namespace: str, namespaces: Iterable[str], on_event: Any) -> None:
        self.namespaces, self.tell = set(namespaces), on_event


class NoEngines:
    """Every Canary is driven by somebody else."""

    def told(self, scope: Any, event: Event) -> None:
        pass

    def leave(self, scope: Any) -> None:
        pass

    def let_go(self, scope: Any, watched: Any = None) -> None:
        pass

    def adopts_plain(self, scope: Any) -> bool:
        return False


@pytest.fixture
def watches() -> Watches:
    return Watches()


@pytest.fixture
def woken() -> set[Key]:
    return set()


@pytest.fixture
def canaries(watches: Watches, woken: set[Key]) -> Canaries:
    world: Any = SimpleNamespace(members=watches, queues=SimpleNamespace(syncs=woken))
    return Canaries(world, NoEngines())  # type: ignore[arg-type]


def place(namespace: str = "shop", name: str = "cart") -> Place:
    return Place("hub", MEMBER, namespace, name)


def added(namespace: str = "shop", name: str = "cart", phase: str = "Initialized") -> Event:
    return Event("ADDED", {"metadata": {"namespace": namespace, "name": name}, "status": {"phase": phase}})


def phase(canaries: Canaries, key: Key) -> str | None:
    canary = canaries.canary(key)
    return canary["status"]["phase"] if canary else None


def test_a_renamed_policy_sees_the_canary_that_its_predecessor_followed(canaries: Canaries, watches: Watches) -> None:
    canaries.follow(OLD, place())
    watches.tell(added())
    canaries.follow(NEW, place())
    canaries.forget(OLD)
    assert phase(canaries, NEW) == "Initialized"


def test_what_a_watch_showed_before_somebody_followed_it_is_known(canaries: Canaries, watches: Watches) -> None:
    canaries.follow(OLD, place(name="other"))
    watches.tell(added())
    canaries.follow(NEW, place())
    assert phase(canaries, NEW) == "Initialized"


def test_a_watch_of_the_whole_cluster_tells_of_namespaces_that_are_asked_for_later(
    canaries: Canaries, watches: Watches
) -> None:
    for number in range(5):
        canaries.follow(Key("hub", f"s{number}"), place(f"n{number}"))
    watches.tell(added("late"))
    canaries.follow(NEW, place("late"))
    assert phase(canaries, NEW) == "Initialized"


def test_what_is_no_longer_watched_is_not_remembered(canaries: Canaries, watches: Watches) -> None:
    canaries.follow(OLD, place())
    watches.tell(added())
    canaries.follow(OTHER, place("bank"))
    canaries.forget(OLD)
    canaries.follow(NEW, place())
    assert phase(canaries, NEW) is None
    canaries.forget(NEW)
    canaries.forget(OTHER)
    assert watches.namespaces == set()
    watches.tell(added())  # a last word of a watch that is being ended
    canaries.follow(NEW, place())
    assert phase(canaries, NEW) is None


def test_only_followers_of_the_canary_are_woken(canaries: Canaries, watches: Watches, woken: set[Key]) -> None:
    canaries.follow(OLD, place())
    canaries.follow(OTHER, place(name="other"))
    watches.tell(added())
    assert woken == {OLD}


def test_a_deleted_canary_is_gone(canaries: Canaries, watches: Watches) -> None:
    canaries.follow(OLD, place())
    watches.tell(added())
    watches.tell(added()._replace(type="DELETED"))
    assert phase(canaries, OLD) is None
