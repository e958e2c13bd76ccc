"""Pruning a real API server: in reverse, only what is ours, and nothing that failed is forgotten."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace

import pytest

from fleet_rollout.decide.inventory import object_id
from fleet_rollout.errors import Transient
from fleet_rollout.kube.apply import Applier
from fleet_rollout.kube.client import Cluster, Connection
from fleet_rollout.kube.prune import Pruner
from fleet_rollout_api.cluster_sync import InventoryEntry

FLUX = "kustomize.toolkit.fluxcd.io"


@dataclass
class Pruned:
    changes: list
    survivors: list
    failure: str | None


@pytest.fixture
def pruner(cluster, owner):
    return Pruner(cluster, owner)


@pytest.fixture
def prune(pruner):
    async def prune(*objects, siblings=frozenset(), by=pruner):
        changes, survivors = await by.prune([object_id(obj) for obj in objects], siblings=siblings)
        return Pruned(changes, survivors, by.failure)

    return prune


def lines(pruned):
    return [str(change) for change in pruned.changes]


async def test_g19_what_is_stale_is_deleted_in_the_reverse_order_of_applying(apply, prune, make, live, requests):
    objects = [make.config_map("a"), make.config_map("b"), make.service("web"), make.deployment("web")]
    await apply(*objects)
    requests.forget()
    pruned = await prune(*objects)
    ns = make.namespace
    assert lines(pruned)[:2] == [f"Deployment/{ns}/web deleted", f"Service/{ns}/web deleted"]
    assert sorted(lines(pruned)[2:]) == [f"ConfigMap/{ns}/a deleted", f"ConfigMap/{ns}/b deleted"]
    assert (pruned.survivors, pruned.failure) == ([], None)
    assert await live("deployments", "web", "apps") is None
    deleted = [request.path.split("/")[-2] for request in requests.sent if request.method == "DELETE"]
    assert list(dict.fromkeys(deleted)) == ["deployments", "services", "configmaps"]


async def test_many_of_a_kind_cost_one_list_and_one_delete_each_bound_to_what_was_seen(apply, prune, make, requests):
    objects = [make.config_map(f"c{number}") for number in range(5)]
    await apply(*objects)
    requests.forget()
    await prune(*objects)
    assert requests.verbs == {"list": 1, "delete": 5}
    conditions = [request.body["preconditions"] for request in requests.sent if request.method == "DELETE"]
    assert all(condition.keys() == {"uid", "resourceVersion"} for condition in conditions)
    assert all(r.body["propagationPolicy"] == "Background" for r in requests.sent if r.method == "DELETE")


async def test_what_is_gone_counts_as_deleted(prune, make):
    pruned = await prune(make.config_map("never-there"))
    assert lines(pruned) == [f"ConfigMap/{make.namespace}/never-there deleted"]


async def test_g20_what_another_sync_has_taken_over_is_not_deleted(apply, prune, make, live, cluster, owner, settings):
    await apply(make.config_map("c"))
    await apply(make.config_map("c"), by=Applier(cluster, replace(owner, name="web-1-m1"), settings))
    pruned = await prune(make.config_map("c"))
    assert lines(pruned) == [f"ConfigMap/{make.namespace}/c skipped"]
    assert pruned.survivors == []
    assert await live("configmaps", "c")


async def test_what_nobody_labelled_or_flux_owns_is_not_deleted(prune, make, live, member, owner):
    path = f"/api/v1/namespaces/{make.namespace}/configmaps"
    flux = {f"{FLUX}/name": owner.name, f"{FLUX}/namespace": owner.namespace}
    await member.api.create(path, make.config_map("plain"))
    await member.api.create(path, make.config_map("flux", labels=flux))
    pruned = await prune(make.config_map("plain"), make.config_map("flux"))
    assert {line.split()[-1] for line in lines(pruned)} == {"skipped"}
    assert await live("configmaps", "plain")
    assert await live("configmaps", "flux")


@pytest.mark.parametrize(("key", "value"), [("prune", "disabled"), ("reconcile", "disabled"), ("ssa", "Ignore")])
async def test_g18_3_what_says_so_stays_and_leaves_the_inventory(apply, prune, make, live, member, key, value):
    """Said in the cluster, for that is where it counts."""
    await apply(make.config_map("c"))
    path = f"/api/v1/namespaces/{make.namespace}/configmaps/c"
    annotations = {"metadata": {"annotations": {f"{FLUX}/{key}": value}}}
    await member.api.request("PATCH", path, annotations, content_type="application/merge-patch+json")
    pruned = await prune(make.config_map("c"))
    assert lines(pruned) == [f"ConfigMap/{make.namespace}/c skipped"]
    assert pruned.survivors == []
    assert await live("configmaps", "c")


async def test_what_a_sibling_holds_is_not_even_looked_at(apply, prune, make, live, requests):
    await apply(make.config_map("c"))
    requests.forget()
    pruned = await prune(make.config_map("c"), siblings=frozenset({f"{make.namespace}_c__ConfigMap"}))
    assert lines(pruned) == [f"ConfigMap/{make.namespace}/c skipped"]
    assert not requests.sent
    assert await live("configmaps", "c")


async def test_what_is_taken_over_while_we_look_is_not_deleted(
    apply, prune, make, live, requests, cluster, owner, settings
):
    """The other sync writes its labels after ours were read and before the delete is sent."""
    await apply(make.config_map("c"))
    send = requests.send

    async def take_over_before_the_delete(request):
        if request.method == "DELETE":
            requests.send = send
            await apply(make.config_map("c"), by=Applier(cluster, replace(owner, name="web-1-m1"), settings))
        return await send(request)

    requests.send = take_over_before_the_delete
    assert lines(await prune(make.config_map("c"))) == [f"ConfigMap/{make.namespace}/c skipped"]
    assert await live("configmaps", "c")


async def test_what_changes_all_the_time_is_still_deleted(apply, prune, make, live, requests, member):
    """A controller's write in between costs another look, no more."""
    await apply(make.config_map("c"))
    send = requests.send

    async def touch_before_the_delete(request):
        if request.method == "DELETE":
            requests.send = send
            path = f"/api/v1/namespaces/{make.namespace}/configmaps/c"
            await member.api.request("PATCH", path, {"data": {"b": "1"}}, content_type="application/merge-patch+json")
        return await send(request)

    requests.send = touch_before_the_delete
    assert lines(await prune(make.config_map("c"))) == [f"ConfigMap/{make.namespace}/c deleted"]
    assert await live("configmaps", "c") is None


