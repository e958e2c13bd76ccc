"""An unpacked artifact, seen through names that cannot leave it.

Names are relative, with `/`, and every part is looked at without following links. The tree is shared and
read-only; nothing here writes.
"""

from __future__ import annotations

import os
import posixpath
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fleet_rollout.errors import Terminal

Kind = Literal["file", "folder", "link", "other"]

# What is read here is parsed here. Bundles of CRDs are 5 MB; etcd refuses objects of 1.5 MiB.
FILE_LIMIT = 16 * 1024 * 1024


class Outside(Exception):
    """The name leads out of the tree; the text says how."""


@dataclass(frozen=True)
class Tree:
    root: Path
    _kinds: dict[str, Kind | None] = field(default_factory=dict, repr=False, compare=False)

    def kind(self, name: str) -> Kind | None:
        """What `name` is; None where there is nothing, `link` where any part of it is a symbolic link."""
        found: Kind | None = "folder"
        end = 0
        while found == "folder" and end < len(name):
            end = name.find("/", end + 1) if "/" in name[end + 1 :] else len(name)
            part = name[:end]
            if part not in self._kinds:
                self._kinds[part] = self._lstat(part)
            found = self._kinds[part]
        return found if end == len(name) or found == "link" else None

    def _lstat(self, name: str) -> Kind | None:
        try:
            mode = os.lstat(self.root / name).st_mode
        except (OSError, ValueError):  # not there; or no name at all: too long, a NUL
            return None
        if stat.S_ISLNK(mode):
            return "link"
        if stat.S_ISDIR(mode):
            return "folder"
        return "file" if stat.S_ISREG(mode) else "other"

    def read(self, name: str) -> bytes:
        """The bytes of the file `name`; OSError where a link took its place."""
        handle = os.open(self.root / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            content = file.read(FILE_LIMIT + 1)
        if len(content) > FILE_LIMIT:
            raise Terminal("BuildLimit", f"{name} is larger than {FILE_LIMIT} bytes: split it into several")
        return content

    def names(self, folder: str) -> list[str]:
        """What `folder` holds, in lexical order, without the folder's name."""
        return sorted(os.listdir(self.root / folder))


def join(folder: str, name: str) -> str:
    """`name` as seen from `folder`; Outside where it is absolute or climbs out of the tree."""
    if name.startswith("/"):
        raise Outside("is an absolute path")
    joined = posixpath.normpath(posixpath.join(folder, name))
    if joined == ".." or joined.startswith("../"):
        raise Outside("leads out of the artifact")
    return "" if joined == "." else joined


def clamp(name: str) -> str:
    """`name` as seen from the root of the tree; a `..` that would leave it stays there, as in Flux."""
    joined = posixpath.normpath("/" + name).lstrip("/")
    return "" if joined == "." else joined
