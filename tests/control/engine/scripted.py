"""What is outside of the API server, as a script: metrics and hooks answer what the test says, and all is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet_rollout.decide.canary.effects import Count, Emit, Notify
from fleet_rollout.decide.canary.objects import Routes
from fleet_rollout.decide.canary.subject import Subject


@dataclass
class Script:
    """`complaints` by metric and `refusals` by hook; everything else passes."""

    complaints: dict[str, str] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    routes: list[Routes] = field(default_factory=list)

    async def measure(self, subject: Subject, metric: Mapping[str, Any]) -> str | None:
        return self.complaints.get(metric["name"])

    async def probe(self, subject: Subject) -> str | None:
        return None

    async def call(self, subject: Subject, hook: Mapping[str, Any], phase: str) -> str | None:
        return self.refusals.get(hook["name"])

    def emit(self, subject: Subject, effect: Emit) -> None:
        self.events.append(effect.message)

    def notify(self, subject: Subject, effect: Notify) -> None:
        self.alerts.append(f"{effect.severity}: {effect.message}")

    def count(self, subject: Subject, effect: Count) -> None:
        pass

    def show_routes(self, subject: Subject, routes: Routes) -> None:
        self.routes.append(routes)

    def show_phase(self, subject: Subject) -> None:
        self.phases.append(subject.phase)

    def spent(self, subject: Subject, seconds: float) -> None:
        pass

    def forget(self, subject: Subject) -> None:
        pass

    def show_total(self, cluster_name: str, totals: Mapping[str, int]) -> None:
        pass
