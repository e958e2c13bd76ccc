"""One Ingress named `nginx` in a namespace, shared by all rollouts there: one rule per host, each with one owner.

A list of rules belongs to one field manager as a whole, so several writers cannot share it by server-side apply. The
full object is computed from the live one and written with its resourceVersion; a conflict means reading it again.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fleet_rollout.decide import names
from fleet_rollout.decide.problems import Problem
from fleet_rollout.decide.traffic_names import INGRESS, INGRESS_CLASS_ANNOTATION

Object = dict[str, Any]

NOT_OURS_TO_SEND = ("managedFields", "creationTimestamp", "generation", "selfLink")


@dataclass(frozen=True)
class Rule:
    """One host's way to a Service."""

    host: str
    service: str
    port: int = 0


@dataclass(frozen=True)
class IngressWrite:
    """What to send: the whole object, to be created, or replaced or deleted at its UID and resourceVersion."""

    action: Literal["create", "replace", "delete"]
    object: Object


def with_rule(
    live: Mapping[str, Any] | None, rule: Rule, *, namespace: str, policy: str, previous: Rule | None = None
) -> IngressWrite | Problem | None:
    """What makes `rule` the only one for its host; None where it is so already.

    `previous` is the rule this rollout had written before; it is taken away when host or Service have changed.
    """
    if live is None:
        return IngressWrite("create", _new(namespace, policy, rule))
    if names.ROLLOUT_ANNOTATION not in _annotations(live):
        return _foreign(namespace)
    wanted = _editable(live)
    wanted["metadata"]["annotations"] = {INGRESS_CLASS_ANNOTATION: "nginx"} | _annotations(live)
    rules = wanted["spec"].get("rules") or []
    if previous is not None and (previous.host, previous.service) != (rule.host, rule.service):
        rules = _without(rules, previous)
    if (holder := _holder(rules, rule.host)) not in (None, rule.service):
        return _host_taken(namespace, rule, str(holder))
    wanted["spec"]["rules"] = _with(rules, rule)
    return None if wanted == _editable(live) else IngressWrite("replace", wanted)


def without_rule(live: Mapping[str, Any] | None, rule: Rule) -> IngressWrite | None:
    """What takes `rule` away, and the Ingress with it when it was the last; None where there is nothing to do."""
    if live is None or names.ROLLOUT_ANNOTATION not in _annotations(live):
        return None
    wanted = _editable(live)
    rules = wanted["spec"].get("rules") or []
    left = _without(rules, rule)
    if left == rules:
        return None
    if not left and "defaultBackend" not in wanted["spec"]:
        return IngressWrite("delete", wanted)
    wanted["spec"]["rules"] = left
    return IngressWrite("replace", wanted)


def _new(namespace: str, policy: str, rule: Rule) -> Object:
    annotations = {names.ROLLOUT_ANNOTATION: policy, INGRESS_CLASS_ANNOTATION: "nginx"}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": INGRESS, "namespace": namespace, "annotations": annotations},
        "spec": {"rules": _with([], rule)},
    }


def _path(rule: Rule) -> Object:
    backend = {"service": {"name": rule.service, "port": {"number": rule.port}}}
    return {"path": "/", "pathType": "Prefix", "backend": backend}


def _annotations(obj: Mapping[str, Any]) -> dict[str, str]:
    return dict(obj["metadata"].get("annotations") or {})


def _editable(live: Mapping[str, Any]) -> Object:
    """A copy of the live object without what only the API server writes, but for what says which one it was."""
    obj = {key: copy.deepcopy(value) for key, value in live.items() if key != "status"}
    obj["metadata"] = {key: value for key, value in obj["metadata"].items() if key not in NOT_OURS_TO_SEND}
    obj.setdefault("spec", {})
    return obj


def _with(rules: list[Object], rule: Rule) -> list[Object]:
    """`rules` with one for its host: in the place of the first (Kurator may have left many), else at the end."""
    same = [each for each in rules if each.get("host") == rule.host]
    paths = [path for each in same for path in _paths(each) if not _is_root(path)]
    merged: Object = {"host": rule.host, "http": {"paths": [_path(rule), *paths]}}
    result: list[Object] = []
    for each in rules:
        if each not in same:
            result.append(each)
        elif merged not in result:
            result.append(merged)
    return result if same else [*result, merged]


def _without(rules: list[Object], rule: Rule) -> list[Object]:
    """`rules` less the host's `/` to the Service; other paths of the host are somebody's own and stay."""
    left: list[Object] = []
    for each in rules:
        paths = [path for path in _paths(each) if not _is_root(path) or _service(path) != rule.service]
        if each.get("host") != rule.host or paths == _paths(each):
            left.append(each)
        elif paths:
            left.append({**each, "http": {**each["http"], "paths": paths}})
    return left


def _holder(rules: list[Object], host: str) -> str | None:
    """The Service that has the host's `/`."""
    roots = (path for each in rules if each.get("host") == host for path in _paths(each) if _is_root(path))
    return next((_service(path) for path in roots), None)


def _paths(rule: Mapping[str, Any]) -> list[Object]:
    return (rule.get("http") or {}).get("paths") or []


def _is_root(path: Mapping[str, Any]) -> bool:
    return bool(path.get("path", "/") == "/")


def _service(path: Mapping[str, Any]) -> str | None:
    name = path.get("backend", {}).get("service", {}).get("name")
    return None if name is None else str(name)


def _foreign(namespace: str) -> Problem:
    message = (
        f"Ingress/{namespace}/{INGRESS} is not a rollout's: it has no annotation {names.ROLLOUT_ANNOTATION};"
        " rename it, or set the annotation to let rollouts add their rules"
    )
    return Problem("OwnershipConflict", message)


def _host_taken(namespace: str, rule: Rule, holder: str) -> Problem:
    message = (
        f"Ingress/{namespace}/{INGRESS}: host {rule.host} already leads to Service {holder};"
        " choose another trafficRouting.host"
    )
    return Problem("HostTaken", message)
