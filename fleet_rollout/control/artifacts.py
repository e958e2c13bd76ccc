"""Keeps the artifact of every Application's source current: one key an Application, fetched once a repository.

What it finds is kept for the Application's worker, which alone writes status.
"""

from __future__ import annotations

import asyncio
import logging
import random
from base64 import b64decode
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from pydantic import ValidationError

from fleet_rollout.control.loop import Key
from fleet_rollout.control.world import APPLICATIONS, CLUSTER_SYNCS, SECRETS, World
from fleet_rollout.decide import source_status
from fleet_rollout.decide.conditions import STALLED
from fleet_rollout.decide.intervals import jittered, parse_duration
from fleet_rollout.decide.names import REQUESTED_AT
from fleet_rollout.errors import FleetRolloutError, Terminal, Transient
from fleet_rollout.kube.errors import kube_errors
from fleet_rollout.sources import Artifact
from fleet_rollout_api.application import Application, GitRepositorySpec
from fleet_rollout_api.cluster_sync import WantedArtifact

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SourceView:
    """What is known of one source: its status in Flux's shape, and the artifact once it is on this disk."""

    uid: str = ""
    status: dict[str, Any] = field(default_factory=dict)
    artifact: Artifact | None = None
    generation: int = 0
    spec: GitRepositorySpec | None = (
        None  # whose content this is, or that is suspended; of a later one nothing is known
    )


class ArtifactReconciler:
    """Fetches; `view(key)` is what the Application's worker shows."""

    kind = "Source"

    def __init__(self, world: World) -> None:
        self._world = world
        self._views: dict[Key, SourceView] = {}
        self._restores: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def view(self, key: Key) -> SourceView:
        """What is known of the source of Application `key`, after a restart from its status."""
        obj = self._world.store.get(APPLICATIONS.plural, key) or {}
        uid = str((obj.get("metadata") or {}).get("uid", ""))
        view = self._views.get(key)
        if view is None or view.uid != uid:
            status = source_in(obj)
            spec = _spec_of(obj) if _is_of_this_generation(status, obj) else None
            view = self._views[key] = SourceView(uid, status, spec=spec)
        return view

    def status(self, key: Key, app: Application) -> dict[str, Any]:
        """The source's status; an edit of anything else leaves it as fresh as it was."""
        view = self.view(key)
        if view.spec is None or view.spec != app.spec.source.git_repository:
            return view.status
        return view.status | {"observedGeneration": app.metadata.generation}

    def is_edited(self, key: Key, app: Application) -> bool:
        """Whether the source was edited since its content was fetched."""
        observed = self.status(key, app).get("observedGeneration", -1)
        return app.spec.source.git_repository is not None and observed < app.metadata.generation

    async def reconcile(self, key: Key) -> float | None:
        obj = self._world.store.get(APPLICATIONS.plural, key)
        if obj is None:
            self._views.pop(key, None)
            await self._world.sources.forget(key.namespace, key.name)
            return None
        if obj["metadata"].get("deletionTimestamp"):
            return None
        try:
            app = Application.model_validate(obj)
        except ValidationError:
            return None  # its own worker says so in its status
        spec = app.spec.source.git_repository
        if spec is None:
            self._views.pop(key, None)
            await self._world.sources.forget(key.namespace, key.name)
            return None
        if spec.suspend:
            self._suspended(key, app)
            return None
        await self._fetch(key, app, spec)
        interval = parse_duration(spec.interval)
        return jittered(interval, self._world.settings.interval_jitter, random.random()) if interval else None  # noqa: S311

    def _suspended(self, key: Key, app: Application) -> None:
        view = self.view(key)
        handled = app.metadata.annotations.get(REQUESTED_AT)
        status = source_status.suspended(view.status or None, generation=app.metadata.generation, handled=handled)
        self._show(key, replace(view, status=status, spec=app.spec.source.git_repository))

    async def _fetch(self, key: Key, app: Application, spec: GitRepositorySpec) -> None:
        view = self.view(key)
        secret = await self._secret(key, spec)
        known = view.artifact or artifact_of(view.status)
        seen = await self._world.sources.reconcile(key.namespace, key.name, spec, secret, known)
        handled = app.metadata.annotations.get(REQUESTED_AT)
        status = source_status.stored(
            view.status or None,
            seen.artifact.status(),
            generation=app.metadata.generation,
            handled=handled,
            now=self._world.now(),
        )
        if seen.changed or source_status.has_failed(view.status):
            message = f"stored artifact for commit '{_subject(seen.subject)}'"
            reason = "NewArtifact" if seen.changed else "Succeeded"
            self._world.recorder.normal(self._world.store.get(APPLICATIONS.plural, key), reason, message)
        self._show(key, SourceView(app.metadata.uid, status, seen.artifact, app.metadata.generation, spec))

    async def tree(self, key: Key, wanted: WantedArtifact) -> Path:
        """The unpacked content that a ClusterSync of Application `key` wants; made again where this disk lacks it."""
        try:
            return self._world.sources.open_tree(wanted.digest)
        except Transient:
            async with self._restores.setdefault(wanted.digest, asyncio.Lock()):
                return await self._restored(key, wanted)

    async def _restored(self, key: Key, wanted: WantedArtifact) -> Path:
        obj = self._world.store.get(APPLICATIONS.plural, key)
        spec = Application.model_validate(obj).spec.source.git_repository if obj is not None else None
        if spec is None:
            fact = (
                f"artifact of revision {wanted.revision} is not on this disk, and Application/{key} has no Git source"
            )
            raise Transient("ArtifactUnavailable", fact)
        shown = self.view(key).status.get("artifact") or {}
        known = Artifact.from_status(shown) if shown.get("digest") == wanted.digest else None
        return await self._world.sources.restore(
            spec,
            await self._secret(key, spec),
            revision=wanted.revision,
            digest=wanted.digest,
            identity=known.identity if known is not None else "",
        )

    async def collect(self) -> None:
        """Remove what nobody wants any more now and then; never what a ClusterSync is pinned to."""
        while True:
            await asyncio.sleep(self._world.settings.artifact_retention)
            await self._look_at_unseen()
            syncs = self._world.store.all(CLUSTER_SYNCS.plural)
            pinned = {digest for obj in syncs if (digest := _pinned(obj))}
            try:
                await self._world.sources.collect(pinned)
            except OSError:  # a full or failing disk is no reason to stop leading
                log.exception("superseded artifacts were not collected")

    async def _look_at_unseen(self) -> None:
        """Applications whose end, or whose change to another source, came to pass while this replica did not lead.

        Their own worker forgets them: it never does so while it fetches.
        """
        if not self._world.store.is_synced(APPLICATIONS.plural):
            return
        only = self._world.settings.namespace
        for key in [Key(*source) for source in await self._world.sources.stored()]:
            application = self._world.store.get(APPLICATIONS.plural, key)
            if only in (None, key.namespace) and not _has_git(application):
                self._world.queues.sources.add(key)

    async def _secret(self, key: Key, spec: GitRepositorySpec) -> dict[str, bytes] | None:
        if spec.secret_ref is None:
            return None
        with kube_errors("AuthenticationFailed", f"Secret/{key.namespace}/{spec.secret_ref.name}"):
            secret = await self._world.hub.get(SECRETS, spec.secret_ref.name, key.namespace)
        if secret is None:
            name = f"{key.namespace}/{spec.secret_ref.name}"
            raise Transient("AuthenticationFailed", f"failed to get secret '{name}': not found; create it")
        return secret_data(secret)

    async def report(self, key: Key, error: FleetRolloutError, again_in: float) -> None:
        """Keep the artifact, show the failure."""
        obj = self._world.store.get(APPLICATIONS.plural, key)
        if obj is None:
            return
        view = self.view(key)
        metadata = obj["metadata"]
        before = view.status.get("conditions")
        status = source_status.failed(
            view.status or None,
            error.reason,
            error.message,
            stalled=isinstance(error, Terminal),
            generation=metadata.get("generation", 0),
            handled=(metadata.get("annotations") or {}).get(REQUESTED_AT),
            now=self._world.now(),
        )
        if status["conditions"] != before:
            self._world.recorder.warning(obj, error.reason, error.message)
        spec = view.spec if view.spec is not None and view.spec == _spec_of(obj) else None
        self._show(key, replace(view, status=status, generation=metadata.get("generation", 0), spec=spec))

    def _show(self, key: Key, view: SourceView) -> None:
        if self._views.get(key) != view:
            self._views[key] = view
            self._world.queues.applications.add(key)


