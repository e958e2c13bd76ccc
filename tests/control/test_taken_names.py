"""Two Applications want one ClusterSync's name: the later one takes another, though nobody tells it of the first."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fleet_rollout.control.world import APPLICATIONS, CLUSTER_SYNCS
from fleet_rollout.decide.names import FINALIZER
from fleet_rollout.kube.errors import ApiError
from tests.control import test_status_pace
from tests.control.test_status_pace import Fleet, Object

pytestmark = [pytest.mark.looptime, pytest.mark.asyncio(loop_scope="function")]
NAME = "web-0-attachedcluster-m0"


class Hub(test_status_pace.Hub):
    """It has a ClusterSync of that name already, of which its watch has not told."""

    def __init__(self, taken: Object) -> None:
        super().__init__()
        self.asked = 0
        self.syncs: dict[str, Object] = {NAME: taken}

    async def create(self, resource: Any, obj: Object, *, manager: str) -> Object:
        # The finalizer is there: its own write of it would have the Application looked at once more.
        metadata = obj["metadata"] | ({"finalizers": [FINALIZER]} if resource == APPLICATIONS else {})
        made = await super().create(resource, obj | {"metadata": metadata}, manager=manager)
        if resource != CLUSTER_SYNCS:
            return made
        self.asked += 1
        name = obj["metadata"]["name"]
        if name in self.syncs:
            raise ApiError(409, "AlreadyExists", f"{name} already exists")
        self.syncs[name] = made
        return made

    async def get(self, resource: Any, name: str, namespace: str) -> Object | None:
        return self.syncs.get(name)


def of_another(**fields: Any) -> Object:
    owner = {"apiVersion": "apps.kurator.dev/v1alpha1", "kind": "Application", "name": "other", "uid": "other"}
    metadata = {"name": NAME, "namespace": "shop", "uid": "1", "resourceVersion": "1", "ownerReferences": [owner]}
    spec = {
        "application": "other",
        "policy": "web-0",
        "cluster": {"kind": "AttachedCluster", "name": "m0"},
        "kustomization": {"interval": "1m", "prune": True},
    }
    return {
        "apiVersion": CLUSTER_SYNCS.api_version,
        "kind": "ClusterSync",
        "metadata": metadata,
        "spec": spec,
        **fields,
    }


async def played(taken: Object) -> Hub:
    hub = Hub(taken)
    fleet = Fleet(1, 1, hub)
    running = asyncio.create_task(fleet.loop.run())
    await fleet.begin()
    await asyncio.sleep(60)
    running.cancel()
    await asyncio.wait({running})
    return hub


async def test_a_name_that_is_taken_is_left_to_its_owner() -> None:
    hub = await played(of_another())
    assert hub.asked == 2
    (mine,) = (sync for name, sync in hub.syncs.items() if name != NAME)
    assert mine["spec"]["application"] == "web"


async def test_what_cannot_be_read_is_not_asked_for_again_and_again() -> None:
    hub = await played(of_another(spec={"application": 7}))
    assert hub.asked < 5
    assert list(hub.syncs) == [NAME]
