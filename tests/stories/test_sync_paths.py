"""What of the repository becomes objects: the folder that the policy names, and the manifests found in it."""

from __future__ import annotations

from typing import Any

import yaml

SYNC = "web-0-attachedcluster-m1"


def config_map(name: str, **data: str) -> str:
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


def ids(sync: dict[str, Any]) -> list[str]:
    return [entry["id"] for entry in sync["status"]["inventory"]["entries"]]


async def test_a_path_that_is_missing_changes_nothing_and_heals_when_it_is_there(story: Any) -> None:
    """G11"""
    repository = await story.git_repo({"app/a.yaml": config_map("a")})
    await story.fleet("m1")
    await story.start()
    await story.application(repository, {"path": "./app", "targetNamespace": story.namespace})
    first = await repository.commit_of()
    await story.applied(first, SYNC)

    gone = await repository.commit({"app/a.yaml": None, "readme.md": "moved"})
    await story.request("1")
    failed = await story.sync_condition(SYNC, "Ready", "False", "ArtifactFailed")
    sync = await story.sync(SYNC)
    assert failed["message"].startswith("kustomization path not found: stat ./app")
    assert sync["spec"]["artifact"]["revision"].endswith(gone)
    assert sync["status"]["lastAttemptedRevision"].endswith(first)
    assert ids(sync) == [f"{story.namespace}_a__ConfigMap"]
    assert await story.config_map("m1", "a")

    back = await repository.commit({"app/a.yaml": config_map("a", version="3")})
    await story.request("2")
    await story.applied(back, SYNC)
    assert (await story.config_map("m1", "a"))["data"] == {"version": "3"}


async def test_a_failure_is_tried_again_at_the_policy_s_retry_interval(story: Any) -> None:
    """G11: not at the service's back-off, which is ten minutes here; nothing tells that the member was mended."""
    away = f"{story.namespace}-away"
    repository = await story.git_repo({"a.yaml": config_map("a")})
    await story.fleet("m1")
    await story.start(retry_min=600.0, retry_max=600.0)
    await story.application(repository, {"targetNamespace": away, "retryInterval": "1s"})
    failed = await story.sync_condition(SYNC, "Ready", "False", "ReconciliationFailed")
    assert away in failed["message"]
    namespaces = story.members["m1"].api
    await namespaces.create("/api/v1/namespaces", {"metadata": {"name": away}})
    await story.applied(await repository.commit_of(), SYNC)
    await namespaces.delete(f"/api/v1/namespaces/{away}")


async def test_a_folder_without_kustomization_is_walked_as_flux_walks_it(story: Any) -> None:
    """G12"""
    files = {
        "app/a/deploy.yaml": config_map("a"),
        "app/b/kustomization.yaml": "resources: [x.yaml]\n",
        "app/b/x.yaml": config_map("x"),
        "app/b/y.yaml": config_map("y"),
        "app/c/d/svc.yml": config_map("svc"),
        "app/readme.md": "not a manifest",
        "app/values.json": "{}",
    }
    repository = await story.git_repo(files)
    await story.fleet("m1")
    await story.start()
    await story.application(repository, {"path": "./app", "targetNamespace": story.namespace})
    await story.applied(await repository.commit_of(), SYNC)
    held = [f"{story.namespace}_{name}__ConfigMap" for name in ("a", "svc", "x")]
    assert ids(await story.sync(SYNC)) == held

    await repository.commit({"app/values.yaml": "replicas: 3\n"})
    await story.request("1")
    failed = await story.sync_condition(SYNC, "Ready", "False", "BuildFailed")
    assert "values.yaml" in failed["message"]
    assert ids(await story.sync(SYNC)) == held
