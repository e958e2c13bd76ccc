"""SMI for Istio: the VirtualService that makes Istio's proxies divide traffic as a TrafficSplit says.

Names, label, owner and rounding are those of the retired smi-adapter-istio, whose objects are taken over.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import orjson

from fleet_rollout.decide.canary.objects import Live, Object, Put, Ref, StepFailed, Write
from fleet_rollout.decide.names import short_hash
from fleet_rollout.traffic import checks
from fleet_rollout.traffic.objects import Labelled, at, capped, dotted, over, update
from fleet_rollout.traffic.quantities import amount
from fleet_rollout.traffic.smi import GATEWAYS_ANNOTATION, GROUP, KIND

API = "networking.istio.io/v1beta1"
LABEL = "traffic-split"
LABEL_LIMIT = 63


def virtual_service_ref(split: Mapping[str, Any]) -> Ref:
    """What must be in `live`."""
    metadata = split["metadata"]
    return Ref(API, "VirtualService", metadata["namespace"], capped(f"{metadata['name']}-vs"))


def virtual_service(split: Mapping[str, Any], live: Live) -> list[Write]:
    """Bring the VirtualService to what the TrafficSplit says; when that goes, its owner reference removes it too.

    Raises StepFailed where the TrafficSplit cannot be followed, or where the VirtualService is somebody else's.
    """
    if split["metadata"].get("deletionTimestamp"):
        return []
    ref = virtual_service_ref(split)
    there = live[ref]
    ours = {"hosts": [_host(split)], "gateways": _gateways(split) or None}
    if there is None:
        metadata: Object = {"name": ref.name, "namespace": ref.namespace, "labels": _labels(split)}
        metadata["ownerReferences"] = [_owner(split)]
        spec = over(None, {**ours, "http": [{"route": _route(split)}]})
        return [Put({"apiVersion": API, "kind": ref.kind, "metadata": metadata, "spec": spec})]
    old = there.get("spec") or {}
    spec = over(old, {**ours, "http": [over(at(old.get("http"), 0), {"route": _route(split)})]})
    adopted = {**there, "metadata": {**there["metadata"], "ownerReferences": _owners(split, there)}}
    writes = update(adopted, Labelled(_labels(split)), spec=spec)
    return writes or ([] if adopted == there else [Put(adopted)])


def percents(weights: list[Fraction]) -> list[int]:
    """Shares of 100, each rounded, the last one what the others leave."""
    total = sum(weights)
    shares: list[int] = []
    for weight in weights[:-1]:
        rounded = math.floor(weight * 100 / total + Fraction(1, 2))
        shares.append(min(rounded, 100 - sum(shares)))
    return [*shares, 100 - sum(shares)]


def _title(split: Mapping[str, Any]) -> str:
    metadata = split["metadata"]
    return f"{KIND} {metadata['name']}.{metadata['namespace']}"


def _host(split: Mapping[str, Any]) -> str:
    service = str((split.get("spec") or {}).get("service") or "")
    return checks.checked(f"{_title(split)} spec.service", service, checks.HOST)


def _route(split: Mapping[str, Any]) -> list[Object]:
    spec = split.get("spec") or {}
    title = _title(split)
    if spec.get("matches"):
        raise StepFailed(f"{title} spec.matches: this adapter splits all requests of a Service alike; remove it")
    backends = spec.get("backends") or []
    weights = [_weight(f"{title} spec.backends[{index}].weight", each) for index, each in enumerate(backends)]
    if not any(weights):
        raise StepFailed(f"{title} spec.backends: no backend has a weight; give one of them one")
    hosts = (
        checks.checked(f"{title} spec.backends[{index}].service", str(each.get("service") or ""), checks.HOST)
        for index, each in enumerate(backends)
    )
    return [
        {"destination": {"host": host}, "weight": share} for host, share in zip(hosts, percents(weights), strict=True)
    ]


def _weight(field: str, backend: Mapping[str, Any]) -> Fraction:
    weight = amount(backend.get("weight", 0))
    if weight is None or weight < 0:
        raise StepFailed(f"{field}: {json.dumps(backend.get('weight'))} is not a weight; write a number such as 20")
    return weight


def _gateways(split: Mapping[str, Any]) -> list[str]:
    text = (split["metadata"].get("annotations") or {}).get(GATEWAYS_ANNOTATION)
    if not text:
        return []
    field = f"{_title(split)} metadata.annotations[{GATEWAYS_ANNOTATION}]"
    try:
        names = orjson.loads(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise StepFailed(f'{field}: not a JSON list of gateways; write one such as ["public-gateway.istio-system"]')
    return [checks.checked(field, name, checks.GATEWAY) for name in names]


def _labels(split: Mapping[str, Any]) -> dict[str, str]:
    name = str(split["metadata"]["name"])
    if len(name) > LABEL_LIMIT:
        name = f"{name[: LABEL_LIMIT - 9].rstrip('-.')}-{short_hash(name)}"
    return {LABEL: name}


def _owner(split: Mapping[str, Any]) -> Object:
    metadata = split["metadata"]
    return {
        "apiVersion": split["apiVersion"],
        "kind": KIND,
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _owners(split: Mapping[str, Any], there: Object) -> list[Object]:
    """Those of the live object, ours being the controller."""
    owners: list[Object] = there["metadata"].get("ownerReferences") or []
    name = split["metadata"]["name"]
    ours = [each for each in owners if _group(each) == GROUP and (each["kind"], each["name"]) == (KIND, name)]
    controllers = [each for each in owners if each.get("controller") and each not in ours]
    labelled = (there["metadata"].get("labels") or {}).get(LABEL) == _labels(split)[LABEL]
    if controllers or not (ours or labelled):
        told = f"VirtualService {dotted(virtual_service_ref(split))} is not of {_title(split)}"
        raise StepFailed(f"{told}; rename one of them, or label it {LABEL}: {_labels(split)[LABEL]}")
    same = [each for each in ours if each["uid"] == split["metadata"]["uid"] and each.get("controller")]
    return owners if same else [*(each for each in owners if each not in ours), _owner(split)]


def _group(owner: Mapping[str, Any]) -> str:
    return str(owner.get("apiVersion", "")).partition("/")[0]