def secret_data(secret: dict[str, Any]) -> dict[str, bytes]:
    """The decoded data of a Secret; values that are not base64 are left out, as if the key were missing."""
    found = {}
    for name, value in (secret.get("data") or {}).items():
        with suppress(ValueError, TypeError):
            found[name] = b64decode(value, validate=True)
    return found


def source_in(application: dict[str, Any]) -> dict[str, Any]:
    """What an Application's status says of its Git source."""
    return ((application.get("status") or {}).get("sourceStatus") or {}).get("gitRepoStatus") or {}


def artifact_of(status: dict[str, Any]) -> Artifact | None:
    """The artifact that a source's status names."""
    artifact = status.get("artifact")
    return Artifact.from_status(artifact) if artifact else None


def _is_of_this_generation(status: dict[str, Any], obj: dict[str, Any]) -> bool:
    """Whether the artifact is what the Application asked for as its status was written; a stalled one may be older."""
    is_stalled = any(c.get("type") == STALLED and c.get("status") == "True" for c in status.get("conditions") or [])
    is_seen = bool(obj) and status.get("observedGeneration") == obj["metadata"].get("generation")
    return bool(status.get("artifact")) and is_seen and not is_stalled


def _spec_of(obj: dict[str, Any]) -> GitRepositorySpec | None:
    try:
        return Application.model_validate(obj).spec.source.git_repository
    except ValidationError:
        return None


def _has_git(application: dict[str, Any] | None) -> bool:
    """Whether it has a Git source, be it one that cannot be read."""
    source = ((application or {}).get("spec") or {}).get("source") or {}
    return source.get("gitRepository") is not None


def _pinned(sync: dict[str, Any]) -> str:
    """The digest that a ClusterSync wants; none where it cannot be read."""
    artifact = (sync.get("spec") or {}).get("artifact")
    return str(artifact.get("digest") or "") if isinstance(artifact, dict) else ""


def _subject(text: str) -> str:
    return text if len(text) <= 50 else text[:50] + "..."
