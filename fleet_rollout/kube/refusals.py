"""What an API server's refusal of one object becomes for the user: Flux's texts, without a Secret's content.

Every refusal is tried again with back-off, for a webhook, a quota or a missing namespace may be mended in the member.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fleet_rollout.decide.inventory import Ref
from fleet_rollout.errors import Transient
from fleet_rollout.kube.client import ApiError, NoSuchKind, Unreachable
from fleet_rollout.kube.errors import BAD_CREDENTIALS

FAILED = "ReconciliationFailed"
UNREACHABLE = "ClusterUnreachable"
CONFLICT = "OwnershipConflict"
# These may quote what was sent, in words of the API server's own; other refusals name objects and rights only.
_QUOTING = frozenset({400, 422, 500})


@contextmanager
def answers(ref: Ref, step: str) -> Iterator[None]:
    """Raise what an API server answers inside as the error of this object in this step (`dry-run`, `apply`)."""
    try:
        yield
    except ApiError as error:
        # Without its cause: the original may quote a Secret.
        raise Transient(FAILED, refusal(ref, step, error), retry_after=error.retry_after) from None


@contextmanager
def reached(cluster: str) -> Iterator[None]:
    """Raise what is left: no answer at all, or a refusal that concerns no single object."""
    try:
        yield
    except Unreachable as error:
        raise Transient(UNREACHABLE, error.message) from error
    except ApiError as error:
        fact = BAD_CREDENTIALS if error.is_unauthorized else f"refused ({error.reason}): {error.message}"
        raise Transient(FAILED, f"{cluster} {fact}", retry_after=error.retry_after) from error


def refusal(ref: Ref, step: str, error: ApiError) -> str:
    """`Deployment/apps/web dry-run failed (Invalid): …`"""
    if isinstance(error, NoSuchKind):
        return f"{ref.subject} {step} failed: {error.message}"
    if error.is_not_found:
        return f"{ref.subject} not found: {error.message}"
    # A body that does not fit the schema is answered with 500 and no reason; "InternalError" would mislead.
    reason = "" if error.status == 500 else f" ({error.reason})"
    return f"{ref.subject} {step} failed{reason}: {_message(ref, error)}"


def no_namespace(ref: Ref) -> Transient:
    fix = "set metadata.namespace in the manifest or targetNamespace in the policy"
    return Transient(FAILED, f"{ref.subject} namespace not specified: {fix}")


def _message(ref: Ref, error: ApiError) -> str:
    if (ref.group, ref.kind) != ("", "Secret") or error.status not in _QUOTING:
        return error.message
    causes = error.details.get("causes") or []
    fields = sorted({str(cause.get("field")) for cause in causes if cause.get("field")})
    where = f"at {', '.join(fields)} " if fields else ""
    return f"the API server refuses its content {where}(not quoted here): data is base64, stringData is text"
