"""New Relic's Insights API, as it answers."""

from __future__ import annotations

import pytest

from fleet_rollout.metrics.query import NoValues, QueryFailed


async def test_the_window_is_one_interval(make, server):
    server.answer = {"results": [{"result": 99.5}], "metadata": {}}
    assert await make("newrelic").value("SELECT percentile(duration, 95) FROM Metric") == 99.5
    seen = server.last
    assert (seen.method, seen.path) == ("GET", "/v1/accounts/51312/query")
    assert seen.query == {"nrql": "SELECT percentile(duration, 95) FROM Metric SINCE 60 seconds ago"}
    assert seen.headers["X-Query-Key"] == "s3cret-key"


@pytest.mark.parametrize("results", [[], None, [{"result": None}], [{}], [{"result": 1}, {"result": 2}]])
async def test_other_than_one_result_is_no_value(make, server, results):
    server.answer = {"results": results}
    with pytest.raises(NoValues, match="no values found"):
        await make("newrelic").value("x")


@pytest.mark.parametrize("results", [[{"result": "1"}], [5], ["a"]])
async def test_another_shape_is_an_error(make, server, results):
    server.answer = {"results": results}
    with pytest.raises(QueryFailed, match="invalid response"):
        await make("newrelic").value("x")


async def test_an_account_cannot_change_the_path(make, server):
    server.answer = {"results": [{"result": 1}]}
    secret = {"newrelic_account_id": b"../../x?", "newrelic_query_key": b"k"}
    await make("newrelic", secret).value("x")
    assert server.last.path == "/v1/accounts/..%2F..%2Fx%3F/query"


async def test_the_online_probe_asks(make, server):
    await make("newrelic").is_online()
    assert server.last.query == {"nrql": "SELECT * FROM Metric SINCE 60 seconds ago"}
