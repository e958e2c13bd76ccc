"""Graphite's render API, as it answers."""

from __future__ import annotations

import pytest

from fleet_rollout.metrics.query import NoValues, QueryFailed


def series(*lists):
    return [{"target": "x", "datapoints": [[value, 1700000000 + n] for n, value in enumerate(one)]} for one in lists]


async def test_a_query_is_the_renderers_own(make, server):
    server.answer = series([1.0, 2.5, None])
    query = "target=summarize(\n  asPercent(a.b, c), '1min')&from=-5min&format=png&until"
    assert await make("graphite", None, address=f"{server.url}/base/").value(query) == 2.5
    seen = server.last
    assert (seen.method, seen.path) == ("GET", "/base/render")
    target = "summarize( asPercent(a.b, c), '1min')"
    assert seen.query == {"format": "json", "from": "-5min", "target": target, "until": ""}
    assert seen.raw_query.startswith("format=json&from=-5min&target=summarize%28+asPercent")
    assert "Authorization" not in seen.headers


async def test_the_last_point_of_all_series_counts(make, server):
    server.answer = series([1.0, 2.0], [3, "4.5", None], [None])
    assert await make("graphite").value("target=x") == 4.5
    assert server.last.headers["Authorization"] == "Basic bWU6czNjcmV0LXBhc3M="


@pytest.mark.parametrize("answer", [[], series([]), series([None, None]), series(["NaN"])])
async def test_no_point_is_no_value(make, server, answer):
    server.answer = answer
    with pytest.raises(NoValues, match="no values found"):
        await make("graphite").value("target=x")


@pytest.mark.parametrize(
    "answer",
    [{}, [5], [{"target": "x"}], [{"datapoints": [5]}], [{"datapoints": [[1]]}], series(["a"]), series([[1]])],
)
async def test_another_shape_is_an_error(make, server, answer):
    server.answer = answer
    with pytest.raises(QueryFailed, match="invalid response"):
        await make("graphite").value("target=x")


async def test_the_online_probe_needs_no_value(make, server):
    server.answer = []
    await make("graphite").is_online()
    assert server.last.query == {"format": "json", "target": "test"}
    server.status = 500
    with pytest.raises(QueryFailed, match="running query failed: error response: Status 500"):
        await make("graphite").is_online()
