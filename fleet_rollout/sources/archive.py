"""Packs a folder into the same bytes whenever and wherever it is packed, and unpacks only what `pack` can have made."""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from fleet_rollout.errors import Transient
from fleet_rollout.sources.checkout import Caps
from fleet_rollout.sources.tree import Entry, TreeWriter, UnsafePath

FOLDER_MODE, FILE_MODE, PROGRAM_MODE = 0o750, 0o600, 0o700
GZIP_CONTAINER = 31
COMPRESSION = 6
# Headers, long names and padding that a file of the tar costs beside its content.
OVERHEAD = 8192
CHUNK = 256 * 1024


@dataclass(frozen=True)
class Packed:
    """`digest` of the compressed file, `identity` of the tar inside: compression differs between zlib versions."""

    digest: str
    identity: str
    size: int


def pack(root: Path, entries: Iterable[Entry], target: Path) -> Packed:
    """Write `entries` of `root` to the file `target` as tar.gz: times zero, no owners, names in the order given."""
    with open(target, "xb") as file:
        stream = _HashingGzip(file)
        archive = tarfile.open(fileobj=cast(IO[bytes], stream), mode="w|", format=tarfile.GNU_FORMAT)  # noqa: SIM115
        for entry in entries:
            _add(archive, root, entry)
        archive.close()
        packed = stream.finish()
        file.flush()
        os.fsync(file.fileno())
    return packed


def file_digest(path: Path) -> str | None:
    """The digest of a file, None where there is none."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError:
        return None


def unpack(archive: BinaryIO, target: Path, caps: Caps) -> None:
    """Fill the empty folder `target`. Raises Transient: "ArchiveInvalid" or "TooLarge"; never cuts short."""
    limited = _Limited(gzip.GzipFile(fileobj=archive), caps.bytes + caps.files * OVERHEAD)
    try:
        with TreeWriter(target) as writer, tarfile.open(fileobj=cast(IO[bytes], limited), mode="r|") as members:
            for count, member in enumerate(members):
                if count >= 2 * caps.files:
                    raise Transient("TooLarge", f"the archive holds more than {2 * caps.files} entries")
                _extract(members, member, writer)
    except UnsafePath as error:
        raise Transient("ArchiveInvalid", f"the archive cannot be unpacked: {error}") from None
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile):
        raise Transient("ArchiveInvalid", "the archive is no complete tar.gz") from None


def _add(archive: tarfile.TarFile, root: Path, entry: Entry) -> None:
    member = tarfile.TarInfo(entry.path)
    if entry.is_folder:
        member.type, member.mode = tarfile.DIRTYPE, FOLDER_MODE
        archive.addfile(member)
        return
    member.mode = PROGRAM_MODE if entry.is_executable else FILE_MODE
    with open(os.open(root / entry.path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as content:
        member.size = os.fstat(content.fileno()).st_size
        archive.addfile(member, content)


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, writer: TreeWriter) -> None:
    """Folders and plain files; no links, devices, sparse files: `pack` makes none."""
    if member.isdir():
        writer.folder(member.name)
        return
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise UnsafePath(f"{member.name[:100]!r} is no plain file")
    content = archive.extractfile(member)
    assert content is not None
    with open(writer.file(member.name, is_executable=bool(member.mode & 0o100)), "wb") as file:
        while chunk := content.read(CHUNK):
            file.write(chunk)


class _HashingGzip:
    """Compresses what is written, and hashes both sides."""

    def __init__(self, target: IO[bytes]) -> None:
        self._target = target
        self._inner = hashlib.sha256()
        self._outer = hashlib.sha256()
        self._size = 0
        self._gzip = zlib.compressobj(COMPRESSION, zlib.DEFLATED, GZIP_CONTAINER)

    def write(self, data: bytes) -> int:
        self._inner.update(data)
        self._emit(self._gzip.compress(data))
        return len(data)

    def finish(self) -> Packed:
        self._emit(self._gzip.flush())
        return Packed(f"sha256:{self._outer.hexdigest()}", f"sha256:{self._inner.hexdigest()}", self._size)

    def _emit(self, data: bytes) -> None:
        self._outer.update(data)
        self._size += len(data)
        self._target.write(data)


class _Limited:
    """A reader that fails once more than `most` bytes were asked for: also for headers that claim to be huge."""

    def __init__(self, source: gzip.GzipFile, most: int) -> None:
        self._source = source
        self._left = most

    def read(self, size: int) -> bytes:
        data = self._source.read(min(size, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise Transient("TooLarge", "the archive unfolds to more than an artifact may hold")
        return data