async def test_a_failure_is_named_and_its_object_stays_in_the_inventory(apply, prune, make, account, cluster, owner):
    ns = make.namespace
    await apply(make.config_map("a"), make.config_map("b"), make.service("web"))
    user = await account("limited", ("", "configmaps", ["get", "list"]), ("", "services", ["get", "list", "delete"]))
    limited = Pruner(cluster, owner, impersonate=user)
    pruned = await prune(make.config_map("a"), make.config_map("b"), make.service("web"), by=limited)
    assert lines(pruned) == [f"Service/{ns}/web deleted"]
    assert [entry.id for entry in pruned.survivors] == [f"{ns}_a__ConfigMap", f"{ns}_b__ConfigMap"]
    assert pruned.failure.startswith("delete failed, errors: ConfigMap/")
    assert pruned.failure.count("delete failed (Forbidden): ") == 2
    assert pruned.failure.endswith(";")


async def test_a_cluster_that_does_not_answer_says_so(prune, make, member, owner, settings):
    """The inventory was written before; whatever it holds is tried again."""
    nowhere = Cluster(Connection("gone", "https://127.0.0.1:1", member.ca), settings)
    with pytest.raises(Transient, match=r"^gone: ") as caught:
        await prune(make.config_map("a"), make.service("web"), by=Pruner(nowhere, owner))
    await nowhere.close()
    assert caught.value.reason == "ClusterUnreachable"


@pytest.fixture
async def widget(member, eventually):
    """A kind of the test's own, served in v1 and v2."""
    group = f"{secrets.token_hex(4)}.example.org"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    versions = [{"name": v, "served": True, "storage": v == "v2", "schema": schema} for v in ("v1", "v2")]
    crd = {
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
            "versions": versions,
        },
    }
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    await member.api.create(path, crd)
    yield crd
    if await member.api.find(f"{path}/widgets.{group}"):
        await member.api.request("DELETE", f"{path}/widgets.{group}")


def widgets(widget, make, *names, version="v1"):
    api_version = f"{widget['spec']['group']}/{version}"
    return [
        {"apiVersion": api_version, "kind": "Widget", "metadata": {"name": name, "namespace": make.namespace}}
        for name in names
    ]


