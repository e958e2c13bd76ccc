"""Takes from a child what its program does not need, before it starts: files, TCP, the network as a whole.

By Landlock, which asks for no right and works in a restricted Pod, and by a network namespace where the platform lets
us make one (most container runtimes do not). Linux only; elsewhere, and on old kernels, nothing is taken, and
`gaps` says so (docs/security.md: no token, no egress, nothing writable).
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# https://docs.kernel.org/userspace-api/landlock.html: the same numbers on all architectures.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
VERSION_FLAG = 1
PATH_BENEATH = 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 1 << 1, 1 << 2, 1 << 3
TRUNCATE = 1 << 14
ALL_FILES = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}  # by the version that brought it
OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
TCP, TCP_VERSION = 3, 4
SCOPES, SCOPES_VERSION = 3, 6
NO_NEW_PRIVILEGES = 38  # prctl
NEW_USER, NEW_NETWORK = 0x10000000, 0x40000000  # unshare

# What a dynamic program, or a script around one, needs to start.
PROGRAMS = tuple(map(Path, ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/dev/null")))


@dataclass(frozen=True)
class Confinement:
    """What a child may still do: read (and execute) below these paths, and nothing else."""

    reads: tuple[Path, ...]


class Ruleset:
    """A Confinement made ready for one child: `apply` is called in it, `close` here once it has started."""

    def __init__(self, confinement: Confinement) -> None:
        self._descriptor = -1
        if version := landlock():
            self._descriptor = _ruleset(version)
            for path in (*PROGRAMS, *confinement.reads):
                _allow(self._descriptor, path)

    def apply(self) -> None:
        """Give it all up. Between fork and exec: system calls alone; a namespace is made where we may make one."""
        _libc.unshare(NEW_USER | NEW_NETWORK)
        if self._descriptor < 0:
            return
        _libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        if _libc.syscall(RESTRICT_SELF, self._descriptor, 0):
            os._exit(126)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def landlock() -> int:
    """The version of Landlock that the kernel has; 0 for none."""
    if sys.platform != "linux":
        return 0
    return max(0, int(_libc.syscall(CREATE_RULESET, None, 0, VERSION_FLAG)))


def has_namespaces(probe: Callable[[Callable[[], None]], int]) -> bool:
    """Whether a network namespace can be made; `probe` calls its argument in a child and gives the exit code."""
    if sys.platform != "linux":
        return False
    return probe(lambda: os._exit(int(_libc.unshare(NEW_USER | NEW_NETWORK) != 0))) == 0


def gaps(version: int, namespaces: bool) -> list[str]:
    """What a child could still do because the platform cannot take it away; empty where all is taken."""
    found = []
    if not version:
        found.append("files are readable as far as the process's user may (Linux with Landlock would confine them)")
    if not namespaces:
        missing, newer = ("UDP is", "") if version >= TCP_VERSION else ("the network is", "; Linux 6.7 takes TCP away")
        found.append(f"{missing} reachable (the platform allows no network namespace{newer})")
    return found


def _ruleset(version: int) -> int:
    files = max(value for since, value in ALL_FILES.items() if since <= version)
    fields = [files]
    if version >= TCP_VERSION:
        fields.append(TCP)
    if version >= SCOPES_VERSION:
        fields.append(SCOPES)
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    return _checked(_libc.syscall(CREATE_RULESET, attributes, len(attributes), 0))


def _allow(descriptor: int, path: Path) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        rights = EXECUTE | READ_FILE | READ_DIR
        if not path.is_dir():
            rights &= OF_A_FILE
        _checked(_libc.syscall(ADD_RULE, descriptor, PATH_BENEATH, struct.pack("=Qi", rights, opened), 0))
    finally:
        os.close(opened)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return result


_libc = ctypes.CDLL(None, use_errno=True)
