"""One VirtualService's http rules as Envoy routes: matches, weights, headers, retries, mirror.

Covers what Flagger and Kurator write for Istio. What only a mesh can do (sourceLabels, gateways,
subsets) is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fleet_rollout.decide.intervals import parse_duration

Object = dict[str, Any]


@dataclass(frozen=True)
class Backend:
    """A workload that answers for a destination, with its share among the others."""

    workload: str
    share: int


Destinations = Callable[[str, int], list[Backend]]

# A process that stops closes its connections: a request that was not answered is tried elsewhere, as
# a sidecar would. Never on a status code, or the lab would hide the errors that it is to measure.
RETRY_ON = "connect-failure,refused-stream,reset"
PRECISION = 1000


def routes_of(rules: list[Object], destinations: Destinations) -> list[Object]:
    """Envoy's routes for the `http` list of a VirtualService, in the same order; alternatives become routes."""
    return [
        {"match": match, **_headers(rule.get("headers", {})), "route": _action(rule, destinations)}
        for rule in rules
        for match in _matches(rule.get("match") or [{}])
    ]


def _matches(alternatives: list[Object]) -> Iterator[Object]:
    for wanted in alternatives:
        headers = [_header(name, how) for name, how in wanted.get("headers", {}).items()]
        headers += [
            {**_header(name, how), "invert_match": True} for name, how in wanted.get("withoutHeaders", {}).items()
        ]
        for name in ("method", "authority"):
            if name in wanted:
                headers.append(_header(f":{name}", wanted[name]))
        match = _path(wanted.get("uri", {}), ignore_case=wanted.get("ignoreUriCase", False))
        if headers:
            match["headers"] = headers
        if parameters := wanted.get("queryParams"):
            match["query_parameters"] = [
                {"name": name, "string_match": _string(how)} for name, how in parameters.items()
            ]
        yield match


def _path(uri: Object, *, ignore_case: bool) -> Object:
    sensitive: Object = {"case_sensitive": False} if ignore_case else {}
    if "exact" in uri:
        return {"path": uri["exact"], **sensitive}
    if "regex" in uri:
        return {"safe_regex": {"regex": uri["regex"]}}
    return {"prefix": uri.get("prefix", "/"), **sensitive}


def _header(name: str, how: Object) -> Object:
    if not how:
        return {"name": name.lower(), "present_match": True}
    return {"name": name.lower(), "string_match": _string(how)}


def _string(how: Object) -> Object:
    kind, value = next(iter(how.items()))
    return {"safe_regex": {"regex": value}} if kind == "regex" else {kind: value}


def _action(rule: Object, destinations: Destinations) -> Object:
    weighted = list(_weighted(rule.get("route") or [], destinations))
    action: Object = {
        "weighted_clusters": {"clusters": weighted},
        "timeout": _duration(rule.get("timeout")),
        "retry_policy": _retries(rule.get("retries") or {}),
    }
    rewrite = rule.get("rewrite") or {}
    if "uri" in rewrite:
        action["prefix_rewrite"] = rewrite["uri"]
    if "authority" in rewrite:
        action["host_rewrite_literal"] = rewrite["authority"]
    if mirror := rule.get("mirror"):
        action["request_mirror_policies"] = list(_mirrors(rule, mirror, destinations))
    return action


def _weighted(routes: list[Object], destinations: Destinations) -> Iterator[Object]:
    """One entry per workload; a destination's weight is divided among its workloads by their Pods.

    Istio gives a sole destination everything, whatever its weight: Flagger writes such rules.
    """
    weights = [int(route.get("weight", 0)) for route in routes]
    if not any(weights):
        weights = [1] * len(routes)
    for route, weight in zip(routes, weights, strict=True):
        target = route["destination"]
        backends = destinations(target["host"], int(target.get("port", {}).get("number", 0)))
        total = sum(backend.share for backend in backends)
        for backend in backends:
            yield {
                "name": backend.workload,
                "weight": weight * PRECISION * backend.share // total,
                **_headers(route.get("headers", {})),
            }


def _headers(headers: Object) -> Object:
    changes: Object = {}
    for side in ("request", "response"):
        wanted = headers.get(side) or {}
        added = [_added(name, value, "OVERWRITE_IF_EXISTS_OR_ADD") for name, value in wanted.get("set", {}).items()]
        added += [_added(name, value, "APPEND_IF_EXISTS_OR_ADD") for name, value in wanted.get("add", {}).items()]
        if added:
            changes[f"{side}_headers_to_add"] = added
        if removed := wanted.get("remove"):
            changes[f"{side}_headers_to_remove"] = removed
    return changes


def _added(name: str, value: str, action: str) -> Object:
    # Envoy reads % as the start of a command.
    return {"header": {"key": name, "value": value.replace("%", "%%")}, "append_action": action}


def _retries(wanted: Object) -> Object:
    policy: Object = {
        "retry_on": ",".join(filter(None, (RETRY_ON, wanted.get("retryOn")))),
        "num_retries": max(3, int(wanted.get("attempts", 0))),
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                },
            }
        ],
        "host_selection_retry_max_attempts": 3,
    }
    if "perTryTimeout" in wanted:
        policy["per_try_timeout"] = _duration(wanted["perTryTimeout"])
    return policy


def _mirrors(rule: Object, mirror: Object, destinations: Destinations) -> Iterator[Object]:
    share = float((rule.get("mirrorPercentage") or {}).get("value", 100))
    for backend in destinations(mirror["host"], int(mirror.get("port", {}).get("number", 0))):
        fraction = {"numerator": round(share * 10_000), "denominator": "MILLION"}
        yield {"cluster": backend.workload, "runtime_fraction": {"default_value": fraction}}


def _duration(text: str | None) -> str:
    """Envoy's form of a Go duration; nothing means no time-out, as in Istio."""
    return f"{parse_duration(text) if text else 0:.3f}s"
