"""Datadog's API, as it answers."""

from __future__ import annotations

import pytest

from fleet_rollout.metrics.datadog import DEFAULT_ADDRESS, Provider
from fleet_rollout.metrics.query import NoValues, QueryFailed
from tests.rooms.metrics.backends import NOW, SECRETS


def points(*values):
    series = {"metric": "x", "pointlist": [[1700000000000.0 + n, value] for n, value in enumerate(values)]}
    return {"status": "ok", "series": [series, {"pointlist": [[1.0, 99.0]]}], "query": "x"}


async def test_ten_intervals_are_asked_for(make, server):
    server.answer = points(1.5, 2.5)
    assert await make("datadog").value("avg:x{a:b} by {c}") == 1.5
    seen = server.last
    assert (seen.method, seen.path) == ("GET", "/api/v1/query")
    assert seen.query == {"query": "avg:x{a:b} by {c}", "from": str(int(NOW) - 600), "to": str(int(NOW))}
    assert (seen.headers["DD-API-KEY"], seen.headers["DD-APPLICATION-KEY"]) == ("s3cret-api", "s3cret-app")


@pytest.mark.parametrize(
    "answer",
    [
        {"series": []},
        {"series": None},
        {"series": [{"pointlist": []}]},
        {"series": [{"pointlist": [[]]}]},
        points(None),
    ],
)
async def test_no_points_are_no_values(make, server, answer):
    server.answer = answer
    with pytest.raises(NoValues, match=r"invalid response: \{.*: no values found"):
        await make("datadog").value("x")


@pytest.mark.parametrize("answer", [{"series": 5}, {"series": ["a"]}, points("a"), points(True)])
async def test_another_shape_is_an_error(make, server, answer):
    server.answer = answer
    with pytest.raises(QueryFailed, match="invalid response"):
        await make("datadog").value("x")


async def test_the_online_probe_validates_the_keys(make, server):
    await make("datadog").is_online()
    assert server.last.path == "/api/v1/validate"
    assert server.last.headers["DD-API-KEY"] == "s3cret-api"
    server.status = 403
    with pytest.raises(QueryFailed, match="403 Forbidden"):
        await make("datadog").is_online()


def test_without_an_address_it_is_datadogs_own(options, dial):
    provider = Provider({"type": "datadog"}, SECRETS["datadog"], options, dial)
    assert provider._url == DEFAULT_ADDRESS
