"""One bare repository on this disk for a (URL, credentials) pair: listing, fetching and reading commits.

Calls block; they run in the sources' threads, and one fetch at a time per mirror (the caller holds its lock). No ref,
hook or configuration of the mirror is ever written from what a server or a user said.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fleet_rollout.decide.gitrefs import RepositoryURL, Wanted, parse_listing
from fleet_rollout.errors import Transient
from fleet_rollout.sources.addresses import Resolver, checked_addresses
from fleet_rollout.sources.credentials import Credentials
from fleet_rollout.sources.git import Git, GitFailed, GitTimeout, LimitPassed, Limits, Sink, holds_more
from fleet_rollout.sources.git_environment import GitEnvironment, local_environment, remote_environment
from fleet_rollout.sources.git_errors import (
    PREFIX,
    bounded,
    explained,
    failure,
    has_meaning,
    is_not_given,
    is_unknown_object,
)

# Some 250,000 of the references that were asked for.
LISTING_CAP = 16 * 1024 * 1024
LOCAL_SECONDS = 60.0
# Every fetch adds a pack; a mirror with more of them is cheaper to fetch anew than to repack.
MOST_PACKS = 50
FETCH = (
    *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head"),
    *("--no-recurse-submodules", "--no-auto-maintenance"),
)
LEFTOVERS = ("*.lock", "refs/**/*.lock", "objects/pack/tmp_*", "objects/pack/*.lock", "objects/tmp_*")

# "not given": the server has single commits only for those who ask for what it lists.
Answer = Literal["fetched", "unknown", "not given"]


@dataclass(frozen=True)
class Remote:
    """A checked URL, how to log in, and how the host is looked up."""

    url: RepositoryURL
    credentials: Credentials
    allow_loopback: bool
    resolver: Resolver

    @contextlib.contextmanager
    def environment(self, program_dir: Path) -> Iterator[GitEnvironment]:
        """Resolve and check once; what runs inside can reach nothing else."""
        url = self.url
        addresses = checked_addresses(
            url.bare_host, url.port, allow_loopback=self.allow_loopback, resolver=self.resolver
        )
        with remote_environment(url, self.credentials, addresses, program_dir=program_dir) as environment:
            yield environment


class Mirror:
    """`path` is made when it is first needed, and may vanish at any time between calls."""

    def __init__(self, git: Git, remote: Remote, path: Path, program_dir: Path, disk_cap: int) -> None:
        self._git = git
        self._remote = remote
        self._program_dir = program_dir
        self._disk_cap = disk_cap
        self.path = path

    def list_remote(self, patterns: Sequence[str], seconds: float) -> dict[str, str]:
        """The server's references that match. Raises Transient with a B.4 reason."""
        arguments = ["ls-remote", "--quiet", "--end-of-options", self._remote.url.text, *patterns]
        with self._talking("list remote", seconds) as environment:
            output = self._git.output(arguments, environment, Path("/"), Limits(seconds, LISTING_CAP))
        return parse_listing(output)

    def has(self, commit: str) -> bool:
        """Whether the commit and its root tree are here."""
        if not (self.path / "HEAD").exists():
            return False
        with local_environment() as environment:
            try:
                self._git.output(
                    ["cat-file", "-e", f"{commit}^{{tree}}"], environment, self.path, Limits(LOCAL_SECONDS)
                )
            except GitFailed:
                return False
        return True

    def fetch(self, commit: str, wanted: Wanted, seconds: float) -> None:
        """Bring one commit here at depth 1; whole branches only where the server gives no single commits."""
        deadline = time.monotonic() + seconds
        self._prepare(commit)
        kept = f"refs/kept/{commit}"
        first = self._fetch_refs([f"+{commit}:{kept}"], deadline, seconds)
        if first == "fetched":
            return
        if wanted.kind in ("branch", "tag", "name"):
            self._fetch_refs([f"+{wanted.patterns[0]}:{kept}"], deadline, seconds)
        if first == "not given" and not self.has(commit):
            everything = ["+refs/heads/*:refs/kept/heads/*", "+refs/tags/*:refs/kept/tags/*"]
            self._fetch_refs(everything, deadline, seconds, depth=None)
        if not self.has(commit):
            fact = f"unable to resolve commit object for '{commit}': object not found"
            raise Transient("GitOperationFailed", f"{PREFIX}: {fact}")

    def read(self, arguments: Sequence[str], sink: Sink, *, output: int, objects: Iterable[str] = ()) -> None:
        """Run a reading command; `objects` go to its standard input, one a line."""
        with local_environment() as environment, tempfile.TemporaryFile() as stdin:
            stdin.writelines(f"{name}\n".encode() for name in objects)
            stdin.seek(0)
            limits = Limits(LOCAL_SECONDS, output)
            self._git.stream(arguments, environment, self.path, limits, sink, stdin=stdin)

    def drop(self) -> None:
        """Forget everything; the next fetch starts from nothing."""
        shutil.rmtree(self.path, ignore_errors=True)

    @contextlib.contextmanager
    def _talking(self, doing: str, seconds: float) -> Iterator[GitEnvironment]:
        remote = self._remote
        with (
            explained(doing, remote.url, remote.credentials, seconds),
            remote.environment(self._program_dir) as environment,
        ):
            yield environment

    def _fetch_refs(self, refspecs: list[str], deadline: float, whole: float, depth: int | None = 1) -> Answer:
        """References are named by hashes: what is here already is offered to the next fetch, and no name of the
        server's choice reaches the disk while one commit is enough."""
        unshallow = ["--unshallow"] if (self.path / "shallow").exists() else []
        arguments = [*FETCH, *([f"--depth={depth}"] if depth else unshallow)]
        arguments += ["--end-of-options", self._remote.url.text, *refspecs]
        remote = self._remote
        limits = Limits(max(deadline - time.monotonic(), 0.0), disk=self._disk_cap, directory=self.path)
        try:
            with (
                bounded("clone", remote.url, whole),
                self._without_remains(depth),
                remote.environment(self._program_dir) as environment,
            ):
                self._git.output(arguments, environment, self.path, limits)
        except GitFailed as error:
            if is_not_given(error):
                return "not given"
            if is_unknown_object(error):
                return "unknown"
            if not has_meaning(error):
                self.drop()
            raise failure(error, "clone", remote.url, remote.credentials) from None
        return "fetched"

    @contextlib.contextmanager
    def _without_remains(self, depth: int | None) -> Iterator[None]:
        """What a killed git has brought does not wait on the disk for an attempt that may never be made."""
        try:
            yield
        except LimitPassed:
            self.drop()
            raise
        except GitTimeout:
            if depth is None:  # whole branches, and references in any number
                self.drop()
            else:
                self._tidy()
            raise

    def _prepare(self, commit: str) -> None:
        """An empty mirror where there is none, or none worth keeping."""
        self._tidy()
        if (self.path / "HEAD").exists():
            return
        self.drop()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        algorithm = "sha256" if len(commit) == 64 else "sha1"
        arguments = ["init", "--quiet", "--bare", "--template=", f"--object-format={algorithm}", str(self.path)]
        with local_environment() as environment:
            self._git.output(arguments, environment, self.path.parent, Limits(LOCAL_SECONDS))

    def _tidy(self) -> None:
        """Drop what is not worth keeping. A killed git leaves locks and partial packs."""
        packs = self.path / "objects" / "pack"
        if len(list(packs.glob("*.pack"))) >= MOST_PACKS or holds_more(self.path, self._disk_cap // 2):
            self.drop()
        for pattern in LEFTOVERS:
            for leftover in self.path.glob(pattern):
                leftover.unlink(missing_ok=True)
