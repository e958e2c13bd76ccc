"""Makes Git repositories for demo and tests, without a work tree: commits, branches, tags, and who may read them."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet_rollout import processes
from fleet_rollout.lab.certificates import write_private

GIT_TIMEOUT = 60.0
# Files of ours inside a bare repository.
AUTHORIZATION = "lab-authorization"
ACCESS_LOG = "lab-access.log"
IDENTITY = "Lab <lab@localhost>"
GIT_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "HOME": "/nonexistent",
    "GIT_COMMITTER_NAME": "Lab",
    "GIT_COMMITTER_EMAIL": "lab@localhost",
    "GIT_AUTHOR_NAME": "Lab",
    "GIT_AUTHOR_EMAIL": "lab@localhost",
}
CONFIGURATION = {
    "http.receivepack": "true",
    "uploadpack.allowFilter": "true",
    "uploadpack.allowAnySHA1InWant": "true",
}


class GitFailed(Exception):
    """git refused what the lab asked of it."""


@dataclass(frozen=True)
class Entry:
    """A file that is not a plain one: `Entry.symlink`, `Entry.executable`, `Entry.submodule`."""

    mode: str
    content: bytes

    @classmethod
    def symlink(cls, target: str) -> Entry:
        return cls("120000", target.encode())

    @classmethod
    def executable(cls, content: str) -> Entry:
        return cls("100755", content.encode())

    @classmethod
    def submodule(cls, commit: str) -> Entry:
        return cls("160000", commit.encode())


Content = str | bytes | Entry


class Repository:
    """A bare repository and the URL it is served at."""

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self.url = url

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(".git")

    @classmethod
    async def create(cls, root: Path, base_url: str, name: str) -> Repository:
        made = cls(root / f"{name}.git", f"{base_url}/{name}.git")
        await made.git("init", "--quiet", "--bare", "--initial-branch=main", str(made.path), outside=True)
        with (made.path / "config").open("a") as config:
            for key, value in CONFIGURATION.items():
                section, _, option = key.rpartition(".")
                config.write(f"[{section}]\n\t{option} = {value}\n")
        return made

    async def commit(
        self,
        files: Mapping[str, Content | None],
        *,
        branch: str = "main",
        message: str = "Change",
        replace: bool = False,
    ) -> str:
        """Commit files (path -> content; None deletes) on a branch; with `replace` nothing else remains.

        Returns the commit's hash. The first commit of a branch has no parent.
        """
        reference = f"refs/heads/{branch}"
        stream = [f"commit {reference}\ncommitter {IDENTITY} now\n".encode(), _data(message.encode())]
        if await self.find(reference):
            stream.append(f"from {reference}^0\n".encode())
        if replace:
            stream.append(b"deleteall\n")
        stream += [_change(path, content) for path, content in files.items()]
        await self.git("fast-import", "--quiet", "--date-format=now", stdin=b"".join(stream))
        return await self.commit_of(reference)

    async def commit_of(self, revision: str = "main") -> str:
        return await self.git("rev-parse", f"{revision}^{{commit}}")

    async def find(self, reference: str) -> str | None:
        """The object a full reference names; None where there is none."""
        found = await self.git("for-each-ref", "--format=%(objectname)", reference)
        return found or None

    async def branch(self, name: str, at: str = "main") -> None:
        await self.git("branch", "--force", name, at)

    async def tag(self, name: str, *, at: str = "main", message: str | None = None) -> str:
        """A tag, annotated where a message is given; the hash of the tag object, or of the commit."""
        annotation = () if message is None else ("--annotate", f"--message={message}")
        await self.git("tag", "--force", *annotation, name, at)
        return await self.git("rev-parse", f"refs/tags/{name}")

    async def delete(self, reference: str) -> None:
        """Delete a full reference (`refs/heads/x`, `refs/tags/v1`)."""
        await self.git("update-ref", "-d", reference)

    def require_basic(self, user: str, password: str) -> None:
        """From now on only with this user and password."""
        self._require("Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())

    def require_bearer(self, token: str) -> None:
        self._require(f"Bearer {token}")

    def allow_everybody(self) -> None:
        (self.path / AUTHORIZATION).unlink(missing_ok=True)

    def requests(self) -> list[str]:
        """What was asked of this repository over HTTP: `GET info/refs service=git-upload-pack`, …"""
        log = self.path / ACCESS_LOG
        return log.read_text().splitlines() if log.exists() else []

    async def git(self, *arguments: str, stdin: bytes | None = None, outside: bool = False) -> str:
        """Run git in the repository; its output without the last newline. Raises GitFailed."""
        where = [] if outside else ["--git-dir", str(self.path)]
        argv = ["git", *where, *arguments]
        done = await processes.run(argv, timeout=GIT_TIMEOUT, env=GIT_ENVIRONMENT, stdin=stdin)
        if done.returncode != 0:
            raise GitFailed(f"git {arguments[0]}: {done.stderr.strip()}")
        return done.stdout.decode().rstrip("\n")

    def _require(self, header: str) -> None:
        new = self.path / f".{AUTHORIZATION}"
        write_private(new, header.encode())
        new.replace(self.path / AUTHORIZATION)


class GitHost:
    """The Git server of a running lab, as its users see it."""

    def __init__(self, root: Path, url: str) -> None:
        self.root = root
        self.url = url

    async def create(self, name: str | None = None) -> Repository:
        """A new, empty repository; `name` is made up where not given."""
        return await Repository.create(self.root, self.url, name or f"repo-{secrets.token_hex(4)}")

    def repository(self, name: str) -> Repository:
        """One that exists already."""
        return Repository(self.root / f"{name}.git", f"{self.url}/{name}.git")


def _change(path: str, content: Content | None) -> bytes:
    if content is None:
        return f"D {_quoted(path)}\n".encode()
    entry = content if isinstance(content, Entry) else Entry("100644", _bytes(content))
    if entry.mode == "160000":
        return f"M {entry.mode} {entry.content.decode()} {_quoted(path)}\n".encode()
    return f"M {entry.mode} inline {_quoted(path)}\n".encode() + _data(entry.content)


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


def _data(content: bytes) -> bytes:
    return f"data {len(content)}\n".encode() + content + b"\n"


def _quoted(path: str) -> str:
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
