"""Everything a git process may know: its environment, and private files with configuration and credentials.

Built from nothing, so that no configuration, helper, hook, proxy or key of the machine takes part. Secrets are in
files of mode 0600 that exist as long as the operation; arguments and environment only hold their paths.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleet_rollout.decide.gitrefs import RepositoryURL
from fleet_rollout.errors import Transient
from fleet_rollout.sources.credentials import Credentials

MEMORY_BACKED = Path("/dev/shm")  # noqa: S108 - private directories of mode 0700 are made below it
ASKPASS = '#!/bin/sh\nexec cat "$FLEET_ROLLOUT_PASSPHRASE_FILE"\n'

# Given on every command line; the later ones bound what a hostile pack can make git hold in memory.
OPTIONS: Sequence[str] = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.symlinks=false",
    "credential.helper=",
    "protocol.allow=never",
    "protocol.https.allow=always",
    "protocol.http.allow=always",
    "protocol.ssh.allow=always",
    "protocol.version=2",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "fetch.writeCommitGraph=false",
    "fetch.unpackLimit=1",
    "transfer.bundleURI=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    "pack.threads=1",
    "core.bigFileThreshold=8m",
    "core.packedGitWindowSize=32m",
    "core.packedGitLimit=256m",
    "core.deltaBaseCacheLimit=32m",
)


@dataclass(frozen=True)
class GitEnvironment:
    """What one operation runs with."""

    variables: Mapping[str, str]


def options() -> list[str]:
    """OPTIONS as arguments."""
    return [argument for option in OPTIONS for argument in ("-c", option)]


@contextmanager
def local_environment() -> Iterator[GitEnvironment]:
    """For commands that only read the mirror: no transport is allowed at all."""
    with _private_directory() as home:
        yield GitEnvironment(_variables(home, protocols="none"))


@contextmanager
def remote_environment(
    url: RepositoryURL, credentials: Credentials, addresses: Sequence[str], *, program_dir: Path
) -> Iterator[GitEnvironment]:
    """For commands that talk to `url`, at `addresses` only. `program_dir` must allow programs to run from it."""
    with _private_directory() as home:
        variables = _variables(home, protocols=url.scheme)
        if url.scheme == "ssh":
            variables |= _ssh(home, url, credentials, addresses, program_dir)
        else:
            _write(home / "gitconfig", _http_config(home, url, credentials, addresses))
        yield GitEnvironment(variables)


def _variables(home: Path, *, protocols: str) -> dict[str, str]:
    config = home / "gitconfig"
    _write(config, "")
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "LC_ALL": "C",
        "LANGUAGE": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(config),
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/false",
        "SSH_ASKPASS": "/bin/false",
        "GIT_ALLOW_PROTOCOL": protocols,
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_CEILING_DIRECTORIES": "/",
        "GIT_HTTP_LOW_SPEED_LIMIT": "1000",
        "GIT_HTTP_LOW_SPEED_TIME": "30",
    }


def _http_config(home: Path, url: RepositoryURL, credentials: Credentials, addresses: Sequence[str]) -> str:
    """Redirects are never followed: git would dial an address nobody checked, and curl might take credentials along."""
    literal = url.bare_host in addresses
    lines = ["[http]", "followRedirects = false", "sslVerify = true", 'proxy = ""', "delegation = none"]
    if not literal:
        pinned = ",".join(f"[{address}]" if ":" in address else address for address in addresses)
        lines.append(f'curloptResolve = "{url.host}:{url.port}:{pinned}"')
    lines.append(f'[http "{url.text}"]')
    if credentials.authorization:
        lines.append(f"extraHeader = {_quoted('Authorization: ' + credentials.authorization)}")
    for name, content in (
        ("sslCAInfo", credentials.ca),
        ("sslCert", credentials.certificate),
        ("sslKey", credentials.key),
    ):
        if content is not None:
            path = home / name
            _write(path, content)
            lines.append(f"{name} = {_quoted(str(path))}")
    return "\n".join(lines) + "\n"


def _ssh(
    home: Path, url: RepositoryURL, credentials: Credentials, addresses: Sequence[str], program_dir: Path
) -> dict[str, str]:
    """`ssh` with a configuration of its own: this key, these hosts, this address, nothing else."""
    assert credentials.ssh_key is not None
    assert credentials.known_hosts is not None
    _write(home / "identity", credentials.ssh_key)
    _write(home / "known_hosts", credentials.known_hosts)
    _write(home / "ssh_config", _ssh_config(home, url, addresses[0]))
    variables = {
        "GIT_SSH_VARIANT": "ssh",
        "GIT_SSH_COMMAND": f"ssh -F {home / 'ssh_config'}",
    }
    if credentials.passphrase is not None:
        _write(home / "passphrase", credentials.passphrase + b"\n")
        variables |= {
            "SSH_ASKPASS": str(_askpass(program_dir)),
            "SSH_ASKPASS_REQUIRE": "force",
            "FLEET_ROLLOUT_PASSPHRASE_FILE": str(home / "passphrase"),
        }
    return variables


def _ssh_config(home: Path, url: RepositoryURL, address: str) -> str:
    """HostKeyAlias keeps the name in known_hosts the user's, although an address is dialled."""
    alias = url.bare_host if url.port == 22 else f"[{url.bare_host}]:{url.port}"
    lines = [
        "Host *",
        f"HostName {address}",
        f"HostKeyAlias {alias}",
        f"User {url.user or 'git'}",
        f"IdentityFile {home / 'identity'}",
        "IdentitiesOnly yes",
        "IdentityAgent none",
        f"UserKnownHostsFile {home / 'known_hosts'}",
        "GlobalKnownHostsFile /dev/null",
        "StrictHostKeyChecking yes",
        "UpdateHostKeys no",
        "VerifyHostKeyDNS no",
        "CheckHostIP no",
        "PreferredAuthentications publickey",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "GSSAPIAuthentication no",
        "HostbasedAuthentication no",
        "NumberOfPasswordPrompts 1",
        "ForwardAgent no",
        "ForwardX11 no",
        "ClearAllForwardings yes",
        "PermitLocalCommand no",
        "ProxyCommand none",
        "ProxyJump none",
        "ControlMaster no",
        "ControlPath none",
        "CanonicalizeHostname no",
        "RequestTTY no",
        "ConnectTimeout 15",
        "ServerAliveInterval 10",
        "ServerAliveCountMax 3",
        "LogLevel ERROR",
    ]
    return "\n".join(lines) + "\n"


def _askpass(program_dir: Path) -> Path:
    """The program ssh asks for the passphrase. It holds no secret; memory-backed directories rarely run programs."""
    path = program_dir / "askpass"
    if not path.exists():
        program_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=program_dir)
        with os.fdopen(handle, "w") as file:
            file.write(ASKPASS)
        os.chmod(name, 0o700)
        os.replace(name, path)
    return path


@contextmanager
def _private_directory() -> Iterator[Path]:
    """A directory of mode 0700, in memory where possible, gone when the operation ends."""
    parent = MEMORY_BACKED if os.access(MEMORY_BACKED, os.W_OK | os.X_OK) else None
    try:
        path = Path(tempfile.mkdtemp(prefix="fleet-rollout-", dir=parent))
    except OSError as error:
        raise Transient("GitOperationFailed", f"no place for private files: {error.strerror}") from None
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _write(path: Path, content: str | bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)


def _quoted(value: str) -> str:
    """A value of git's configuration language."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
