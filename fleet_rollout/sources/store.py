"""Artifacts on this disk: a tar.gz per source and commit to be served, and its unpacked tree to be rendered.

    artifacts/gitrepository/<namespace>/<name>/<commit>.tar.gz
    trees/<digest>/                 read by the render room, never written again
    records/<namespace>/<name>.json what was stored, newest first

All of it can be lost: the source is fetched again. Calls block.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from fleet_rollout.decide.gitrefs import commit_of
from fleet_rollout.errors import Bug
from fleet_rollout.settings import Settings
from fleet_rollout.sources.archive import Packed, file_digest, pack, unpack
from fleet_rollout.sources.artifact import Artifact, Record, read_records
from fleet_rollout.sources.checkout import Caps
from fleet_rollout.sources.tree import Entry, remove_tree

NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


class ArtifactStore:
    """Safe from any thread. One instance per data directory."""

    def __init__(self, settings: Settings, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._caps = Caps(settings.artifact_max_bytes, settings.artifact_max_files)
        self._retention = settings.artifact_retention
        self._most_records = settings.artifact_records
        self._clock = clock
        self._lock = threading.RLock()
        self._known: dict[str, Artifact] = {}
        self._records: dict[tuple[str, str], list[Record]] = {}
        self._verified: set[tuple[str, int, int]] = set()
        self.base_url = settings.artifact_url or f"http://{settings.artifact_address}"
        root = settings.data_dir
        self._artifacts, self._trees = root / "artifacts", root / "trees"
        self._record_files, self.scratch_folder = root / "records", root / "scratch"
        self._open()

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty private folder on the same disk, gone afterwards."""
        path = Path(tempfile.mkdtemp(dir=self.scratch_folder))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def current(self, namespace: str, name: str) -> Record | None:
        """The newest artifact of a source, if its file and tree are here and whole."""
        with self._lock:
            records = self._load(namespace, name)
        if not records or not self._is_whole(records[0].artifact):
            return None
        return replace(records[0], artifact=self._with_url(records[0].artifact))

    def recover(self, digest: str) -> bool:
        """Whether the tree with this digest is here, unpacked from an archive that still is if need be."""
        if self.tree(digest) is not None:
            return True
        with self._lock:
            found = [r.artifact for records in self._records.values() for r in records if r.artifact.digest == digest]
        return any(self._is_whole(artifact) for artifact in found)

    def adopt(self, folder: Path, entries: Sequence[Entry], *, digest: str, identity: str) -> bool:
        """Keep `folder` as the tree of a pinned artifact, if its content is that artifact's."""
        with self.scratch() as scratch:
            packed: Packed = pack(folder, entries, scratch / "artifact.tar.gz")
        if packed.digest != digest and packed.identity != identity:
            return False
        with self._lock:
            self._keep_tree(folder, digest)
        return True

    def put(
        self,
        namespace: str,
        name: str,
        *,
        revision: str,
        entries: Sequence[Entry],
        folder: Path,
        subject: str,
        config: str,
        known: Artifact | None = None,
    ) -> Artifact:
        """Store `folder` (made by `scratch`, given away here). Where nothing changed, the time of `known` stays."""
        path = self._path(namespace, name, commit_of(revision) or "")
        with self.scratch() as scratch:
            packed = pack(folder, entries, scratch / "artifact.tar.gz")
            unchanged = known is not None and packed.digest == known.digest and known.revision == revision
            time = known.last_update_time if known and unchanged else self._clock().strftime(TIME_FORMAT)
            artifact = Artifact(
                revision, packed.digest, packed.size, path, f"{self.base_url}/{path}", time, packed.identity
            )
            with self._lock:
                self._keep_tree(folder, packed.digest)
                target = self._artifacts / path
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.replace(scratch / "artifact.tar.gz", target)
                self._remember(namespace, name, Record(artifact, subject, config))
        return artifact

    def tree(self, digest: str) -> Path | None:
        """The unpacked content with this digest, None where it is not here."""
        found = DIGEST.fullmatch(digest)
        path = self._trees / found[1] if found else None
        return path if path is not None and path.is_dir() else None

    def served(self, path: str) -> Artifact | None:
        """The artifact at this path of the server."""
        with self._lock:
            return self._known.get(path)

    def open(self, path: str) -> int:
        """A descriptor of a known artifact's file; FileNotFoundError otherwise. No part of the path may be a link."""
        if self.served(path) is None:
            raise FileNotFoundError(path)
        *folders, file = path.split("/")
        at = os.open(self._artifacts, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for folder in folders:
                above, at = at, os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
                os.close(above)
            return os.open(file, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=at)
        finally:
            os.close(at)

    def sources(self) -> list[tuple[str, str]]:
        """Namespace and name of every source of which something is stored."""
        with self._lock:
            return [source for source, records in self._records.items() if records]

    def collect(self, keep: Collection[str]) -> None:
        """Remove what is superseded for longer than the retention or beyond the number of records, and the trees
        without a record; never a digest in `keep`, which members may still have to apply."""
        with self._lock:
            for file in sorted(self._record_files.glob("*/*.json")):
                self._collect_source(file.parent.name, file.stem, keep)
            used = {r.artifact.digest for records in self._records.values() for r in records} | set(keep)
            for tree in self._trees.iterdir():
                if f"sha256:{tree.name}" not in used:
                    remove_tree(tree)

    def forget(self, namespace: str, name: str) -> None:
        """The source is gone. Trees stay until `collect`, as ClusterSyncs may outlive it."""
        with self._lock:
            for record in self._load(namespace, name):
                self._drop_file(record.artifact)
            self._records.pop((namespace, name), None)
            self._record_file(namespace, name).unlink(missing_ok=True)

    def _open(self) -> None:
        """Trees written before the machine last started may be cut short; archives are checked by digest instead."""
        for folder in (self._artifacts, self._trees, self._record_files, self.scratch_folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        boot, mark = _boot_id(), self._trees.with_name("boot-id")
        if not mark.exists() or mark.read_text() != boot:
            for tree in list(self._trees.iterdir()):
                remove_tree(tree)
            mark.write_text(boot)
        for leftover in self.scratch_folder.iterdir():
            remove_tree(leftover)
        for file in self._record_files.glob("*/*.json"):
            self._load(file.parent.name, file.stem)

    def _is_whole(self, artifact: Artifact) -> bool:
        """The file has its digest (hashed once until written again), and its tree is there, maybe unpacked now."""
        path = self._artifacts / artifact.path
        try:
            stat = path.lstat()
        except OSError:
            return False
        mark = (artifact.digest, stat.st_ino, stat.st_mtime_ns)
        if mark not in self._verified:
            if file_digest(path) != artifact.digest:
                return False
            self._verified.add(mark)
        return self.tree(artifact.digest) is not None or self._unpack(artifact)

    def _unpack(self, artifact: Artifact) -> bool:
        with self.scratch() as folder, open(self.open(artifact.path), "rb") as archive:
            unpack(archive, folder, self._caps)
            with self._lock:
                self._keep_tree(folder, artifact.digest)
        return True

    def _keep_tree(self, folder: Path, digest: str) -> None:
        """Give away `folder`; its former name stays behind empty, for its owner to remove."""
        target = self._trees / digest.removeprefix("sha256:")
        if not target.exists():
            os.rename(folder, target)
            folder.mkdir(mode=0o700)

    def _remember(self, namespace: str, name: str, record: Record) -> None:
        now = self._clock().timestamp()
        older = [r for r in self._load(namespace, name) if r.artifact.digest != record.artifact.digest]
        aged = [r if r.superseded_at is not None else replace(r, superseded_at=now) for r in older]
        self._save(namespace, name, [record, *aged])

    def _collect_source(self, namespace: str, name: str, keep: Collection[str]) -> None:
        now = self._clock().timestamp()
        records = self._load(namespace, name)
        kept, older = records[:1], records[1:]
        for record in older:
            is_old = record.superseded_at is not None and now - record.superseded_at >= self._retention
            if record.artifact.digest in keep or not (is_old or len(kept) >= self._most_records):
                kept.append(record)
        if len(kept) == len(records):
            return
        paths = {r.artifact.path for r in kept}
        for record in older:
            if record.artifact.path not in paths:
                self._drop_file(record.artifact)
        self._save(namespace, name, kept)

    def _with_url(self, artifact: Artifact) -> Artifact:
        """The address of the server may have changed since the artifact was stored."""
        return replace(artifact, url=f"{self.base_url}/{artifact.path}")

    def _drop_file(self, artifact: Artifact) -> None:
        self._known.pop(artifact.path, None)
        (self._artifacts / artifact.path).unlink(missing_ok=True)

    def _load(self, namespace: str, name: str) -> list[Record]:
        key = (namespace, name)
        if key not in self._records:
            self._records[key] = read_records(self._record_file(namespace, name))
            self._publish(self._records[key])
        return self._records[key]

    def _save(self, namespace: str, name: str, records: list[Record]) -> None:
        file = self._record_file(namespace, name)
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=self.scratch_folder)
        with os.fdopen(handle, "w") as out:
            json.dump([asdict(record) for record in records], out)
        os.replace(temporary, file)
        self._records[(namespace, name)] = records
        self._publish(records)

    def _publish(self, records: list[Record]) -> None:
        """The newest last: two artifacts of one commit share a path."""
        for record in reversed(records):
            self._known[record.artifact.path] = record.artifact

    def _path(self, namespace: str, name: str, commit: str) -> str:
        if not (NAME.fullmatch(namespace) and NAME.fullmatch(name) and HASH.fullmatch(commit)):
            raise Bug("IllegalPath", f"no artifact path for {namespace!r}, {name!r}, {commit!r}")
        return f"gitrepository/{namespace}/{name}/{commit}.tar.gz"

    def _record_file(self, namespace: str, name: str) -> Path:
        if not (NAME.fullmatch(namespace) and NAME.fullmatch(name)):
            raise Bug("IllegalPath", f"no record for {namespace!r}, {name!r}")
        return self._record_files / namespace / f"{name}.json"


def _boot_id() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
