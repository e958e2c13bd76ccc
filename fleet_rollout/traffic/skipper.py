"""Skipper: a second Ingress with paths to primary and canary, whose annotations say how they share the requests."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from fleet_rollout.decide.canary.objects import Live, Object, Ref, Remove, StepFailed, Write
from fleet_rollout.decide.canary.subject import UNTOUCHED_BY_FLUX, Subject
from fleet_rollout.traffic import ingresses
from fleet_rollout.traffic.objects import Labelled, create, dotted, percent, update
from fleet_rollout.traffic.router import Moved, Routes

WEIGHTS = "zalando.org/backend-weights"
PREDICATE = "zalando.org/skipper-predicate"
# Prefers our routes to those of the user's Ingress, which has the same paths.
ENABLED = "Weight(100)"
DISABLED = "False()"
_OURS = re.compile(r"(?:^|&&)\s*(?:Weight\(100\)|False\(\))\s*(?=&&|$)")


class SkipperRouter:
    """The user's Ingress is never written."""

    def reads(self, subject: Subject) -> list[Ref]:
        return ingresses.reads(subject)

    def reconcile(self, subject: Subject, live: Live) -> list[Write]:
        """Rules and paths follow the user's Ingress; shares stay as they are found."""
        source = ingresses.source(subject, live)
        spec = ingresses.copied(
            subject,
            source,
            lambda path: [ingresses.to_service(path, name) for name in (subject.primary, subject.canary)],
        )
        ref = ingresses.ours(subject, live)
        metadata = source["metadata"]
        if (there := live[ref]) is None:
            annotations = ingresses.inherited(metadata.get("annotations"))
            said = {**annotations, **_annotations(subject, annotations, Routes(100, 0), ENABLED)}
            return [create(subject, ref, Labelled(metadata.get("labels") or {}, said), spec=spec)]
        annotations = there["metadata"].get("annotations") or {}
        lost = {} if WEIGHTS in annotations else _annotations(subject, annotations, Routes(100, 0), ENABLED)
        return update(there, Labelled(annotations={**UNTOUCHED_BY_FLUX, **lost}), spec=spec)

    def routes(self, subject: Subject, live: Live) -> Routes:
        ingress = ingresses.canary(subject, live)
        ref = ingresses.ours(subject, live)
        weights = _weights(dotted(ref), ingress["metadata"].get("annotations") or {})
        title = f"annotation {WEIGHTS} of ingress"
        primary, canary = (percent(weights.get(name), name, title, ref) for name in (subject.primary, subject.canary))
        return Routes(primary, canary)

    def set_routes(self, subject: Subject, live: Live, routes: Routes, *, token: str) -> Moved:
        """Without a share for the canary the user's own Ingress serves."""
        ingress = ingresses.canary(subject, live)
        old = ingress["metadata"].get("annotations") or {}
        predicate = ENABLED if routes.canary > 0 else DISABLED
        return Moved(update(ingress, Labelled(annotations=_annotations(subject, old, routes, predicate))), {})

    def finalize(self, subject: Subject, live: Live) -> list[Write]:
        """A Canary that names no Ingress never had one, and may go."""
        if not ingresses.reads(subject):
            return []
        ref = ingresses.ours(subject, live)
        there = live[ref]
        if there is None:
            return []
        return [Remove(ref, there["metadata"]["uid"], there["metadata"]["resourceVersion"])]


def _annotations(subject: Subject, old: dict[str, str], routes: Routes, first: str) -> dict[str, str]:
    shares = {subject.canary: routes.canary, subject.primary: routes.primary}
    predicate = _with_first(old.get(PREDICATE, ""), first)
    return {**UNTOUCHED_BY_FLUX, WEIGHTS: json.dumps(shares, separators=(",", ":")), PREDICATE: predicate}


def _with_first(predicate: str, first: str) -> str:
    """The user's predicates after ours, of which only `first` is left."""
    others = _OURS.sub("", predicate).strip().removeprefix("&&").strip()
    return f"{first} && {others}" if others else first


def _weights(name: str, annotations: Object) -> dict[str, Any]:
    try:
        weights = orjson.loads(annotations[WEIGHTS])
    except (KeyError, ValueError) as error:
        why = "no such annotation" if isinstance(error, KeyError) else str(error)
        raise StepFailed(f"ingress {name} get backendWeights error: {WEIGHTS}: {why}") from error
    return weights if isinstance(weights, dict) else {}
