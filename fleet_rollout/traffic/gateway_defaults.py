"""HTTPRoutes as the API server returns them: with the defaults of the Gateway API's CRDs filled in.

Both sides of a comparison go through here, so that what was left out and what was filled in are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from fleet_rollout.decide.canary.objects import Object

_ANY_PATH = {"type": "PathPrefix", "value": "/"}
_SERVICE = {"group": "", "kind": "Service"}
_CORS_SECONDS = 5
_WEIGHT = 1


def says_the_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two specs mean the same; a rule that repeats the one before it makes no difference."""
    return _spec(one) == _spec(other)


def parent_of(ref: Mapping[str, Any], namespace: str) -> Object:
    """A reference to a parent with everything said, `namespace` being that of its route."""
    return {"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": namespace, **ref}


def backend_name(backend: Mapping[str, Any]) -> str:
    return str(backend.get("name", ""))


def weight_of(backend: Mapping[str, Any]) -> int:
    weight = backend.get("weight")
    return _WEIGHT if weight is None else int(weight)


def _spec(spec: Mapping[str, Any]) -> Object:
    rules = [_rule(rule) for rule in spec.get("rules") or ()]
    parents = [parent_of(ref, "") for ref in spec.get("parentRefs") or ()]
    return _said({**spec, "parentRefs": parents, "rules": _distinct(rules)})


def _rule(rule: Mapping[str, Any]) -> Object:
    return _said(
        {
            **rule,
            "matches": [_match(match) for match in rule.get("matches") or [{}]],
            "filters": [_filter(each) for each in rule.get("filters") or ()],
            "backendRefs": [_backend(backend) for backend in rule.get("backendRefs") or ()],
        }
    )


def _match(match: Mapping[str, Any]) -> Object:
    values = {
        name: [{"type": "Exact", **each} for each in match.get(name) or ()] for name in ("headers", "queryParams")
    }
    return _said({**match, **values, "path": {**_ANY_PATH, **(match.get("path") or {})}})


def _backend(backend: Mapping[str, Any]) -> Object:
    filters = [_filter(each) for each in backend.get("filters") or ()]
    return _said({**_SERVICE, **backend, "weight": weight_of(backend), "filters": filters})


def _filter(each: Mapping[str, Any]) -> Object:
    filled = dict(each)
    if filled.get("cors") is not None:
        filled["cors"] = {"maxAge": _CORS_SECONDS, **filled["cors"]}
    if filled.get("requestMirror"):
        backend = {**_SERVICE, **(filled["requestMirror"].get("backendRef") or {})}
        filled["requestMirror"] = {**filled["requestMirror"], "backendRef": backend}
    return filled


def _distinct(rules: Sequence[Object]) -> list[Object]:
    return [*rules[:1], *(rule for before, rule in pairwise(rules) if rule != before)]


def _said(fields: Mapping[str, Any]) -> Object:
    """Without what says nothing: None and empty lists and maps."""
    return {name: value for name, value in fields.items() if value not in (None, [], {})}
