"""What a person or a controller changed in the member: reverted, taken over or left, as its field's owner says."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def kubectl(member, ns):
    async def kubectl(*arguments, stdin=None):
        return await member.kubectl("-n", ns, *arguments, stdin=stdin)

    return kubectl


async def test_g17a_an_image_set_with_kubectl_is_reverted(apply, make, kubectl, live):
    await apply(make.deployment("web"))
    await kubectl("set", "image", "deployment/web", "web=registry.example/web:2")
    assert await apply(make.deployment("web")) == [f"Deployment/{make.namespace}/web configured"]
    found = await live("deployments", "web", "apps")
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example/web:1"


async def test_g17b_a_label_added_with_kubectl_is_removed(apply, make, kubectl, live, owner, requests):
    await apply(make.config_map("c"))
    await kubectl("label", "configmap/c", "extra=1")
    requests.forget()
    assert await apply(make.config_map("c")) == [f"ConfigMap/{make.namespace}/c configured"]
    assert requests.verbs == {"get": 1, "dry run": 1, "patch": 1, "apply": 1}
    found = (await live("configmaps", "c"))["metadata"]
    assert found["labels"] == owner.labels
    assert [entry["manager"] for entry in found["managedFields"]] == ["fleet-rollout"]


async def test_g17c_replicas_that_are_not_in_git_stay_with_the_autoscaler(apply, make, member, live):
    workload = make.deployment("web")
    del workload["spec"]["replicas"]
    await apply(workload)
    await member.api.request(
        "PATCH",
        f"/apis/apps/v1/namespaces/{make.namespace}/deployments/web/scale",
        {"spec": {"replicas": 0}},
        params={"fieldManager": "kube-controller-manager"},
        content_type="application/merge-patch+json",
    )
    assert await apply(workload) == [f"Deployment/{make.namespace}/web unchanged"]
    assert (await live("deployments", "web", "apps"))["spec"]["replicas"] == 0


async def test_g17_an_unchanged_run_writes_nothing(apply, make, live):
    objects = [make.deployment("web"), make.service("web")]
    await apply(*objects)
    before = (await live("services", "web"))["metadata"]["resourceVersion"]
    lines = await apply(*objects)
    assert [line.split()[-1] for line in lines] == ["unchanged", "unchanged"]
    assert (await live("services", "web"))["metadata"]["resourceVersion"] == before


async def test_a_field_that_leaves_git_leaves_the_cluster_and_other_managers_keep_theirs(apply, make, member, live):
    await apply(make.config_map("c", {"a": "1", "b": "1"}))
    await member.api.request(
        "PATCH",
        f"/api/v1/namespaces/{make.namespace}/configmaps/c",
        {"data": {"operator": "1"}},
        params={"fieldManager": "some-operator"},
        content_type="application/merge-patch+json",
    )
    await apply(make.config_map("c", {"a": "1"}))
    assert (await live("configmaps", "c"))["data"] == {"a": "1", "operator": "1"}


async def test_what_was_applied_with_kubectl_is_taken_over_with_its_annotation(apply, make, kubectl, live):
    await kubectl("apply", "-f", "-", stdin=json.dumps(make.config_map("c", {"a": "1", "old": "1"})))
    await apply(make.config_map("c"))
    found = await live("configmaps", "c")
    assert found["data"] == {"a": "1"}
    assert "kubectl.kubernetes.io/last-applied-configuration" not in found["metadata"].get("annotations", {})
    assert await apply(make.config_map("c")) == [f"ConfigMap/{make.namespace}/c unchanged"]


async def test_a_field_of_kubectl_that_makes_git_invalid_is_taken_over_first(apply, make, kubectl, live):
    """A rolling update left by kubectl makes `Recreate` invalid, until the field is ours to drop."""
    await kubectl("apply", "-f", "-", stdin=json.dumps(make.deployment("web", strategy={"type": "RollingUpdate"})))
    patch = {"spec": {"strategy": {"rollingUpdate": {"maxSurge": 2}}}}
    await kubectl("patch", "deployment/web", "--type=merge", "-p", json.dumps(patch))
    assert await apply(make.deployment("web", strategy={"type": "Recreate"})) == [
        f"Deployment/{make.namespace}/web configured"
    ]
    assert (await live("deployments", "web", "apps"))["spec"]["strategy"] == {"type": "Recreate"}


async def test_a_writer_that_is_faster_than_the_takeover_does_not_end_the_pass(applier, make, kubectl, live):
    """Between the dry run and the takeover somebody writes, so that the takeover meets a newer object."""
    await applier.plan_and_apply([make.config_map("c")], force=False, before_write=_nothing)
    await kubectl("label", "configmap/c", "extra=1")

    async def write_meanwhile(_):
        await kubectl("label", "configmap/c", "more=1")

    await applier.plan_and_apply([make.config_map("c")], force=False, before_write=write_meanwhile)
    labels = (await live("configmaps", "c"))["metadata"]["labels"]
    assert not {"extra", "more"} & labels.keys()


async def _nothing(_):
    return None


async def test_what_a_controller_writes_while_we_look_is_no_reason_to_write(apply, make, cluster, requests, member):
    """The annotation comes after the object was read and before its dry run."""
    await apply(make.config_map("c"))
    send = requests.send

    async def annotate_before_the_dry_run(request):
        if request.params.get("dryRun"):
            requests.send = send
            await edit_annotations(member, make.namespace)
        return await send(request)

    requests.send = annotate_before_the_dry_run
    requests.forget()
    assert await apply(make.config_map("c")) == [f"ConfigMap/{make.namespace}/c unchanged"]
    assert requests.verbs == {"get": 2, "dry run": 2}


async def edit_annotations(member, ns):
    await member.api.request(
        "PATCH",
        f"/api/v1/namespaces/{ns}/configmaps/c",
        {"metadata": {"annotations": {"example.org/seen": "1"}}},
        params={"fieldManager": "some-controller"},
        content_type="application/merge-patch+json",
    )
