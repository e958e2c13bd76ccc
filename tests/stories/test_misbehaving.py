"""Members that misbehave, all at once, beside two that are well (trust.md section 2, class 10; rule 3)."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import AsyncIterator
from typing import Any

import pytest
import yaml

from tests import misbehaving
from tests.misbehaving import Misbehaving

WELL = ("m1", "m2")
HEALTHY = [f"web-0-attachedcluster-{name}" for name in WELL]
# By the name of the member: how it answers, how its certificate is made, and what is said of it.
ODD: dict[str, tuple[misbehaving.Way, dict[str, Any], str]] = {
    "hanging": (misbehaving.hangs, {}, "no answer within 2 s; check that its API server runs"),
    "resetting": (misbehaving.resets, {}, "the connection was cut; check that its API server runs"),
    "trickling": (misbehaving.trickles, {}, "no answer within 2 s; check that its API server runs"),
    "page": (misbehaving.shows_a_page, {}, "which is not a Kubernetes API; check the address"),
    "huge": (misbehaving.sends_ten_gigabytes, {}, "the answer is larger than 8 MiB"),
    "endless": (misbehaving.lists_without_end(1), {}, "no Namespace; check the kubeconfig's server"),
    "otherkind": (misbehaving.answers({"kind": "Pod"}), {}, "no Namespace; check the kubeconfig's server"),
    "redirecting": (misbehaving.redirects("https://127.0.0.1:9/"), {}, "put the final address into the kubeconfig"),
    "expired": (misbehaving.hangs, {"lifetime": datetime.timedelta(days=-1)}, "has expired; renew it"),
}


def config_map(version: str) -> str:
    metadata = {"name": "a"}
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"version": version}})


@pytest.fixture
async def fleet(story: Any) -> AsyncIterator[None]:
    """m1 and m2, and a member for each way."""
    await story.attach(*WELL)
    async with contextlib.AsyncExitStack() as stack:
        for name, (way, options, _) in ODD.items():
            server = await stack.enter_async_context(Misbehaving(story.folder / name, way, **options))
            await story.attach_as(name, server.kubeconfig())
        await story.set_fleet([*WELL, *ODD])
        yield
        await story.stop()


async def test_members_that_misbehave_harm_no_other(story: Any, fleet: None) -> None:
    """Each odd one's condition names it, the fact and the fix; commits reach the others as if it were not there."""
    repository = await story.git_repo({"a.yaml": config_map("1")})
    await story.start(member_connect_timeout=2.0, member_request_timeout=2.0, member_breaker_min=0.5)
    await story.application(repository, {"targetNamespace": story.namespace})
    await story.applied(await repository.commit_of(), *HEALTHY)

    for name, (_, _, said) in ODD.items():
        await attached_says(story, name, f"AttachedCluster/{name}: ", said)
        await story.row(f"web-0-attachedcluster-{name}", ready="False", message=f"AttachedCluster/{name}: ")
    ready = await story.condition("Ready", "False")
    assert not any(f"AttachedCluster/{name}" in ready["message"] for name in WELL)

    second = await repository.commit({"a.yaml": config_map("2")})
    await story.request("2")
    await story.applied(second, *HEALTHY)
    for name in WELL:
        assert (await story.config_map(name, "a"))["data"] == {"version": "2"}


async def attached_says(story: Any, name: str, *texts: str) -> None:
    """Wait until the Ready condition of the AttachedCluster says all of it."""

    async def says() -> bool:
        status = (await story.hub.api.get(story.path("attachedclusters", name))).get("status") or {}
        messages = [c["message"] for c in status.get("conditions", []) if c["type"] == "Ready"]
        return status.get("ready") is False and all(text in message for message in messages for text in texts)

    await story.until(says)
