"""The client's verbs on a real API server."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from fleet_rollout.kube.client import ApiError, NoSuchKind, Resource

CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", True)
NAMESPACES = Resource("", "v1", "Namespace", "namespaces", False)
DEPLOYMENTS = Resource("apps", "v1", "Deployment", "deployments", True)


def config_map(namespace: str, name: str = "a", **data: str) -> dict:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


@pytest.fixture
async def home(namespace, hub):
    return await namespace("client", on=[hub])


async def test_objects_are_created_read_replaced_and_deleted(admin, home):
    made = await admin.create(CONFIG_MAPS, config_map(home, key="one"), manager="tests")
    assert await admin.get(CONFIG_MAPS, "a", home) == made
    made["data"]["key"] = "two"
    assert (await admin.replace(CONFIG_MAPS, made, manager="tests"))["data"] == {"key": "two"}
    assert await admin.delete(CONFIG_MAPS, "a", home) is True
    assert await admin.get(CONFIG_MAPS, "a", home) is None
    assert await admin.delete(CONFIG_MAPS, "a", home) is False


async def test_a_taken_name_is_an_error_of_its_own(admin, home):
    await admin.create(CONFIG_MAPS, config_map(home), manager="tests")
    with pytest.raises(ApiError) as caught:
        await admin.create(CONFIG_MAPS, config_map(home), manager="tests")
    assert caught.value.is_already_exists
    assert not caught.value.is_conflict


async def test_apply_says_whether_the_object_is_new_and_a_dry_run_leaves_nothing(admin, home):
    _, created = await admin.apply(CONFIG_MAPS, config_map(home, key="1"), manager="tests", dry_run=True)
    assert created
    assert await admin.get(CONFIG_MAPS, "a", home) is None
    assert (await admin.apply(CONFIG_MAPS, config_map(home, key="1"), manager="tests"))[1] is True
    answer, created = await admin.apply(CONFIG_MAPS, config_map(home, key="2"), manager="tests")
    assert (answer["data"], created) == ({"key": "2"}, False)
    assert [entry["manager"] for entry in answer["metadata"]["managedFields"]] == ["tests"]


async def test_apply_without_force_names_the_other_manager(admin, home):
    await admin.apply(CONFIG_MAPS, config_map(home, key="1"), manager="first")
    with pytest.raises(ApiError) as caught:
        await admin.apply(CONFIG_MAPS, config_map(home, key="2"), manager="second", force=False)
    assert caught.value.is_conflict
    assert "first" in caught.value.message


async def test_patches_are_merged_or_carried_out_one_by_one(admin, home):
    made = await admin.create(CONFIG_MAPS, config_map(home, key="1"), manager="tests")
    merged = await admin.patch(CONFIG_MAPS, "a", home, {"data": {"more": "2"}}, kind="merge", manager="tests")
    assert merged["data"] == {"key": "1", "more": "2"}
    stale = [{"op": "replace", "path": "/metadata/resourceVersion", "value": made["metadata"]["resourceVersion"]}]
    with pytest.raises(ApiError) as caught:
        await admin.patch(CONFIG_MAPS, "a", home, stale, kind="json")
    assert caught.value.is_conflict


async def test_a_delete_carries_its_preconditions(admin, home):
    made = await admin.create(CONFIG_MAPS, config_map(home), manager="tests")
    with pytest.raises(ApiError) as caught:
        await admin.delete(CONFIG_MAPS, "a", home, uid="00000000-0000-0000-0000-000000000000")
    assert caught.value.is_conflict
    with pytest.raises(ApiError) as caught:
        await admin.delete(CONFIG_MAPS, "a", home, resource_version="1")
    assert caught.value.is_conflict
    assert await admin.delete(CONFIG_MAPS, "a", home, uid=made["metadata"]["uid"])


async def test_a_long_list_is_read_in_pages_and_each_item_has_its_type(admin, home):
    async with asyncio.TaskGroup() as group:
        for number in range(520):
            obj = config_map(home, f"n{number}", key="value")
            obj["metadata"]["labels"] = {"half": str(number % 2)}
            group.create_task(admin.create(CONFIG_MAPS, obj, manager="tests"))
    found, version = await admin.list(CONFIG_MAPS, home)
    assert len({obj["metadata"]["name"] for obj in found}) == 520
    assert {(obj["apiVersion"], obj["kind"]) for obj in found} == {("v1", "ConfigMap")}
    assert int(version) > 0
    half, _ = await admin.list(CONFIG_MAPS, home, label_selector="half=1", metadata_only=True)
    assert len(half) == 260
    assert all("data" not in obj and obj["kind"] == "ConfigMap" for obj in half)


async def test_requests_can_be_made_as_a_service_account(admin, home):
    account = f"system:serviceaccount:{home}:nobody"
    with pytest.raises(ApiError) as caught:
        await admin.get(CONFIG_MAPS, "a", home, impersonate=account)
    assert caught.value.is_forbidden
    assert account in caught.value.message


async def test_an_invalid_object_is_refused_with_its_field(admin, home):
    obj = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": home}, "spec": {}}
    with pytest.raises(ApiError) as caught:
        await admin.apply(DEPLOYMENTS, obj, manager="tests")
    assert caught.value.is_invalid
    assert "spec.selector" in caught.value.message
    assert caught.value.details["causes"]


async def test_kinds_are_found_by_discovery(admin):
    assert await admin.resource_for("apps/v1", "Deployment") == DEPLOYMENTS
    assert await admin.resource_for("v1", "Namespace") == NAMESPACES
    assert (await admin.server_version()).startswith("v1.")


async def test_a_kind_installed_later_is_found_and_an_absent_one_is_named(admin, eventually):
    group = f"g{secrets.token_hex(4)}.example.com"
    with pytest.raises(NoSuchKind, match=f'no matches for kind "Thing" in version "{group}/v1"'):
        await admin.resource_for(f"{group}/v1", "Thing")
    crds = await admin.resource_for("apiextensions.k8s.io/v1", "CustomResourceDefinition")
    name = f"things.{group}"
    schema = {"openAPIV3Schema": {"type": "object"}}
    spec = {
        "group": group,
        "scope": "Cluster",
        "names": {"kind": "Thing", "plural": "things"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
    }
    crd = {"apiVersion": crds.api_version, "kind": crds.kind, "metadata": {"name": name}, "spec": spec}
    await admin.create(crds, crd, manager="tests")

    async def is_found():
        try:
            return await admin.resource_for(f"{group}/v1", "Thing")
        except NoSuchKind:
            return None

    await eventually(is_found)
    assert await is_found() == Resource(group, "v1", "Thing", "things", False)
    await admin.delete(crds, name)


async def test_one_watch_shows_changes_from_a_version_on(admin, home):
    _, version = await admin.list(CONFIG_MAPS, home)
    await admin.create(CONFIG_MAPS, config_map(home, key="1"), manager="tests")
    await admin.delete(CONFIG_MAPS, "a", home)
    seen = []
    async with asyncio.timeout(30):
        async for event in admin.watch(CONFIG_MAPS, namespace=home, resource_version=version):
            seen.append((event.type, event.obj["kind"], event.obj["metadata"]["name"]))
            if event.type == "DELETED":
                break
    assert seen == [("ADDED", "ConfigMap", "a"), ("DELETED", "ConfigMap", "a")]


async def test_a_session_of_the_callers_own_carries_the_credentials(hub, connection):
    async with connection(hub).open_session() as session, session.get(f"{hub.server}/version") as answer:
        assert (await answer.json())["gitVersion"].startswith("v1.")
