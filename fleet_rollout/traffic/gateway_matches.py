"""Conditions in Istio's shape, in which users write them, as matches of the Gateway API.

What it cannot express is refused (StepFailed): left out, the rule would be for more requests than the user said.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

from fleet_rollout.decide.canary.objects import Object, StepFailed

ANY_PATH: Object = {"type": "PathPrefix", "value": "/"}
# Ways to match, by the first that is given: of a path, and of headers and query parameters.
_PATH_TYPES = (("regex", "RegularExpression"), ("exact", "Exact"), ("prefix", "PathPrefix"))
_VALUE_TYPES = (("exact", "Exact"), ("regex", "RegularExpression"))


def matches_of(requests: Iterable[Mapping[str, Any]], field: str) -> list[Object]:
    """One match for each entry that says something; `field` names the list in errors."""
    found = (_match(request, f"{field}[{index}]") for index, request in enumerate(requests))
    return [match for match in found if match]


def merged(wanted: list[Object], of_service: list[Object]) -> list[Object]:
    """Each of `wanted` with each of the service's; headers and query parameters of the former replace the latter's."""
    if not of_service:
        return wanted
    replacing = [{key: match[key] for key in ("headers", "queryParams") if key in match} for match in wanted]
    return [copy.deepcopy(base | new) for new, base in product(replacing, of_service)]


def _match(request: Mapping[str, Any], field: str) -> Object:
    match: Object = {}
    if request.get("uri") is not None:
        kind, value = _first(request["uri"], _PATH_TYPES, f"{field}.uri")
        match["path"] = {"type": kind, "value": value}
    if request.get("method") is not None:
        _, match["method"] = _first(request["method"], _VALUE_TYPES[:1], f"{field}.method")
    for name in ("headers", "queryParams"):
        values = [
            {"name": key, "type": kind, "value": value}
            for key, how in sorted((request.get(name) or {}).items())
            for kind, value in [_first(how, _VALUE_TYPES, f"{field}.{name}.{key}")]
        ]
        if values:
            match[name] = values
    return match


def _first(how: Mapping[str, Any], types: tuple[tuple[str, str], ...], field: str) -> tuple[str, str]:
    for way, kind in types:
        if how.get(way):
            return kind, str(how[way])
    ways = " or ".join(way for way, _ in types)
    raise StepFailed(f"Invalid request matching selectors: {field} is not something the Gateway API knows: use {ways}")
