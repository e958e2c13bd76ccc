"""What leaves: clusters, labels, policies, Fleets. Each prunes what it had brought, and a new name hands over."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from fleet_rollout.control import inventories, orphan_records

OTHER = json.dumps({"cluster": {"kind": "AttachedCluster", "name": "m2"}, "namespace": "other", "name": "web"})


def config_map(name: str, **data: str) -> str:
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


def policy(story: Any, name: str, folder: str = "app", **fields: Any) -> dict[str, Any]:
    common = {"interval": "1h", "path": f"./{folder}", "prune": True, "targetNamespace": story.namespace}
    return {"name": name, "kustomization": common | fields}


async def synced(story: Any, *policies: dict[str, Any], **labels: dict[str, str]) -> Any:
    """An Application on m1 and m2, everything applied."""
    repository = await story.git_repo({"app/a.yaml": config_map("a"), "db/b.yaml": config_map("b")})
    await story.fleet("m1", "m2", labels=labels)
    await story.start()
    await story.application(repository, *policies)
    await story.condition("Ready", "True")
    return repository


async def test_a_cluster_that_leaves_the_fleet_is_cleaned_up(story: Any) -> None:
    """G34: its objects, its ClusterSync and its row go; the other cluster's stay. It may come back."""
    await synced(story, policy(story, "web"))
    uid = (await story.config_map("m1", "a"))["metadata"]["uid"]
    await story.set_fleet(["m1"])
    await story.gone("clustersyncs", "web-attachedcluster-m2")
    assert await story.config_map("m2", "a") is None

    async def has_one_row() -> bool:
        rows = (await story.read())["status"]["syncStatus"]
        return [row["name"] for row in rows] == ["web-attachedcluster-m1"]

    await story.until(has_one_row)
    assert (await story.config_map("m1", "a"))["metadata"]["uid"] == uid
    await story.set_fleet(["m1", "m2"])
    await story.row("web-attachedcluster-m2", ready="True")
    assert await story.config_map("m2", "a") is not None


async def test_a_cluster_whose_label_no_longer_matches_is_cleaned_up(story: Any) -> None:
    """G34: the Fleet is as it was, the label of the cluster object changed."""
    chosen = policy(story, "web")
    chosen["destination"] = {"fleet": "fleet", "clusterSelector": {"matchLabels": {"env": "prod"}}}
    await synced(story, chosen, m1={"env": "prod"}, m2={"env": "prod"})
    assert await story.config_map("m2", "a") is not None
    await story.attach("m2", labels={"m2": {"env": "test"}})
    await story.gone("clustersyncs", "web-attachedcluster-m2")
    assert await story.config_map("m2", "a") is None
    assert await story.config_map("m1", "a") is not None


async def test_a_policy_that_keeps_its_objects_leaves_them(story: Any) -> None:
    """G34: "or orphaned by policy"."""
    await synced(story, policy(story, "web", deletionPolicy="Orphan"))
    await story.set_fleet(["m1"])
    await story.gone("clustersyncs", "web-attachedcluster-m2")
    assert await story.config_map("m2", "a") is not None


async def test_a_removed_policy_prunes_what_it_had_brought(story: Any) -> None:
    """G34: Kurator leaves the child and its workload for ever (its defect 6)."""
    repository = await synced(story, policy(story, "web"), policy(story, "db", "db"))
    await story.application(repository, policy(story, "web"))
    await story.gone("clustersyncs", "db-attachedcluster-m1", "db-attachedcluster-m2")
    for member in ("m1", "m2"):
        assert await story.config_map(member, "b") is None
        assert await story.config_map(member, "a") is not None


@pytest.mark.parametrize("inline", [inventories.INLINE, 0], ids=["inline", "in parts"])
async def test_a_renamed_policy_hands_its_objects_over(
    story: Any, monkeypatch: pytest.MonkeyPatch, inline: int
) -> None:
    """G34: the objects are the same ones afterwards, never deleted in between."""
    monkeypatch.setattr(inventories, "INLINE", inline)
    repository = await synced(story, policy(story, "old"))
    before = {m: (await story.config_map(m, "a"))["metadata"]["uid"] for m in ("m1", "m2")}
    await story.application(repository, policy(story, "new"))
    await story.gone("clustersyncs", "old-attachedcluster-m1", "old-attachedcluster-m2")
    await story.condition("Ready", "True")
    for member, uid in before.items():
        found = (await story.config_map(member, "a"))["metadata"]
        assert found["uid"] == uid
        assert found["labels"]["kustomize.toolkit.fluxcd.io/name"] == f"new-attachedcluster-{member}"


