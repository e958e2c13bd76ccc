"""What a restart knows of a source from its Application's status, and what is read of its Secret."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fleet_rollout.control.artifacts import ArtifactReconciler, secret_data
from fleet_rollout.control.loop import Key
from fleet_rollout.control.queue import Queue
from fleet_rollout.control.store import Store
from fleet_rollout.control.world import APPLICATIONS
from fleet_rollout.decide import source_status
from fleet_rollout.errors import Transient
from fleet_rollout_api.application import Application

Object = dict[str, Any]
SHOP = Key("apps", "shop")
SOURCE = {"url": "https://git.example/shop.git", "interval": "1m"}
ARTIFACT = {"revision": "main@sha1:1", "digest": "sha256:1", "path": "p", "url": "u", "lastUpdateTime": "t"}
NOW = datetime(2026, 1, 1, tzinfo=UTC)
STORED = source_status.stored(None, ARTIFACT, generation=1, handled=None, now=NOW)


@pytest.mark.parametrize("bad", ["%%%", "YWJj!", "YWJ", "\u00e9", None, 7])
def test_a_value_that_is_not_base64_is_left_out_and_the_others_are_read(bad: Any) -> None:
    assert secret_data({"data": {"password": bad, "username": "dXNlcg=="}}) == {"username": b"user"}


@pytest.mark.parametrize("secret", [{}, {"data": None}, {"data": {}}])
def test_a_secret_without_data_has_none(secret: dict[str, Any]) -> None:
    assert secret_data(secret) == {}


def application(
    generation: int = 1, *, git: Object | None = None, status: Object | None = None, **policy: Any
) -> Object:
    """`status` is what the Application shows of its source."""
    found = {
        "apiVersion": APPLICATIONS.api_version,
        "kind": "Application",
        "metadata": {"name": "shop", "namespace": "apps", "uid": "1", "generation": generation},
        "spec": {
            "source": {"gitRepository": git or SOURCE},
            "syncPolicies": [{"kustomization": {"interval": "1m", "prune": True, **policy}}],
            "destination": {"fleet": "fleet"},
        },
    }
    return found | {"status": {"sourceStatus": {"gitRepoStatus": status}}} if status else found


class Restarted:
    """A replica that has just read the hub, and whose Git server does not answer."""

    def __init__(self, obj: Object) -> None:
        self._version = 0
        self.store = Store()
        world = SimpleNamespace(
            store=self.store,
            queues=SimpleNamespace(applications=Queue[Key](lambda: 0.0)),
            recorder=SimpleNamespace(warning=lambda *_: None),
            now=lambda: NOW,
        )
        self._artifacts = ArtifactReconciler(cast(Any, world))
        self.put(obj)

    def put(self, obj: Object) -> None:
        self._version += 1
        self.store.put(
            APPLICATIONS.plural, obj | {"metadata": obj["metadata"] | {"resourceVersion": str(self._version)}}
        )

    async def fails(self) -> None:
        await self._artifacts.report(SHOP, Transient("GitOperationFailed", "no answer"), 5.0)

    def is_held(self) -> bool:
        """Whether the rest of the Application waits for its source."""
        obj = self.store.get(APPLICATIONS.plural, SHOP)
        return self._artifacts.is_edited(SHOP, Application.model_validate(obj))


async def test_an_edit_beside_a_source_that_is_away_is_carried_out_after_a_restart_too() -> None:
    replica = Restarted(application(status=STORED))
    await replica.fails()
    replica.put(application(2, status=STORED, suspend=True))
    assert not replica.is_held()
    await replica.fails()
    assert not replica.is_held()


async def test_an_edit_of_a_source_that_is_away_is_held_after_a_restart_too() -> None:
    replica = Restarted(application(status=STORED))
    await replica.fails()
    replica.put(application(2, status=STORED, git=SOURCE | {"ref": {"branch": "next"}}, suspend=True))
    assert replica.is_held()
    await replica.fails()
    assert replica.is_held()


async def test_an_edit_that_no_replica_has_seen_is_held_until_the_source_is_back() -> None:
    """Whether it was one of the source nobody can tell."""
    replica = Restarted(application(2, status=STORED, suspend=True))
    assert replica.is_held()
    await replica.fails()
    assert replica.is_held()


async def test_content_from_before_a_source_that_cannot_be_used_is_not_taken_for_its_own() -> None:
    refused = source_status.failed(
        STORED, "NotSupportedYet", "remove it", stalled=True, generation=2, handled=None, now=NOW
    )
    bad = SOURCE | {"recurseSubmodules": True}
    replica = Restarted(application(2, git=bad, status=refused))
    await replica.fails()
    replica.put(application(3, git=bad, status=refused, suspend=True))
    assert replica.is_held()
