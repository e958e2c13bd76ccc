"""What the demo shows: three commits, and how each is to end in every member. Data, and the objects that it applies."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fleet_rollout.lab.lab import LabCluster

Object = dict[str, Any]
Engine = Literal["hub", "flagger"]
Verdict = Literal["Succeeded", "Failed"]

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "rollout" / "canary"
DEPLOYMENT = "deploy/webapp/deployment.yaml"
IMAGE = "ghcr.io/stefanprodan/podinfo"
FIRST = "6.5.4"
GOOD, BAD, CONFIGURED = "6.6.0", "6.7.0-bad", "6.8.0"
NAMESPACE = "webapp"
HOST = "backend.webapp"
URL_OF_THE_EXAMPLE = "https://github.com/stefanprodan/podinfo"
# The last version reads its settings from this ConfigMap, which is not in Git: every member has its own.
SETTINGS = "backend-settings"
SLOW_MS, FAST_MS = "900", "0"
# What the example checks every ten seconds, for the patience of people who look on.
QUICKER = {"checkIntervalSeconds: 10": "checkIntervalSeconds: 3", "intervalSeconds: 10": "intervalSeconds: 5"}
SHORTEST_INTERVAL = 3.0
MODES: Mapping[Engine, str] = {"hub": "Hub", "flagger": "Flagger"}


@dataclass(frozen=True)
class Act:
    """One commit and its promise. `reads_settings`: from here on the Deployment looks at the ConfigMap."""

    version: str
    promise: str
    verdicts: Mapping[str, Verdict]
    reads_settings: bool = False


def acts(members: Sequence[str], first: str = GOOD) -> list[Act]:
    """The three; the last one needs a member beside the one in which it fails. `first` is the first one's version."""
    promoted: dict[str, Verdict] = dict.fromkeys(members, "Succeeded")
    failed: dict[str, Verdict] = dict.fromkeys(members, "Failed")
    found = [
        Act(first, "promoted in every member", promoted),
        Act(BAD, "half of its answers are errors: rolled back in every member", failed),
    ]
    if (odd := odd_member(members)) is not None:
        promise = f"too slow with the settings of {odd}: rolled back there, promoted in the others"
        found.append(Act(CONFIGURED, promise, {**promoted, odd: "Failed"}, reads_settings=True))
    return found


def odd_member(members: Sequence[str]) -> str | None:
    """The member whose settings the last version cannot live with."""
    return members[1] if len(members) > 1 else None


def source() -> dict[str, str]:
    """What the Git repository holds at first."""
    root = EXAMPLE / "source"
    return {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*.yaml"))}


def deployment(act: Act) -> str:
    """The Deployment as the commit of `act` has it."""
    image = f"image: {IMAGE}:{FIRST}\n"
    text = source()[DEPLOYMENT]
    assert image in text
    indent = " " * 10
    settings = f"{indent}envFrom:\n{indent}  - configMapRef:\n{indent}      name: {SETTINGS}\n"
    return text.replace(image, f"image: {IMAGE}:{act.version}\n{settings if act.reads_settings else ''}")


def settings_of(cluster: str, members: Sequence[str]) -> Object:
    """The ConfigMap of one member."""
    latency = SLOW_MS if cluster == odd_member(members) else FAST_MS
    metadata = {"name": SETTINGS, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"LATENCY_MS": latency}}


def application(url: str, engine: Engine) -> str:
    """The example's Application for this repository; Flagger checks every ten seconds at best."""
    text = (EXAMPLE / "application.yaml").read_text()
    changes = {URL_OF_THE_EXAMPLE: url} | (QUICKER if engine == "hub" else {})
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text


def fleet(members: Mapping[str, LabCluster], engine: Engine) -> str:
    """The members' kubeconfigs, the members, and the Fleet `quickstart` of them."""
    items: list[Object] = []
    for name, member in members.items():
        content = {"value": member.kubeconfig.read_text()}
        items.append({"apiVersion": "v1", "kind": "Secret", "metadata": _named(name), "stringData": content})
        items.append(
            {
                "apiVersion": "cluster.kurator.dev/v1alpha1",
                "kind": "AttachedCluster",
                "metadata": _named(name),
                "spec": {"kubeconfig": {"name": name, "key": "value"}},
            }
        )
    clusters = [{"kind": "AttachedCluster", "name": name} for name in members]
    spec = {"clusters": clusters, "rolloutEngine": {"mode": MODES[engine]}}
    metadata = _named("quickstart")
    items.append({"apiVersion": "fleet.kurator.dev/v1alpha1", "kind": "Fleet", "metadata": metadata, "spec": spec})
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def _named(name: str) -> Object:
    return {"name": name, "namespace": "default"}
