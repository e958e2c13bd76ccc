"""Writes the content of a commit into a folder: raw blobs, without the ignored ones, links and submodules.

Blobs are read as they are stored: no end-of-line conversion, no export-subst, no LFS, as in Flux. Sizes are checked
from the listing before the first byte of content is read.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from fleet_rollout.decide.ignore import IGNORE_FILE, IgnoreRules, TooManyPatterns, rules
from fleet_rollout.errors import Transient
from fleet_rollout.sources.git import GitFailed, GitStopped, GitTimeout, LimitPassed
from fleet_rollout.sources.mirror import Mirror
from fleet_rollout.sources.tree import Entry, TreeWriter, UnsafePath, check_path

REGULAR_MODES = {"100644": False, "100664": False, "100755": True}
# Of one commit, together: room for as many patterns as there may be, and for three times as much of comments.
MOST_IGNORE_FILES = 100
MOST_IGNORE_BYTES = 256 * 1024
# Of a processor: a hundred thousand files and as many patterns as people write take a second.
IGNORE_SECONDS = 10.0
# A repository may be larger than what its ignore rules leave of it, but not without end (nested tree bombs).
LISTED_PER_FILE = 10
LISTED_BYTES_PER_ENTRY = 512
BATCH_LINE = 128
HEADER = re.compile(rb"[0-9a-f]+ blob ([0-9]+)\n")


@dataclass(frozen=True)
class Caps:
    """Bytes and files of an artifact, unpacked."""

    bytes: int
    files: int


@dataclass(frozen=True)
class CommitFacts:
    """What of a commit people see, and when it was made (seconds since 1970)."""

    subject: str
    committed_at: int


@dataclass(frozen=True)
class Listed:
    """One line of `git ls-tree`."""

    entry: Entry
    blob: str
    size: int


def commit_facts(mirror: Mirror, commit: str) -> CommitFacts:
    """Raises Transient("SourceInvalid") where the hash names no commit, "GitOperationFailed" for a damaged mirror."""
    output = bytearray()
    try:
        mirror.read(["log", "-1", "--format=%ct%x00%<(200,trunc)%s", commit], output.extend, output=64 * 1024)
    except GitFailed:
        raise _damaged(mirror) from None
    if not output:  # of a tag on a tree or a blob, git has nothing to say
        raise Transient("SourceInvalid", "the reference does not lead to a commit; tag a commit")
    when, _, subject = output.decode("utf-8", "replace").partition("\0")
    return CommitFacts("".join(c for c in subject if c.isprintable()).strip(), int(when))


def checkout(mirror: Mirror, commit: str, ignore: str | None, caps: Caps, target: Path) -> list[Entry]:
    """Fill the empty folder `target`; what is in it comes back in lexical order.

    Raises Transient: "TooLarge", "SourceInvalid", or "GitOperationFailed" where the mirror turns out damaged (it is
    then dropped, and fetched anew by the next attempt). "InvalidIgnore" for absurd rules.
    """
    try:
        listed = _list(mirror, commit, caps)
        kept = _without_ignored(mirror, listed, ignore)
        _check_caps(kept, caps)
        return _write(mirror, kept, target)
    except UnsafePath as error:
        raise Transient("SourceInvalid", f"commit {commit[:12]} cannot be unpacked: {error}") from None
    except LimitPassed:
        raise _too_large(caps) from None
    except (GitTimeout, GitStopped):
        raise Transient(
            "GitOperationFailed", f"reading commit {commit[:12]} took too long or was interrupted"
        ) from None
    except GitFailed:
        mirror.drop()
        raise Transient(
            "GitOperationFailed", "the local copy of the repository is damaged; it is fetched anew"
        ) from None


def _list(mirror: Mirror, commit: str, caps: Caps) -> list[Listed]:
    most = caps.files * LISTED_PER_FILE
    output = bytearray()
    arguments = ["ls-tree", "-r", "-t", "-l", "-z", "--full-tree", commit]
    mirror.read(arguments, output.extend, output=most * LISTED_BYTES_PER_ENTRY)
    lines = bytes(output).split(b"\0")[:-1]
    if len(lines) > most:
        raise _too_large(caps)
    listed = [found for line in lines if (found := _parse(line)) is not None]
    if len({item.entry.path for item in listed}) != len(listed):
        raise UnsafePath("a folder holds the same name twice")
    return listed


def _parse(line: bytes) -> Listed | None:
    """Links, submodules and other special entries are left out, as in Flux."""
    about, _, name = line.partition(b"\t")
    mode, kind, blob, size = about.decode("ascii").split()
    path = check_path(os.fsdecode(name))
    if kind == "tree":
        return Listed(Entry(path, is_folder=True), blob, 0)
    if mode not in REGULAR_MODES:
        return None
    return Listed(Entry(path, is_executable=REGULAR_MODES[mode]), blob, int(size))


def _without_ignored(mirror: Mirror, listed: list[Listed], ignore: str | None) -> list[Listed]:
    ignored = _rules(mirror, listed, ignore)
    end = time.thread_time() + IGNORE_SECONDS
    kept = []
    for item in listed:
        if not ignored.excludes(item.entry.path, is_folder=item.entry.is_folder):
            kept.append(item)
        if time.thread_time() > end:
            fact = (
                f"{len(ignored.patterns)} patterns for {len(listed)} files take too long; write fewer or shorter ones"
            )
            raise Transient("InvalidIgnore", f"spec.source.gitRepository.ignore or {IGNORE_FILE}: {fact}")
    return kept


def _rules(mirror: Mirror, listed: list[Listed], ignore: str | None) -> IgnoreRules:
    """Raises Transient("InvalidIgnore"), for the next commit may mend it."""
    found = [item for item in listed if not item.entry.is_folder and item.entry.path.split("/")[-1] == IGNORE_FILE]
    found.sort(key=lambda item: item.entry.order)
    _check_ignore_files(found)
    folders = [item.entry.path.rpartition("/")[0] for item in found]
    try:
        return rules(zip(folders, _texts(mirror, found), strict=True), ignore)
    except TooManyPatterns as error:
        raise Transient("InvalidIgnore", f"spec.source.gitRepository.ignore or {IGNORE_FILE}: {error}") from None


def _check_ignore_files(found: list[Listed]) -> None:
    """From the listing alone, in which equal folders cost a repository next to nothing."""
    size = sum(item.size for item in found)
    if len(found) > MOST_IGNORE_FILES:
        fact = f"{len(found)} files, more than {MOST_IGNORE_FILES}; write their patterns into those of outer folders"
        raise Transient("InvalidIgnore", f"{IGNORE_FILE}: {fact}")
    if size > MOST_IGNORE_BYTES:
        fact = f"{size} bytes, more than {MOST_IGNORE_BYTES}; write fewer patterns and comments"
        raise Transient("InvalidIgnore", f"{IGNORE_FILE}: {fact}")


def _texts(mirror: Mirror, files: list[Listed]) -> list[str]:
    """What is in them, read by one git."""
    if not files:
        return []
    output = bytearray()
    expected = sum(item.size + BATCH_LINE for item in files)
    mirror.read(["cat-file", "--batch"], output.extend, output=expected, objects=[item.blob for item in files])
    texts, at = [], 0
    for item in files:
        header = HEADER.match(output, at)
        if header is None or int(header[1]) != item.size or len(output) <= header.end() + item.size:
            raise GitFailed(0, "an object is missing")
        at = header.end() + item.size
        texts.append(output[header.end() : at].decode("utf-8", "replace"))
        at += 1  # content is followed by one line end of its own
    return texts


def _check_caps(kept: list[Listed], caps: Caps) -> None:
    files = [item for item in kept if not item.entry.is_folder]
    if len(kept) > 2 * caps.files or len(files) > caps.files or sum(item.size for item in files) > caps.bytes:
        raise _too_large(caps)


def _write(mirror: Mirror, kept: list[Listed], target: Path) -> list[Entry]:
    ordered = sorted(kept, key=lambda item: item.entry.order)
    with TreeWriter(target) as writer:
        files = []
        for item in ordered:
            if item.entry.is_folder:
                writer.folder(item.entry.path)
            else:
                files.append(item)
        blobs = BlobReader(writer, files)
        try:
            expected = sum(item.size + BATCH_LINE for item in files)
            mirror.read(["cat-file", "--batch"], blobs.feed, output=expected, objects=[item.blob for item in files])
            blobs.finish()
        finally:
            blobs.close()
    return [item.entry for item in ordered]


class BlobReader:
    """Takes apart what `git cat-file --batch` prints, and writes each blob to its file."""

    def __init__(self, writer: TreeWriter, files: list[Listed]) -> None:
        self._writer = writer
        self._files = iter(files)
        self._waiting = len(files)
        self._buffer = bytearray()
        self._left = 0
        self._file: int | None = None

    def feed(self, chunk: bytes) -> None:
        self._buffer += chunk
        while self._buffer and (self._file is not None or self._begin()):
            self._content()
            if self._left or not self._buffer:
                return
            self._end()

    def finish(self) -> None:
        if self._waiting or self._buffer:
            raise GitFailed(0, "the answer ended early")

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _begin(self) -> bool:
        """Read a header, once it is here as a whole."""
        end = self._buffer.find(b"\n") + 1
        if not end:
            return False
        header, item = HEADER.fullmatch(self._buffer[:end]), next(self._files, None)
        if header is None or item is None or int(header[1]) != item.size:
            raise GitFailed(0, "an object is missing")
        del self._buffer[:end]
        self._left = item.size
        self._file = self._writer.file(item.entry.path, is_executable=item.entry.is_executable)
        return True

    def _content(self) -> None:
        assert self._file is not None
        part = self._buffer[: self._left]
        view = memoryview(part)
        while view:
            view = view[os.write(self._file, view) :]
        view.release()
        del self._buffer[: len(part)]
        self._left -= len(part)

    def _end(self) -> None:
        """Content is followed by one line end of its own."""
        del self._buffer[:1]
        self._waiting -= 1
        self.close()


def _damaged(mirror: Mirror) -> Transient:
    mirror.drop()
    return Transient("GitOperationFailed", "the local copy of the repository is damaged; it is fetched anew")


def _too_large(caps: Caps) -> Transient:
    return Transient(
        "TooLarge",
        f"the content is larger than {caps.bytes} bytes or {caps.files} files; leave files out with "
        f"spec.source.gitRepository.ignore, or raise --artifact-max-bytes or --artifact-max-files",
    )