@pytest.mark.parametrize("inline", [inventories.INLINE, 0], ids=["inline", "in parts"])
async def test_a_renamed_policy_keeps_what_it_only_creates(
    story: Any, monkeypatch: pytest.MonkeyPatch, inline: int
) -> None:
    """G34: `ssa: IfNotPresent` leaves the old owner's labels on the object; the inventory alone says whose it is."""
    monkeypatch.setattr(inventories, "INLINE", inline)
    once = {"kustomize.toolkit.fluxcd.io/ssa": "IfNotPresent"}
    claim = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "claim", "annotations": once}}
    repository = await story.git_repo({"app/a.yaml": config_map("a"), "app/claim.yaml": yaml.safe_dump(claim)})
    await story.fleet("m1")
    await story.start()
    await story.application(repository, policy(story, "old"))
    await story.condition("Ready", "True")
    before = await story.config_map("m1", "claim")
    await story.application(repository, policy(story, "new"))
    await story.gone("clustersyncs", "old-attachedcluster-m1")
    await story.condition("Ready", "True")
    assert await story.config_map("m1", "claim") == before


async def test_a_policy_prunes_nothing_while_what_another_holds_is_not_known(
    story: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of its inventory is gone: it may have named what is to be pruned. Told, tried again, and mended."""
    monkeypatch.setattr(inventories, "INLINE", 0)
    repository = await synced(story, policy(story, "web"), policy(story, "db", "db"))
    (name,) = (await story.sync("db-attachedcluster-m1"))["status"]["inventoryParts"]
    part = await story.config_map("hub", name)
    await story.hub.api.delete(story.path("configmaps", name))
    await repository.commit({"app/a.yaml": None, "app/c.yaml": config_map("c")})
    await story.request("1")
    told = await story.sync_condition("web-attachedcluster-m1", "Ready", "False", "PruneFailed")
    assert f"ConfigMap/{story.namespace}/{name} not found" in told["message"]
    assert await story.config_map("m1", "a") is not None
    assert await story.config_map("m1", "c") is not None
    await story.delete("clustersyncs", "web-attachedcluster-m1")
    told = await story.sync_condition("web-attachedcluster-m1", "Ready", "False", "InventoryIncomplete")
    assert name in told["message"]
    assert [await story.config_map("m1", each) is None for each in ("a", "c")] == [False, False]

    kept = {key: part["metadata"][key] for key in ("name", "labels", "ownerReferences")}
    await story.hub.api.create(story.path("configmaps"), part | {"metadata": kept})

    async def is_mended() -> bool:
        """The Application may still say what it said before: its status is written once a second."""
        return [await story.config_map("m1", each) is None for each in ("a", "b", "c")] == [True, False, False]

    await story.until(is_mended)
    await story.condition("Ready", "True")


async def test_a_renamed_policy_that_fails_leaves_the_objects_alone(story: Any) -> None:
    """G34: the hand-over waits until the new policy has the objects, and says so in a row."""
    repository = await synced(story, policy(story, "old"))
    await story.application(repository, policy(story, "new", folder="missing"))
    await story.row("old-attachedcluster-m1", message="kept until new-attachedcluster-m1 has taken over")
    await story.condition("Ready", "False")
    assert await story.config_map("m1", "a") is not None
    await story.application(repository, policy(story, "new"))
    await story.gone("clustersyncs", "old-attachedcluster-m1", "old-attachedcluster-m2")
    assert await story.config_map("m1", "a") is not None


async def test_a_policy_switched_to_helm_prunes_its_objects(story: Any) -> None:
    """G34: what the kustomization had brought goes, and the condition names the field that is not carried out."""
    repository = await synced(story, policy(story, "web"), policy(story, "db", "db"))
    helm = {"name": "web", "helm": {"chart": {"spec": {"chart": "./chart"}}, "interval": "1h"}}
    await story.application(repository, helm, policy(story, "db", "db"))
    refused = await story.condition("Ready", "False", "NotSupportedYet")
    assert "spec.syncPolicies[0].helm" in refused["message"]
    await story.gone("clustersyncs", "web-attachedcluster-m1", "web-attachedcluster-m2")
    for member in ("m1", "m2"):
        assert await story.config_map(member, "a") is None
        assert await story.config_map(member, "b") is not None


async def test_an_application_goes_although_its_fleet_went_first(story: Any) -> None:
    """G38: it does not wait for the Fleet (Kurator's defect 7), and what it had brought is pruned."""
    await synced(story, policy(story, "web"))
    await story.delete("fleets", "fleet")
    await story.delete("applications", "web")
    await story.gone("applications", "web")
    assert await story.hub.api.items(story.path("clustersyncs")) == []
    for member in ("m1", "m2"):
        assert await story.config_map(member, "a") is None


@pytest.mark.parametrize("per_record", [orphan_records.PER_RECORD, 1], ids=["one record", "three records"])
async def test_a_deleted_cluster_object_leaves_a_record_of_what_it_holds(
    story: Any, monkeypatch: pytest.MonkeyPatch, per_record: int
) -> None:
    """Giving up on a lost member: at once where the way to it is gone; taken up again when it is attached again."""
    monkeypatch.setattr(orphan_records, "PER_RECORD", per_record)
    repository = await synced(story, policy(story, "web"))
    commit = await repository.commit({f"app/{name}.yaml": config_map(name) for name in ("b", "c")})
    await story.request("1")
    await story.applied(commit)
    await story.delete("attachedclusters", "m2")
    await story.gone("clustersyncs", "web-attachedcluster-m2")
    records = await story.orphans()
    assert {record["name"] for record in records} == {"web-attachedcluster-m2"}
    assert len(records) == -(-3 // per_record)
    ids = [entry["id"] for record in records for entry in record["entries"]]
    assert sorted(ids) == [f"{story.namespace}_{name}__ConfigMap" for name in ("a", "b", "c")]
    failed = await story.condition("Ready", "False", "ClusterNotFound")
    assert f"AttachedCluster/{story.namespace}/m2 not found" in failed["message"]
    assert await story.config_map("m1", "a") is not None

    await story.set_fleet(["m1"])
    await story.condition("Ready", "True")
    assert await story.config_map("m2", "a") is not None
    await story.attach("m2")
    await story.no_orphans()
    assert [await story.config_map("m2", name) for name in ("a", "b", "c")] == [None, None, None]


async def test_what_the_version_before_recorded_is_pruned(story: Any) -> None:
    """One record for all clusters of one name: of one that returns, only its own is struck."""
    await synced(story, policy(story, "web"))
    await story.delete("attachedclusters", "m2")
    await story.gone("clustersyncs", "web-attachedcluster-m2")
    await story.orphaned_before()
    await story.hub.api.merge(story.path("configmaps", "fleet-rollout-orphans-m2"), {"data": {"other.web": OTHER}})
    await story.set_fleet(["m1"])
    await story.attach("m2")

    async def is_pruned() -> bool:
        return [record["namespace"] for record in await story.orphans()] == ["other"]

    await story.until(is_pruned)
    assert await story.config_map("m2", "a") is None


@pytest.mark.parametrize("form", ["of this version", "of the version before", "in parts"])
async def test_a_cluster_that_comes_back_keeps_what_is_wanted_again(
    story: Any, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Giving up on a lost member: its record must not delete what was applied anew since."""
    if form == "in parts":
        monkeypatch.setattr(orphan_records, "PER_RECORD", 1)
    repository = await synced(story, policy(story, "web"))
    commit = await repository.commit({"app/c.yaml": config_map("c")})
    await story.request("1")
    await story.applied(commit)
    await story.delete("attachedclusters", "m2")
    await story.gone("clustersyncs", "web-attachedcluster-m2")
    if form == "of the version before":
        await story.orphaned_before()
    uid = (await story.config_map("m2", "a"))["metadata"]["uid"]
    await repository.commit({"app/c.yaml": None})
    await story.request("2")
    await story.attach("m2")
    await story.row("web-attachedcluster-m2", ready="True")
    await story.no_orphans()
    await story.row("web-attachedcluster-m2", ready="True")
    assert (await story.config_map("m2", "a"))["metadata"]["uid"] == uid
    await story.condition("Ready", "True")

    async def is_pruned() -> bool:
        return await story.config_map("m2", "c") is None

    await story.until(is_pruned)
