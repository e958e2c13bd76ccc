"""What a restart knows of a source from a status, what is removed from the disk, and what is read of a Secret."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fleet_rollout.control.artifacts import ArtifactReconciler, secret_data
from fleet_rollout.control.loop import Key, Loop
from fleet_rollout.control.queue import Queue
from fleet_rollout.control.store import Store
from fleet_rollout.control.world import APPLICATIONS, CLUSTER_SYNCS
from fleet_rollout.decide import source_status
from fleet_rollout.errors import Transient
from fleet_rollout.settings import Settings
from fleet_rollout.sources import Artifact, Sources
from fleet_rollout.sources.tree import Entry
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


class Leading:
    """A replica that leads, with what its disk has kept from earlier."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.settings = Settings(data_dir=folder, artifact_retention=0.0, **changes)
        self.sources, self.store = Sources(self.settings), Store()
        self._queue = Queue[Key](asyncio.get_running_loop().time)
        world = SimpleNamespace(
            settings=self.settings,
            store=self.store,
            sources=self.sources,
            queues=SimpleNamespace(sources=self._queue, applications=Queue[Key](lambda: 0.0)),
        )
        self._artifacts = ArtifactReconciler(cast(Any, world))

    async def reconcile(self, name: str) -> None:
        await self._artifacts.reconcile(Key("apps", name))

    def stored(self, name: str, namespace: str = "apps") -> Artifact:
        store = self.sources.store
        with store.scratch() as folder:
            (folder / "f").write_text(name)
            return store.put(
                namespace,
                name,
                revision=f"main@sha1:{'1' * 40}",
                entries=[Entry("f")],
                folder=folder,
                subject="s",
                config="c",
            )

    def has(self, artifact: Artifact) -> tuple[bool, bool]:
        """Whether it is served, and whether it can be rendered."""
        store = self.sources.store
        return store.served(artifact.path) is not None, store.tree(artifact.digest) is not None

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        running = [
            asyncio.create_task(self._artifacts.collect()),
            asyncio.create_task(Loop(self._artifacts, self._queue, self.settings, workers=1).run()),
        ]
        try:
            async with asyncio.timeout(30):
                yield
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await self.sources.close()

    async def until_it_has(self, artifact: Artifact, found: tuple[bool, bool]) -> None:
        while self.has(artifact) != found:
            await asyncio.sleep(0.01)


def named(name: str, source: Object) -> Object:
    made = application()
    metadata = made["metadata"] | {"name": name, "resourceVersion": "1"}
    return made | {"metadata": metadata, "spec": made["spec"] | {"source": source}}


HELM = {"helmRepository": {"url": "https://charts.example", "interval": "1m"}}


async def test_what_is_stored_of_applications_that_went_unseen_is_removed(tmp_path: Path) -> None:
    """A tree stays while a ClusterSync is pinned to it."""
    replica = Leading(tmp_path)
    gone, pinned, helm, kept, odd = (replica.stored(name) for name in ("gone", "pinned", "helm", "kept", "odd"))
    sync = {"metadata": {"name": "s", "namespace": "apps", "uid": "2"}, "spec": {"artifact": {"digest": pinned.digest}}}
    replica.store.replace_all(CLUSTER_SYNCS.plural, [sync], "1")
    listed = [named("helm", HELM), named("kept", {"gitRepository": SOURCE}), named("odd", {"gitRepository": {}})]
    replica.store.replace_all(APPLICATIONS.plural, listed, "1")
    async with replica.at_work():
        for artifact in (gone, helm):
            await replica.until_it_has(artifact, (False, False))
        await replica.until_it_has(pinned, (False, True))
    assert [replica.has(artifact) for artifact in (kept, odd)] == [(True, True), (True, True)]


async def test_an_application_that_turns_from_git_leaves_nothing_behind(tmp_path: Path) -> None:
    replica = Leading(tmp_path)
    artifact = replica.stored("shop")
    replica.store.put(APPLICATIONS.plural, named("shop", HELM))
    await replica.reconcile("shop")
    assert replica.has(artifact) == (False, True)
    await replica.sources.close()


@pytest.mark.parametrize("changes", [{}, {"namespace": "other"}], ids=["not read yet", "of another namespace"])
async def test_what_this_replica_cannot_know_of_is_left_alone(tmp_path: Path, changes: Object) -> None:
    replica = Leading(tmp_path, **changes)
    kept, other = replica.stored("kept"), replica.stored("gone", "other")
    if changes:
        replica.store.replace_all(APPLICATIONS.plural, [], "1")
    superseded = replica.stored("superseded")
    replica.sources.store.forget("apps", "superseded")
    async with replica.at_work():
        await replica.until_it_has(superseded, (False, False))
        if changes:
            await replica.until_it_has(other, (False, False))
    assert replica.has(kept) == (True, True)
    assert replica.has(other) == ((False, False) if changes else (True, True))
