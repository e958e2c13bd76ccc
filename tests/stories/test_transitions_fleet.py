"""Class 8 of trust.md 2 for a Fleet's members and an AttachedCluster: there and back is as fresh, also after a bad one.

What a Fleet says of its engine: tests/control/engine/test_engines.py. Its plug-in: tests/decide/test_engines.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.stories.conftest import config_map
from tests.stories.test_members import cluster_ready
from tests.stories.test_transitions_source import seen

Object = dict[str, Any]
DEADLINE = 180.0
CRDS = Path(__file__).parents[2] / "config" / "crd"


def fields(crd: str, *path: str) -> set[str]:
    """The fields below a path of a kind's spec, from its CRD."""
    (version,) = yaml.safe_load((CRDS / f"{crd}.yaml").read_text())["spec"]["versions"]
    found = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for name in path:
        found = found["properties"][name]
    return set(found["properties"])


def test_class_8_every_field_of_the_crds_has_a_transition() -> None:
    assert fields("fleet.kurator.dev_fleets") == {"clusters", "plugin", "rolloutEngine"}
    assert fields("cluster.kurator.dev_attachedclusters") == {"kubeconfig"}
    assert fields("cluster.kurator.dev_attachedclusters", "kubeconfig") == {"name", "key"}


async def as_fresh(story: Any) -> Object:
    """Waits for an Application that is Ready in all of its rows, and looks at it."""
    await story.condition("Ready", "True", timeout=DEADLINE)
    return await seen(story, "web")


async def test_class_8_members_that_come_and_go_leave_nothing(story: Any) -> None:
    """S1 -> S2 -> bad -> S1 = S1 for the members of a Fleet."""
    repository = await story.git_repo({"one.yaml": config_map("one")})
    await story.fleet("m2")
    await story.attach("m3")
    await story.start(status_interval=0.1)
    await story.application(repository, {"targetNamespace": story.namespace})
    first = await as_fresh(story)

    await story.set_fleet(["m2", "m3"])
    await story.row("web-0-attachedcluster-m3", ready="True")
    second = await as_fresh(story)
    assert "m3 one" in second
    await story.set_fleet(["m2", "m3", "nobody"])
    await story.condition("Ready", "False", "ClusterNotFound")
    await story.set_fleet(["m2"])
    await story.gone("clustersyncs", "web-0-attachedcluster-m3", timeout=DEADLINE)
    assert await story.config_map("m3", "one") is None
    assert await as_fresh(story) == first


@pytest.mark.parametrize("field", ["name", "key"])
async def test_class_8_a_kubeconfig_that_is_named_otherwise_is_used_and_left(story: Any, field: str) -> None:
    """S1 -> S2 -> bad -> S1 = S1: the second kubeconfig is of somebody without rights, the third does not exist."""
    member = story.members["m2"]
    weak = member.kubeconfig_for(f"weak-{story.namespace}").decode()
    good = member.kubeconfig.read_text()
    for name, content in (("first", {"first": good, "second": weak}), ("second", {"first": weak})):
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": content}
        await story.apply(secret)

    async def points_to(**changes: str) -> None:
        kubeconfig = {"name": "first", "key": "first", **changes}
        cluster = {
            "apiVersion": "cluster.kurator.dev/v1alpha1",
            "kind": "AttachedCluster",
            "metadata": {"name": "m2", "namespace": story.namespace},
            "spec": {"kubeconfig": kubeconfig},
        }
        await story.hub.api.apply(story.path("attachedclusters", "m2"), cluster, manager="story")

    repository = await story.git_repo({"one.yaml": config_map("one")})
    await points_to()
    await story.set_fleet(["m2"])
    await story.start(member_check_interval=0.5, status_interval=0.1)
    await story.application(repository, {"targetNamespace": story.namespace})
    first = await as_fresh(story)
    await cluster_ready(story, "m2", True, "Reachable")

    await points_to(**{field: "second"})
    await cluster_ready(story, "m2", False, "ClusterUnreachable", "forbidden")
    await points_to(**{field: "third"})
    await cluster_ready(story, "m2", False, "KubeconfigMissing", "third")
    await points_to()
    await cluster_ready(story, "m2", True, "Reachable")
    await story.row("web-0-attachedcluster-m2", ready="True")
    assert await as_fresh(story) == first
