"""What a Git URL and a reference of a user's spec mean, and whether they may reach git at all.

Everything here is text: nothing is resolved, and nothing that passes can become an option, a command or another
transport of git. Messages never repeat what may hold a secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Literal, Protocol
from urllib.parse import unquote_to_bytes

from fleet_rollout.errors import Terminal, Transient

SCHEMES = frozenset({"http", "https", "ssh"})
DEFAULT_PORTS = {"http": 80, "https": 443, "ssh": 22}
DEFAULT_BRANCH = "master"
LONGEST_URL = 2048
LONGEST_REF = 255

URL = re.compile(
    r"(?P<scheme>[a-z]+)://(?:(?P<user>[^@/]*)@)?(?P<host>\[[^\]/]*\]|[^:/@\[\]]*)(?::(?P<port>[^/]*))?(?P<path>/.*)?"
)
HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?")
IPV6 = re.compile(r"\[[0-9A-Fa-f:.]{2,45}\]")
USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
PORT = re.compile(r"[0-9]{1,5}")
# What repository paths are made of. No `$` (GitPython and shells expand it), no backslash, quote, query or fragment.
PATH = re.compile(r"/[A-Za-z0-9._~/+@%:,=!()&;-]*")
SCP_FORM = re.compile(r"(?:[A-Za-z0-9._-]+@)?([A-Za-z0-9._-]+):(?!/)([^\s:]+)")

# git check-ref-format, narrowed to printable ASCII and to what no shell, refspec or revision syntax gives a meaning.
REF_CHARACTERS = re.compile(r"[A-Za-z0-9._/+@%,=!()&;#'-]+")
COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
PEELED = "^{}"


class RefFields(Protocol):
    """The fields of `spec.source.gitRepository.ref`."""

    @property
    def branch(self) -> str | None: ...
    @property
    def tag(self) -> str | None: ...
    @property
    def semver(self) -> str | None: ...
    @property
    def name(self) -> str | None: ...
    @property
    def commit(self) -> str | None: ...


@dataclass(frozen=True)
class RepositoryURL:
    """A checked URL. `text` is what git is given."""

    scheme: str
    user: str | None
    host: str
    port: int
    path: str

    @property
    def text(self) -> str:
        user = f"{self.user}@" if self.user else ""
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{user}{self.host}{port}{self.path}"

    @property
    def bare_host(self) -> str:
        """The host without the brackets of IPv6."""
        return self.host.strip("[]")


@dataclass(frozen=True)
class Wanted:
    """Which commit is asked for: `kind` says how it is found, `value` by which name, `label` what revisions call it."""

    kind: Literal["commit", "name", "tag", "semver", "branch"]
    value: str
    label: str | None

    @property
    def patterns(self) -> tuple[str, ...]:
        """The references to list at the server; none for a commit, which needs no listing."""
        match self.kind:
            case "branch":
                return (f"refs/heads/{self.value}",)
            case "tag":
                return (f"refs/tags/{self.value}", f"refs/tags/{self.value}{PEELED}")
            case "name":
                return (self.value, f"{self.value}{PEELED}")
            case "semver":
                return ("refs/tags/*",)
            case _:
                return ()


def parse_url(text: str, *, allow_http: bool = True) -> RepositoryURL:
    """Raises Terminal("InvalidURL"), naming what is wrong but never the URL itself: it may hold a password."""
    if len(text) > LONGEST_URL or not text.isascii() or not text.isprintable() or " " in text:
        raise _invalid("holds control characters, blanks, or characters outside ASCII, or is too long")
    found = URL.fullmatch(text)
    if found is None or found["scheme"] not in SCHEMES:
        raise _invalid("must start with https://, http:// or ssh:// and name a host")
    if found["scheme"] == "http" and not allow_http:
        raise _invalid("uses http://, which this installation does not allow; use https:// or ssh://")
    _check_user(found["scheme"], found["user"])
    host = found["host"]
    if not (HOST.fullmatch(host) or IPV6.fullmatch(host)):
        raise _invalid("names no valid host")
    port = _port(found["scheme"], found["port"])
    return RepositoryURL(found["scheme"], found["user"] or None, host.lower().rstrip("."), port, _path(found["path"]))


def canonical_repository(url: str) -> str:
    """One text for all spellings of a repository (scheme, user, `.git`, final slash, scp form); "" for no URL at all.

    Compared for equality only, never as a pattern.
    """
    text = url.strip()
    found = URL.fullmatch(text)
    if found is None:
        short = SCP_FORM.fullmatch(text)
        return f"{short[1].lower()}/{_bare_path(short[2])}" if short else ""
    host, port, path = found["host"].lower().rstrip("."), found["port"], _bare_path(found["path"] or "")
    if not (HOST.fullmatch(host) or IPV6.fullmatch(host)) or not path or found["scheme"] not in SCHEMES:
        return ""
    is_default = not port or port == str(DEFAULT_PORTS[found["scheme"]])
    return f"{host}/{path}" if is_default else f"{host}:{port}/{path}"


def wanted_ref(ref: RefFields | None) -> Wanted:
    """Flux's precedence as its code has it: commit, name, tag, semver, branch, and `master` without any.

    Raises Terminal("InvalidReference") for a text that must not reach git.
    """
    if ref is None:
        return Wanted("branch", DEFAULT_BRANCH, DEFAULT_BRANCH)
    branch = _checked(ref.branch, "branch", "refs/heads/") if ref.branch else None
    if ref.commit:
        if COMMIT.fullmatch(ref.commit) is None:
            raise Terminal("InvalidReference", "ref.commit is not a full commit hash; write all 40 hexadecimal digits")
        return Wanted("commit", ref.commit, branch)
    if ref.name:
        name = _checked(ref.name.removesuffix(PEELED), "name", "")
        if not name.startswith("refs/"):
            raise Terminal("InvalidReference", "ref.name is not a full reference; write for example refs/heads/main")
        return Wanted("name", name, ref.name)
    if ref.tag:
        tag = _checked(ref.tag, "tag", "refs/tags/")
        return Wanted("tag", tag, tag)
    if ref.semver:
        return Wanted("semver", ref.semver, None)
    name = branch or DEFAULT_BRANCH
    return Wanted("branch", name, name)


def is_safe_ref(name: str) -> bool:
    """git check-ref-format for a full name, plus our list of characters."""
    if len(name) > LONGEST_REF or not REF_CHARACTERS.fullmatch(name) or name.startswith("-"):
        return False
    if ".." in name or "@{" in name or name == "@" or name.endswith("."):
        return False
    return not any(part == "" or part[0] in ".-" or part.endswith(".lock") for part in name.split("/"))


def is_sane_listing(name: str) -> bool:
    """Whether a name in a server's answer could be a reference at all: servers may name what they like in UTF-8, but
    nothing that climbs out of a folder or hides control characters."""
    name = name.removesuffix(PEELED)
    if not name or any(c < " " or c in "\x7f~^:?*[\\" for c in name) or ".." in name or name.endswith("/"):
        return False
    return not any(part == "" or part.startswith(".") for part in name.split("/"))


def parse_listing(output: bytes) -> dict[str, str]:
    """Names and hashes of `git ls-remote`; Transient("SourceInvalid") where the answer is none."""
    refs: dict[str, str] = {}
    for line in BytesIO(output):  # one at a time: a list of all takes four times the memory
        commit, tab, name = line.decode("utf-8", "replace").removesuffix("\n").partition("\t")
        if not tab or COMMIT.fullmatch(commit) is None or not is_sane_listing(name):
            raise Transient("SourceInvalid", "the server's list of references holds a name that Git does not allow")
        refs[name] = commit
    return refs


def peeled(refs: Mapping[str, str], name: str) -> str | None:
    """The commit behind a reference, through an annotated tag."""
    return refs.get(f"{name}{PEELED}") or refs.get(name)


def revision(label: str | None, commit: str) -> str:
    """`main@sha1:<hash>`, or `sha1:<hash>` for a commit alone."""
    identity = f"{'sha256' if len(commit) == 64 else 'sha1'}:{commit}"
    return f"{label}@{identity}" if label else identity


def commit_of(text: str) -> str | None:
    """The hash in a revision, in the current format or an old one (`main/<hash>`, bare hash)."""
    found = re.fullmatch(r"(?:.*[@/])?(?:sha1:|sha256:)?([0-9a-f]{40}(?:[0-9a-f]{24})?)", text)
    return found[1] if found else None


def current_format(text: str) -> str:
    """A revision as it is written today; other texts unchanged."""
    found = re.fullmatch(r"(?:(.+)/)?([0-9a-f]{40}(?:[0-9a-f]{24})?)", text)
    return revision(found[1], found[2]) if found else text


def _check_user(scheme: str, user: str | None) -> None:
    if user is None:
        return
    if scheme != "ssh":
        raise _invalid("holds a user name or password; put them into a Secret and name it in secretRef")
    if USER.fullmatch(user) is None:
        raise _invalid("holds a password or an unusual user name; write ssh://git@host/path")


def _port(scheme: str, text: str | None) -> int:
    if text is None:
        return DEFAULT_PORTS[scheme]
    if PORT.fullmatch(text) is None or not 0 < int(text) < 65536:
        raise _invalid("names no valid port")
    return int(text)


def _path(text: str | None) -> str:
    if not text or text == "/":
        raise _invalid("names no repository after the host")
    if PATH.fullmatch(text) is None or ".." in text.split("/"):
        raise _invalid("holds characters a repository's path has no use for, such as $, a backslash, ? or #")
    # Newlines that a credential helper or a proxy would decode (CVE-2020-5260, CVE-2024-52006).
    decoded = unquote_to_bytes(text)
    if any(byte < 32 or byte == 127 for byte in decoded) or b".." in decoded.split(b"/"):
        raise _invalid("holds encoded control characters or ..")
    return text


def _bare_path(path: str) -> str:
    return path.strip("/").removesuffix(".git").rstrip("/")


def _checked(value: str, field: str, prefix: str) -> str:
    if value.startswith("-") or not is_safe_ref(prefix + value):
        raise Terminal(
            "InvalidReference",
            f"ref.{field} is no name Git allows here; use letters, digits and . _ / + - without .. or a leading dash",
        )
    return value


def _invalid(fact: str) -> Terminal:
    return Terminal("InvalidURL", f"spec.source.gitRepository.url {fact}")
