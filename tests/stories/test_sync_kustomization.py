"""The fields of a policy reshape what the repository holds, the same in every cluster."""

from __future__ import annotations

from typing import Any

import yaml

SYNC = "web-0-attachedcluster-m1"
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "labels": {"tier": "front"}},
    "spec": {
        "replicas": 0,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "containers": [
                    {
                        "name": "web",
                        "image": "registry.example/web:1.0.0",
                        "envFrom": [{"configMapRef": {"name": "settings"}}],
                    }
                ]
            },
        },
    },
}


async def test_every_field_of_the_policy_reaches_the_member(story: Any) -> None:
    """G25"""
    patch = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: any}\nspec: {revisionHistoryLimit: 3}\n"
    policy = {
        "targetNamespace": story.namespace,
        "namePrefix": "p-",
        "nameSuffix": "-s",
        "commonMetadata": {"labels": {"team": "blue"}, "annotations": {"note": "hello"}},
        "images": [{"name": "registry.example/web", "newTag": "2.0.0"}],
        "patches": [{"patch": patch, "target": {"labelSelector": "tier=front"}}],
    }
    manifests = [
        DEPLOYMENT,
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"k": "v"}},
    ]
    repository = await story.git_repo({"all.yaml": yaml.safe_dump_all(manifests)})
    await story.fleet("m1")
    await story.start()
    await story.application(repository, policy)
    await story.applied(await repository.commit_of(), SYNC)

    path = f"/apis/apps/v1/namespaces/{story.namespace}/deployments/p-web-s"
    deployment = await story.members["m1"].api.get(path)
    spec = deployment["spec"]
    container = spec["template"]["spec"]["containers"][0]
    assert container["image"] == "registry.example/web:2.0.0"
    assert container["envFrom"] == [{"configMapRef": {"name": "p-settings-s"}}]
    assert spec["revisionHistoryLimit"] == 3
    assert deployment["metadata"]["labels"]["team"] == "blue"
    assert deployment["metadata"]["annotations"]["note"] == "hello"
    assert spec["selector"] == {"matchLabels": {"app": "web"}}
    assert spec["template"]["metadata"]["labels"] == {"app": "web"}
    assert (await story.config_map("m1", "p-settings-s"))["data"] == {"k": "v"}


async def test_a_namespace_in_the_folder_takes_the_name_of_the_target(story: Any) -> None:
    """G25: the Namespace object is renamed, and made before what goes into it."""
    target = f"{story.namespace}-t"
    manifests = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "whatever"}},
    ]
    repository = await story.git_repo({"all.yaml": yaml.safe_dump_all(manifests)})
    await story.fleet("m1")
    await story.start()
    await story.application(repository, {"targetNamespace": target})
    await story.applied(await repository.commit_of(), SYNC)
    entries = (await story.sync(SYNC))["status"]["inventory"]["entries"]
    assert [entry["id"] for entry in entries] == [f"_{target}__Namespace", f"{target}_a__ConfigMap"]
    assert await story.config_map("m1", "a", target)

    await story.delete("applications", "web")

    async def is_gone() -> bool:
        return await story.hub.api.find(story.path("applications", "web")) is None

    await story.until(is_gone)
    namespace = await story.members["m1"].api.find(f"/api/v1/namespaces/{target}")
    assert namespace is None or namespace["metadata"]["deletionTimestamp"]


async def test_components_are_added_from_the_repository(story: Any) -> None:
    """G25, field `components`: relative to the path."""
    component = "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources: [extra.yaml]\n"
    extra = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "extra"}}
    files = {
        "app/a.yaml": yaml.safe_dump(extra | {"metadata": {"name": "a"}}),
        "parts/more/kustomization.yaml": component,
        "parts/more/extra.yaml": yaml.safe_dump(extra),
    }
    repository = await story.git_repo(files)
    await story.fleet("m1")
    await story.start()
    policy = {"path": "./app", "components": ["../parts/more"], "targetNamespace": story.namespace}
    await story.application(repository, policy)
    await story.applied(await repository.commit_of(), SYNC)
    assert await story.config_map("m1", "extra")
