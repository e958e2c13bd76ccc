"""The load tester's metrics, apart from the controller's: another process serves them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, PlatformCollector, ProcessCollector

REGISTRY = CollectorRegistry()

TASKS = Counter(
    "fleet_rollout_loadtester_tasks_total",
    "Tasks that have ended.",
    ["type", "result"],  # result: success or failure
    registry=REGISTRY,
)
RUNNING = Gauge("fleet_rollout_loadtester_tasks_running", "Tasks that run now.", registry=REGISTRY)
CHECKS = Counter(
    "fleet_rollout_loadtester_checks_total",
    "Questions whether a gate is open.",
    ["gate", "answer"],  # gate: gate or rollback; answer: open or closed
    registry=REGISTRY,
)

for _collector in (ProcessCollector, PlatformCollector, GCCollector):
    _collector(registry=REGISTRY)
