"""What a rule of an HTTPRoute does to requests and responses, in the order in which Flagger writes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fleet_rollout.decide.canary.objects import Object, StepFailed
from fleet_rollout.decide.canary.subject import Subject, seconds_of

SET_HEADERS = "ResponseHeaderModifier"
_MIRROR = "RequestMirror"
_PREFIX = "ReplacePrefixMatch"
# Fields of `corsPolicy` and what the filter calls them. Patterns of origins (allowOrigins) have no counterpart.
_CORS = (
    ("allowOrigin", "allowOrigins"),
    ("allowMethods", "allowMethods"),
    ("allowHeaders", "allowHeaders"),
    ("exposeHeaders", "exposeHeaders"),
)


def filters_of(subject: Subject, *, has_cors: bool) -> list[Object]:
    """The filters of every rule; those of the canary's own run come after them."""
    service = subject.service
    filters = [*_headers(service), *_rewrite(service), *_mirrors(service)]
    if has_cors and service.get("corsPolicy") is not None:
        filters.append({"type": "CORS", "cors": _cors(service["corsPolicy"])})
    return filters


def adding(filters: list[Object], name: str, value: str) -> list[Object]:
    """These filters, and one header added to the response; the API server allows one filter of that kind in a rule."""
    there = next((each for each in filters if each["type"] == SET_HEADERS), {})
    changes = there.get("responseHeaderModifier", {})
    kept = [header for header in changes.get("add", ()) if header["name"] != name]
    added = {**changes, "add": [*kept, {"name": name, "value": value}]}
    changed = {"type": SET_HEADERS, "responseHeaderModifier": added}
    return [changed if each is there else each for each in filters] if there else [*filters, changed]


def added(filters: list[Object] | None, name: str) -> str | None:
    """The value of a header that these filters add to the response; the last counts."""
    values = [
        header.get("value")
        for each in filters or ()
        for header in (each.get("responseHeaderModifier") or {}).get("add") or ()
        if header.get("name") == name
    ]
    return values[-1] if values else None


def mirror_to(subject: Subject) -> Object:
    """A filter that sends a copy of each request to the canary."""
    return _mirror({"group": "", "kind": "Service", "name": subject.canary, "port": subject.port})


def is_mirror_to(each: Mapping[str, Any], name: str) -> bool:
    return each.get("type") == _MIRROR and _backend(each).get("name") == name


def _backend(each: Mapping[str, Any]) -> Mapping[str, Any]:
    return (each.get("requestMirror") or {}).get("backendRef") or {}


def _headers(service: Mapping[str, Any]) -> Iterator[Object]:
    headers = service.get("headers") or {}
    for side, kind in (("request", "RequestHeaderModifier"), ("response", SET_HEADERS)):
        wanted = headers.get(side) or {}
        changes: Object = {
            operation: [{"name": name, "value": value} for name, value in sorted(wanted[operation].items())]
            for operation in ("add", "set")
            if wanted.get(operation)
        }
        if wanted.get("remove"):
            changes["remove"] = list(wanted["remove"])
        if changes:
            yield {"type": kind, kind[0].lower() + kind[1:]: changes}


def _rewrite(service: Mapping[str, Any]) -> Iterator[Object]:
    rewrite = service.get("rewrite") or {}
    changes: Object = {}
    if rewrite.get("authority"):
        changes["hostname"] = rewrite["authority"]
    if rewrite.get("uri"):
        kind = _PREFIX if rewrite.get("type") == _PREFIX else "ReplaceFullPath"
        changes["path"] = {"type": kind, kind[0].lower() + kind[1:]: rewrite["uri"]}
    if changes:
        yield {"type": "URLRewrite", "urlRewrite": changes}


def _mirrors(service: Mapping[str, Any]) -> Iterator[Object]:
    for index, mirror in enumerate(service.get("mirror") or ()):
        if not mirror.get("backendRef"):
            raise StepFailed(f"service.mirror[{index}].backendRef is missing: name the Service that gets the copies")
        yield _mirror({"group": "", "kind": "Service", **mirror["backendRef"]})


def _mirror(backend: Object) -> Object:
    return {"type": _MIRROR, "requestMirror": {"backendRef": backend}}


def _cors(policy: Mapping[str, Any]) -> Object:
    cors: Object = {theirs: list(policy[ours]) for ours, theirs in _CORS if policy.get(ours)}
    if policy.get("allowCredentials"):
        cors["allowCredentials"] = True
    seconds = int(seconds_of(policy.get("maxAge"), 0.0))
    return cors | {"maxAge": seconds} if seconds else cors
