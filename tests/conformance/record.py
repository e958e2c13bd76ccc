"""What is kept of a tick, so that two engines can be compared: without what differs by nature from run to run.

Times, uids and versions are removed; hashes, random ids and cookies get names by the order in which they appear.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.conformance.notation import Step
from tests.conformance.scenario import Object, Scenario
from tests.conformance.servers import Asked

REMOVED = frozenset(
    {
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "managedFields",
        "clusterIPs",
        "lastTransitionTime",
        "lastUpdateTime",
        "timestamp",
    }
)
# Fields that hold a hash of the engine's own kind, and the name that its values get.
HASHES = {
    "lastAppliedSpec": "spec",
    "lastPromotedSpec": "spec",
    "checksum": "checksum",
    "flagger-id": "id",
}
COOKIE = re.compile(r"\b(ck|pk)=([a-zA-Z]{10})\b")


@dataclass
class Record:
    """All that a user can see of one tick."""

    step: Step
    status: Object = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    event_payloads: list[Object] = field(default_factory=list)
    alerts: list[Object] = field(default_factory=list)
    hooks: list[Object] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    objects: dict[str, Object] = field(default_factory=dict)
    was_written: bool = False


ASPECTS = ("step", "status", "events", "event_payloads", "alerts", "hooks", "queries", "objects")


class Names:
    """Turns one scenario's raw observations into records that another engine's can be compared with."""

    def __init__(self, namespace: str, server: str) -> None:
        self._places = {server: "http://world", namespace: "NS"}
        self._given: dict[str, dict[str, str]] = {}

    def record(self, step: Step, canary: Object, asked: Asked, objects: Mapping[str, Object], written: bool) -> Record:
        """In the order in which a reader looks at it, which is also the order in which hashes get their names."""
        # Go leaves out what is empty, except for the counters and the phase.
        found = {name: value for name, value in (canary.get("status") or {}).items() if value != "" or name == "phase"}
        status = self.cleaned(found)
        events = [self.cleaned(payload) for payload in asked.events]
        return Record(
            step=step,
            status=status,
            events=[f"{e['metadata']['eventType'][0]} {e['metadata']['eventMessage']}" for e in events],
            event_payloads=events,
            alerts=[self.cleaned(payload) for payload in asked.alerts],
            hooks=[{"hook": name, **self.cleaned(payload)} for name, payload in asked.hooks],
            # Spaces mean nothing to PromQL.
            queries=["".join(self._text(query).split()) for query in asked.queries],
            objects={self._text(name): self.cleaned(_plain(objects[name])) for name in sorted(objects)},
            was_written=written,
        )

    def cleaned(self, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {self._text(name): self.cleaned(item, name) for name, item in value.items() if name not in REMOVED}
        if isinstance(value, list):
            return [self.cleaned(item) for item in value]
        if not isinstance(value, str):
            return value
        return self._named(HASHES[key], value) if key in HASHES and value else self._text(value)

    def _text(self, text: str) -> str:
        for place, name in self._places.items():
            text = text.replace(place, name)
        for name, random in COOKIE.findall(text):
            self._named(f"{name}-cookie", random)
        for kind in ("ck-cookie", "pk-cookie"):
            for random, given in self._given.get(kind, {}).items():
                text = text.replace(random, given)
        return text

    def _named(self, kind: str, value: str) -> str:
        given = self._given.setdefault(kind, {})
        return given.setdefault(value, f"{kind}-{len(given) + 1}")


def _plain(obj: Object) -> Object:
    """A generated object without its status, and without what the API server chose."""
    found = {name: value for name, value in obj.items() if name != "status"}
    if obj["kind"] == "Service":
        spec = dict(obj["spec"])
        if spec.get("clusterIP") != "None":
            spec.pop("clusterIP", None)
        found["spec"] = spec
    return found


def differences(one: Record, other: Record) -> dict[str, str]:
    """Which aspects differ, and in what; empty where two engines did the same."""
    found = {}
    for aspect in ASPECTS:
        mine, theirs = getattr(one, aspect), getattr(other, aspect)
        if mine != theirs:
            found[aspect] = _told(mine, theirs)
    return found


def _told(mine: Any, theirs: Any) -> str:
    """Only the parts that differ, for people."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        parts = [
            f"{name}: {_told(mine.get(name), theirs.get(name))}"
            for name in sorted({*mine, *theirs})
            if mine.get(name) != theirs.get(name)
        ]
        return "{" + ", ".join(parts) + "}"
    return f"{_shown(mine)} ≠ {_shown(theirs)}"


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, Step) else json.dumps(value, ensure_ascii=False, default=str)


def text_of(scenario: Scenario, records: Mapping[int, Record]) -> str:
    """A whole trace for people."""
    lines = [f"{scenario.name}: {scenario.says}"]
    for tick, record in records.items():
        lines.append(f"  {tick:2} {record.step}  {record.events}")
    return "\n".join(lines)
