"""How often the service writes for one revision."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import yaml

SYNC = "web-0-attachedcluster-m1"


def config_map(name: str, **data: str) -> str:
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


@pytest.mark.parametrize("grows", [False, True], ids=["as many objects", "one more object"])
@pytest.mark.parametrize("wait", [False, True], ids=["no wait", "wait"])
async def test_a_revision_costs_at_most_three_writes_of_its_clustersync(story: Any, wait: bool, grows: bool) -> None:
    """Ruling "Writes, in numbers": the spec, the outcome, and between them the intent where there is more to record."""
    files = {f"{n}.yaml": config_map(f"c{n}", version="1") for n in range(20)}
    repository = await story.git_repo(files | {"old.yaml": config_map("old")})
    await story.fleet("m1")
    await story.start()
    await story.application(repository, {"targetNamespace": story.namespace, "wait": wait})
    await story.applied(await repository.commit_of(), SYNC)

    version = (await story.sync(SYNC))["metadata"]["resourceVersion"]
    changed = {f"{n}.yaml": config_map(f"c{n}", version="2") for n in range(20)}
    second = await repository.commit(changed | ({"new.yaml": config_map("new"), "old.yaml": None} if grows else {}))
    await story.request("1")
    await story.applied(second, SYNC)
    done = (await story.sync(SYNC))["metadata"]["resourceVersion"]
    writes = 0
    events = story.hub.api.watch(story.path("clustersyncs"), version, fieldSelector=f"metadata.name={SYNC}")
    async with asyncio.timeout(30):
        async for event in events:
            if event["type"] == "MODIFIED":
                writes += 1
            if event["object"]["metadata"]["resourceVersion"] == done:
                break
    await events.aclose()
    assert writes == (3 if grows else 2)
