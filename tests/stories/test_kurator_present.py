"""An Application that Kurator's controller works on is left to it: two would undo each other's work."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
import yaml

from tests.stories.test_operating import commands

CONFIG_MAP = yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})


async def write_as(story: Any, manager: str, subresource: str, patch: Any, content_type: str) -> None:
    path = story.path("applications", "web", subresource)
    await story.hub.api.request("PATCH", path, patch, params={"fieldManager": manager}, content_type=content_type)


@pytest.mark.parametrize("manager", ["kurator-fleet-manager", "fleet-manager"])
async def test_an_application_whose_status_kurator_writes_is_refused_until_that_is_over(
    story: Any, manager: str
) -> None:
    """Ruling "CRDs": managedFields show who writes; who only edits the spec is no controller."""
    repository = await story.git_repo({"a.yaml": CONFIG_MAP})
    await story.fleet("m1")
    await story.application(repository, {"targetNamespace": story.namespace})
    status = {"status": {"syncStatus": [{"name": "web-0-attachedcluster-m1"}]}}
    await write_as(story, manager, "status", status, "application/merge-patch+json")
    await story.start()
    refused = await story.condition("Ready", "False", "KuratorControllerPresent")
    assert refused["message"].startswith(f"Application/web: Kurator's controller ({manager}) writes its status; stop")
    await story.condition("Stalled", "True", "KuratorControllerPresent")
    application = await story.read()
    assert "finalizers" not in application["metadata"]
    assert await story.hub.api.items(story.path("clustersyncs")) == []
    assert await story.config_map("m1", "a") is None

    # As docs/operating.md says.
    arguments = shlex.split(commands("managedFields"))[1:]
    assert "patched" in await story.hub.kubectl(
        "-n", story.namespace, *("web" if a == "shop" else a for a in arguments)
    )
    await write_as(story, manager, "", {"metadata": {"labels": {"team": "web"}}}, "application/merge-patch+json")
    await story.applied(await repository.commit_of(), "web-0-attachedcluster-m1")
    await story.condition("Ready", "True")
