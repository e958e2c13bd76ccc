"""The store holds the newest known state: what is older, or of a deleted namesake, never comes back."""

from __future__ import annotations

from typing import Any

from fleet_rollout.control.loop import Key
from fleet_rollout.control.store import Store

KEY = Key("ns", "a")


def obj(version: int, uid: str = "1", **fields: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "ns", "name": "a", "uid": uid, "resourceVersion": str(version)}, **fields}


def test_an_older_event_does_not_replace_our_own_write() -> None:
    store = Store()
    store.put("things", obj(7, spec="ours"))
    store.put("things", obj(5, spec="late event"))
    assert store.get("things", KEY) == obj(7, spec="ours")


def test_a_late_answer_does_not_bring_a_deleted_object_back() -> None:
    store = Store()
    store.put("things", obj(5))
    store.remove("things", obj(8))
    store.put("things", obj(7))
    assert store.get("things", KEY) is None


def test_a_namesake_made_anew_is_another_object() -> None:
    store = Store()
    store.put("things", obj(5))
    store.remove("things", obj(8))
    store.put("things", obj(9, uid="2"))
    store.remove("things", obj(8))
    assert store.get("things", KEY) == obj(9, uid="2")


def test_what_a_full_listing_lacks_is_gone_and_listeners_hear_of_it() -> None:
    store = Store()
    heard: list[tuple[Key, bool]] = []
    store.put("things", obj(5))
    store.listen(lambda kind, key, before, after: heard.append((key, after is None)))
    assert not store.is_synced("things")
    store.replace_all("things", [], "5")
    assert store.is_synced("things")
    assert heard == [(KEY, True)]


def test_a_full_listing_says_nothing_about_what_came_after_it() -> None:
    store = Store()
    store.put("things", obj(6))
    store.replace_all("things", [], "5")
    assert store.get("things", KEY) == obj(6)


def test_the_same_version_again_wakes_nobody() -> None:
    store = Store()
    store.put("things", obj(5))
    heard: list[Key] = []
    store.listen(lambda kind, key, before, after: heard.append(key))
    store.put("things", obj(5))
    assert heard == []
