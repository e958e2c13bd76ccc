"""The flagger.app definitions of a member: ours where there are none, somebody's own where there are.

They are cluster-wide, so these stories have a cluster to themselves.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import yaml

from fleet_rollout.lab import binaries
from fleet_rollout.lab.lab import CRDS
from tests.stories.rollouts import TESTER, Place, custom_metric, files, policy, rollout

SYNC = "web-0-attachedcluster-spare"
KINDS = ("canaries", "metrictemplates", "alertproviders")
LABEL = "apps.kurator.dev/installed-by"


async def find(cluster: Any, kind: str) -> dict[str, Any] | None:
    found: dict[str, Any] | None = await cluster.api.find(f"{CRDS}/{kind}.flagger.app")
    return found


@pytest.fixture
async def bare(spare: Any) -> AsyncIterator[Any]:
    """A member that knows nothing of Flagger, before and after. Asked for before `story`, whose service would help."""
    names = [f"{kind}.flagger.app" for kind in KINDS]
    await spare.delete_crds(*names)
    yield spare
    await spare.delete_crds(*names)


async def begin(story: Any, cluster: Any, rolled_out: dict[str, Any]) -> Any:
    await story.join(cluster)
    repository = await story.git_repo(files())
    await story.fleet("spare")
    await story.start(loadtester_image=TESTER)
    await story.application(repository, policy(story, rolled_out))
    return repository


def flaggers(without: str | None = None) -> list[dict[str, Any]]:
    """Flagger's own definitions as its manifest has them; `without` is a field of the Canary's spec."""
    found = list(yaml.load_all(binaries.manifest("flagger-crds").read_text(), Loader=yaml.CSafeLoader))
    for crd in found:
        if without and crd["spec"]["names"]["kind"] == "Canary":
            schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
            del schema["properties"]["spec"]["properties"][without]
    return found


async def install(cluster: Any, crds: list[dict[str, Any]]) -> None:
    await cluster.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(listing(crds)))
    await cluster.crds_established()


def listing(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": items}


async def test_absent_definitions_are_installed_and_never_deleted(bare: Any, story: Any) -> None:
    """Design section 7, CRDs: labelled ours; they outlive the rollout, the Application and everybody's Canaries."""
    await begin(story, bare, rollout(story))
    place = Place(story, "spare")
    await place.appears()
    uids = {}
    for kind in KINDS:
        crd = await find(bare, kind)
        assert crd is not None
        assert crd["metadata"]["labels"][LABEL] == "fleet-rollout"
        uids[kind] = crd["metadata"]["uid"]
    await story.delete("applications", "web")
    await story.gone("applications", "web")
    assert await place.canary() is None
    for kind in KINDS:
        crd = await find(bare, kind)
        assert crd is not None
        assert crd["metadata"]["uid"] == uids[kind]


async def test_definitions_of_ours_are_kept_current(bare: Any, story: Any) -> None:
    """Design section 7, CRDs: an older one with our label is brought up to date."""
    labelled = flaggers(without="suspend")
    for crd in labelled:
        crd["metadata"].setdefault("labels", {})[LABEL] = "fleet-rollout"
    await install(bare, labelled)
    rolled_out = rollout(story)
    rolled_out["rolloutPolicy"]["suspend"] = True
    await begin(story, bare, rolled_out)
    canary = await Place(story, "spare").appears()
    assert canary["spec"]["suspend"] is True
    current = await find(bare, "canaries")
    assert current is not None
    assert [version["name"] for version in current["spec"]["versions"]] == ["v1beta1", "v1alpha3"]


async def test_foreign_definitions_are_never_written(bare: Any, story: Any) -> None:
    """Design section 7, CRDs: without our label they stay as they are, and work where they hold what we need."""
    await install(bare, flaggers())
    before = [await find(bare, kind) for kind in KINDS]
    await begin(story, bare, rollout(story, analysis={"metrics": [custom_metric("err")]}, testLoader=True))
    await Place(story, "spare").appears()
    after = [await find(bare, kind) for kind in KINDS]
    assert [crd["metadata"]["resourceVersion"] for crd in after] == [
        crd["metadata"]["resourceVersion"] for crd in before
    ]


async def test_a_foreign_definition_that_lacks_a_field_is_named(bare: Any, story: Any) -> None:
    """Bad input "Canary CRD foreign": CRDIncompatible names the field; without the setting, or updated, it goes on."""
    await install(bare, flaggers(without="suspend"))
    rolled_out = rollout(story)
    rolled_out["rolloutPolicy"]["suspend"] = True
    repository = await begin(story, bare, rolled_out)
    found = await story.sync_condition(SYNC, "RolloutReady", "False", "CRDIncompatible")
    assert "CustomResourceDefinition of Canary in the member lacks spec.suspend" in found["message"]
    await story.condition("Ready", "False", "CRDIncompatible")
    place = Place(story, "spare")
    assert await place.canary() is None
    assert await place.deployment() is not None
    await story.application(repository, policy(story, rollout(story)))
    await place.appears()
    await story.application(repository, policy(story, rolled_out))
    await story.sync_condition(SYNC, "RolloutReady", "False", "CRDIncompatible")
    await install(bare, flaggers())

    async def is_suspended() -> bool:
        canary = await place.canary()
        return canary is not None and canary["spec"].get("suspend") is True

    await story.until(is_suspended)
