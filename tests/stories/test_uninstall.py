"""Taking the service off a hub (design: CRDs, uninstall): with what it brought, or without touching the members."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from fleet_rollout.control.uninstall import Uninstall
from fleet_rollout.errors import Terminal

CONFIG_MAP = yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "1"}})


async def brought(story: Any) -> None:
    repository = await story.git_repo({"a.yaml": CONFIG_MAP})
    await story.fleet("m1")
    await story.start()
    await story.application(repository, {"targetNamespace": story.namespace})
    await story.applied(await repository.commit_of(), "web-0-attachedcluster-m1")


async def left_on_the_hub(story: Any) -> list[str]:
    found = [
        *await story.hub.api.items(story.path("applications")),
        *await story.hub.api.items(story.path("clustersyncs")),
    ]
    return [obj["metadata"]["name"] for obj in found]


async def test_keep_workloads_leaves_the_member_as_it_is(story: Any) -> None:
    await brought(story)
    before = await story.config_map("m1", "a")
    await story.stop()
    said: list[str] = []
    await Uninstall(story.settings(), said.append).run(keep_workloads=True, timeout=60)
    assert await left_on_the_hub(story) == []
    assert await story.config_map("m1", "a") == before
    assert said[-1] == "done: nothing in the members was touched"


async def test_keep_workloads_refuses_while_a_controller_leads(story: Any) -> None:
    await brought(story)
    with pytest.raises(Terminal, match="stop it first"):
        await Uninstall(story.settings(), print).run(keep_workloads=True, timeout=60)
    assert await left_on_the_hub(story) == ["web", "web-0-attachedcluster-m1"]


async def test_without_it_everything_is_pruned_by_the_controller(story: Any) -> None:
    await brought(story)
    await Uninstall(story.settings(), print).run(keep_workloads=False, timeout=120)
    assert await left_on_the_hub(story) == []
    assert await story.config_map("m1", "a") is None
