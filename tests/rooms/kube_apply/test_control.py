"""The user's annotations: what is not applied, applied once, merged, or replaced."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet_rollout.kube.apply import Applier

FLUX = "kustomize.toolkit.fluxcd.io"


def says(key, value):
    return {f"{FLUX}/{key}": value}


async def edit(member, ns, name, data):
    await member.api.request(
        "PATCH",
        f"/api/v1/namespaces/{ns}/configmaps/{name}",
        {"data": data},
        params={"fieldManager": "kubectl-edit"},
        content_type="application/merge-patch+json",
    )


@pytest.mark.parametrize("annotations", [says("reconcile", "disabled"), says("ssa", "Ignore")])
async def test_g18_1_a_disabled_object_is_not_created_and_yet_in_the_inventory(
    apply, make, recorded, live, annotations, requests
):
    lines = await apply(make.config_map("c", annotations=annotations), make.config_map("d"))
    ns = make.namespace
    assert lines == [f"ConfigMap/{ns}/c skipped", f"ConfigMap/{ns}/d created"]
    assert recorded.inventories == [[f"{ns}_c__ConfigMap", f"{ns}_d__ConfigMap"]]
    assert await live("configmaps", "c") is None
    assert requests.verbs["dry run"] == 1


async def test_g18_1_an_object_disabled_in_the_cluster_is_not_updated(apply, make, member, live):
    await apply(make.config_map("c"))
    path = f"/api/v1/namespaces/{make.namespace}/configmaps/c"
    labels = {"metadata": {"labels": says("reconcile", "Disabled")}}
    await member.api.request("PATCH", path, labels, content_type="application/merge-patch+json")
    assert await apply(make.config_map("c", {"a": "2"})) == [f"ConfigMap/{make.namespace}/c skipped"]
    assert (await live("configmaps", "c"))["data"] == {"a": "1"}


async def test_g18_2_if_not_present_is_created_once_and_never_updated(apply, make, live):
    annotations = says("ssa", "IfNotPresent")
    name = f"ConfigMap/{make.namespace}/c"
    assert await apply(make.config_map("c", annotations=annotations)) == [f"{name} created"]
    assert await apply(make.config_map("c", {"a": "2"}, annotations=annotations)) == [f"{name} skipped"]
    assert (await live("configmaps", "c"))["data"] == {"a": "1"}


async def test_g18_2_if_not_present_leaves_what_somebody_else_created(apply, make, member, live):
    await member.api.create(f"/api/v1/namespaces/{make.namespace}/configmaps", make.config_map("c", {"theirs": "1"}))
    lines = await apply(make.config_map("c", annotations=says("ssa", "IfNotPresent")))
    assert lines == [f"ConfigMap/{make.namespace}/c skipped"]
    assert (await live("configmaps", "c"))["data"] == {"theirs": "1"}


async def test_g18_4_merge_leaves_keys_that_kubectl_added(apply, make, member, live):
    for name, control, expected in (
        ("merged", says("ssa", "Merge"), {"a": "2", "added": "1"}),
        ("replaced", {}, {"a": "2"}),
    ):
        await apply(make.config_map(name, annotations=control))
        await edit(member, make.namespace, name, {"added": "1"})
        await apply(make.config_map(name, {"a": "2"}, annotations=control))
        assert (await live("configmaps", name))["data"] == expected, name


class TestForce:
    """A change that is not possible in place."""

    async def uid(self, live):
        return (await live("deployments", "web", "apps"))["metadata"]["uid"]

    async def test_g16_with_force_the_object_is_deleted_and_created(self, apply, make, live):
        await apply(make.deployment("web"))
        before = await self.uid(live)
        lines = await apply(make.deployment("web", app="other"), force=True)
        assert lines == [f"Deployment/{make.namespace}/web created"]
        assert await self.uid(live) != before

    async def test_the_annotation_alone_is_enough(self, apply, make, live):
        await apply(make.deployment("web"))
        before = await self.uid(live)
        changed = make.deployment("web", app="other")
        changed["metadata"]["annotations"] = says("force", "Enabled")
        await apply(changed)
        assert await self.uid(live) != before

    async def test_without_force_the_object_stays(self, apply, refusal, make, live):
        await apply(make.deployment("web"))
        before = await self.uid(live)
        assert "dry-run failed (Invalid)" in await refusal(make.deployment("web", app="other"))
        assert await self.uid(live) == before

    async def test_a_manifest_that_is_invalid_under_any_name_deletes_nothing(self, apply, refusal, make, live):
        await apply(make.deployment("web"))
        before = await self.uid(live)
        broken = make.deployment("web", app="other")
        broken["spec"]["template"]["spec"]["containers"][0]["name"] = "No Name"
        assert "dry-run failed (Invalid)" in await refusal(broken, force=True)
        assert await self.uid(live) == before

    async def test_an_immutable_config_map_is_replaced(self, apply, make, live):
        await apply({**make.config_map("c"), "immutable": True})
        await apply({**make.config_map("c", {"a": "2"}), "immutable": True}, force=True)
        assert (await live("configmaps", "c"))["data"] == {"a": "2"}

    async def test_a_kind_whose_validity_depends_on_its_name_is_replaced_without_a_probe(
        self, apply, make, live, requests
    ):
        await apply(make.service("web"))
        before = (await live("services", "web"))["metadata"]["uid"]
        requests.forget()
        headless = make.service("web")
        headless["spec"]["clusterIP"] = "None"
        await apply(headless, force=True)
        found = await live("services", "web")
        assert found["metadata"]["uid"] != before
        assert requests.verbs["dry run"] == 1

    async def test_an_object_that_a_finalizer_holds_ends_the_pass(
        self, apply, refusal, make, cluster, owner, settings, member
    ):
        held = {**make.config_map("c", finalizers=["example.org/keep"]), "immutable": True}
        await apply(held)
        impatient = Applier(cluster, owner, replace(settings, stage_wait=0.3))
        message = await refusal({**held, "data": {"a": "2"}}, force=True, by=impatient)
        name = f"ConfigMap/{make.namespace}/c"
        assert message == f"{name} delete failed: not gone after 0.3s; look at its finalizers"
        path = f"/api/v1/namespaces/{make.namespace}/configmaps/c"
        released = {"metadata": {"finalizers": None}}
        await member.api.request("PATCH", path, released, content_type="application/merge-patch+json")
