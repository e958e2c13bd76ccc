"""When a ClusterSync that has failed is tried again."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fleet_rollout.control.hub_writes import Changed, HubWrites
from fleet_rollout.control.loop import Key
from fleet_rollout.control.store import Store
from fleet_rollout.control.syncs import SyncReconciler
from fleet_rollout.control.world import CLUSTER_SYNCS
from fleet_rollout.decide import sync as decide
from fleet_rollout.errors import Transient
from fleet_rollout.kube.errors import Unreachable
from fleet_rollout.settings import Settings
from tests.control.test_intent import Hub

KEY = Key("n", "s")
REFUSED = Transient("HubRequestFailed", "the hub says no")


class Scene:
    """A ClusterSync on a clock of our own; what is applied is counted, and each look takes `took` seconds."""

    def __init__(self) -> None:
        spec = {"application": "web", "policy": "web-0", "cluster": {"kind": "AttachedCluster", "name": "m1"}}
        spec |= {"kustomization": {"interval": "1h", "prune": True}, "artifact": {"revision": "1", "digest": "d1"}}
        metadata = {"name": "s", "namespace": "n", "uid": "u", "resourceVersion": "1", "generation": 1}
        obj = {"metadata": metadata, "kind": "ClusterSync", "spec": spec, "status": {"inventory": {"entries": []}}}
        self.hub, self.store = Hub(obj), Store()
        self.store.replace_all(CLUSTER_SYNCS.plural, [obj], "1")
        self.now, self.took, self.applied = 1000.0, 0.0, 0
        self.stops: Exception | None = None  # what ends a pass after its intent
        self.moves: Any = None  # what decides whether others can take over what is handed to them
        self.beside: Any = {}
        self.drifted: list[str] = []  # objects that somebody has changed in the member
        world = SimpleNamespace(
            store=self.store,
            hub=self.hub,
            settings=Settings(),
            clock=lambda: self.now,
            now=lambda: datetime(2026, 11, 26, tzinfo=UTC),
            epoch=lambda: 1,
            recorder=SimpleNamespace(warning=lambda *_: None),
        )
        self.is_wanted = True
        targets = SimpleNamespace(
            require_dependencies=lambda _: None, beside=lambda _: self.beside, is_wanted=lambda _: self.is_wanted
        )
        writes = HubWrites(cast(Any, self.hub), self.store)
        self.reconciler = SyncReconciler(cast(Any, world), writes, cast(Any, targets), cast(Any, self), cast(Any, self))

    # What a pass asks of objects and rollouts

    def observe(self, draft: Any) -> None:
        """Nothing to see."""

    async def prepare(self, draft: Any) -> None:
        """Nothing to prepare."""

    async def apply(self, draft: Any, wanted: str, *, in_a_hurry: bool) -> Any:
        self.applied += 1
        draft.begin(wanted)
        draft.change(conditions=decide.applying(draft.status.conditions, draft.stamp, "Applying revision 1"))
        if self.stops is not None:
            await draft.write_intent()
            raise self.stops
        draft.change(
            applied_fingerprint=wanted,
            conditions=decide.succeeded(draft.status.conditions, draft.stamp, "1"),
        )
        return self.moves

    async def bring(self, draft: Any, *, applied: bool) -> None:
        self.now += self.took


async def failed(again_in: float) -> Scene:
    """One pass went well but for its status, and is to be tried again so soon; looks take half a second from now on."""
    scene = Scene()
    await scene.reconciler.reconcile(KEY)
    await scene.reconciler.report(KEY, REFUSED, again_in)
    scene.took = 0.5
    return scene


async def test_a_retry_whose_time_comes_during_an_early_look_is_not_lost() -> None:
    """The look was made for news, and took the place of the retry in the queue: the next would be in an hour."""
    scene = await failed(again_in=0.3)
    assert await scene.reconciler.reconcile(KEY) == 0.0
    assert scene.applied == 1
    again = await scene.reconciler.reconcile(KEY)
    assert scene.applied == 2
    assert again is not None
    assert again > 600


async def test_an_early_look_waits_for_the_retry() -> None:
    scene = await failed(again_in=5.0)
    assert await scene.reconciler.reconcile(KEY) == 4.5
    assert scene.applied == 1


async def test_where_nothing_is_left_to_do_nothing_is_tried_again() -> None:
    """The answer was lost, not the write, and that it failed could not be written either."""
    scene = Scene()
    await scene.reconciler.reconcile(KEY)
    well = scene.hub.obj
    await scene.reconciler.report(KEY, REFUSED, 0.3)
    later = well | {"metadata": well["metadata"] | {"resourceVersion": "9999"}}
    scene.store.replace_all(CLUSTER_SYNCS.plural, [later], "9999")
    scene.now += 1
    again = await scene.reconciler.reconcile(KEY)
    assert scene.applied == 1
    assert again is not None
    assert again > 600


@pytest.mark.parametrize("stop", [Changed("ClusterSync", "s"), Unreachable("hub", "away", maybe_sent=True)])
async def test_a_retry_that_stops_after_its_intent_is_made_again_and_once(stop: Exception) -> None:
    """Somebody labels the ClusterSync, or the hub is away: how the pass ended is told nowhere."""
    scene = await failed(again_in=0.1)
    scene.now += 1
    scene.stops = stop
    with pytest.raises(type(stop)):
        await scene.reconciler.reconcile(KEY)
    scene.stops = None
    for _ in range(3):
        again = await scene.reconciler.reconcile(KEY)
        assert scene.applied == 3
    assert again is not None
    assert again > 600


async def test_an_edit_is_tried_at_once() -> None:
    """It may be the remedy: a request after a quota was raised, a shorter retryInterval, a suspension that ended."""
    scene = await failed(again_in=300.0)
    old = scene.hub.obj
    spec = old["spec"] | {"requestedAt": "now"}
    metadata = old["metadata"] | {"generation": 2, "resourceVersion": "9999"}
    scene.hub.obj = old | {"spec": spec, "metadata": metadata}
    scene.store.replace_all(CLUSTER_SYNCS.plural, [scene.hub.obj], "9999")
    await scene.reconciler.reconcile(KEY)
    assert scene.applied == 2


async def test_an_object_that_moves_is_looked_at_again_when_those_beside_have_changed() -> None:
    """Who is to take it over may be unable to for days: that is no reason to look at all objects every few seconds."""
    scene = Scene()
    scene.moves = {"other": ("its spec", "its inventory")}
    scene.beside = dict(scene.moves)
    await scene.reconciler.reconcile(KEY)
    patience = Settings().dependency_retry
    for _ in range(3):
        scene.now += patience
        assert await scene.reconciler.reconcile(KEY) == patience
    assert scene.applied == 1
    scene.beside, scene.moves = {"other": ("its spec", "its inventory now")}, None
    assert await scene.reconciler.reconcile(KEY) != patience
    assert scene.applied == 2
    scene.now += patience
    await scene.reconciler.reconcile(KEY)
    assert scene.applied == 2


@pytest.mark.parametrize("change", ["none", "interval", "failure", "request"])
async def test_what_is_only_kept_for_others_writes_nothing_to_the_member(change: str) -> None:
    """Neither at its interval nor after a failure: its content is old, and those that have taken over would undo it."""
    scene = await failed(again_in=5.0) if change == "failure" else Scene()
    await scene.reconciler.reconcile(KEY)
    before, scene.is_wanted = scene.applied, False
    if change == "request":
        old = scene.hub.obj
        metadata = old["metadata"] | {"generation": 2, "resourceVersion": "9999"}
        scene.hub.obj = old | {"spec": old["spec"] | {"requestedAt": "now"}, "metadata": metadata}
        scene.store.replace_all(CLUSTER_SYNCS.plural, [scene.hub.obj], "9999")
    if change != "none":
        scene.now += 4000
    assert await scene.reconciler.reconcile(KEY) == Settings().dependency_retry
    assert scene.applied == before
    scene.is_wanted = True
    await scene.reconciler.reconcile(KEY)
    assert scene.applied == before + (change != "none")
