"""What an API server may answer: every answer is checked here before anybody looks into it. Pure.

A member's answers are as foreign as a user's manifests (docs/reliability.md, class 10): what is not what was asked for
is Unreachable, no answer that can be trusted, and never an exception of Python's in the midst of a reconcile.
"""

from __future__ import annotations

from typing import Any

import orjson

from fleet_rollout.kube.discovery import Resource
from fleet_rollout.kube.errors import ApiError, Unreachable

CHECK_SERVER = "check the kubeconfig's server"
PARTIAL = "PartialObjectMetadata"
EVENTS = frozenset({"ADDED", "MODIFIED", "DELETED", "BOOKMARK"})
TEXTS = ("name", "namespace", "uid", "resourceVersion")
MAPS = ("labels", "annotations")
# A value takes some sixty bytes, however short it is on the wire; a list at its limit has half as many.
MOST_VALUES = 4_000_000

Object = dict[str, Any]


def one(answer: Any, resource: Resource, cluster: str, *, changed: bool) -> Object:
    """The answer as an object of its kind; `changed`: it was to a request that changes something."""
    if not _is_object(answer) or answer.get("kind") not in (resource.kind, PARTIAL):
        raise _other(cluster, resource.kind, maybe_sent=changed)
    found: Object = answer
    return found


def page(answer: Any, resource: Resource, cluster: str) -> tuple[list[Object], Object]:
    """The items and the metadata of one page of a list, whose kind a CRD may name as it likes (`listKind`)."""
    if not isinstance(answer, dict) or "items" not in answer:
        raise _other(cluster, f"list of {resource.plural}")
    items, metadata = answer["items"] or [], answer.get("metadata") or {}
    if not isinstance(items, list) or not isinstance(metadata, dict) or not all(map(_is_named, items)):
        raise _other(cluster, f"list of {resource.plural}")
    return items, metadata


def event(line: bytes, cluster: str) -> tuple[Any, Object]:
    """Type and object of a watch's line; raises ApiError for an ERROR event."""
    if holds_too_much(line):
        raise _no_event(cluster)
    try:
        content = orjson.loads(line)
        kind, obj = content["type"], content["object"]
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError) as error:
        raise _no_event(cluster) from error
    if kind == "ERROR" and isinstance(obj, dict):
        code = obj.get("code")
        raise refusal(code if isinstance(code, int) else 500, obj)
    if not isinstance(kind, str) or kind not in EVENTS or not (_is_object if kind == "BOOKMARK" else _is_named)(obj):
        raise _no_event(cluster)
    return kind, obj


def refusal(status: int, body: Any, retry_after: float | None = None) -> ApiError:
    """A `Status` as an error; fields that are not what they should be are left out."""
    content: Object = body if isinstance(body, dict) else {}
    message, reason, details = (content.get(field) for field in ("message", "reason", "details"))
    return ApiError(
        status,
        reason if isinstance(reason, str) else "",
        message if isinstance(message, str) and message else f"status {status}",
        details if isinstance(details, dict) else None,
        retry_after,
    )


def holds_too_much(content: bytes) -> bool:
    """Whether JSON has more than MOST_VALUES values, by the signs that precede one."""
    return len(content) > MOST_VALUES and sum(map(content.count, (b",", b"[", b"{"))) > MOST_VALUES


def _is_object(value: Any) -> bool:
    metadata = value.get("metadata") if isinstance(value, dict) else None
    return (
        isinstance(metadata, dict)
        and all(isinstance(metadata.get(field, ""), str) for field in TEXTS)
        and all(isinstance(metadata.get(field) or {}, dict) for field in MAPS)
    )


def _is_named(value: Any) -> bool:
    return _is_object(value) and bool(value["metadata"].get("name"))


def _other(cluster: str, kind: str, *, maybe_sent: bool = False) -> Unreachable:
    fact = f"answered with something that is no {kind}; {CHECK_SERVER}"
    return Unreachable(cluster, fact, maybe_sent=maybe_sent)


def _no_event(cluster: str) -> Unreachable:
    return Unreachable(cluster, "a watch sent something that is no event", maybe_sent=False)
