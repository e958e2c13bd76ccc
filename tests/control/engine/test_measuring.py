"""What a check leaves in the service's own metrics: a value, or why there was none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest

from fleet_rollout import measures
from fleet_rollout.control.engine.measuring import Measuring
from fleet_rollout.decide.canary.addresses import Answer
from fleet_rollout.decide.canary.objects import StepFailed, Unasked
from fleet_rollout.decide.canary.subject import EngineOptions, Subject
from fleet_rollout.kube.errors import Unreachable
from fleet_rollout.metrics.bulkheads import Bulkheads

NAMED = {"name": "web", "namespace": "measuring", "cluster": "west"}
CANARY = {
    "apiVersion": "flagger.app/v1beta1",
    "kind": "Canary",
    "metadata": {"name": "web", "namespace": "measuring"},
    "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "analysis": {}},
}
OPTIONS = EngineOptions(
    mesh_provider="istio", cluster_name="west", metrics_server="http://prometheus.istio-system:9090"
)


class Backend:
    """A Dial behind which one Prometheus always says the same."""

    def __init__(self, status: int, result: list[Any]) -> None:
        self._answer = {"status": "success", "data": {"resultType": "vector", "result": result}}
        self._status = status

    async def request(self, *_: Any, **__: Any) -> Answer:
        return Answer(self._status, orjson.dumps(self._answer))


class Named:
    name = "west"


@pytest.fixture
def measuring() -> Iterator[Measuring]:
    bulkheads = Bulkheads()
    yield Measuring(Named(), None, bulkheads)
    bulkheads.close()
    measures.forget_canary("web", "measuring", "west")


def unmeasured(metric: str, reason: str) -> float | None:
    labels = {**NAMED, "metric": metric, "reason": reason}
    return measures.REGISTRY.get_sample_value("fleet_rollout_canary_unmeasured_total", labels)


@pytest.mark.parametrize(("metric", "shown"), [("request-success-rate", 99.5), ("request-duration", 0.0995)])
async def test_a_value_is_shown_durations_in_seconds(measuring: Measuring, metric: str, shown: float) -> None:
    backend = Backend(200, [{"metric": {}, "value": [1, "99.5"]}])
    found = {"name": metric, "interval": "1m", "thresholdRange": {"max": 200}}
    assert await measuring.measure(Subject(CANARY, OPTIONS), found, backend) is None
    labels = {**NAMED, "metric": metric}
    assert measures.REGISTRY.get_sample_value("flagger_canary_metric_analysis", labels) == pytest.approx(shown)


async def test_checks_without_a_value_are_counted_by_their_reason(measuring: Measuring) -> None:
    metric = {"name": "request-success-rate", "interval": "1m"}
    for count in (1, 2):
        assert await measuring.measure(Subject(CANARY, OPTIONS), metric, Backend(200, [])) is not None
        assert unmeasured("request-success-rate", "no_values") == count
    assert await measuring.measure(Subject(CANARY, OPTIONS), metric, Backend(500, [])) is not None
    assert unmeasured("request-success-rate", "error") == 1


async def test_a_metric_that_cannot_be_asked_is_counted(measuring: Measuring) -> None:
    assert await measuring.measure(Subject(CANARY, OPTIONS), {"name": "own"}, Backend(200, [])) is not None
    assert unmeasured("own", "error") == 1


class Reads:
    """A Sight in which nothing is, and what it was asked for."""

    def __init__(self) -> None:
        self.namespaces: list[str] = []

    async def read(self, refs: list[Any]) -> dict[Any, None]:
        self.namespaces += [ref.namespace for ref in refs]
        return dict.fromkeys(refs)


@pytest.mark.parametrize(
    ("namespace", "read"), [(None, ["measuring"]), ("", ["measuring"]), ("other", []), (" measuring", [])]
)
async def test_t30_a_template_of_another_namespace_is_not_even_read(namespace: str | None, read: list[str]) -> None:
    sight, bulkheads = Reads(), Bulkheads()
    strict = Subject(CANARY, replace(OPTIONS, no_cross_namespace_refs=True))
    metric = {"name": "own", "templateRef": {"name": "own", "namespace": namespace}}
    said = await Measuring(Named(), sight, bulkheads).measure(strict, metric, Backend(200, []))
    bulkheads.close()
    measures.forget_canary("web", "measuring", "west")
    assert sight.namespaces == read
    assert said is not None
    assert ("not found" in said) is bool(read)
    assert ("templates of other namespaces are not allowed" in said) is not bool(read)


class Crowded:
    """A Dial at whose address there is no turn."""

    async def request(self, *_: Any, **__: Any) -> Answer:
        raise Unasked("http://prometheus:9090 is asked by too many at once")


async def test_a_question_without_a_turn_is_no_failed_check_and_ends_no_first_tick(measuring: Measuring) -> None:
    metric = {"name": "request-success-rate", "interval": "1m"}
    with pytest.raises(Unasked):
        await measuring.measure(Subject(CANARY, OPTIONS), metric, Crowded())
    analysed = Subject({**CANARY, "spec": {**CANARY["spec"], "analysis": {"metrics": [metric]}}}, OPTIONS)
    said = await measuring.probe(analysed, Crowded())
    assert said == "prometheus not avaiable: http://prometheus:9090 is asked by too many at once"


class Surprising:
    """A Dial, or a Sight, that fails as nobody has thought of."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    async def request(self, *_: Any, **__: Any) -> Answer:
        raise self._error

    async def read(self, *_: Any, **__: Any) -> Any:
        raise self._error


ANALYSED = Subject(
    {**CANARY, "spec": {**CANARY["spec"], "analysis": {"metrics": [{"name": "request-duration"}]}}}, OPTIONS
)
UNEXPECTED = "unexpected RuntimeError; the log of the engine says more"


async def test_what_nobody_expected_fails_the_check_and_is_logged(
    measuring: Measuring, caplog: pytest.LogCaptureFixture
) -> None:
    dial, metric = Surprising(RuntimeError("s3cret")), {"name": "request-duration"}
    said = await measuring.measure(ANALYSED, metric, dial)
    assert said == f"Prometheus query failed: running query failed: {UNEXPECTED}"
    assert unmeasured("request-duration", "error") == 1
    assert await measuring.probe(ANALYSED, dial) == f"prometheus not avaiable: {UNEXPECTED}"
    assert [record.exc_info is not None for record in caplog.records] == [True, True]


@pytest.mark.parametrize(
    "error", [asyncio.CancelledError(), StepFailed("x"), Unasked("x"), Unreachable("m", "away", maybe_sent=True)]
)
async def test_what_the_tick_has_to_know_passes(measuring: Measuring, error: BaseException) -> None:
    with pytest.raises(type(error)):
        await measuring.measure(ANALYSED, {"name": "request-duration"}, Surprising(error))
