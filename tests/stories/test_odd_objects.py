"""Objects that no schema has checked, such as those of an older one: each stops itself alone (trust row 43)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet_rollout.lab.lab import LabCluster
from tests.stories.conftest import CRDS, DEADLINE, Story, config_map, matching

OURS = (
    "applications.apps.kurator.dev",
    "clustersyncs.apps.kurator.dev",
    "fleets.fleet.kurator.dev",
    "attachedclusters.cluster.kurator.dev",
)
ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


@pytest.fixture
async def loose(spare: LabCluster) -> AsyncIterator[LabCluster]:
    """A hub that stores anything under our kinds."""
    await _crds(spare)
    for name in OURS:
        where = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
        crd = await spare.api.get(where)
        for version in crd["spec"]["versions"]:
            version["schema"] = {"openAPIV3Schema": ANYTHING}
        await spare.api.merge(where, {"spec": {"versions": crd["spec"]["versions"]}})
    yield spare
    await _crds(spare)


async def _crds(cluster: LabCluster) -> None:
    await cluster.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(CRDS))
    await cluster.crds_established()


@pytest.fixture
async def odd_story(
    loose: LabCluster,
    members: dict[str, LabCluster],
    namespace: Callable[..., Awaitable[str]],
    git_repo: Callable[..., Any],
    tmp_path: Path,
) -> AsyncIterator[Story]:
    name = await namespace("odd", on=[loose, members["m1"]])
    told = Story(name, loose, {"m1": members["m1"]}, git_repo, tmp_path)
    yield told
    await told.end()


def application(url: Any, fleet: str, **spec: Any) -> dict[str, Any]:
    source = {"gitRepository": {"url": url, "interval": "1h", "ref": {"branch": "main"}}}
    policies = [{"kustomization": {"interval": "1h", "path": "./", "prune": True}}]
    return {"spec": {"source": source, "destination": {"fleet": fleet}, "syncPolicies": policies, **spec}}


def odd_objects(url: str) -> dict[str, dict[str, dict[str, Any]]]:
    """By plural and name."""
    junk_duration = application(url, "fleet")
    junk_duration["spec"]["source"]["gitRepository"]["interval"] = "soon"
    noted = {"reconcile.fluxcd.io/requestedAt": "\u0000\u202e not a time"}
    return {
        "fleets": {"odd-fleet": {"spec": {"clusters": "none", "rolloutEngine": 7}}},
        "attachedclusters": {
            "junk-cluster": {"spec": {"kubeconfig": 7}},
            "junk-conditions": {"spec": {"kubeconfig": {"name": "none"}}, "status": {"conditions": ["x", {}]}},
        },
        "applications": {
            "junk-duration": junk_duration,
            "junk-status": {**application(url, "fleet"), "status": {"conditions": "none", "syncStatus": 7}},
            "junk-annotation": {**application(url, "fleet"), "metadata": {"annotations": noted}},
            "junk-fleet": application(url, "odd-fleet"),
            "junk-text": {"spec": {}, "status": "none"},
            "empty": {"spec": {}},
        },
        "clustersyncs": {
            "junk-text": {"spec": {}, "status": "none"},
            "junk-spec": {"spec": {"kustomization": 7, "cluster": 3, "artifact": "x", "application": []}},
            "junk-dependency": {"spec": {"kustomization": {"dependsOn": ["a", {}]}}, "status": {"conditions": [{}]}},
            "empty": {"spec": {}},
        },
    }


async def plant(story: Story, url: str) -> None:
    kinds = {"fleets": "Fleet", "applications": "Application", "clustersyncs": "ClusterSync"}
    kinds["attachedclusters"] = "AttachedCluster"
    for plural, objects in odd_objects(url).items():
        group = story.path(plural).split("/")[2]
        for name, content in objects.items():
            metadata = {"name": name, "namespace": story.namespace, "labels": {"apps.kurator.dev/app-name": "good"}}
            metadata |= content.get("metadata", {})
            obj = {"apiVersion": f"{group}/v1alpha1", "kind": kinds[plural], **content, "metadata": metadata}
            await story.hub.api.create(story.path(plural), obj)
            if "status" in content:
                await story.hub.api.merge(story.path(plural, name, "status"), {"status": content["status"]})


async def test_t43_odd_objects_stall_and_the_others_go_on(odd_story: Story) -> None:
    """Before the start, when everything is listed; and while it runs, when a second commit comes and one is deleted."""
    story = odd_story
    repository = await story.git_repo({"a.yaml": config_map("a", version="1")})
    await plant(story, repository.url)
    await story.fleet("m1")
    await story.start(artifact_retention=0.2)
    await story.application(repository, {"targetNamespace": story.namespace}, name="good")
    good = "good-0-attachedcluster-m1"
    await story.applied(await repository.commit_of(), good)

    async def are_stalled() -> bool:
        found = [await story.read(name) for name in ("junk-duration", "junk-fleet", "junk-text", "empty")]
        found += [await story.hub.api.get(story.path("clustersyncs", name)) for name in odd_objects("")["clustersyncs"]]
        return all(matching(obj, "Stalled", "True", None) for obj in found)

    async def are_explained() -> bool:
        wanted = {"junk-cluster": "InvalidSpec", "junk-conditions": "KubeconfigMissing"}
        found = {name: await story.hub.api.get(story.path("attachedclusters", name)) for name in wanted}
        return all(matching(found[name], "Ready", "False", reason) for name, reason in wanted.items())

    await story.until(are_stalled)
    await story.condition("SourceReady", "True", name="junk-status")  # its status is written anew
    await story.condition("SourceReady", "True", name="junk-annotation")  # a request like any other
    fleet_fault = matching(await story.read("junk-fleet"), "Ready", "False", "FleetInvalid")
    assert fleet_fault
    assert fleet_fault["message"].startswith("Fleet/odd-fleet: ")

    await story.until(are_explained)

    await story.delete("clustersyncs", "junk-spec")
    await story.hub.api.merge(story.path("clustersyncs", "empty"), {"spec": {"kustomization": None}})
    second = await repository.commit({"a.yaml": config_map("a", version="2")})
    await story.request("again", name="good")
    await story.applied(second, good, timeout=2 * DEADLINE)
    assert (await story.config_map("m1", "a") or {})["data"] == {"version": "2"}
    assert yaml.safe_load(config_map("a", version="2"))["data"] == {"version": "2"}
