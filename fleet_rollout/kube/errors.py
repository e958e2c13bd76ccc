"""What can go wrong between us and an API server, as two exceptions, and how they become condition reasons.

`ApiError` is an answer: the server works and refused. `Unreachable` is no answer that can be trusted.
Messages never hold a credential.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fleet_rollout.errors import Terminal, Transient

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}
# The same request gets the same answer until somebody changes the object.
HOPELESS = frozenset({400, 405, 413, 415, 422})
# What is answered in an API server's place while it is away.
NOBODY_THERE = frozenset({502, 503})


class ApiError(Exception):
    """A Kubernetes `Status` answer. `retry_after` (seconds) is the server's wish, if it named one."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason or REASONS.get(status, "Unknown")
        self.message = message
        self.details: dict[str, Any] = dict(details or {})
        self.retry_after = retry_after

    @property
    def is_not_found(self) -> bool:
        return self.status == 404

    @property
    def is_already_exists(self) -> bool:
        return self.reason == "AlreadyExists"

    @property
    def is_conflict(self) -> bool:
        """A precondition or a field manager's ownership did not hold (not: the name is taken)."""
        return self.status == 409 and not self.is_already_exists

    @property
    def is_invalid(self) -> bool:
        return self.status == 422

    @property
    def is_of_another(self) -> bool:
        """The object of this name is not the one whose UID was sent: an apply is told so as of a field."""
        return self.is_invalid and any(
            cause.get("field") == "metadata.uid" for cause in self.details.get("causes") or ()
        )

    @property
    def is_forbidden(self) -> bool:
        return self.status == 403

    @property
    def is_unauthorized(self) -> bool:
        return self.status == 401

    @property
    def is_lost(self) -> bool:
        """Nobody was there to take it, and nobody says when somebody will be; whether it arrived is not known."""
        return self.status in NOBODY_THERE and self.retry_after is None

    @property
    def is_expired(self) -> bool:
        """The asked resourceVersion or page is no longer known."""
        return self.status == 410


BAD_CREDENTIALS = "refused the kubeconfig's credentials (401); put fresh ones into its Secret"


class NoSuchKind(ApiError):
    """The API server does not serve this kind (its CRD may be missing)."""

    def __init__(self, api_version: str, kind: str) -> None:
        super().__init__(404, "NoKindMatch", f'no matches for kind "{kind}" in version "{api_version}"')
        self.api_version = api_version
        self.kind = kind


class Unread(ApiError):
    """Whether the API server serves this kind cannot be said: part of the group is served by another, which is down."""

    def __init__(self, api_version: str, kind: str, unread: str) -> None:
        fact = f'cannot tell whether kind "{kind}" is served in version "{api_version}"'
        super().__init__(503, "", f"{fact}: the server of {unread} gives no answer; see `kubectl get apiservices`")


class Unreachable(Exception):
    """No answer, or none of a Kubernetes API. `maybe_sent`: the request may have been carried out.

    `is_lost`: there was a connection, and it ended before the answer did, or a proxy found nobody behind it; the next
    request may fare better.
    `fix` is for the condition of the cluster itself, which is where people look who can mend it.
    """

    def __init__(self, cluster: str, fact: str, *, maybe_sent: bool, is_lost: bool = False, fix: str = "") -> None:
        super().__init__(f"{cluster}: {fact}")
        self.cluster = cluster
        self.fact = fact
        self.fix = fix
        self.message = f"{cluster}: {fact}"
        self.maybe_sent = maybe_sent
        self.is_lost = is_lost


@contextmanager
def kube_errors(reason: str, subject: str) -> Iterator[None]:
    """Turn both into the service's errors: `reason`, and a message that starts with `subject`.

    Refusals that only a change of the object can mend are Terminal; everything else is retried.
    """
    try:
        yield
    except ApiError as error:
        message = f"{subject}: {error.message}"
        if error.status in HOPELESS:
            raise Terminal(reason, message) from error
        raise Transient(reason, message, retry_after=error.retry_after) from error
    except Unreachable as error:
        raise Transient(reason, f"{subject}: {error.message}") from error
