"""Members that misbehave, all at once, beside two that are well (trust.md section 2, class 10; rule 3)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.misbehaving import misbehaving

WELL = ("m1", "m2")
HEALTHY = [f"web-0-attachedcluster-{name}" for name in WELL]
# What is said of each.
SAID = {
    "refused": "could not connect: Connection refused; check",
    "hanging": "no answer within 2 s; check that its API server runs",
    "resetting": "the connection was cut; check that its API server runs",
    "trickling": "no answer within 2 s; check that its API server runs",
    "page": "which is not a Kubernetes API; check the address",
    "huge": "the answer is larger than 8 MiB",
    "endless": "no Namespace; check the kubeconfig's server",
    "otherkind": "no Namespace; check the kubeconfig's server",
    "redirecting": "put the final address into the kubeconfig",
    "expired": "has expired; renew it",
}
# What the rows say of those that pass the check of a member, and fail when they are asked for more.
SAID_LATER = {
    "later-hanging": "no answer within 2 s",
    "later-resetting": "the connection was cut",
    "later-trickling": "no answer within 2 s",
    "later-page": "which is not a Kubernetes API; check the address",
    "later-huge": "",  # larger than 64 MiB, or not within 2 s
    "later-endless": "its list of kinds is not one of a Kubernetes API; check the kubeconfig's server",
    "later-redirecting": "put the final address into the kubeconfig",
}
# MiB that it may take to refuse all of that, with the odd members in the same process; huge answers have ten thousand.
MOST_GROWTH = 96
OWN = Path("/proc/self")


def config_map(version: str) -> str:
    metadata = {"name": "a"}
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"version": version}})


@pytest.fixture
async def fleet(story: Any) -> AsyncIterator[None]:
    """m1 and m2, and a member for each way."""
    await story.attach(*WELL)
    async with misbehaving(story.folder / "odd") as odd:
        for name, kubeconfig in odd.items():
            await story.attach_as(name, kubeconfig)
        await story.set_fleet([*WELL, *odd])
        yield
        await story.stop()


async def test_members_that_misbehave_harm_no_other(story: Any, fleet: None) -> None:
    """Each odd one's condition names it, the fact and the fix; commits reach the others as if it were not there."""
    (OWN / "clear_refs").write_text("5")  # the peak is counted anew
    before = peak()
    repository = await story.git_repo({"a.yaml": config_map("1")})
    await story.start(member_connect_timeout=2.0, member_request_timeout=2.0, member_breaker_min=0.5)
    await story.application(repository, {"targetNamespace": story.namespace})
    await story.applied(await repository.commit_of(), *HEALTHY)

    for name, said in SAID.items():
        await attached_says(story, name, f"AttachedCluster/{name}: ", said)
        await story.row(f"web-0-attachedcluster-{name}", ready="False", message=f"AttachedCluster/{name}: ")
    for name, said in SAID_LATER.items():
        await story.row(f"web-0-attachedcluster-{name}", ready="False", message=f"AttachedCluster/{name}: ")
        await story.row(f"web-0-attachedcluster-{name}", ready="False", message=said)
    ready = await story.condition("Ready", "False")
    assert not any(f"AttachedCluster/{name}" in ready["message"] for name in WELL)

    second = await repository.commit({"a.yaml": config_map("2")})
    await story.request("2")
    await story.applied(second, *HEALTHY)
    for name in WELL:
        assert (await story.config_map(name, "a"))["data"] == {"version": "2"}
    assert peak() - before < MOST_GROWTH


def peak() -> float:
    """MiB of resident memory that this process has had at most since its peak was counted anew."""
    lines = (OWN / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


async def attached_says(story: Any, name: str, *texts: str) -> None:
    """Wait until the Ready condition of the AttachedCluster says all of it."""

    async def says() -> bool:
        status = (await story.hub.api.get(story.path("attachedclusters", name))).get("status") or {}
        messages = [c["message"] for c in status.get("conditions", []) if c["type"] == "Ready"]
        return status.get("ready") is False and all(text in message for message in messages for text in texts)

    await story.until(says)
