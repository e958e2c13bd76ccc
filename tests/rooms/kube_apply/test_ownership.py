"""Whose object it is: an object of another owner is refused before anything of its stage is written."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet_rollout.kube.apply import Applier

FLUX = "kustomize.toolkit.fluxcd.io"


@pytest.fixture
def rival(cluster, owner, settings):
    return Applier(cluster, replace(owner, name="shop-0-m1", application="shop"), settings)


async def test_two_applications_that_claim_one_object(apply, refusal, make, owner, rival, live):
    await apply(make.config_map("mine"), by=rival)
    message = await refusal(make.config_map("a"), make.config_map("mine", {"a": "2"}), reason="OwnershipConflict")
    assert message == (
        f"ConfigMap/{make.namespace}/mine belongs to Application '{owner.namespace}/shop': "
        "remove it from one of the two sources, or delete it from the cluster"
    )
    assert (await live("configmaps", "mine"))["data"] == {"a": "1"}
    assert await live("configmaps", "a") is None, "nothing of the stage was written"


async def test_the_owner_is_named_even_where_the_dry_run_is_refused_for_another_reason(apply, refusal, make, rival):
    await apply(make.deployment("web"), by=rival)
    message = await refusal(make.deployment("web", app="other"), reason="OwnershipConflict", force=True)
    assert "Application" in message


async def test_another_hub_is_another_owner(apply, refusal, make, cluster, owner, settings):
    await apply(make.config_map("c"), by=Applier(cluster, replace(owner, hub_uid="another-hub"), settings))
    assert "of the hub another-hub" in await refusal(make.config_map("c"), reason="OwnershipConflict")


async def test_what_nobody_owns_is_adopted(apply, make, member, live, owner):
    await member.api.create(f"/api/v1/namespaces/{make.namespace}/configmaps", make.config_map("c", {"b": "1"}))
    assert await apply(make.config_map("c")) == [f"ConfigMap/{make.namespace}/c configured"]
    assert (await live("configmaps", "c"))["metadata"]["labels"] == owner.labels
    assert await apply(make.config_map("c")) == [f"ConfigMap/{make.namespace}/c unchanged"]


async def test_what_kurator_or_flux_left_under_the_same_name_is_adopted_with_its_fields(
    apply, make, member, live, owner
):
    labels = {f"{FLUX}/name": owner.name, f"{FLUX}/namespace": owner.namespace}
    path = f"/api/v1/namespaces/{make.namespace}/configmaps/c"
    left = make.config_map("c", {"a": "1", "dropped": "1"}, labels=labels)
    await member.api.request(
        "PATCH",
        path,
        left,
        params={"fieldManager": "kustomize-controller"},
        content_type="application/apply-patch+yaml",
    )
    await apply(make.config_map("c"))
    found = await live("configmaps", "c")
    assert found["data"] == {"a": "1"}
    assert [entry["manager"] for entry in found["metadata"]["managedFields"]] == ["fleet-rollout"]


async def test_what_another_kustomization_of_flux_owns_is_refused(refusal, make, member):
    labels = {f"{FLUX}/name": "infra", f"{FLUX}/namespace": "flux-system"}
    path = f"/api/v1/namespaces/{make.namespace}/configmaps"
    await member.api.create(path, make.config_map("c", labels=labels))
    message = await refusal(make.config_map("c"), reason="OwnershipConflict")
    assert "Kustomization 'flux-system/infra' of Flux" in message


async def test_an_object_moves_between_two_policies_of_one_application(apply, make, cluster, owner, settings, live):
    other_policy = replace(owner, name="web-1-m1")
    await apply(make.config_map("c"), by=Applier(cluster, other_policy, settings))
    assert await apply(make.config_map("c")) == [f"ConfigMap/{make.namespace}/c configured"]
    assert (await live("configmaps", "c"))["metadata"]["labels"] == owner.labels
