"""One tick under way: what is known so far, and the few things that every step does with it."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

from fleet_rollout.decide.canary.effects import Effect, Emit, Fingerprint, WriteStatus
from fleet_rollout.decide.canary.objects import Routes
from fleet_rollout.decide.canary.status import entered, synced
from fleet_rollout.decide.canary.subject import Subject
from fleet_rollout.decide.intervals import parse_time

T = TypeVar("T")
# What a step is: it yields effects, is sent their answers, and may return something.
Steps = Generator[Effect, Any, T]

ANALYSING = ("Progressing", "WaitingPromotion")
PROMOTING = ("Promoting", "Finalising")


class Ended(Exception):
    """The tick is over; what had to be said was said."""


@dataclass
class Run:
    """`now` is RFC 3339. `status` follows what the tick writes."""

    subject: Subject
    now: str
    status: dict[str, Any]
    routes: Routes = field(default=Routes(100, 0))
    fingerprint: Fingerprint = field(default=Fingerprint(""))
    found_phase: str = ""  # what event hooks are told: the phase that this tick has found, not the one it enters

    @property
    def phase(self) -> str:
        return str(self.status.get("phase") or "")

    @property
    def is_initialising(self) -> bool:
        return self.phase in ("", "Initializing")

    @property
    def iterations(self) -> int:
        return int(self.status.get("iterations") or 0)

    @property
    def failed_checks(self) -> int:
        return int(self.status.get("failedChecks") or 0)

    def write(self, changes: Mapping[str, Any]) -> Steps[None]:
        """Write the status where something in it changes beside the time."""
        told = {name: value for name, value in changes.items() if name != "lastTransitionTime"}
        if all(self.status.get(name) == value for name, value in told.items()):
            return
        written = {**changes, "lastTransitionTime": self.now}
        yield WriteStatus(written)
        self.status.update(written)

    def renew_deadline(self) -> Steps[None]:
        """Somebody outside keeps a version waiting that is ready: its deadline begins anew.

        A DaemonSet has no conditions, so that its deadline counts from the last write of the status; a gate that
        changes nothing would use it up. A write in half the deadline is enough.
        """
        since = self.status.get("lastTransitionTime")
        if self.subject.target_kind != "DaemonSet" or since is None:
            return
        if parse_time(self.now) - parse_time(since) >= timedelta(seconds=self.subject.progress_deadline / 2):
            yield WriteStatus({"lastTransitionTime": self.now})

    def sync(self, phase: str) -> Steps[None]:
        """Enter a phase with fresh counters, on the revision of this tick."""
        kind = self.subject.target_kind
        yield from self.write(synced(self.status, phase, self.fingerprint, kind=kind, now=self.now))

    def enter(self, phase: str, *, iterations: int = 0) -> Steps[None]:
        """Enter a phase on the revision that is known already."""
        kind = self.subject.target_kind
        yield from self.write(entered(self.status, phase, kind=kind, now=self.now, iterations=iterations))

    def normal(self, message: str, *, phase: str | None = None) -> Steps[None]:
        """An event about something that goes as it should."""
        yield Emit("Normal", message, self.found_phase if phase is None else phase)

    def warning(self, message: str, *, phase: str | None = None) -> Steps[None]:
        """An event about something that needs attention."""
        yield Emit("Warning", message, self.found_phase if phase is None else phase)

    def fail_check(self) -> Steps[None]:
        """Count a failed check, and end the tick."""
        yield from self.write({"failedChecks": self.failed_checks + 1})
        raise Ended
