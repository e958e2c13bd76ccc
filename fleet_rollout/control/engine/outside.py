"""What a tick asks of others than the API server: metrics, hooks, events, alerts, counters of one cluster's Canaries.

Only measures and hooks are waited for, each within its own time-out; the rest is left to senders in the background.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fleet_rollout import measures
from fleet_rollout.control.engine.dialing import DirectDial
from fleet_rollout.control.engine.measuring import Measuring
from fleet_rollout.control.engine.member_dial import Backings, MemberDial
from fleet_rollout.control.engine.sight import Sight
from fleet_rollout.control.engine.telling import Telling, Told
from fleet_rollout.decide.canary import alerts, hooks
from fleet_rollout.decide.canary.addresses import Reach
from fleet_rollout.decide.canary.effects import Count, Emit, Notify, Severity
from fleet_rollout.decide.canary.objects import Object, Ref, Routes, Unasked
from fleet_rollout.decide.canary.strategy import strategy_of
from fleet_rollout.decide.canary.subject import Subject
from fleet_rollout.errors import FleetRolloutError
from fleet_rollout.kube.client import Cluster, Resource
from fleet_rollout.kube.errors import ApiError, Unreachable
from fleet_rollout.metrics.bulkheads import Bulkheads
from fleet_rollout.notify import webhooks
from fleet_rollout.notify.alerts import Find, Letter, Sender
from fleet_rollout.notify.events import ENGINE_REASON, Recorder, engine_recorder
from fleet_rollout.notify.recipients import letters

log = logging.getLogger(__name__)

EVENTS = Resource("", "v1", "Event", "events", True)
MANAGER_EVENTS = "fleet-rollout-canary"


@dataclass(frozen=True)
class Default:
    """Whom an engine alerts where a Canary names nobody."""

    find: Find
    severity: Severity


class Outside:
    """`reach` says what Canaries may dial; `default` is asked at every alert, for a Fleet may be edited."""

    def __init__(
        self,
        cluster: Cluster,
        sight: Sight,
        *,
        dial: Callable[[Reach], DirectDial],
        bulkheads: Bulkheads,
        alert_reach: Reach,
        reach: Callable[[], Reach],
        default: Callable[[], Default | None] = lambda: None,
    ) -> None:
        self._cluster = cluster
        self._sight = sight
        self._direct = dial
        self._sender = Sender(alert_reach, failed=self._not_sent)
        self._reach = reach
        self._default = default
        self._backings = Backings(cluster)
        self._measuring = Measuring(cluster, sight, bulkheads)
        self._recorder: Recorder = engine_recorder(self._post)
        self._shown: set[str] = set()
        self._telling = Telling(self._dial)

    async def run(self) -> None:
        """Send events, and tell event hooks, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._recorder.run())
            group.create_task(self._sender.run())
            self._telling.begin(group)

    # Waited for

    async def measure(self, subject: Subject, metric: Mapping[str, Any]) -> str | None:
        """None where the metric passes, else the text of the event. StepFailed where its member is away."""
        dial = self._dial(subject.namespace)
        return _unless_away(dial, await self._measuring.measure(subject, metric, dial))

    async def probe(self, subject: Subject) -> str | None:
        """None where all metrics backends answer."""
        return await self._measuring.probe(subject, self._dial(subject.namespace))

    async def call(self, subject: Subject, hook: Mapping[str, Any], phase: str) -> str | None:
        """None where the hook passes. StepFailed where its member is away."""
        read, dial = hooks.read_hook(hook), self._dial(subject.namespace)
        return _unless_away(dial, await webhooks.call(read, hooks.payload(subject, read, phase), dial))

    def _dial(self, namespace: str) -> MemberDial:
        reach = self._reach()
        return MemberDial(self._cluster, self._backings, self._direct(reach), reach, namespace)

    # In the background

    def emit(self, subject: Subject, effect: Emit) -> None:
        """An Event about the Canary, and a word to its event hooks."""
        self.record(subject.raw, effect)
        for hook in hooks.event_hooks(subject):
            told = hooks.event_payload(
                subject, hook, effect.type, effect.message, now=datetime.now(UTC), phase=effect.phase
            )
            self._telling.leave(Told((subject.namespace, subject.name), hook, told))

    def record(self, obj: Mapping[str, Any], effect: Emit) -> None:
        """An Event about any object of the member."""
        record = self._recorder.normal if effect.type == "Normal" else self._recorder.warning
        record(obj, ENGINE_REASON, effect.message)

    def notify(self, subject: Subject, effect: Notify) -> None:
        """An alert to those whom the Canary names, else to the engine's default."""
        default = self._default()
        if default is not None and alerts.RANKS[effect.severity] < alerts.RANKS[default.severity]:
            default = None
        find = default.find if default is not None else None
        for letter in letters(subject, effect, self._read, default=find, dial=self._dial(subject.namespace)):
            self._sender.post(letter)

    async def _read(self, ref: Ref) -> Object | None:
        """For letters. Raises Unsendable."""
        try:
            return (await self._sight.read([ref]))[ref]
        except (ApiError, Unreachable, FleetRolloutError) as error:
            raise alerts.Unsendable(error.message) from error

    def _not_sent(self, letter: Letter, problem: str) -> None:
        log.warning("%s: alert not sent to %s: %s", self._cluster.name, letter.who, problem)

    async def finish(self) -> None:
        """Returns when all of it has been sent, or given up; `run` has to go on meanwhile."""
        await asyncio.gather(self._recorder.finished(), self._sender.finished(), self._telling.finished())

    async def _post(self, event: dict[str, Any]) -> None:
        await self._cluster.create(EVENTS, event, manager=MANAGER_EVENTS)

    # Counted

    def count(self, subject: Subject, effect: Count) -> None:
        """A rollout has ended."""
        counter = measures.CANARY_SUCCESSES if effect.succeeded else measures.CANARY_FAILURES
        counter.labels(
            name=subject.target_name,
            namespace=subject.namespace,
            deployment_strategy=strategy_of(subject),
            analysis_status="skipped" if effect.skipped else "completed",
            cluster=subject.options.cluster_name,
        ).inc()

    def show_phase(self, subject: Subject) -> None:
        """The phase, for dashboards and alert rules."""
        measures.show_phase(subject.target_name, subject.namespace, subject.options.cluster_name, subject.phase)

    def show_routes(self, subject: Subject, routes: Routes) -> None:
        """Where the traffic is."""
        shares = {subject.primary_workload: routes.primary, subject.target_name: routes.canary}
        for workload, share in shares.items():
            measures.CANARY_WEIGHT.labels(
                workload=workload, namespace=subject.namespace, cluster=subject.options.cluster_name
            ).set(share)

    def spent(self, subject: Subject, seconds: float) -> None:
        """How long a tick took that was part of an analysis."""
        measures.CANARY_DURATION.labels(
            name=subject.target_name, namespace=subject.namespace, cluster=subject.options.cluster_name
        ).observe(seconds)

    def forget(self, subject: Subject) -> None:
        """The Canary is gone, or no longer ours."""
        measures.forget_canary(subject.target_name, subject.namespace, subject.options.cluster_name)

    def show_total(self, cluster_name: str, totals: Mapping[str, int]) -> None:
        """How many Canaries are driven, by namespace; a namespace without any is dropped."""
        for namespace in self._shown - totals.keys():
            measures.CANARY_TOTAL.remove_by_labels({"namespace": namespace, "cluster": cluster_name})
        for namespace, count in totals.items():
            measures.CANARY_TOTAL.labels(namespace=namespace, cluster=cluster_name).set(count)
        self._shown = set(totals)


def _unless_away(dial: MemberDial, complaint: str | None) -> str | None:
    """What was asked through an API server that is away has not been asked, and is no failed check."""
    if complaint is not None and dial.away is not None:
        raise Unasked(dial.away)
    return complaint
