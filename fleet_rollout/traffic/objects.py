"""What routers do with a member's objects: find one, make one, bring one to what is wanted.

Labels, annotations and fields that the engine does not write are somebody else's, and stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from fleet_rollout.decide.canary.objects import Live, Put, Ref, StepFailed, Write
from fleet_rollout.decide.canary.subject import UNTOUCHED_BY_FLUX, Subject
from fleet_rollout.decide.names import short_hash
from fleet_rollout.traffic.router import Routes

Object = dict[str, Any]

NAME_LIMIT = 253
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class Labelled(NamedTuple):
    """What the engine puts on an object; an annotation that is None is taken away."""

    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str | None] = {}


def like_apex(subject: Subject) -> Labelled:
    """The metadata of most routing objects: `service.apex`, with the label of the apex Service where it is given."""
    apex = subject.service.get("apex")
    labels = dict((apex or {}).get("labels") or {})
    if apex is not None and subject.label_key:
        labels[subject.label_key] = subject.apex
    return Labelled(labels, {**((apex or {}).get("annotations") or {}), **UNTOUCHED_BY_FLUX})


def found(live: Live, ref: Ref, title: str) -> Object:
    """The object, which must be there."""
    obj = live[ref]
    if obj is None:
        raise StepFailed(f'{title} {dotted(ref)} get query error: {_resource(ref)} "{ref.name}" not found')
    return obj


def dotted(ref: Ref) -> str:
    """`<name>.<namespace>`, as events name objects."""
    return f"{ref.name}.{ref.namespace}" if ref.namespace else ref.name


def create(subject: Subject, ref: Ref, labelled: Labelled, *, owned: bool = True, **parts: Any) -> Put:
    """A new object of the Canary."""
    metadata: Object = {"name": ref.name}
    if ref.namespace:
        metadata["namespace"] = ref.namespace
    if labelled.labels:
        metadata["labels"] = dict(labelled.labels)
    if annotations := {key: value for key, value in labelled.annotations.items() if value is not None}:
        metadata["annotations"] = annotations
    if owned:
        metadata["ownerReferences"] = [subject.owner_reference]
    return Put({"apiVersion": ref.api_version, "kind": ref.kind, "metadata": metadata, **parts})


def update(live: Object, labelled: Labelled | None = None, **parts: Any) -> list[Write]:
    """The live object with our metadata and the given parts; nothing where it is so already."""
    metadata = dict(live["metadata"])
    labels, annotations = labelled or Labelled()
    for key, ours in (("labels", labels), ("annotations", annotations)):
        merged = over(metadata.get(key), ours)
        if merged or key in metadata:
            metadata[key] = merged
    new = {**live, "metadata": metadata, **parts}
    return [] if new == live else [Put(new)]


def over(old: Mapping[str, Any] | None, ours: Mapping[str, Any]) -> Object:
    """`old` with our keys in it; a key whose value is None goes away."""
    return {key: value for key, value in {**(old or {}), **ours}.items() if value is not None}


def named(items: Iterable[Any] | None, name: str, key: str = "name") -> Object:
    """The item of a list that says `name`; empty where there is none."""
    return next((item for item in items or () if isinstance(item, dict) and item.get(key) == name), {})


def at(items: Sequence[Any] | None, index: int) -> Object:
    """The item of a list at an index; empty where it ends before."""
    return items[index] if items and index < len(items) and isinstance(items[index], dict) else {}


def kept(primary: Mapping[str, Any], canary: Mapping[str, Any], all_to: tuple[Any, Any] = (100, 0)) -> tuple[Any, Any]:
    """The weights that two entries have, as they stand there; all to the primary unless both entries are there."""
    if not primary or not canary:
        return all_to
    return primary.get("weight"), canary.get("weight")


def valid(routes: Routes, title: str, ref: Ref) -> Routes:
    """Shares that say where traffic is to go."""
    if routes.primary == 0 and routes.canary == 0:
        raise StepFailed(f"{title} {dotted(ref)} update failed: no valid weights")
    return routes


def by_primary(entry: Mapping[str, Any], name: str, title: str, ref: Ref) -> Routes:
    """The primary's share as its entry says, and the rest for the canary."""
    share = percent(entry.get("weight", 0), name, title, ref)
    return Routes(share, 100 - share)


def percent(share: Any, name: str, title: str, ref: Ref) -> int:
    """A share that an object gives to a Service. Raises StepFailed where it is none."""
    if isinstance(share, bool) or not isinstance(share, int) or not 0 <= share <= 100:
        told = f"{title} {dotted(ref)} gives {name} the weight {json.dumps(share)}"
        raise StepFailed(f"{told}: make it a whole number from 0 to 100")
    return share


def capped(name: str) -> str:
    """A name of ours, cut with a hash where Kubernetes would refuse it."""
    if len(name) <= NAME_LIMIT:
        return name
    return f"{name[: NAME_LIMIT - 9].rstrip('-.')}-{short_hash(name)}"


def _resource(ref: Ref) -> str:
    """`<plural>.<group>`, as the API server names a kind it does not find."""
    word = ref.kind.lower()
    plural = word[:-1] + "ies" if word.endswith("y") else word + ("es" if word.endswith("s") else "s")
    group = ref.api_version.rpartition("/")[0]
    return f"{plural}.{group}" if group else plural
