"""Parts of an inventory: what a status no longer names goes, and nothing else by its name (trust.md 2, class 2)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from fleet_rollout.control import inventories
from fleet_rollout.control.inventories import Inventories
from fleet_rollout.control.world import CONFIG_MAPS
from fleet_rollout.kube.access import connection_from_kubeconfig
from fleet_rollout.kube.client import Cluster
from fleet_rollout.settings import Settings
from fleet_rollout_api.cluster_sync import ClusterSync, InventoryEntry
from tests.stories.scenario import APPS

Object = dict[str, Any]
ENTRIES = [InventoryEntry(id="shop_a__ConfigMap", v="v1")]


@pytest.fixture
async def cluster(hub: Any) -> AsyncIterator[Cluster]:
    connection = connection_from_kubeconfig("hub", hub.kubeconfig.read_bytes(), allow_insecure=False)
    made = Cluster(connection, Settings())
    yield made
    await made.close()


@pytest.fixture
async def sync(crds: None, hub: Any, namespace: Any, monkeypatch: pytest.MonkeyPatch) -> ClusterSync:
    """One that no controller works on; every entry of its inventory goes into a part."""
    monkeypatch.setattr(inventories, "INLINE", 0)
    home = await namespace("inventory", on=[hub])
    obj = {
        "apiVersion": "apps.kurator.dev/v1alpha1",
        "kind": "ClusterSync",
        "metadata": {"name": "web", "namespace": home},
        "spec": {
            "application": "web",
            "policy": "web-0",
            "cluster": {"kind": "AttachedCluster", "name": "m1"},
            "kustomization": {"interval": "1h", "prune": True},
        },
    }
    made = await hub.api.create(f"{APPS}/namespaces/{home}/clustersyncs", obj)
    return ClusterSync.model_validate(made)


async def test_a_part_goes_once_and_never_that_of_a_namesake(cluster: Cluster, sync: ClusterSync) -> None:
    ours, home = Inventories(cluster), sync.metadata.namespace
    _, (part,) = await ours.write(sync, ENTRIES)
    older = sync.model_copy(update={"metadata": sync.metadata.model_copy(update={"uid": "of-one-that-is-gone"})})
    await ours.drop(older, [part])
    assert await cluster.get(CONFIG_MAPS, part, home) is not None
    await ours.drop(sync, [part])
    assert await cluster.get(CONFIG_MAPS, part, home) is None
    await ours.drop(sync, [part])


async def test_a_part_that_is_written_meanwhile_stays(
    cluster: Cluster, sync: ClusterSync, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, home = Inventories(cluster), sync.metadata.namespace
    _, (part,) = await ours.write(sync, ENTRIES)
    delete = cluster.delete

    async def after_another(*given: Any, **preconditions: Any) -> bool:
        await cluster.patch(CONFIG_MAPS, part, home, {"metadata": {"labels": {"taken": "over"}}}, kind="merge")
        return await delete(*given, **preconditions)

    monkeypatch.setattr(cluster, "delete", after_another)
    await ours.drop(sync, [part])
    assert await cluster.get(CONFIG_MAPS, part, home) is not None


@pytest.mark.parametrize("text", ['[{"id": "shop_b__ConfigMap", "v": "v1"}]', "{", ""])
async def test_a_part_that_somebody_has_changed_is_told_and_not_believed(
    cluster: Cluster, sync: ClusterSync, text: str
) -> None:
    """What it names would be pruned, or orphaned."""
    ours, home = Inventories(cluster), sync.metadata.namespace
    _, (part,) = await ours.write(sync, ENTRIES)
    status = sync.status.model_copy(update={"inventory_parts": [part]})
    named = sync.model_copy(update={"status": status})
    assert await ours.read(named) == ENTRIES
    changed = {"data": {inventories.DATA_KEY: text}}
    await cluster.patch(CONFIG_MAPS, part, home, changed, kind="merge", manager="somebody")
    with pytest.raises(inventories.Incomplete, match=f"ConfigMap/{home}/{part} was changed"):
        await ours.read(named)


async def test_a_part_that_is_gone_holds_up_no_deletion(story: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever empties a namespace deletes parts at once: what is known is pruned, and what is not is told."""
    monkeypatch.setattr(inventories, "INLINE", 1)
    files = {f"{name}.yaml": f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n" for name in ("a", "b")}
    repository = await story.git_repo(files)
    await story.fleet("m2")
    await story.start()
    await story.application(repository, {"targetNamespace": story.namespace})
    await story.applied(await repository.commit_of(), "web-0-attachedcluster-m2")
    sync = await story.sync("web-0-attachedcluster-m2")
    (part,) = sync["status"]["inventoryParts"]
    await story.hub.api.delete(story.path("configmaps", part))
    await story.delete("applications", "web")
    await story.gone("applications", "web")
    assert [await story.config_map("m2", name) is None for name in ("a", "b")] == [True, False]
    told = await story.events("web-0-attachedcluster-m2", "ClusterSync")
    assert any(reason == "InventoryIncomplete" and f"{part} not found" in message for _, reason, message in told)
