"""An object belongs to one Application; policies of one Application may hand objects to each other."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from fleet_rollout.control import inventories


def config_map(name: str, **data: str) -> str:
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


def policy(story: Any, name: str, **fields: Any) -> dict[str, Any]:
    common = {"interval": "1h", "path": f"./{name}", "prune": True, "targetNamespace": story.namespace}
    return {"name": name, "kustomization": common | fields}


def ids(sync: dict[str, Any]) -> list[str]:
    return [entry["id"] for entry in sync["status"]["inventory"]["entries"]]


async def all_ids(story: Any, name: str) -> list[str]:
    """Those of the parts, too."""
    sync = await story.sync(name)
    parts = [await story.config_map("hub", part) or {} for part in sync["status"].get("inventoryParts", [])]
    texts = [part.get("data", {}).get(inventories.DATA_KEY, "[]") for part in parts]
    return [*ids(sync), *(entry["id"] for text in texts for entry in yaml.safe_load(text))]


@pytest.mark.parametrize("inline", [inventories.INLINE, 0], ids=["inline", "in parts"])
async def test_an_object_moves_from_one_policy_to_another_without_being_deleted(
    story: Any, monkeypatch: pytest.MonkeyPatch, inline: int
) -> None:
    """G20: whichever of the two runs first."""
    monkeypatch.setattr(inventories, "INLINE", inline)
    repository = await story.git_repo(
        {"one/a.yaml": config_map("a"), "one/b.yaml": config_map("b"), "two/c.yaml": config_map("c")}
    )
    await story.fleet("m1")
    await story.start(dependency_retry=0.5)
    await story.application(repository, policy(story, "one"), policy(story, "two"))
    syncs = ("one-attachedcluster-m1", "two-attachedcluster-m1")
    await story.applied(await repository.commit_of(), *syncs)
    uids = {name: (await story.config_map("m1", name))["metadata"]["uid"] for name in ("a", "c")}

    moved = {"one/a.yaml": None, "two/a.yaml": config_map("a"), "two/c.yaml": None, "one/c.yaml": config_map("c")}
    second = await repository.commit(moved)
    await story.request("1")
    await story.applied(second, *syncs)
    for name, uid in uids.items():
        assert (await story.config_map("m1", name))["metadata"]["uid"] == uid
    prefix = f"{story.namespace}_"
    expected = [[f"{prefix}b__ConfigMap", f"{prefix}c__ConfigMap"], [f"{prefix}a__ConfigMap"]]

    async def are_handed_over() -> bool:
        return [await all_ids(story, name) for name in syncs] == expected

    await story.until(are_handed_over)


async def test_an_object_that_somebody_else_has_taken_over_is_not_pruned(story: Any) -> None:
    """G20: labels of another owner on the live object."""
    repository = await story.git_repo({"a.yaml": config_map("a"), "b.yaml": config_map("b")})
    await story.fleet("m1")
    await story.start()
    await story.application(repository, {"targetNamespace": story.namespace})
    sync = "web-0-attachedcluster-m1"
    await story.applied(await repository.commit_of(), sync)
    labels = {"kustomize.toolkit.fluxcd.io/name": "other"}
    path = f"/api/v1/namespaces/{story.namespace}/configmaps/a"
    await story.members["m1"].api.merge(path, {"metadata": {"labels": labels}})

    second = await repository.commit({"a.yaml": None})
    await story.request("1")
    await story.applied(second, sync)
    assert await story.config_map("m1", "a")
    assert ids(await story.sync(sync)) == [f"{story.namespace}_b__ConfigMap"]


async def test_two_applications_that_claim_one_object_do_not_fight(story: Any) -> None:
    """Bad input: two Applications claiming one object. The first keeps it, the second says who has it."""
    mine = await story.git_repo({"a.yaml": config_map("a", of="web")})
    other = await story.git_repo({"a.yaml": config_map("a", of="other"), "b.yaml": config_map("b")})
    await story.fleet("m1")
    await story.start()
    target = {"targetNamespace": story.namespace}
    await story.application(mine, target)
    await story.applied(await mine.commit_of(), "web-0-attachedcluster-m1")
    version = (await story.config_map("m1", "a"))["metadata"]["resourceVersion"]

    await story.application(other, target, name="other")
    refused = await story.sync_condition("other-0-attachedcluster-m1", "Ready", "False", "OwnershipConflict")
    assert f"ConfigMap/{story.namespace}/a belongs to Application '{story.namespace}/web'" in refused["message"]
    assert "remove it from one of the two sources" in refused["message"]
    assert await story.config_map("m1", "b") is None
    assert (await story.config_map("m1", "a"))["metadata"]["resourceVersion"] == version
    await story.sync_condition("web-0-attachedcluster-m1", "Ready", "True")

    fixed = await other.commit({"a.yaml": None})
    await story.request("1", name="other")
    await story.applied(fixed, "other-0-attachedcluster-m1")
    await story.delete("applications", "other")

    async def is_gone() -> bool:
        return await story.hub.api.find(story.path("applications", "other")) is None

    await story.until(is_gone)
    assert (await story.config_map("m1", "a"))["data"] == {"of": "web"}


async def test_applications_whose_children_would_have_one_name_both_work(story: Any) -> None:
    """Bad input: name collisions. The later one gets a suffix from its UID; both reach the member."""
    one = await story.git_repo({"app/a.yaml": config_map("a")})
    two = await story.git_repo({"app/b.yaml": config_map("b")})
    await story.fleet("m1")
    await story.start()
    await story.application(one, policy(story, "app"), name="one")
    await story.applied(await one.commit_of(), "app-attachedcluster-m1")
    await story.application(two, policy(story, "app"), name="two")
    uid = (await story.read("two"))["metadata"]["uid"]
    second = f"app-attachedcluster-m1-{uid.replace('-', '')[:5]}"
    await story.applied(await two.commit_of(), second)
    assert await story.config_map("m1", "a")
    assert await story.config_map("m1", "b")

    await story.delete("applications", "one")

    async def is_gone() -> bool:
        return await story.hub.api.find(story.path("applications", "one")) is None

    await story.until(is_gone)
    assert await story.config_map("m1", "a") is None
    assert await story.config_map("m1", "b")
    assert await story.sync(second)
