"""Kurator's fields that the service does not carry out yet are answered, not ignored."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

SYNC = "web-0-attachedcluster-m1"
HELM = {"releaseName": "db", "chart": {"spec": {"chart": "db"}}, "interval": "1h"}
SOURCES = [
    ("helmRepository", {"url": "https://charts.example", "interval": "1h"}),
    ("ociRepository", {"url": "oci://registry.example/charts", "interval": "1h"}),
]


def config_map(name: str) -> str:
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})


async def test_a_helm_policy_is_named_and_the_others_are_applied(story: Any) -> None:
    """NotSupportedYet: the field, and what to use instead."""
    repository = await story.git_repo({"a.yaml": config_map("a")})
    await story.fleet("m1")
    await story.start()
    await story.application(repository, {"targetNamespace": story.namespace}, {"name": "db", "helm": HELM})
    stalled = await story.condition("Stalled", "True", "NotSupportedYet")
    assert "spec.syncPolicies[1].helm" in stalled["message"]
    assert "use kustomization" in stalled["message"]
    await story.applied(await repository.commit_of(), SYNC)
    assert await story.config_map("m1", "a")

    await story.application(repository, {"targetNamespace": story.namespace})
    await story.condition("Ready", "True")


@pytest.mark.parametrize(("field", "source"), SOURCES, ids=[field for field, _ in SOURCES])
async def test_a_helm_or_oci_source_is_named(story: Any, field: str, source: dict[str, Any]) -> None:
    """NotSupportedYet: nothing is created, nothing is fetched."""
    await story.fleet("m1")
    await story.start()
    application = {
        "apiVersion": "apps.kurator.dev/v1alpha1",
        "kind": "Application",
        "metadata": {"name": "web", "namespace": story.namespace},
        "spec": {
            "source": {field: source},
            "syncPolicies": [{"kustomization": {"interval": "1h", "prune": True}}],
            "destination": {"fleet": "fleet"},
        },
    }
    await story.hub.api.apply(story.path("applications", "web"), application, manager="story")
    stalled = await story.condition("Stalled", "True", "NotSupportedYet")
    assert f"spec.source.{field}" in stalled["message"]
    assert "spec.source.gitRepository" in stalled["message"]
    assert await story.hub.api.items(story.path("clustersyncs")) == []
