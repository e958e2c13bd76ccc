"""Who we are to an API server: from a kubeconfig in a Secret, from the operator's own file, or from the Pod.

A Secret's kubeconfig is written by whoever may write Secrets, so it is read by this small parser alone:
nothing in it may run a program, name a file of the hub, or weaken TLS (trust row 28). No message quotes
a value of a kubeconfig.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import yaml
from cryptography import x509

from fleet_rollout.errors import Terminal
from fleet_rollout.kube.connector import new_trust, shared_trust
from fleet_rollout.kube.transport import HUB, Connection

REFUSED = "KubeconfigRefused"
INVALID = "KubeconfigInvalid"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# The same as yaml.safe_load; libyaml's is ten times faster, which counts for a thousand members.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# A kubeconfig is five deep. libyaml's composer overflows the stack, and the process ends, where it is very deep.
DEEPEST = 50
MOST_DIRECTIVES = 10
# Wherever it stands: YAML begins a line after a carriage return, and after three characters of Unicode, as well.
DIRECTIVE = b"%TAG"
MOST_MERGES = 100
SEXAGESIMAL = re.compile(rb"(?::[0-9_]{1,3}){50}")
FLAG = "or start the controller with --allow-insecure-kubeconfig"

# Fields that are refused wherever the kubeconfig comes from, and what to do instead.
NEVER = {
    "user": {
        "exec": "it would run a program on the hub; put a token or a client certificate there",
        "auth-provider": "it was removed from Kubernetes; put a token or a client certificate there",
        "as": "give the account itself the rights it needs",
        "as-uid": "give the account itself the rights it needs",
        "as-groups": "give the account itself the rights it needs",
        "as-user-extra": "give the account itself the rights it needs",
    },
    "cluster": {},
}
# Fields that only the operator of the hub may use: they read its files, or lead elsewhere.
OPERATORS = {
    "user": {
        "tokenFile": "put the token itself into token",
        "client-certificate": "put the certificate itself into client-certificate-data",
        "client-key": "put the key itself into client-key-data",
    },
    "cluster": {
        "certificate-authority": "put the certificate itself into certificate-authority-data",
        "insecure-skip-tls-verify": "put the authority's certificate into certificate-authority-data",
        "proxy-url": "name an address that the hub reaches directly",
    },
}


def connection_from_kubeconfig(
    name: str, text: bytes, *, allow_insecure: bool, now: datetime | None = None
) -> Connection:
    """The connection that a kubeconfig Secret's content describes; `name` is the cluster's, for messages.

    Raises Terminal("KubeconfigRefused" or "KubeconfigInvalid") that names the field and the fix.
    """
    kubeconfig = _Kubeconfig(name, text, Path("/"))
    kubeconfig.refuse(NEVER, "")
    if not allow_insecure:
        kubeconfig.refuse(OPERATORS, FLAG)
        if kubeconfig.server.scheme != "https":
            raise kubeconfig.refused("cluster", "server", "it must be an https:// address", FLAG)
    return kubeconfig.connection(now or datetime.now(UTC))


def connection_from_file(path: Path, name: str = HUB) -> Connection:
    """The connection that the operator's own kubeconfig describes; it may name files, beside it or absolute."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise Terminal(INVALID, f"{name}: kubeconfig {path} cannot be read: {error.strerror}") from error
    kubeconfig = _Kubeconfig(name, text, path.resolve().parent)
    kubeconfig.refuse(NEVER, "")
    return kubeconfig.connection(datetime.now(UTC))


