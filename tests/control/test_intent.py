"""When the write of a ClusterSync's spec stands for the intent, and when its status is written before a member is."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fleet_rollout.control.draft import Draft
from fleet_rollout.control.hub_writes import HubWrites
from fleet_rollout.control.inventories import Inventories
from fleet_rollout.control.objects import Objects
from fleet_rollout.control.store import Store
from fleet_rollout.control.world import CLUSTER_SYNCS, World
from fleet_rollout.decide.sync import progressing
from fleet_rollout_api.cluster_sync import InventoryEntry, RolloutRecord

Object = dict[str, Any]
OLD, NEW = InventoryEntry(id="web_old__ConfigMap", v="v1"), InventoryEntry(id="web_new__ConfigMap", v="v1")
EPOCH = 7


def ready(status: str) -> Object:
    return {"type": "Ready", "status": status, "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"}


class Hub:
    """Takes every patch of the one ClusterSync, and notes which part of it was written."""

    def __init__(self, obj: Object) -> None:
        self.obj = obj
        self.written: list[str] = []

    async def patch(self, resource: Any, name: str, namespace: str, patch: Any, **options: Any) -> Object:
        self.obj = copy.deepcopy(self.obj)
        self.obj |= {operation["path"].strip("/"): operation["value"] for operation in patch[1:]}
        self.obj["metadata"]["resourceVersion"] += "1"
        self.written.append(options["subresource"] or "spec")
        return self.obj


class Pass:
    """A pass of the leader over the ClusterSync, whose last one has ended well."""

    def __init__(self, epoch: int = EPOCH) -> None:
        spec = {"application": "web", "policy": "web-0", "cluster": {"kind": "AttachedCluster", "name": "m1"}}
        spec |= {"kustomization": {"interval": "5m", "prune": True}, "artifact": {"revision": "1", "digest": "d1"}}
        status = {
            "attempt": {"fingerprint": "f1", "startedAt": "2026-01-01T00:00:00Z", "epoch": epoch},
            "inventory": {"entries": [OLD.dump()]},
            "conditions": [ready("True")],
        }
        metadata = {"name": "s", "namespace": "n", "uid": "u", "resourceVersion": "1", "generation": 1}
        obj = {"metadata": metadata, "kind": "ClusterSync", "spec": spec, "status": status}
        self.hub, self.store = Hub(obj), Store()
        self.store.replace_all(CLUSTER_SYNCS.plural, [obj], "1")
        self.writes = HubWrites(cast(Any, self.hub), self.store)

    async def plan(self) -> None:
        """The planner wants another artifact."""
        spec = self.hub.obj["spec"] | {"artifact": {"revision": "2", "digest": "d2"}}
        await self.writes.spec(CLUSTER_SYNCS, self.hub.obj, spec)
        self.hub.written.clear()

    def draft(self) -> Draft:
        world = cast(World, SimpleNamespace(store=self.store, epoch=lambda: EPOCH, now=_now))
        return Draft(world, self.writes, Inventories(cast(Any, self.hub)), self.hub.obj)

    async def intend(self, entries: list[InventoryEntry] | None = None, **changes: Any) -> list[str]:
        """What is written before the member is."""
        draft = self.draft()
        draft.begin("f2")
        await draft.keep_inventory(entries or [OLD])
        conditions = progressing(draft.status.conditions, draft.stamp, "Applying revision 2")
        draft.change(conditions=conditions, **changes)
        await draft.write_intent()
        return self.hub.written


def _now() -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC)


async def test_the_leaders_own_plan_is_the_intent():
    leader = Pass()
    await leader.plan()
    assert await leader.intend() == []


async def test_several_plans_are_one_intent():
    leader = Pass()
    await leader.plan()
    await leader.plan()
    assert await leader.intend() == []


async def test_what_is_written_upon_a_plan_ends_it():
    leader = Pass()
    await leader.plan()
    draft = leader.draft()
    draft.change(last_attempted_revision="2")
    await draft.write()
    assert await leader.intend() == ["status", "status"]


@pytest.mark.parametrize("status", ["False", "Unknown"])
async def test_an_old_trouble_is_not_shown_while_what_mends_it_is_applied(status):
    leader = Pass()
    leader.hub.obj["status"]["conditions"] = [ready(status)]
    await leader.plan()
    assert await leader.intend() == ["status"]


@pytest.mark.parametrize(
    ("entries", "changes"),
    [
        ([OLD, NEW], {}),
        ([InventoryEntry(id=OLD.id, v="v2")], {}),
        ([OLD], {"inventory_parts": ["s-inventory-1"]}),
        ([OLD], {"rollout": RolloutRecord(namespace="web", workload="web", service="web")}),
    ],
    ids=["one more object", "another version", "another part", "a rollout"],
)
async def test_what_is_recorded_of_the_member_is_written_before(entries, changes):
    leader = Pass()
    await leader.plan()
    assert await leader.intend(entries, **changes) == ["status"]


async def test_a_new_leader_says_so_first():
    leader = Pass(epoch=EPOCH - 1)
    await leader.plan()
    assert await leader.intend() == ["status"]


async def test_without_a_plan_of_this_leaders_process_the_intent_is_written():
    assert await Pass().intend() == ["status"]


async def test_what_somebody_else_wrote_since_is_written_upon():
    leader = Pass()
    await leader.plan()
    leader.hub.obj = leader.hub.obj | {"metadata": leader.hub.obj["metadata"] | {"resourceVersion": "99"}}
    assert await leader.intend() == ["status"]


@pytest.mark.parametrize(("epoch", "before"), [(EPOCH, []), (EPOCH - 1, ["status"])], ids=["its own", "of another"])
async def test_who_only_prunes_has_an_attempt_of_its_own_on_the_hub(epoch, before, monkeypatch):
    """One leader applied and ended before it pruned; the next finds nothing to apply."""
    leader = Pass(epoch)
    seen: list[list[str]] = []

    class Pruner:
        failure = None

        async def prune(self, gone: Any, *, siblings: Any) -> tuple[list[Any], list[Any]]:
            seen.append(list(leader.hub.written))
            return [], []

    async def nothing(_: Any) -> frozenset[str]:
        return frozenset()

    targets = SimpleNamespace(claimed_elsewhere=nothing, siblings=lambda _: [], beside=lambda _: {})
    objects = Objects(cast(Any, None), cast(Any, targets), cast(Any, None))
    monkeypatch.setattr(objects, "pruner", lambda *_: Pruner())
    draft = leader.draft()
    await objects._prune(draft, "f1", cast(Any, None), [OLD])
    assert seen == [before]
    assert leader.hub.obj["status"]["attempt"]["epoch"] == EPOCH
