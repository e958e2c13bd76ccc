"""What a Secret lets us say to a Git server. Checked once, here, so that a bad Secret never reaches git.

Nothing in this module prints, logs or puts into a message what it read.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from fleet_rollout.errors import Transient

# Each value may be one header or one file; more than this is a mistake.
LARGEST_VALUE = 64 * 1024
REDACTED = "***"


@dataclass(frozen=True)
class Credentials:
    """For http(s): `authorization` (a header's value), `ca`, `certificate` and `key`. For ssh: the other three.

    Equal contents share a mirror, others never do; see `identity`.
    """

    authorization: str | None = field(default=None, repr=False)
    ca: bytes | None = field(default=None, repr=False)
    certificate: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)
    ssh_key: bytes | None = field(default=None, repr=False)
    known_hosts: bytes | None = field(default=None, repr=False)
    passphrase: bytes | None = field(default=None, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        return "Credentials(…)"

    @property
    def are_sent(self) -> bool:
        """Whether a server would learn or check something that identifies us."""
        return bool(self.authorization or self.certificate or self.ssh_key)

    def identity(self, process_key: bytes) -> str:
        """Tells credentials apart without a way back to them: a MAC, as the plain hash of a password can be guessed."""
        parts = (getattr(self, f.name) or b"" for f in fields(self) if f.name != "secrets")
        values = (part.encode() if isinstance(part, str) else part for part in parts)
        text = b"".join(len(value).to_bytes(8, "big") + value for value in values)
        return hmac.new(process_key, text, hashlib.sha256).hexdigest()

    def redact(self, text: str) -> str:
        """`text` without any of our secrets, in case a server or a program repeats one."""
        for secret in self.secrets:
            text = text.replace(secret, REDACTED)
        return text


NO_CREDENTIALS = Credentials()


def credentials_for(scheme: str, secret: Mapping[str, bytes] | None) -> Credentials:
    """Raises Transient("AuthenticationFailed", …) naming the key of the Secret that is wrong, and the fix.

    Transient because a Secret may be mended without any change of the Application.
    """
    if not secret:
        if scheme == "ssh":
            raise _failed("ssh:// needs a Secret with the keys identity and known_hosts; name it in secretRef")
        return NO_CREDENTIALS
    large = sorted(key for key, value in secret.items() if len(value) > LARGEST_VALUE)
    if large:
        raise _failed(f"the Secret's key {large[0]!r} is larger than {LARGEST_VALUE} bytes")
    return _ssh(secret) if scheme == "ssh" else _http(secret, encrypted=scheme == "https")


def _http(secret: Mapping[str, bytes], *, encrypted: bool) -> Credentials:
    authorization, secrets = _authorization(secret)
    if not encrypted:
        return Credentials(authorization=authorization, secrets=secrets)
    ca = secret.get("ca.crt") or secret.get("caFile") or None
    if ca is not None:
        _check_authorities(ca)
    certificate, key = secret.get("tls.crt") or None, secret.get("tls.key") or None
    if (certificate is None) != (key is None):
        raise _failed("the Secret has only one of tls.crt and tls.key; add the other")
    if key is not None:
        _check_tls_key(key)
    return Credentials(authorization=authorization, ca=ca, certificate=certificate, key=key, secrets=secrets)


def _authorization(secret: Mapping[str, bytes]) -> tuple[str | None, tuple[str, ...]]:
    username, password = _text(secret, "username"), _text(secret, "password")
    token = _text(secret, "bearerToken")
    if token and (username or password):
        raise _failed("the Secret has bearerToken and username or password; keep one of the two")
    if token:
        return f"Bearer {token}", _worth_hiding(token)
    if password and not username:
        raise _failed("the Secret has password without username; add username (for tokens often 'git')")
    if username:
        encoded = base64.b64encode(f"{username}:{password}".encode()).decode()
        return f"Basic {encoded}", _worth_hiding(password, encoded)
    return None, ()


def _ssh(secret: Mapping[str, bytes]) -> Credentials:
    identity, known_hosts = secret.get("identity"), secret.get("known_hosts")
    if not identity:
        raise _failed("the Secret has no key 'identity'; put the private key (PEM) there")
    if not known_hosts or not known_hosts.strip():
        raise _failed("the Secret has no key 'known_hosts'; put the output of `ssh-keyscan <host>` there")
    passphrase = secret.get("password") or None
    _check_ssh_key(identity, passphrase)
    return Credentials(
        ssh_key=identity.rstrip() + b"\n",
        known_hosts=known_hosts,
        passphrase=passphrase,
        secrets=_worth_hiding(_text(secret, "password")),
    )


def _check_ssh_key(identity: bytes, passphrase: bytes | None) -> None:
    """Find out here what ssh would only say as `Permission denied`."""
    is_openssh = b"BEGIN OPENSSH PRIVATE KEY" in identity
    load = serialization.load_ssh_private_key if is_openssh else serialization.load_pem_private_key
    try:
        load(identity, passphrase)
    except TypeError:
        # cryptography's word for: encrypted without a password, or a password for a key that needs none.
        if passphrase is None:
            raise _failed("the Secret's identity is encrypted; add its passphrase as 'password'") from None
    except UnsupportedAlgorithm:
        return  # encrypted in a way that only ssh itself can undo
    except ValueError:
        raise _failed("the Secret's identity is no private key ssh can read, or its password is wrong") from None


def _check_authorities(pem: bytes) -> None:
    try:
        ssl.create_default_context(cadata=pem.decode("ascii"))
    except (ssl.SSLError, ValueError):
        raise _failed("the Secret's ca.crt holds no certificate in PEM form") from None


def _check_tls_key(key: bytes) -> None:
    try:
        serialization.load_pem_private_key(key, password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        raise _failed("the Secret's tls.key is no private key in PEM form without a password") from None


def _text(secret: Mapping[str, bytes], key: str) -> str:
    """A header cannot hold line ends, and a trailing one is the most common mistake in Secrets."""
    try:
        text = secret.get(key, b"").decode("utf-8").strip("\r\n")
    except UnicodeDecodeError:
        raise _failed(f"the Secret's key {key!r} is not text") from None
    if not text.isprintable():
        raise _failed(f"the Secret's key {key!r} holds control characters")
    return text


def _worth_hiding(*texts: str) -> tuple[str, ...]:
    """Shorter ones would only blot out words by chance."""
    return tuple(text for text in texts if len(text) >= 4)


def _failed(fact: str) -> Transient:
    return Transient("AuthenticationFailed", fact)
