"""Applying to a real API server: few requests, stages in order, the inventory first, Flux's texts."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace

import pytest

from fleet_rollout.kube.apply import Applier


async def versions(member, ns):
    items = (await member.api.get(f"/api/v1/namespaces/{ns}/configmaps"))["items"]
    return {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in items}


async def test_new_objects_cost_two_requests_each_and_unchanged_ones_one(apply, make, requests, member):
    objects = [make.config_map(f"c{number:02}") for number in range(20)]
    names = [f"ConfigMap/{make.namespace}/c{number:02}" for number in range(20)]
    assert await apply(*objects) == [f"{name} created" for name in names]
    assert requests.verbs == {"list": 1, "dry run": 20, "apply": 20}

    requests.forget()
    before = await versions(member, make.namespace)
    assert await apply(*objects) == [f"{name} unchanged" for name in names]
    assert requests.verbs == {"list": 1, "dry run": 20}
    assert await versions(member, make.namespace) == before


async def test_only_what_changed_is_written(apply, make, requests):
    await apply(*[make.config_map(f"c{number}") for number in range(3)])
    requests.forget()
    lines = await apply(make.config_map("c0"), make.config_map("c1", {"a": "2"}), make.config_map("c2"))
    assert [line.split("/")[-1] for line in lines] == ["c0 unchanged", "c1 configured", "c2 unchanged"]
    assert requests.verbs == {"list": 1, "dry run": 3, "apply": 1}


async def test_a_single_object_is_got_and_not_listed(apply, make, requests):
    await apply(make.config_map("c"))
    assert requests.verbs == {"get": 1, "dry run": 1, "apply": 1}


async def test_the_inventory_is_recorded_once_before_the_first_write_and_not_without_one(applier, make, recorded, live):
    seen = []

    async def look(entries):
        seen.append(await live("configmaps", "c"))
        await recorded(entries)

    objects = [make.deployment("web"), make.service("web"), make.config_map("c")]
    await applier.plan_and_apply(objects, force=False, before_write=look)
    ns = make.namespace
    assert recorded.inventories == [[f"{ns}_c__ConfigMap", f"{ns}_web__Service", f"{ns}_web_apps_Deployment"]]
    assert seen == [None], "no object is there before it is in the inventory"
    await applier.plan_and_apply(objects, force=False, before_write=look)
    assert len(seen) == 1


async def test_what_the_hub_answers_when_the_inventory_is_recorded_is_not_taken_for_the_member(applier, make, live):
    class HubRefused(Exception):
        pass

    async def refuse(_):
        raise HubRefused

    with pytest.raises(HubRefused):
        await applier.plan_and_apply([make.config_map("c")], force=False, before_write=refuse)
    assert await live("configmaps", "c") is None


async def test_everything_carries_the_owner_labels_and_our_field_manager(apply, make, owner, live):
    await apply(make.config_map("c", labels={"app": "web"}))
    metadata = (await live("configmaps", "c"))["metadata"]
    assert metadata["labels"] == {"app": "web", **owner.labels}
    assert [entry["manager"] for entry in metadata["managedFields"]] == ["fleet-rollout"]


async def test_another_writer_of_ours_has_its_own_field_manager(apply, make, cluster, owner, settings, live):
    rollout = Applier(cluster, owner, settings, manager="fleet-rollout-rollout")
    assert await apply(make.config_map("c"), by=rollout) == [f"ConfigMap/{make.namespace}/c created"]
    assert await apply(make.config_map("c"), by=rollout) == [f"ConfigMap/{make.namespace}/c unchanged"]
    entries = (await live("configmaps", "c"))["metadata"]["managedFields"]
    assert [entry["manager"] for entry in entries] == ["fleet-rollout-rollout"]


@pytest.fixture
async def widget(member):
    """A kind of the test's own: its CRD's manifest."""
    group = f"{secrets.token_hex(4)}.example.org"
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    yield {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets"},
            "versions": [version],
        },
    }
    await member.api.request("DELETE", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.{group}")


async def test_g15_a_crd_its_objects_a_namespace_and_what_is_in_it_arrive_in_one_pass(
    apply, make, widget, recorded, member, applier
):
    group = widget["spec"]["group"]
    inside = f"{make.namespace}-inside"
    make.namespace = inside
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": inside}}
    one = {
        "apiVersion": f"{group}/v1",
        "kind": "Widget",
        "metadata": {"name": "w", "namespace": inside},
        "spec": {"size": 1},
    }
    assert await apply(one, make.deployment("web"), space, widget) == [
        f"CustomResourceDefinition/widgets.{group} created",
        f"Namespace/{inside} created",
        f"Deployment/{inside}/web created",
        f"Widget/{inside}/w created",
    ]
    assert recorded.inventories == [
        [
            f"_widgets.{group}_apiextensions.k8s.io_CustomResourceDefinition",
            f"_{inside}__Namespace",
            f"{inside}_web_apps_Deployment",
            f"{inside}_w_{group}_Widget",
        ]
    ]
    lines = await apply(one, make.deployment("web"), space, widget)
    assert all(line.endswith(" unchanged") for line in lines), lines
    await member.api.request("DELETE", f"/api/v1/namespaces/{inside}")


async def test_unknown_fields_are_errors_and_not_dropped(refusal, make, live):
    broken = {**make.config_map("c"), "dataa": {"a": "1"}}
    assert (await refusal(broken)).startswith(f"ConfigMap/{make.namespace}/c dry-run failed: ")
    message = await refusal(make.deployment("web", replica=3))
    assert message.startswith(f"Deployment/{make.namespace}/web dry-run failed: ")
    assert ".spec.replica: field not declared in schema" in message
    assert await live("configmaps", "c") is None


async def test_g16_nothing_of_a_stage_is_written_when_one_dry_run_fails(apply, refusal, make, recorded, member):
    objects = [make.config_map(f"c{number}") for number in range(3)]
    await apply(*objects, make.deployment("web"))
    before, inventories = await versions(member, make.namespace), list(recorded.inventories)
    changed = [make.config_map(f"c{number}", {"a": "2"}) for number in range(3)]
    message = await refusal(*changed, make.deployment("web", app="other"))
    assert message.startswith(f"Deployment/{make.namespace}/web dry-run failed (Invalid): ")
    assert "field is immutable" in message
    assert await versions(member, make.namespace) == before
    assert recorded.inventories == inventories


async def test_what_earlier_stages_applied_is_named_below_the_error(refusal, make, member):
    inside = f"{make.namespace}-inside"
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": inside}}
    message = await refusal(space, make.deployment("web", replica=3))
    first, *rest = message.splitlines()
    assert "dry-run failed" in first
    assert rest == [f"Namespace/{inside} created"]
    await member.api.request("DELETE", f"/api/v1/namespaces/{inside}")


async def test_a_missing_namespace_and_an_unnamed_one_are_told_apart(refusal, make):
    make.namespace = "nowhere-at-all"
    expected = 'ConfigMap/nowhere-at-all/c not found: namespaces "nowhere-at-all" not found'
    assert await refusal(make.config_map("c")) == expected
    unnamed = make.config_map("c")
    del unnamed["metadata"]["namespace"]
    assert (await refusal(unnamed)).startswith("ConfigMap/c namespace not specified: set metadata.namespace")


async def test_an_unknown_kind_is_named(refusal, make):
    odd = {
        "apiVersion": "example.org/v1",
        "kind": "Gadget",
        "metadata": {"name": "g", "namespace": make.namespace},
    }
    assert await refusal(odd) == (
        f'Gadget/{make.namespace}/g dry-run failed: no matches for kind "Gadget" in version "example.org/v1"'
    )


@pytest.mark.parametrize("content", [{"stringData": {"token": 48151623}}, {"data": {"token": "$48151623"}}])
async def test_a_refused_secret_is_not_quoted(refusal, make, content):
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": make.namespace}, **content}
    message = await refusal(secret)
    assert message.startswith(f"Secret/{make.namespace}/s dry-run failed: the API server refuses its content")
    assert "48151623" not in message


async def test_a_missing_permission_is_named(refusal, make, cluster, owner, settings):
    nobody = Applier(cluster, owner, settings, impersonate=f"system:serviceaccount:{make.namespace}:nobody")
    message = await refusal(make.config_map("c"), by=nobody)
    assert "(Forbidden)" in message
    assert "nobody" in message


async def test_a_service_account_that_may_not_list_still_applies(
    apply, make, cluster, owner, settings, account, requests
):
    ns = make.namespace
    user = await account("deployer", ("", "configmaps", ["get", "create", "patch"]))
    deployer = Applier(cluster, owner, settings, impersonate=user)
    objects = [make.config_map("a"), make.config_map("b")]
    assert await apply(*objects, by=deployer) == [f"ConfigMap/{ns}/a created", f"ConfigMap/{ns}/b created"]
    assert all(request.impersonate for request in requests.sent if "/configmaps" in request.path)


async def test_a_stage_that_does_not_become_current_ends_the_pass(refusal, make, cluster, owner, settings, member):
    inside = f"{make.namespace}-ending"
    path = f"/api/v1/namespaces/{inside}"
    await member.api.create("/api/v1/namespaces", {"metadata": {"name": inside, "finalizers": ["example.org/keep"]}})
    await member.api.request("DELETE", path)
    impatient = Applier(cluster, owner, replace(settings, stage_wait=0.5))
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": inside}}
    message = await refusal(space, make.config_map("c"), by=impatient)
    assert message.splitlines()[0] == f"timeout waiting for: [Namespace/{inside} status: 'Terminating']"
    await member.api.request(
        "PATCH", path, {"metadata": {"finalizers": None}}, content_type="application/merge-patch+json"
    )


async def test_a_pass_that_is_cancelled_stops_and_the_next_one_completes_it(applier, apply, make, requests):
    reached = asyncio.Event()

    async def stop_here(_):
        reached.set()
        await asyncio.Event().wait()

    objects = [make.config_map("a"), make.config_map("b")]
    running = asyncio.create_task(applier.plan_and_apply(objects, force=False, before_write=stop_here))
    await reached.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert requests.verbs["apply"] == 0
    ns = make.namespace
    assert await apply(*objects) == [f"ConfigMap/{ns}/a created", f"ConfigMap/{ns}/b created"]
