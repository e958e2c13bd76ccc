"""Canaries that an API server accepts and nobody can drive: each is told, and no other is harmed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fleet_rollout.control.engine.driven import Driven
from fleet_rollout.control.engine.engine import CanaryKey, Engine
from fleet_rollout.control.engine.outside import Outside
from fleet_rollout.control.engine.sight import Sight
from fleet_rollout.decide.canary.addresses import Reach
from fleet_rollout.decide.canary.subject import EngineOptions
from fleet_rollout.kube.client import Event
from fleet_rollout.lab.lab import LabCluster
from fleet_rollout.metrics.bulkheads import Bulkheads
from fleet_rollout.settings import Settings
from tests.control.engine.scene import BY_ITERATIONS, Scene
from tests.control.engine.scripted import Script
from tests.control.engine.test_engine import canary

Object = dict[str, Any]
CRD = Path(__file__).parents[3] / "config" / "crd" / "member" / "flagger.app_canaries.yaml"
KEY = CanaryKey("shop", "web")
NO_SPEC = "Canary web.shop has no spec; write spec.targetRef, spec.service and spec.analysis"


def stored(version: int, manager: str = "fleet-rollout-canary", **content: Any) -> Object:
    """A Canary as a watch tells of it."""
    writer = {"manager": manager, "subresource": "status", "time": f"2026-01-01T00:00:0{version}Z"}
    metadata = {
        "name": "web",
        "namespace": "shop",
        "uid": "1",
        "generation": version,
        "resourceVersion": str(version),
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [writer],
    }
    return {"apiVersion": "flagger.app/v1beta1", "kind": "Canary", "metadata": metadata, **content}


class Unticked(Engine):
    """Its Canaries wait for a tick that does not come."""

    def _start(self, key: CanaryKey, raw: Object) -> None:
        super()._start(key, raw)
        self._tasks[key].cancel()


def engine(outside: Any) -> Engine:
    sight = Sight(None, Settings())  # type: ignore[arg-type]
    return Unticked("agent", None, sight, outside, EngineOptions, lambda: True)  # type: ignore[arg-type]


# What is told


async def test_a_canary_without_a_spec_is_told_and_driven_once_it_has_one(script: Script) -> None:
    found = engine(script)
    found.told(Event("ADDED", stored(1)))
    assert script.events == [NO_SPEC]
    assert found.namespaces == set()
    found.told(Event("MODIFIED", stored(2, spec=canary("shop")["spec"])))
    assert found.namespaces == {"shop"}


async def test_a_canary_whose_spec_is_taken_away_is_let_go(script: Script) -> None:
    found = engine(script)
    found.told(Event("ADDED", stored(1, spec=canary("shop")["spec"])))
    found.told(Event("MODIFIED", stored(2)))
    assert script.events == [NO_SPEC]
    assert found.namespaces == set()
    found.told(Event("DELETED", stored(3)))
    found.told(Event("ADDED", stored(4, spec=canary("shop")["spec"])))
    assert found.namespaces == {"shop"}


async def test_of_a_canary_of_somebody_else_nothing_is_told(script: Script) -> None:
    raw = stored(1)
    raw["metadata"]["annotations"] = {"apps.kurator.dev/engine": "flagger"}
    engine(script).told(Event("ADDED", raw))
    assert script.events == []


# What is found


@pytest.fixture
async def scene(place: Any, member: LabCluster) -> AsyncIterator[Scene]:
    made = Scene(member, await place())
    yield made
    await made.close()


@pytest.mark.parametrize("before", [None, "Initialized"])
async def test_a_tick_that_finds_no_spec_any_more_writes_nothing_and_does_not_rest(
    scene: Scene, script: Script, caplog: pytest.LogCaptureFixture, before: str | None
) -> None:
    """Its spec was taken away, and the watch has not told of it yet."""
    await scene.bring()
    if before:
        await scene.until(before)
        await scene.api.delete(f"/api/v1/namespaces/{scene.namespace}/services/web-primary")
    old = await scene.api.get(scene.path())
    await scene.api.merge(scene.path(), {"spec": None})
    version = (await scene.api.get(scene.path()))["metadata"]["resourceVersion"]
    sight = Sight(scene.cluster, Settings())
    driven = Driven(scene.cluster, sight, script, lambda: BY_ITERATIONS, old)
    with caplog.at_level(logging.ERROR):
        last = await driven.tick()
    await sight.close()
    assert caplog.records == []
    assert last is not None
    assert not last.is_quiet
    assert driven.raw["spec"] == old["spec"]
    assert (await scene.api.get(scene.path()))["metadata"]["resourceVersion"] == version


async def test_a_mistake_of_ours_ends_a_tick_and_not_its_canary(
    script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    is_broken = False

    def options() -> EngineOptions:
        if is_broken:
            raise KeyError("a mistake")
        return EngineOptions()

    driven = Driven(None, None, script, options, stored(1, spec=canary("shop")["spec"]))  # type: ignore[arg-type]
    is_broken = True
    assert await driven.tick() is None
    assert "tick of Canary web.shop failed" in caplog.text


# Whatever the schema lets through

TEXTS = st.sampled_from(["", "a", "é\x00", "10s", "0x7f.1", "{{", "http://a/"])
NUMBERS = st.sampled_from([0, 1, -1, 2.5, -0.5, 100, 10**30, 1e300])


def admitted(schema: Object, depth: int = 6) -> st.SearchStrategy[Any]:
    """Values that an API server takes: what is required, and anything of the rest. Rules in CEL are not looked at."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return NUMBERS.map(int) | TEXTS
    match schema["type"]:
        case "object":
            return _object(schema, depth)
        case "array":
            return st.lists(admitted(schema["items"], depth - 1), max_size=2) if depth else st.just([])
        case "string":
            return st.from_regex(schema["pattern"]) if "pattern" in schema else TEXTS
        case "boolean":
            return st.booleans()
        case "integer":
            return NUMBERS.map(int)
    return NUMBERS


