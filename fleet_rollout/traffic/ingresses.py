"""The Ingress of a user and the one beside it that the engine keeps for the canary.

Several Canaries may share a user's Ingress. The first has `<ingress>-canary`; where that is another Canary's, ours
is `<ingress>-<apex>-canary`, so that they do not take each other's rules away.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fleet_rollout.decide.canary.objects import Live, Object, Ref, StepFailed
from fleet_rollout.decide.canary.subject import Subject
from fleet_rollout.traffic.objects import LAST_APPLIED, capped, found

API = "networking.k8s.io/v1"
TITLE = "ingress"


def reads(subject: Subject) -> list[Ref]:
    """The user's Ingress, and both places where ours may be."""
    return [_ref(subject, name) for name in _names(subject)] if _given(subject) else []


def source(subject: Subject, live: Live) -> Object:
    """The user's Ingress."""
    return found(live, _ref(subject, _names(subject)[0]), TITLE)


def ours(subject: Subject, live: Live) -> Ref:
    """Where the canary's Ingress is, or is to be."""
    _, first, second = (_ref(subject, name) for name in _names(subject))
    if _canary_of(live[second]) == subject.name:
        return second
    return second if _canary_of(live[first]) not in (None, subject.name) else first


def canary(subject: Subject, live: Live) -> Object:
    """The canary's Ingress, which must be there."""
    return found(live, ours(subject, live), TITLE)


def copied(subject: Subject, ingress: Object, change: Callable[[Object], Iterable[Object]]) -> Object:
    """The spec of the user's Ingress, with every path to the apex Service replaced.

    `change` gives the path to put in its place, then those for the end of its rule. Rules without paths stay.
    """
    spec: Object = copy.deepcopy(ingress.get("spec") or {})
    count = 0
    for rule in spec.get("rules") or ():
        paths: list[Object] = (rule.get("http") or {}).get("paths") or []
        added: list[Object] = []
        for index, path in enumerate(paths):
            if service_of(path) == subject.apex:
                paths[index], *more = change(path)
                added += more
                count += 1
        paths += added
    if not count:
        raise StepFailed(f"backend {subject.apex} not found in ingress {ingress['metadata']['name']}")
    return spec


def service_of(path: Mapping[str, Any]) -> str | None:
    name = ((path.get("backend") or {}).get("service") or {}).get("name")
    return None if name is None else str(name)


def to_service(path: Object, name: str) -> Object:
    """The same path, leading to another Service."""
    backend = path["backend"]
    return {**copy.deepcopy(path), "backend": {**backend, "service": {**backend["service"], "name": name}}}


def inherited(annotations: Mapping[str, str] | None, *, without: str = LAST_APPLIED) -> dict[str, str]:
    """The annotations that a copy takes over: not what kubectl keeps there, and no key that contains `without`."""
    return {key: value for key, value in (annotations or {}).items() if LAST_APPLIED not in key and without not in key}


def _names(subject: Subject) -> tuple[str, str, str]:
    name = _given(subject)
    if not name:
        raise StepFailed("ingress selector is empty")
    return name, capped(f"{name}-canary"), capped(f"{name}-{subject.apex}-canary")


def _given(subject: Subject) -> str:
    return str((subject.spec.get("ingressRef") or {}).get("name") or "")


def _ref(subject: Subject, name: str) -> Ref:
    return Ref(API, "Ingress", subject.namespace, name)


def _canary_of(ingress: Object | None) -> str | None:
    """The Canary that an Ingress goes with."""
    owners = ((ingress or {}).get("metadata") or {}).get("ownerReferences") or ()
    controllers = (owner for owner in owners if owner.get("controller") and owner.get("kind") == "Canary")
    return next((str(owner["name"]) for owner in controllers), None)
