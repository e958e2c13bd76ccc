"""The demo's table: one row a cluster, read from the Application's status alone, as a user would.

`Witness` remembers what each row has shown, for the demo promises courses of events and not just ends.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

Object = dict[str, Any]

SHORT = 8
COLUMNS = ("cluster", "revision", "phase", "weight", "failed checks", "message")
ENDS = frozenset({"Succeeded", "Failed"})
LIGHTS = {"Succeeded": "green", "Failed": "red", "Progressing": "yellow", "Promoting": "yellow", "Finalising": "yellow"}


@dataclass(frozen=True)
class Row:
    """One cluster as the Application reports it."""

    cluster: str
    revision: str
    phase: str
    weight: int
    failed_checks: int
    message: str

    def is_about(self, commit: str) -> bool:
        """What a row says of an older commit proves nothing."""
        return self.revision.endswith(f":{commit[:SHORT]}")

    def cells(self) -> tuple[str, ...]:
        return (self.cluster, self.revision, self.phase, f"{self.weight} %", str(self.failed_checks), self.message)


def rows_of(application: Object, policy: str) -> list[Row]:
    """The rows of one policy: `policy` is the common start of its names in `status.syncStatus`."""
    entries = application.get("status", {}).get("syncStatus", [])
    return [_row(entry, policy) for entry in entries if entry["name"].startswith(policy)]


def is_ready(application: Object) -> bool:
    """Is the condition Ready True, and of this generation?"""
    return _ready(application).get("status") == "True"


def has_failed(application: Object) -> bool:
    """Is Ready False because of a rollback, and of this generation?"""
    ready = _ready(application)
    return (ready.get("status"), ready.get("reason")) == ("False", "RolloutFailed")


def _ready(application: Object) -> Object:
    conditions = application.get("status", {}).get("conditions", [])
    ready: Object = next((c for c in conditions if c["type"] == "Ready"), {})
    return ready if ready.get("observedGeneration") == application["metadata"]["generation"] else {}


def _row(entry: Object, policy: str) -> Row:
    sync = entry.get("kustomizationStatus", {})
    rollout = entry.get("rolloutStatus", {})
    canary = rollout.get("rolloutStatusInCluster", {})
    conditions = canary.get("conditions") or _worst_first(sync.get("conditions", []))
    return Row(
        rollout.get("clusterName") or entry["name"].removeprefix(policy).rpartition("-")[2],
        _short(sync.get("lastAppliedRevision", "")),
        canary.get("phase", "-"),
        canary.get("canaryWeight", 0),
        canary.get("failedChecks", 0),
        conditions[0].get("message", "") if conditions else "",
    )


def _worst_first(conditions: list[Object]) -> list[Object]:
    return sorted(conditions, key=lambda condition: condition["type"] != "Ready")


def _short(revision: str) -> str:
    """`main@sha1:0123456…`: as much of the commit as a person compares."""
    name, separator, commit = revision.partition(":")
    return f"{name}{separator}{commit[:SHORT]}"


@dataclass
class Witness:
    """What the rows have shown of one commit. An end counts where its beginning was seen."""

    commit: str
    begun: set[str] = field(default_factory=set)
    moved: set[str] = field(default_factory=set)
    ended: dict[str, str] = field(default_factory=dict)

    def see(self, rows: list[Row]) -> None:
        """The table as it is now."""
        for row in rows:
            if not row.is_about(self.commit):
                continue
            if row.phase == "Progressing":
                self.begun.add(row.cluster)
            if row.phase == "Progressing" and row.weight > 0:
                self.moved.add(row.cluster)
            if row.phase in ENDS and row.cluster in self.begun:
                self.ended[row.cluster] = row.phase

    def broken(self, promised: Mapping[str, str]) -> Iterator[str]:
        """Clusters that have ended otherwise than promised, for people."""
        for cluster, end in self.ended.items():
            if end != promised[cluster]:
                yield f"{cluster} has {end}"

    def missing(self, promised: Mapping[str, str]) -> Iterator[str]:
        """What each cluster still owes, for people."""
        for cluster, end in promised.items():
            if cluster not in self.moved:
                yield f"{cluster} has not been Progressing with a weight above 0"
            elif self.ended.get(cluster) != end:
                yield f"{cluster} has not {end}"


class View(Protocol):
    """Shows rows; `show` is called at every change of the Application."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    def show(self, rows: list[Row]) -> None: ...


class Lines:
    """For logs and pipes: a line for every row that has changed."""

    def __init__(self) -> None:
        self._last: dict[str, Row] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()

    def show(self, rows: list[Row]) -> None:
        for row in rows:
            if self._last.get(row.cluster) != row:
                self._last[row.cluster] = row
                cluster, revision, phase, weight, failed, message = row.cells()
                line = f"  {cluster:8} {revision:24} {phase:12} {weight:>6}  failed checks {failed}  {message}"
                print(line, flush=True)


class Screen:
    """For terminals: one table that is drawn anew."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)

    def show(self, rows: list[Row]) -> None:
        table = Table(*COLUMNS)
        for row in rows:
            table.add_row(*row.cells(), style=LIGHTS.get(row.phase))
        self._live.update(table, refresh=True)


def view() -> View:
    console = Console()
    return Screen(console) if console.is_terminal else Lines()