def _object(schema: Object, depth: int) -> st.SearchStrategy[Any]:
    ways = [set(way["required"]) for way in schema.get("oneOf", []) if "required" in way] or [set()]
    required = set(schema.get("required", []))
    parts = {name: part for name, part in schema.get("properties", {}).items() if depth or name in required}
    more: st.SearchStrategy[Any] = st.just({})
    if depth and isinstance(schema.get("additionalProperties"), dict):
        more = st.dictionaries(TEXTS, admitted(schema["additionalProperties"], depth - 1), max_size=2)

    def of(way: set[str]) -> st.SearchStrategy[Any]:
        others = set().union(*ways) - way
        made = {name: admitted(part, max(0, depth - 1)) for name, part in parts.items() if name not in others}
        needed = {name: made.pop(name) for name in required | way if name in made}
        return st.fixed_dictionaries(needed, optional=made)

    return st.builds(lambda fixed, free: {**free, **fixed}, st.one_of([of(way) for way in ways]), more)


def _schema() -> Object:
    version, *_ = yaml.safe_load(CRD.read_text())["spec"]["versions"]
    found: Object = version["schema"]["openAPIV3Schema"]["properties"]
    del found["spec"]["properties"]["service"]  # thousands of lines that only a tick reads
    return found


SCHEMA = _schema()
CONTENT = st.fixed_dictionaries({}, optional={part: admitted(SCHEMA[part]) for part in ("spec", "status")})
DRIVEN = {"spec": canary("shop")["spec"], "status": {"phase": "Progressing"}}


@pytest.fixture(scope="module")
def outside() -> Iterator[Outside]:
    """The real one, which reads hooks and names; nothing of it is sent."""
    bulkheads, reach = Bulkheads(), Reach()
    nobody: Any = None
    yield Outside(
        nobody,
        nobody,
        dial=lambda _: nobody,
        bulkheads=bulkheads,
        alert_reach=reach,
        reach=lambda: reach,
    )
    bulkheads.close()


@given(contents=st.lists(CONTENT, min_size=1, max_size=3), labels=st.none() | st.just({}))
@example(contents=[DRIVEN, {}, DRIVEN], labels=None)
@example(contents=[DRIVEN, {"spec": {**DRIVEN["spec"], "analysis": {"interval": "9" * 400 + "s"}}}], labels=None)
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], deadline=None)
def test_the_engine_can_be_told_of_every_canary_that_the_schema_lets_through(
    outside: Outside, contents: list[Object], labels: Any
) -> None:
    """Each is another version of one Canary, whose status Flagger writes; then it is deleted."""

    async def tell() -> None:
        found = engine(outside)
        for version, content in enumerate(contents, start=1):
            raw = stored(version, "flagger", **content)
            raw["metadata"] |= {"annotations": labels, "labels": labels}
            found.told(Event("MODIFIED", raw))
            found.problem(KEY)
            for driven in found._driven.values():
                assert 0 < driven._interval < 1e10
                assert driven._grid.due_from(driven._clock()) < float("inf")
        found.told(Event("DELETED", stored(9)))
        assert found.namespaces == set()

    asyncio.run(tell())