@pytest.fixture
async def served(widget, member, eventually):
    """Waits until exactly these versions of the kind are served."""

    async def served(*versions):
        async def are_served():
            groups = (await member.api.get("/apis"))["groups"]
            found = [group for group in groups if group["name"] == widget["spec"]["group"]]
            return {v["version"] for group in found for v in group["versions"]} == set(versions)

        await eventually(are_served)

    return served


async def test_kc90_objects_whose_crd_is_gone_are_gone_with_it(apply, prune, make, widget, served, member):
    await served("v1", "v2")
    objects = widgets(widget, make, "a", "b")
    await apply(*objects)
    await member.delete_crds(widget["metadata"]["name"])
    await served()
    pruned = await prune(*objects)
    assert {line.split()[-1] for line in lines(pruned)} == {"deleted"}
    assert (pruned.survivors, pruned.failure) == ([], None)


async def test_an_object_recorded_in_a_version_that_is_served_no_longer_is_deleted_in_another(
    apply, prune, make, widget, served, member
):
    await served("v1", "v2")
    await apply(*widgets(widget, make, "a", "b"))
    crd = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{widget['metadata']['name']}"
    only_v2 = {"spec": {"versions": [{**v, "served": v["name"] == "v2"} for v in widget["spec"]["versions"]]}}
    await member.api.request("PATCH", crd, only_v2, content_type="application/merge-patch+json")
    await served("v2")
    pruned = await prune(*widgets(widget, make, "a", "b"))
    assert {line.split()[-1] for line in lines(pruned)} == {"deleted"}
    group = widget["spec"]["group"]
    assert (await member.api.get(f"/apis/{group}/v2/namespaces/{make.namespace}/widgets"))["items"] == []


@pytest.fixture
async def absent(spare):
    """A group of kinds on the spare cluster whose own server is nowhere: others' namespaces cannot go meanwhile."""
    group = f"g{secrets.token_hex(4)}.example.com"
    spec = {"group": group, "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 100}
    spec |= {"service": {"name": "absent", "namespace": "default"}, "insecureSkipTLSVerify": True}
    path = f"/apis/apiregistration.k8s.io/v1/apiservices/v1.{group}"
    service = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": f"v1.{group}"}}
    await spare.api.apply(path, service | {"spec": spec})
    yield group
    if await spare.api.find(path) is not None:
        await spare.api.delete(path)


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_objects_of_a_group_whose_own_server_is_down_stay_in_the_inventory(
    absent, spare, owner, settings, eventually, version
):
    """Its kinds are in no answer then, as those of a group that is gone."""
    cluster = Cluster(Connection("spare", spare.server, spare.ca, {"Authorization": f"Bearer {spare.token}"}), settings)
    entry = InventoryEntry(id=f"n_a_{absent}_Thing", v=version)
    pruner = Pruner(cluster, owner)

    async def is_kept():
        return (await pruner.prune([entry]))[1] == [entry]

    await eventually(is_kept)
    assert pruner.failure is not None
    assert 'Thing/n/a delete failed (ServiceUnavailable): cannot tell whether kind "Thing" is served' in pruner.failure
    assert f"the server of {absent}/v1 gives no answer" in pruner.failure
    await spare.api.delete(f"/apis/apiregistration.k8s.io/v1/apiservices/v1.{absent}")

    async def is_gone():
        changes, survivors = await pruner.prune([entry])
        return not survivors and [change.action for change in changes] == ["deleted"]

    await eventually(is_gone)
    await cluster.close()


async def test_what_a_finalizer_holds_remains_until_it_is_released(apply, prune, pruner, make, member):
    stuck, ends = make.config_map("stuck", finalizers=["example.org/keep"]), make.config_map("ends")
    await apply(stuck, ends)
    await prune(stuck, ends)
    entries = [object_id(stuck), object_id(ends)]
    assert await pruner.remaining(entries) == [object_id(stuck)]
    path = f"/api/v1/namespaces/{make.namespace}/configmaps/stuck"
    released = {"metadata": {"finalizers": None}}
    await member.api.request("PATCH", path, released, content_type="application/merge-patch+json")
    assert await pruner.remaining(entries) == []


async def test_a_broken_inventory_entry_is_never_guessed_at(pruner):
    with pytest.raises(ValueError, match="not an inventory id"):
        await pruner.prune([InventoryEntry(id="nonsense", v="v1")])
