"""The demo's table: one row a cluster, read from the Application's status alone, as a user would.

`Witness` remembers what each row has shown, for the demo promises a course of events and not just an end.
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

COLUMNS = ("cluster", "revision", "phase", "weight", "failed checks", "message")
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

    def cells(self) -> tuple[str, ...]:
        return (self.cluster, self.revision, self.phase, f"{self.weight} %", str(self.failed_checks), self.message)


def rows_of(application: Object, policy: str) -> list[Row]:
    """The rows of one policy: `policy` is the common start of its names in `status.syncStatus`."""
    entries = application.get("status", {}).get("syncStatus", [])
    return [_row(entry, policy) for entry in entries if entry["name"].startswith(policy)]


def is_ready(application: Object) -> bool:
    """Is the condition Ready True, and of this generation?"""
    conditions = application.get("status", {}).get("conditions", [])
    ready: Object = next((c for c in conditions if c["type"] == "Ready"), {})
    current = ready.get("observedGeneration") == application["metadata"]["generation"]
    return current and ready.get("status") == "True"


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
    return f"{name}{separator}{commit[:8]}"


@dataclass
class Witness:
    """What has been seen of every cluster since it was made."""

    moved: set[str] = field(default_factory=set)
    succeeded: set[str] = field(default_factory=set)

    def see(self, rows: list[Row], revision: str) -> None:
        """Count what rows say about `revision` (a commit) alone; an older success proves nothing."""
        for row in rows:
            if not row.revision.endswith(revision[:8]):
                continue
            if row.phase == "Progressing" and row.weight > 0:
                self.moved.add(row.cluster)
            if row.phase == "Succeeded" and row.cluster in self.moved:
                self.succeeded.add(row.cluster)

    def missing(self, clusters: Mapping[str, object]) -> Iterator[str]:
        """What each cluster still owes, for people."""
        for cluster in clusters:
            if cluster not in self.moved:
                yield f"{cluster} has not been Progressing with a weight above 0"
            elif cluster not in self.succeeded:
                yield f"{cluster} has not Succeeded"


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
