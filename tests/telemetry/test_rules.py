"""The alert rules in config/prometheus on a real Prometheus: silent while all is well, each heard when it should be."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.telemetry.conftest import RULES, Watched

RUNBOOK = Path(__file__).parents[2] / "docs" / "alerts.md"
# Alerts look back minutes; for a test the last seconds have to do.
WINDOW = re.compile(r"\[\d+m\]")
WITHOUT_TICKS = "EngineStandsStill"


ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]
EXPRESSIONS = {rule["alert"]: WINDOW.sub("[5s]", rule["expr"]) for rule in ALERTS}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_has_what_people_need(rule: dict[str, Any]) -> None:
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert rule["labels"]["severity"] in ("info", "warning", "critical")
    assert rule["annotations"]["runbook"] == f"docs/alerts.md#{rule['alert'].lower()}"


def test_the_runbook_has_a_chapter_for_every_alert_and_no_other() -> None:
    chapters = re.findall(r"^### (\w+)$", RUNBOOK.read_text(), re.MULTILINE)
    assert chapters == [rule["alert"] for rule in ALERTS]


async def test_a_prometheus_loads_and_evaluates_them(
    watched: Watched, eventually: Callable[..., Awaitable[None]]
) -> None:
    async def loaded() -> list[dict[str, Any]]:
        return [rule for group in (await watched.ask("rules"))["groups"] for rule in group["rules"]]

    async def evaluated() -> bool:
        return all(rule["health"] != "unknown" for rule in await loaded())

    await eventually(evaluated)
    found = await loaded()
    assert {rule["name"] for rule in found} == set(EXPRESSIONS)
    assert {rule["name"]: rule.get("lastError") for rule in found if rule["health"] != "ok"} == {}


async def test_while_all_is_well_no_alert_has_a_reason(
    watched: Watched, eventually: Callable[..., Awaitable[None]]
) -> None:
    async def silent() -> bool:
        heard = {name: await watched.query(query) for name, query in EXPRESSIONS.items()}
        return not any(heard.values()) or print(heard)

    await watched.play("well")
    await eventually(silent)


async def test_every_trouble_is_heard_and_told(watched: Watched, eventually: Callable[..., Awaitable[None]]) -> None:
    """With the rules as they are, by Prometheus' own evaluation; which also fills in the texts."""
    alerts: dict[str, dict[str, Any]] = {}

    async def heard() -> bool:
        alerts.update({alert["labels"]["alertname"]: alert for alert in (await watched.ask("alerts"))["alerts"]})
        return set(alerts) >= set(EXPRESSIONS) - {WITHOUT_TICKS} or print(sorted(set(EXPRESSIONS) - set(alerts)))

    await watched.play("troubled")
    try:
        await eventually(heard)
    finally:
        await watched.play("well")
    texts = {name: alert["annotations"] for name, alert in alerts.items()}
    assert not [text for each in texts.values() for text in each.values() if "{{" in text or "error" in text.lower()]
    assert texts["CanaryFailed"]["summary"] == "Canary of shop/web failed in m1"
    assert texts["MemberDown"]["summary"] == "Member AttachedCluster/m2 does not answer"
    assert texts["MemberWatchSilent"]["summary"] == "The watch of member AttachedCluster/m3 says nothing"
    assert texts["CanaryHasNoValues"]["summary"] == "Metric latency of shop/web in m1 gives no value"
    assert alerts["CanaryFailed"]["state"] == "firing"
    assert alerts["CanaryWaitsLong"]["labels"]["name"] == "api"


async def test_an_engine_without_ticks_is_heard(watched: Watched, eventually: Callable[..., Awaitable[None]]) -> None:
    async def heard() -> list[dict[str, Any]]:
        return await watched.query(EXPRESSIONS[WITHOUT_TICKS])

    await watched.play("still")
    try:
        await eventually(heard)
    finally:
        await watched.play("well")
