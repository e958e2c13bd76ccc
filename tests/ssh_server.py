"""A Git server over ssh for tests: real ssh on the wire, real `git upload-pack` behind it, keys of its own."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import asyncssh

from fleet_rollout.lab.repository import Repository

KEY_TYPE = "ssh-ed25519"


class SshServer:
    """Serves the repositories of `root` at `ssh://git@127.0.0.1:<port>/<name>.git` to `authorized` keys.

    `offers` counts the keys that clients have offered, `users` holds whom they have logged in as.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = 0
        self.host_key = asyncssh.generate_private_key(KEY_TYPE)
        self.authorized: list[asyncssh.SSHKey] = []
        self.offers = 0
        self.users: list[str] = []
        self._acceptor: asyncssh.SSHAcceptor | None = None

    @property
    def url(self) -> str:
        return f"ssh://git@127.0.0.1:{self.port}"

    @property
    def known_hosts(self) -> bytes:
        """The line that a user would put into the Secret."""
        return self.known_hosts_of(self.host_key)

    def known_hosts_of(self, key: asyncssh.SSHKey) -> bytes:
        """The line of a server at this address with another key."""
        return f"[127.0.0.1]:{self.port} ".encode() + key.export_public_key()

    def secret(self, passphrase: str = "") -> dict[str, bytes]:
        """A new key that may log in, as a Secret holds it."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "identity"
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", path], check=True)
            self.authorized.append(asyncssh.read_public_key(f"{path}.pub"))
            made = {"identity": path.read_bytes(), "known_hosts": self.known_hosts}
        return made | ({"password": passphrase.encode()} if passphrase else {})

    async def start(self) -> None:
        """Listen, on the same port as before if it was ended."""
        self._acceptor = await asyncssh.listen(
            "127.0.0.1",
            self.port,
            server_factory=lambda: _Login(self),
            server_host_keys=[self.host_key],
            process_factory=self._serve,
            encoding=None,
            reuse_address=True,
        )
        self.port = self._acceptor.get_port()

    async def end(self) -> None:
        if self._acceptor is not None:
            self._acceptor.close()
            await self._acceptor.wait_closed()
            self._acceptor = None

    async def repository(self, name: str = "shop") -> Repository:
        return await Repository.create(self.root, self.url, name)

    async def _serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """Run `git-upload-pack '/<name>.git'` and nothing else."""
        match shlex.split(process.command or ""):
            case ["git-upload-pack", path]:
                process.exit(await self._upload(process, self.root / path.lstrip("/")))
            case _:
                process.exit(127)

    @staticmethod
    async def _upload(process: asyncssh.SSHServerProcess[bytes], path: Path) -> int:
        git = await asyncio.create_subprocess_exec(
            *("git", "upload-pack", str(path)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "GIT_PROTOCOL": process.env.get("GIT_PROTOCOL", "")},
        )
        given = asyncio.create_task(_forward(process.stdin, git.stdin))
        try:
            await asyncio.gather(_forward(git.stdout, process.stdout), _forward(git.stderr, process.stderr))
            return await git.wait()
        finally:
            given.cancel()
            if git.returncode is None:
                git.kill()
                await git.wait()


async def _forward(source: Any, target: Any) -> None:
    """Until `source` ends or one side has gone."""
    with contextlib.suppress(asyncssh.Error, OSError):
        while chunk := await source.read(65536):
            target.write(chunk)
            await target.drain()
        target.write_eof()


class _Login(asyncssh.SSHServer):
    """One client that wants to log in."""

    def __init__(self, server: SshServer) -> None:
        self._server = server

    def begin_auth(self, username: str) -> bool:
        self._server.users.append(username)
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: Any) -> bool:
        self._server.offers += 1
        return any(key == known for known in self._server.authorized)
