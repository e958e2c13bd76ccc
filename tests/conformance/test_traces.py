"""Flagger 1.44 and our engine do the same in every scenario, tick by tick, except for the fixed quirks.

Each engine plays all scenarios side by side on one real API server, in namespaces of their own; then the traces are
compared: first Flagger's with what the reference says of it, then ours with Flagger's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.deliberate import DIFFERENCES, WHY, allowed, parting, quirks_without_reason
from tests.conformance.engine import EngineDriver
from tests.conformance.flagger import FlaggerDriver
from tests.conformance.harness import FOLDED, Driver, Stage, Trace
from tests.conformance.notation import Step
from tests.conformance.record import Record, differences, text_of
from tests.conformance.scenario import Scenario
from tests.conformance.scenarios import SCENARIOS
from tests.conformance.server import Server, running
from tests.conformance.servers import Servers

# The slowest scenario needs three minutes with Flagger, and the first test waits for all of them.
pytestmark = [pytest.mark.conformance, pytest.mark.timeout(1200)]

REAL = [scenario for scenario in SCENARIOS if scenario.is_real]
each_scenario = pytest.mark.parametrize("scenario", REAL, ids=lambda scenario: scenario.name)
Make = Callable[[Server, Servers, Path], Driver]
Played = dict[str, Trace | Exception]


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[Server]:
    async with running() as found:
        yield found


@pytest.fixture(scope="module")
async def flagger_played(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Played:
    return await played(server, FlaggerDriver, tmp_path_factory.mktemp("flagger"))


@pytest.fixture(scope="module")
async def engine_played(server: Server, flagger_played: Played, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """After Flagger has ended, so that the two never see the same Canary."""
    return await played(server, EngineDriver, tmp_path_factory.mktemp("engine"))


async def played(server: Server, make: Make, folder: Path) -> Played:
    """Every scenario's trace, or what went wrong in it."""
    async with Servers.running() as servers:
        driver = make(server, servers, folder)
        await driver.start()
        turn = asyncio.Semaphore(driver.at_once)
        try:
            stages = [
                Stage(server.api, servers, driver, scenario, f"{driver.name}-{scenario.name.lower()}")
                for scenario in REAL
            ]
            traces = await asyncio.gather(*(_played(stage, turn) for stage in stages), return_exceptions=True)
            await asyncio.gather(*(_add_events(stage, trace) for stage, trace in zip(stages, traces, strict=True)))
        finally:
            await driver.stop()
    found: Played = {}
    for scenario, trace in zip(REAL, traces, strict=True):
        if isinstance(trace, BaseException) and not isinstance(trace, Exception):
            raise trace
        found[scenario.name] = trace
    return found


async def _played(stage: Stage, turn: asyncio.Semaphore) -> Trace:
    async with turn:
        return await stage.play()


async def _add_events(stage: Stage, trace: Trace | BaseException) -> None:
    if isinstance(trace, Trace) and not stage.scenario.quirks:
        told = {text for record in trace.records.values() for text in record.events}
        trace.events = await stage.kubernetes_events(told)


def trace_of(found: Played, scenario: Scenario) -> Trace:
    trace = found[scenario.name]
    if isinstance(trace, Exception):
        raise trace
    return trace


@each_scenario
async def test_flagger_does_what_the_reference_says(flagger_played: Played, scenario: Scenario) -> None:
    records = trace_of(flagger_played, scenario).records
    assert steps(records, scenario, scenario.expected_steps) == shown(scenario, scenario.expected_steps)
    for kind, found in (("events", events), ("alerts", alerts), ("hooks", hooks)):
        for tick, wanted in getattr(scenario, kind).items():
            texts = found(records[tick])
            is_said = len(texts) == len(wanted) and all(part in text for part, text in zip(wanted, texts, strict=True))
            assert is_said, f"{kind} of tick {tick}: {texts}\n{text_of(scenario, records)}"


@each_scenario
async def test_the_engine_does_what_flagger_does(
    flagger_played: Played, engine_played: Played, scenario: Scenario
) -> None:
    theirs, ours = trace_of(flagger_played, scenario), trace_of(engine_played, scenario)
    assert steps(ours.records, scenario, scenario.own_steps) == shown(scenario, scenario.own_steps)
    unexpected = []
    for tick in range(1, min(parting(scenario), scenario.last + 1)):
        found = differences(theirs.records[tick], ours.records[tick])
        deliberate = allowed(scenario, tick)
        unexpected += [f"tick {tick}, {part}: {text}" for part, text in found.items() if part not in deliberate]
        stale = deliberate.keys() - found.keys()
        unexpected += [f"tick {tick}, {part}: equal, although {deliberate[part]} should differ" for part in stale]
    if theirs.events and is_told_in_full(theirs):
        unexpected += [f"Kubernetes Event: {text}" for text in unequal(theirs.events, ours.events)]
    assert not unexpected, "\n".join(["Flagger's ≠ ours", *unexpected])


async def test_nothing_is_written_where_nothing_has_changed(flagger_played: Played, engine_played: Played) -> None:
    """Q16: a Failed Canary at rest."""
    scenario = next(scenario for scenario in REAL if scenario.name == "S9")
    assert trace_of(flagger_played, scenario).records[8].was_written
    assert not trace_of(engine_played, scenario).records[8].was_written


def test_every_difference_has_a_reason() -> None:
    assert not quirks_without_reason()
    for row in DIFFERENCES:
        assert row.quirk in WHY
        assert all(row.quirk in scenario.quirks for scenario in REAL if scenario.name in row.scenarios), row


# What of a record is compared with the reference


def steps(records: dict[int, Record], scenario: Scenario, wanted: Sequence[Step]) -> list[str]:
    found = [records[scenario.first + i].step for i in range(len(wanted))]
    return shown(scenario, found)


def shown(scenario: Scenario, found: Sequence[Step]) -> list[str]:
    """Without what this target or provider has not: routes without a mesh, replicas of a Service."""
    lines = []
    for step in found:
        phase, counts, routes, replicas = str(step).split()
        with_routes = [routes] if scenario.has_routes else []
        with_replicas = [replicas] if scenario.target_kind == "Deployment" else []
        lines.append(" ".join([phase, counts, *with_routes, *with_replicas]))
    return lines


def events(record: Record) -> list[str]:
    return record.events


def alerts(record: Record) -> list[str]:
    return [alert["attachments"][0]["text"] for alert in record.alerts]


def hooks(record: Record) -> list[str]:
    return [f"{hook['hook']}:{hook['phase']}" for hook in record.hooks]


def is_told_in_full(trace: Trace) -> bool:
    """What client-go has folded cannot be compared any more."""
    return not any(event["message"].startswith(FOLDED) for event in trace.events)


def unequal(theirs: list[Any], ours: list[Any]) -> list[Any]:
    with contextlib.suppress(ValueError):
        return [event for event in [*theirs, *ours] if event not in theirs or event not in ours]
    return []
