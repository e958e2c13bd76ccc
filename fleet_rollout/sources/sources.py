"""The sources room: brings the content an Application asks for onto this disk, and says what it is.

A failure changes nothing that is stored: members stay on what they have.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from aiohttp import web

from fleet_rollout.decide.gitrefs import RepositoryURL, Wanted, commit_of, parse_url, wanted_ref
from fleet_rollout.decide.intervals import parse_duration
from fleet_rollout.errors import FleetRolloutError, Terminal
from fleet_rollout.settings import Settings
from fleet_rollout.sources.addresses import Resolver, resolve
from fleet_rollout.sources.artifact import Artifact, unavailable
from fleet_rollout.sources.artifact_server import reachable, serve_artifacts
from fleet_rollout.sources.checkout import Caps, checkout, commit_facts
from fleet_rollout.sources.credentials import Credentials, credentials_for
from fleet_rollout.sources.git import Git, check_version
from fleet_rollout.sources.mirror import Mirror, Remote
from fleet_rollout.sources.relay import Guide, Relay
from fleet_rollout.sources.repository import Budget, Repository, Target
from fleet_rollout.sources.store import ArtifactStore
from fleet_rollout.sources.tree import remove_tree
from fleet_rollout_api.application import GitRepositorySpec

STORE_WORKERS = 4
UNUSED_MIRROR_SECONDS = 24 * 3600.0

Result = TypeVar("Result")


@dataclass(frozen=True)
class Observation:
    """What a source holds now. `changed`: other content, or another revision, than what the caller knew."""

    artifact: Artifact
    changed: bool
    subject: str
    commit: str


class Sources:
    """One per process. Every method may be cancelled at any await; threads end by their own limits."""

    def __init__(self, settings: Settings, *, resolver: Resolver = resolve) -> None:
        self._settings = settings
        self._resolver = resolver
        self._caps = Caps(settings.artifact_max_bytes, settings.artifact_max_files)
        self._mirrors = settings.data_dir / "mirrors"
        self._git = Git()
        self._git_threads = ThreadPoolExecutor(settings.source_workers, thread_name_prefix="git")
        self._store_threads = ThreadPoolExecutor(STORE_WORKERS, thread_name_prefix="artifacts")
        self._repositories: dict[str, Repository] = {}
        self._gates: dict[str, asyncio.Semaphore] = {}
        self._server: web.AppRunner | None = None
        self._relay: Relay | None = None
        self.address: str | None = None
        self.store = ArtifactStore(settings)
        self._key = _process_key(self._mirrors)

    async def start(self, guide: Guide | None = None) -> None:
        """Serve artifacts over HTTP, with `guide` also those that the leader has made. `address` is for other replicas.

        Raises Terminal where git is missing or too old.
        """
        await asyncio.to_thread(check_version)
        settings = self._settings
        self._relay = Relay(guide, self.store.scratch_folder) if guide is not None else None
        self._server, url = await serve_artifacts(self.store, settings, self._relay)
        self.store.base_url = settings.artifact_url or url
        self.address = reachable(settings, self._server.addresses[0][1])

    async def close(self) -> None:
        """End every git, then the threads and the server."""
        self._git.stop()
        for repository in self._repositories.values():
            await repository.close()
        await asyncio.to_thread(self._git_threads.shutdown)
        await asyncio.to_thread(self._store_threads.shutdown)
        if self._server is not None:
            await self._server.cleanup()
        if self._relay is not None:
            await self._relay.close()

    async def reconcile(
        self,
        namespace: str,
        name: str,
        spec: GitRepositorySpec,
        secret: Mapping[str, bytes] | None,
        known: Artifact | None,
    ) -> Observation:
        """The current content of the source. Nothing is fetched where the server names the commit that is here."""
        wanted, repository = self._open(spec, secret)
        budget = Budget.of(parse_duration(spec.timeout))
        target = await repository.find(wanted, budget)
        config = _config(spec)
        record = await self._on_disk(lambda: self.store.current(namespace, name))
        if record is None or record.artifact.revision != target.revision or record.config != config:
            await repository.ensure(target.commit, wanted, budget)
            build = lambda: self._build(namespace, name, repository, target, spec.ignore, config, known)  # noqa: E731
            artifact, subject = await self._on_disk(build)
        else:
            artifact, subject = record.artifact, record.subject
        changed = known is None or (known.digest, known.revision) != (artifact.digest, artifact.revision)
        return Observation(artifact, changed, subject, target.commit)

    async def restore(
        self,
        spec: GitRepositorySpec,
        secret: Mapping[str, bytes] | None,
        *,
        revision: str,
        digest: str,
        identity: str = "",
    ) -> Path:
        """The tree of pinned content, made again from its commit if need be.

        Raises Transient("ArtifactUnavailable") where that cannot be had, or is not the same any more.
        """
        if await self._on_disk(lambda: self.store.recover(digest)):
            return self.open_tree(digest)
        commit = commit_of(revision)
        if commit is None:
            raise unavailable(revision, "the revision names no commit")
        try:
            _, repository = self._open(spec, secret)
            await repository.ensure(commit, Wanted("commit", commit, None), Budget.of(parse_duration(spec.timeout)))
            same = await self._on_disk(lambda: self._rebuild(repository, commit, spec.ignore, digest, identity))
        except FleetRolloutError as error:
            raise unavailable(revision, error.message) from None
        if not same:
            raise unavailable(revision, "made again from its commit, the content differs; wait for the new revision")
        return self.open_tree(digest)

    def open_tree(self, digest: str) -> Path:
        """The unpacked content with this digest: plain files and folders, not to be written to.

        Raises Transient("ArtifactUnavailable") where it is not on this disk; `restore` brings it back.
        """
        path = self.store.tree(digest)
        if path is None:
            raise unavailable(digest, "it is not on this disk")
        return path

    async def collect(self, keep: Collection[str]) -> None:
        """Remove superseded artifacts and unused mirrors; never a digest in `keep`."""
        pinned = frozenset(keep)
        await self._on_disk(lambda: self.store.collect(pinned))
        await self._on_disk(self._collect_mirrors)
        # Each holds credentials in memory; rotated ones must not pile up.
        for key in [key for key, repository in self._repositories.items() if repository.is_unused]:
            del self._repositories[key]

    async def stored(self) -> list[tuple[str, str]]:
        """Namespace and name of every source of which something is stored."""
        return await self._on_disk(self.store.sources)

    async def forget(self, namespace: str, name: str) -> None:
        """The Application is gone, or has another kind of source now."""
        await self._on_disk(lambda: self.store.forget(namespace, name))

    def _open(self, spec: GitRepositorySpec, secret: Mapping[str, bytes] | None) -> tuple[Wanted, Repository]:
        """Check everything that can be checked without the network."""
        _refuse_unsupported(spec)
        url = parse_url(spec.url, allow_http=self._settings.allow_http_sources)
        return wanted_ref(spec.ref), self._repository(url, credentials_for(url.scheme, secret))

    def _repository(self, url: RepositoryURL, credentials: Credentials) -> Repository:
        key = hashlib.sha256(f"{url.text}\0{credentials.identity(self._key)}".encode()).hexdigest()
        if key not in self._repositories:
            settings = self._settings
            remote = Remote(url, credentials, settings.allow_loopback_sources, self._resolver)
            programs = settings.data_dir / "programs"
            mirror = Mirror(self._git, remote, self._mirrors / key, programs, settings.source_max_bytes)
            gate = self._gates.setdefault(url.host, asyncio.Semaphore(max(1, settings.source_workers // 2)))
            self._repositories[key] = Repository(mirror, self._git_threads, gate)
        return self._repositories[key]

    def _build(
        self,
        namespace: str,
        name: str,
        repository: Repository,
        target: Target,
        ignore: str | None,
        config: str,
        known: Artifact | None,
    ) -> tuple[Artifact, str]:
        with self.store.scratch() as folder:
            try:
                facts = commit_facts(repository.mirror, target.commit)
                entries = checkout(repository.mirror, target.commit, ignore, self._caps, folder)
            except FleetRolloutError:
                repository.forget_presence()
                raise
            os.utime(repository.mirror.path)
            artifact = self.store.put(
                namespace,
                name,
                revision=target.revision,
                entries=entries,
                folder=folder,
                subject=facts.subject,
                config=config,
                known=known,
            )
        return artifact, facts.subject

    def _rebuild(self, repository: Repository, commit: str, ignore: str | None, digest: str, identity: str) -> bool:
        with self.store.scratch() as folder:
            entries = checkout(repository.mirror, commit, ignore, self._caps, folder)
            return self.store.adopt(folder, entries, digest=digest, identity=identity)

    def _collect_mirrors(self) -> None:
        """Of repositories that nobody used for a day. A fetch that starts meanwhile makes its mirror anew."""
        limit = time.time() - UNUSED_MIRROR_SECONDS
        for path in self._mirrors.iterdir():
            if path.is_dir() and path.stat().st_mtime < limit:
                remove_tree(path)

    async def _on_disk(self, call: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._store_threads, call)


def _refuse_unsupported(spec: GitRepositorySpec) -> None:
    for field, value in (
        ("include", spec.include),
        ("recurseSubmodules", spec.recurse_submodules),
        ("verify", spec.verify),
    ):
        if value:
            raise Terminal("NotSupportedYet", f"spec.source.gitRepository.{field} is not supported yet; remove it")


def _config(spec: GitRepositorySpec) -> str:
    """What, beside the commit, decides about the content."""
    return hashlib.sha256((spec.ignore or "").encode()).hexdigest()


def _process_key(mirrors: Path) -> bytes:
    """Makes names of mirrors useless for guessing passwords; kept, so that mirrors outlive a restart."""
    mirrors.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = mirrors / "key"
    if not path.exists():
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(32))
    return path.read_bytes()
