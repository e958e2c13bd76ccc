"""A folder of plain files, written so that no name in it can lead out of it.

Used for content of repositories and of archives alike: both are written by others.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

LONGEST_PATH = 4000
LONGEST_PART = 255


class UnsafePath(ValueError):
    """A name that climbs, repeats, or is too long; the message quotes it."""


@dataclass(frozen=True)
class Entry:
    """A folder or a regular file; `path` is relative, with `/`."""

    path: str
    is_folder: bool = False
    is_executable: bool = False

    @property
    def order(self) -> list[bytes]:
        """Folders come before what is in them, names by their bytes."""
        return [os.fsencode(part) for part in self.path.split("/")]


def check_path(path: str) -> str:
    """`path`, if every part of it is a plain name."""
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part or len(os.fsencode(part)) > LONGEST_PART for part in parts):
        raise UnsafePath(f"{path[:100]!r} is no relative path of plain names")
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise UnsafePath(f"a path is longer than {LONGEST_PATH} bytes")
    return path


class TreeWriter:
    """Fills an empty folder. Nothing but folders and regular files is ever made in it, and no name twice, so that
    no part of a path can be a link."""

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        self._folders: set[str] = set()

    def __enter__(self) -> TreeWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._root)

    def folder(self, path: str) -> None:
        """Make a folder, and the ones it lies in."""
        check_path(path)
        with _as_unsafe(path):
            self._folder(path)

    def file(self, path: str, *, is_executable: bool) -> int:
        """A descriptor to write a new file; the caller closes it."""
        check_path(path)
        parent = path.rpartition("/")[0]
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with _as_unsafe(path):
            self._folder(parent)
            return os.open(path, flags, 0o500 if is_executable else 0o400, dir_fd=self._root)

    def _folder(self, path: str) -> None:
        if not path or path in self._folders:
            return
        self._folder(path.rpartition("/")[0])
        os.mkdir(path, 0o700, dir_fd=self._root)
        self._folders.add(path)


@contextlib.contextmanager
def _as_unsafe(path: str) -> Iterator[None]:
    """A name that exists already, or that this disk does not take, is the content's fault."""
    try:
        yield
    except (FileExistsError, NotADirectoryError):
        raise UnsafePath(f"{path[:100]!r} is there twice") from None


def remove_tree(path: Path) -> None:
    """Remove a folder whose parts may be read-only. Renamed first, so that nobody finds half of it."""
    doomed = path.with_name(f".{path.name}.removed-{os.getpid()}")
    try:
        os.rename(path, doomed)
    except FileNotFoundError:
        return
    shutil.rmtree(doomed, ignore_errors=True)
