"""Every example works as it stands: the hub takes it, each member gets what its `expected.yaml` says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLLOUT = Path(__file__).parents[2] / "examples" / "rollout"
SOURCE = ROLLOUT / "canary" / "source"
FLAGGER = "/apis/flagger.app/v1beta1"
MESHES = ("canary", "blue-green", "ab-testing", "kuma", "custom-metric", "multi-policy", "smi")
WITH_CANARY = (*MESHES, "nginx", "gateway-api", "kubernetes")


def example(name: str, namespace: str, url: str) -> dict[str, Any]:
    """The example's Application in the story's namespace, with a Git host that can be reached from here."""
    text = (ROLLOUT / name / "application.yaml").read_text().replace("webapp", f"{namespace}-webapp")
    obj: dict[str, Any] = yaml.safe_load(text)
    obj["metadata"]["namespace"] = namespace
    git = obj["spec"]["source"]["gitRepository"]
    git["url"], git["ref"] = url, {"branch": "main"}
    for policy in obj["spec"]["syncPolicies"]:
        kustomization = policy["kustomization"]
        kustomization["path"] = kustomization["path"].replace(f"{namespace}-webapp", "webapp")
        if kustomization.get("targetNamespace"):
            kustomization["targetNamespace"] = namespace
        kustomization.pop("wait", None)
    return obj


async def source(story: Any) -> Any:
    """The canary's Git content, its namespace renamed to one of the story's own."""
    files = {}
    for path in SOURCE.rglob("*"):
        if path.is_file():
            files[str(path.relative_to(SOURCE))] = path.read_text().replace(": webapp", f": {story.namespace}-webapp")
    return await story.git_repo(files)


@pytest.mark.parametrize("name", WITH_CANARY)
async def test_an_example_brings_its_canary_to_every_member(story: Any, name: str) -> None:
    repository = await source(story)
    await story.fleet("m1", "m2", name="quickstart", labels={"m1": {"region": "europe"}})
    await story.start()
    obj = example(name, story.namespace, repository.url)
    await story.hub.api.apply(story.path("applications", obj["metadata"]["name"]), obj, manager="story")
    members = ("m1",) if name == "multi-policy" else ("m1", "m2")
    path = f"{FLAGGER}/namespaces/{story.namespace}-webapp/canaries/backend"
    expected = ROLLOUT / name / "expected.yaml"
    for member in members:
        canary = await story.until(lambda member=member: story.members[member].api.find(path))
        text = yaml.safe_dump(canary["spec"]).replace(f"{story.namespace}-webapp", "webapp")
        if os.environ.get("WRITE_EXPECTED"):
            expected.write_text(f"# The spec of Canary webapp/backend in each member.\n{text}")
        assert yaml.safe_load(text) == yaml.safe_load(expected.read_text())
    for member in members:
        await story.members[member].api.delete(f"/api/v1/namespaces/{story.namespace}-webapp")


async def test_the_host_mode_example_applies_to_the_hub_as_its_account(story: Any) -> None:
    repository = await source(story)
    account = (
        (ROLLOUT / "host-mode" / "account.yaml")
        .read_text()
        .replace("namespace: default", f"namespace: {story.namespace}")
    )
    await story.hub.kubectl("apply", "-f", "-", stdin=account)
    await story.start()
    obj = example("host-mode", story.namespace, repository.url)
    await story.hub.api.apply(story.path("applications", "host-mode-demo"), obj, manager="story")
    await story.applied(await repository.commit_of(), "host-mode-demo-0-currentcluster-host")
    deployment = await story.hub.api.find(f"/apis/apps/v1/namespaces/{story.namespace}/deployments/podinfo")
    assert deployment is not None
