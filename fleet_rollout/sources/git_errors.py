"""What a failed git run means for the user: a condition reason, and a message that names the fact and the fix.

git says why it failed in English text only, which LC_ALL=C keeps stable; this table is the one place that reads it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fleet_rollout.decide.gitrefs import RepositoryURL
from fleet_rollout.errors import Transient
from fleet_rollout.sources.credentials import Credentials
from fleet_rollout.sources.git import GitFailed, GitStopped, GitTimeout, LimitPassed

LONGEST_EXCERPT = 300
PREFIX = "failed to checkout and determine revision"

# (text in git's answer, condition reason, fact and fix); the first that is found counts.
MEANINGS: tuple[tuple[re.Pattern[str], str, str], ...] = tuple(
    (re.compile(text), reason, meaning)
    for text, reason, meaning in (
        (
            r"Host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED",
            "HostKeyMismatch",
            "the server's host key is not in the Secret's known_hosts; check the server, then update known_hosts",
        ),
        (
            r"Authentication failed|could not read (Username|Password)|returned error: 40[13]\b|Permission denied"
            r"|incorrect passphrase|error in libcrypto|HTTP 40[13]\b",
            "AuthenticationFailed",
            "authentication failed; check the Secret named in secretRef",
        ),
        (
            r"returned error: 30[1-8]\b|unable to update url base from redirection",
            "Redirected",
            "the server redirects to another address; write the final one in url, often the same with .git",
        ),
        (
            r"returned error: 404\b|repository '[^']*' not found",
            "GitOperationFailed",
            "repository not found; check url",
        ),
        (
            r"SSL certificate problem|server certificate verification failed|certificate verif",
            "GitOperationFailed",
            "the server's TLS certificate is not trusted; add its authority as ca.crt to the Secret",
        ),
        (
            r"alert (bad|unknown|handshake|certificate)|certificate required",
            "AuthenticationFailed",
            "the server refused the TLS connection; check tls.crt and tls.key of the Secret",
        ),
    )
)
# Protocol 2: there is no such commit. Older ones: the server gives only what it lists.
NO_SUCH_OBJECT = re.compile(r"not our ref|couldn't find remote ref|no such remote ref")
NOT_GIVEN = re.compile(r"unadvertised object")
NOISE = re.compile(r"^(hint|remote): ?|^(fatal|error|warning): ", re.MULTILINE)
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]+")
PRIVATE_PATH = re.compile(r"/\S*/(fleet-rollout-|mirrors/)\S*")


@contextmanager
def explained(doing: str, url: RepositoryURL, credentials: Credentials, seconds: float) -> Iterator[None]:
    """Turns what git raises while `doing` (`list remote`, `clone`) into an error with a reason."""
    with bounded(doing, url, seconds):
        try:
            yield
        except GitFailed as error:
            raise failure(error, doing, url, credentials) from None


@contextmanager
def bounded(doing: str, url: RepositoryURL, seconds: float) -> Iterator[None]:
    """The part of `explained` that is about our own limits."""
    try:
        yield
    except GitTimeout:
        fact = f"no answer within the time-out of {seconds:g}s; raise timeout or check the server"
        raise _failed(doing, url, fact) from None
    except LimitPassed as error:
        fact = f"{error}; use a smaller repository"
        raise _failed(doing, url, fact, "TooLarge") from None
    except GitStopped:
        raise _failed(doing, url, "interrupted: the service stops") from None


def failure(error: GitFailed, doing: str, url: RepositoryURL, credentials: Credentials) -> Transient:
    """The error for an ended git."""
    for pattern, reason, meaning in MEANINGS:
        if pattern.search(error.errors):
            if reason == "Redirected":
                reason = "CredentialRedirect" if credentials.are_sent else "GitOperationFailed"
            return _failed(doing, url, meaning, reason)
    return _failed(doing, url, excerpt(error, credentials))


def has_meaning(error: GitFailed) -> bool:
    """Whether the table knows what went wrong; if not, the mirror itself may be damaged."""
    return any(pattern.search(error.errors) for pattern, _, _ in MEANINGS)


def is_unknown_object(error: GitFailed) -> bool:
    """Whether the server said that it has no such commit."""
    return NO_SUCH_OBJECT.search(error.errors) is not None


def is_not_given(error: GitFailed) -> bool:
    """Whether the server gives no single commits, so that whole branches have to be fetched."""
    return NOT_GIVEN.search(error.errors) is not None


def excerpt(error: GitFailed, credentials: Credentials) -> str:
    """git's own words, fit for a condition: no secrets, no control characters, no paths of this machine."""
    redact: Callable[[str], str] = credentials.redact
    text = PRIVATE_PATH.sub("…", redact(NOISE.sub("", error.errors)))
    text = UNPRINTABLE.sub(" ", text).strip()
    return text[:LONGEST_EXCERPT] or f"git ended with {error.returncode}"


def _failed(doing: str, url: RepositoryURL, fact: str, reason: str = "GitOperationFailed") -> Transient:
    return Transient(reason, f"{PREFIX}: unable to {doing} '{url.text}': {fact}")