def in_cluster(
    name: str = HUB, *, folder: Path = SERVICE_ACCOUNT, environ: Mapping[str, str] = os.environ
) -> Connection:
    """The connection of the Pod's service account; its token is read again whenever the kubelet renews it."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port:
        raise Terminal(INVALID, f"{name}: not running in a Pod; name a kubeconfig with --kubeconfig")
    try:
        ca = (folder / "ca.crt").read_bytes()
        token = _TokenFile(folder / "token")
    except OSError as error:
        raise Terminal(
            INVALID, f"{name}: the Pod has no service account token; set automountServiceAccountToken: true"
        ) from error
    address = f"[{host}]" if ":" in host else host
    return Connection(name, f"https://{address}:{port}", ca, token)


class _Kubeconfig:
    """The current context of a kubeconfig: its cluster and its user, as they stand in the text."""

    def __init__(self, name: str, text: bytes, folder: Path) -> None:
        self._name = name
        self._folder = folder
        document = self._parsed(text)
        context = self._current(document)
        self._cluster = self._named(document, "clusters", "cluster", context.get("cluster"))
        self._user = self._named(document, "users", "user", context.get("user"))
        self.server = _address(self._text(self._cluster, "cluster", "server") or "")
        if self.server.scheme not in ("http", "https") or not self.server.hostname:
            raise self.invalid("cluster", "server", "is not an address such as https://10.0.0.1:6443")
        if "@" in self.server.netloc or self.server.query or self.server.fragment:
            raise self.invalid("cluster", "server", "may hold a host, a port and a path, nothing else")

    def refuse(self, fields: Mapping[str, Mapping[str, str]], otherwise: str) -> None:
        """Raise for the first of `fields` that is set."""
        for section, content in (("user", self._user), ("cluster", self._cluster)):
            for field, fix in fields[section].items():
                if content.get(field) not in (None, False, ""):
                    raise self.refused(section, field, fix, otherwise)

    def refused(self, section: str, field: str, fix: str, otherwise: str = "") -> Terminal:
        way_out = f"{fix}, {otherwise}" if otherwise else fix
        return Terminal(REFUSED, f"{self._name}: kubeconfig: {section}.{field} is not accepted: {way_out}")

    def invalid(self, section: str, field: str, fact: str) -> Terminal:
        return Terminal(INVALID, f"{self._name}: kubeconfig: {section}.{field} {fact}")

    def connection(self, now: datetime) -> Connection:
        """Raises Terminal(INVALID) for content that is of no use."""
        ca = self._material("cluster", "certificate-authority")
        context, expires = (None, None)
        if self.server.scheme == "https":
            context, expires = self._tls(ca)
        if expires is not None and expires <= now:
            raise expired(self._name, expires)
        return Connection(
            name=self._name,
            server=self.server.geturl().rstrip("/"),
            ca=ca,
            headers=self._headers(),
            ssl=context,
            proxy=self._text(self._cluster, "cluster", "proxy-url"),
            server_name=self._text(self._cluster, "cluster", "tls-server-name"),
            expires=expires,
        )

    def _tls(self, ca: bytes | None) -> tuple[ssl.SSLContext, datetime | None]:
        certificate, key = self._material("user", "client-certificate"), self._material("user", "client-key")
        if (certificate is None) != (key is None):
            raise self.invalid("user", "client-certificate-data", "and client-key-data belong together; one is missing")
        made = shared_trust if certificate is None else new_trust
        try:
            context = made(ca, is_checked=not self._cluster.get("insecure-skip-tls-verify"))
        except (ssl.SSLError, UnicodeDecodeError) as error:
            raise self.invalid("cluster", "certificate-authority-data", "is not a certificate in PEM") from error
        if certificate is None or key is None:
            return context, None
        return context, self._identify(context, certificate, key)

    def _identify(self, context: ssl.SSLContext, certificate: bytes, key: bytes) -> datetime:
        """Load the pair into `context`; when the certificate ends."""
        try:
            load_pair(context, certificate, key)
            return x509.load_pem_x509_certificate(certificate).not_valid_after_utc
        except (ssl.SSLError, ValueError) as error:
            fact = "and client-key-data are not a certificate and its unencrypted key in PEM"
            raise self.invalid("user", "client-certificate-data", fact) from error

    def _headers(self) -> Mapping[str, str]:
        if token := (self._text(self._user, "user", "token") or "").strip():
            if not token.isascii() or not token.isprintable():
                raise self.invalid("user", "token", "holds characters that no token has")
            return {"Authorization": f"Bearer {token}"}
        if file := self._text(self._user, "user", "tokenFile"):
            try:
                return _TokenFile(self._folder / file)
            except OSError as error:
                raise self.invalid("user", "tokenFile", f"cannot be read: {error.strerror}") from error
        username, password = (self._text(self._user, "user", field) for field in ("username", "password"))
        if username and password:
            credentials = base64.b64encode(f"{username}:{password}".encode()).decode()
            return {"Authorization": f"Basic {credentials}"}
        return {}

    def _material(self, section: str, field: str) -> bytes | None:
        """What `<field>-data` holds, else the file that `<field>` names."""
        content = self._cluster if section == "cluster" else self._user
        if encoded := self._text(content, section, f"{field}-data"):
            try:
                return base64.b64decode(re.sub(r"\s", "", encoded), validate=True)
            except (binascii.Error, ValueError) as error:
                raise self.invalid(section, f"{field}-data", "is not base64") from error
        if file := self._text(content, section, field):
            try:
                return (self._folder / file).read_bytes()
            except OSError as error:
                raise self.invalid(section, field, f"cannot be read: {error.strerror}") from error
        return None

    def _parsed(self, text: bytes) -> dict[str, Any]:
        try:
            self._refuse_bombs(text)
            document = yaml.load(text, LOADER)  # noqa: S506
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)  # the error's own text may quote a credential
            place = f" (line {mark.line + 1})" if mark is not None else ""
            raise Terminal(INVALID, f"{self._name}: kubeconfig: not YAML{place}") from error
        if not isinstance(document, dict):
            raise Terminal(INVALID, f"{self._name}: kubeconfig: not an object with clusters, users and contexts")
        return document

    def _refuse_bombs(self, text: bytes) -> None:
        """Depth overflows libyaml's stack; a few aliases of aliases, merged, are a billion keys.

        Directives, merges, and numbers to the base of sixty take a time that is the square of their number or length.
        They are looked for in UTF-8, which kubectl writes; libyaml would read UTF-16 as well.
        """
        if not _is_utf8(text):
            raise Terminal(INVALID, f"{self._name}: kubeconfig: not UTF-8 text; save it as UTF-8")
        if text.count(DIRECTIVE) > MOST_DIRECTIVES or SEXAGESIMAL.search(text):
            raise ValueError("takes too long to read")
        depth = merges = 0
        for event in yaml.parse(text, LOADER):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise ValueError(f"nested deeper than {DEEPEST} levels")
            if isinstance(event, yaml.AliasEvent):
                raise self._odd(event, "an alias", "write out what it stands for")
            if getattr(event, "tag", None) is not None:
                raise self._odd(event, "a tag", "leave it out, and put text in quotes")
            merges += isinstance(event, yaml.ScalarEvent) and event.value == "<<"
            if merges > MOST_MERGES:
                raise ValueError("takes too long to read")

    def _odd(self, event: yaml.Event, what: str, fix: str) -> Terminal:
        assert event.start_mark is not None, "PyYAML marks what it has read"
        return Terminal(INVALID, f"{self._name}: kubeconfig: {what} in line {event.start_mark.line + 1}; {fix}")

    def _current(self, document: dict[str, Any]) -> dict[str, Any]:
        wanted = document.get("current-context")
        if not wanted:
            raise Terminal(INVALID, f"{self._name}: kubeconfig: current-context is empty; name the context to use")
        return self._named(document, "contexts", "context", wanted)

    def _named(self, document: dict[str, Any], section: str, field: str, name: Any) -> dict[str, Any]:
        entries = document.get(section)
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, dict) and entry.get("name") == name and isinstance(entry.get(field), dict):
                found: dict[str, Any] = entry[field]
                return found
        raise Terminal(INVALID, f"{self._name}: kubeconfig: {section} has no entry that the current context names")

    def _text(self, content: dict[str, Any], section: str, field: str) -> str | None:
        value = content.get(field)
        if value is not None and not isinstance(value, str):
            raise self.invalid(section, field, "is not text; put it in quotes")
        return value or None


def _is_utf8(text: bytes) -> bool:
    try:
        return "\0" not in text.decode()
    except UnicodeDecodeError:
        return False


def _address(text: str) -> SplitResult:
    """Its parts; none where it is no address (`https://[`, `https://a:70000`)."""
    try:
        parts = urlsplit(text)
        _ = parts.port  # a port that is no number is found when it is asked for
    except ValueError:
        return urlsplit("")
    return parts


class _TokenFile(Mapping[str, str]):
    """Request headers with the token that a file holds now; the file is read again when it was replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version = (0, 0)
        self._value = ""
        self["Authorization"]  # a file that cannot be read is told at start

    def __getitem__(self, header: str) -> str:
        if header != "Authorization":
            raise KeyError(header)
        found = self._path.stat()
        version = (found.st_mtime_ns, found.st_ino)
        if version != self._version:
            self._value = f"Bearer {self._path.read_text().strip()}"
            self._version = version
        return self._value

    def __iter__(self) -> Iterator[str]:
        return iter(("Authorization",))

    def __len__(self) -> int:
        return 1


def expired(name: str, expires: datetime) -> Terminal:
    """The error of a client certificate that has ended."""
    when = expires.strftime("%Y-%m-%dT%H:%M:%SZ")
    return Terminal(INVALID, f"{name}: kubeconfig: the client certificate expired at {when}; put a new one there")


def load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Load a client certificate and its key, which OpenSSL takes from files alone: one, ours, gone at once."""
    descriptor, path = tempfile.mkstemp(prefix="fleet-rollout-")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(certificate + b"\n" + key)
        # Without a password OpenSSL would ask on the terminal for that of an encrypted key.
        context.load_cert_chain(path, password="")
    finally:
        os.unlink(path)
