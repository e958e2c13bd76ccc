"""What the rollout of a ClusterSync says while its Fleet is not there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from fleet_rollout.control.rollouts import Rollouts
from fleet_rollout.control.store import Store
from fleet_rollout.control.world import FLEETS
from fleet_rollout.decide.problems import Problem
from fleet_rollout.errors import Waiting
from fleet_rollout_api.cluster_sync import ClusterReference
from tests.control.test_targets import OWN

FLEET = {
    "metadata": {"name": "f", "namespace": "shop"},
    "spec": {"clusters": [{"kind": "AttachedCluster", "name": "m1"}]},
}
MISSING = Problem("TestLoaderMissing", "no load tester")


def rollouts(*fleets: Any) -> Rollouts:
    store = Store()
    store.replace_all(FLEETS.plural, list(fleets), "1")
    world = SimpleNamespace(store=store, clock=lambda: 0.0)
    nobody = cast(Any, None)
    return Rollouts(cast(Any, world), nobody, nobody, nobody, nobody)


def test_without_its_fleet_a_load_tester_is_not_missing() -> None:
    """What the row says stays: the Fleet had said that there is one."""
    with pytest.raises(Waiting, match="no Fleet names AttachedCluster/m1"):
        rollouts()._await_fleet(OWN, MISSING)


def test_all_else_is_told_at_once() -> None:
    on_hub = OWN.model_copy(
        update={"spec": OWN.spec.model_copy(update={"cluster": ClusterReference(kind="currentCluster", name="host")})}
    )
    rollouts(FLEET)._await_fleet(OWN, MISSING)
    rollouts()._await_fleet(on_hub, MISSING)
    rollouts()._await_fleet(OWN, Problem("ServiceNotFound", "no Service"))
