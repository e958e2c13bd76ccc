"""ConfigMaps and Secrets that a target's Pods use: their checksums, and the copies that the primary's Pods use.

Without copies a change of a config would reach the promoted version before anybody has judged it.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from fleet_rollout.decide.canary.config_refs import CONFIG_MAP, PRIMARY_SUFFIX, SECRET, references
from fleet_rollout.decide.canary.copied_metadata import included
from fleet_rollout.decide.canary.live import described, removed, replaced, with_maps
from fleet_rollout.decide.canary.objects import Live, Object, Put, Ref, StepFailed, Write, ref_of
from fleet_rollout.decide.canary.subject import Subject
from fleet_rollout.decide.metadata import annotations_of, labels_of

# Key in the Canary's status -> the live config.
Tracked = Mapping[str, Object]

DISABLING_ANNOTATION = "flagger.app/config-tracking"
# Others, such as registry credentials and service account tokens, are the cluster's own business.
SECRET_TYPES = frozenset({"Opaque", "kubernetes.io/basic-auth", "kubernetes.io/ssh-auth", "kubernetes.io/tls"})
_KINDS = {CONFIG_MAP: "ConfigMap", SECRET: "Secret"}
_CONTENT = ("data", "binaryData", "immutable", "type")
# Go's JSON encoder escapes these for the sake of HTML and JavaScript.
_ESCAPES = str.maketrans({char: f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"})


def reads(subject: Subject, target: Mapping[str, Any]) -> list[Ref]:
    """Every config that the target's Pods name, and its copy."""
    refs = [_ref(subject, key) for key in _wanted(subject, target)]
    return list(dict.fromkeys([*refs, *(_copy_of(ref) for ref in refs)]))


def tracked(subject: Subject, target: Mapping[str, Any], live: Live) -> dict[str, Object] | None:
    """The configs that count; None where nothing is tracked at all. StepFailed where a needed one is missing."""
    if not subject.options.config_tracking:
        return None
    if (complaint := missing(subject, target, live)) is not None:
        raise StepFailed(complaint)
    found = {key: live[_ref(subject, key)] for key in _wanted(subject, target)}
    return {key: config for key, config in found.items() if config is not None and _counts(config)}


def missing(subject: Subject, target: Mapping[str, Any], live: Live) -> str | None:
    """What is to be told of the first config that the target needs and that does not exist; None where all do."""
    for key, is_needed in _wanted(subject, target).items():
        if is_needed and live[_ref(subject, key)] is None:
            return f"{described(_ref(subject, key))} does not exist, and {described(target)} needs it"
    return None


def checksums(configs: Tracked) -> dict[str, str]:
    """What the Canary's status says of them."""
    return {key: checksum(config) for key, config in sorted(configs.items())}


def checksum(config: Mapping[str, Any]) -> str:
    """16 hex digits: Flagger's over `data`; where there is `binaryData`, which it leaves out (Q18), over both."""
    content = config.get("data")
    if config.get("binaryData"):
        content = {"binaryData": config["binaryData"], "data": content}
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPES)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_promoted(configs: Tracked, live: Live) -> bool:
    """Whether the primary's copies hold what the configs hold."""
    pairs = [(config, live[_copy_of(ref_of(config))]) for config in configs.values()]
    return all(copied is not None and checksum(copied) == checksum(config) for config, copied in pairs)


def copies(subject: Subject, configs: Tracked, live: Live) -> list[Write]:
    """Bring the primary's copies to what the configs say."""
    return [write for config in configs.values() for write in _copy(subject, config, live[_copy_of(ref_of(config))])]


def _wanted(subject: Subject, target: Mapping[str, Any]) -> dict[str, bool]:
    return references(target["spec"]["template"]["spec"]) if subject.options.config_tracking else {}


def _ref(subject: Subject, key: str) -> Ref:
    kind, _, name = key.partition("/")
    return Ref("v1", _KINDS[kind], subject.namespace, name)


def _copy_of(ref: Ref) -> Ref:
    return ref._replace(name=ref.name + PRIMARY_SUFFIX)


def _counts(config: Mapping[str, Any]) -> bool:
    if config["kind"] == "Secret" and config.get("type", "Opaque") not in SECRET_TYPES:
        return False
    return not annotations_of(config).get(DISABLING_ANNOTATION, "").startswith("disable")


def _copy(subject: Subject, config: Object, live: Object | None) -> list[Write]:
    content = {name: config[name] for name in _CONTENT if name in config}
    labels = included(labels_of(config), subject.options.include_label_prefix)
    owners = _owners(subject, live)
    if live is not None and _can_become(live, content):
        metadata = with_maps(live["metadata"], labels=labels) | {"ownerReferences": owners}
        rest = {name: value for name, value in live.items() if name not in _CONTENT}
        return replaced(live, {**rest, "metadata": metadata, **content})
    ref = _copy_of(ref_of(config))
    metadata = {"name": ref.name, "namespace": ref.namespace, "ownerReferences": owners}
    made = {"apiVersion": ref.api_version, "kind": ref.kind, "metadata": with_maps(metadata, labels=labels), **content}
    return [Put(copy.deepcopy(made))] if live is None else [removed(live), Put(copy.deepcopy(made))]


def _can_become(live: Mapping[str, Any], content: Mapping[str, Any]) -> bool:
    """Whether the API server lets this content be put into the live copy."""
    if live.get("type") != content.get("type"):
        return False
    return not live.get("immutable") or all(live.get(name) == content.get(name) for name in _CONTENT)


def _owners(subject: Subject, live: Mapping[str, Any] | None) -> list[Object]:
    """Several Canaries may share a copy: the one that last became an owner controls it."""
    before: list[Object] = live["metadata"].get("ownerReferences") or [] if live is not None else []
    ours = subject.owner_reference
    if any(owner["uid"] == ours["uid"] for owner in before):
        return before
    return [ours, *({**owner, "controller": False} for owner in before if not _is_ours(owner, ours))]


def _is_ours(owner: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Of this Canary, or of one before it that had its name."""
    return (owner["kind"], owner["name"]) == (ours["kind"], ours["name"])
