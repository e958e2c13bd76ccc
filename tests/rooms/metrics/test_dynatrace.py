"""Dynatrace's metrics API v2, as it answers."""

from __future__ import annotations

import pytest

from fleet_rollout.metrics.query import Misconfigured, NoValues, QueryFailed
from tests.rooms.metrics.backends import NOW


def data(*values):
    return {
        "totalCount": 1,
        "resolution": "Inf",
        "result": [{"metricId": "x", "data": [{"dimensions": [], "values": list(found)} for found in values]}],
    }


async def test_one_value_is_asked_for_the_whole_window(make, server):
    server.answer = data([1.0], [2.0, 3.0])
    assert await make("dynatrace").value("builtin:x:filter(eq(a,b))") == 2.0
    seen = server.last
    assert (seen.method, seen.path) == ("GET", "/api/v2/metrics/query")
    now = int(NOW) * 1000
    window = {"from": str(now - 600_000), "to": str(now)}
    assert seen.query == {"metricSelector": "builtin:x:filter(eq(a,b))", "resolution": "Inf", **window}
    assert seen.headers["Authorization"] == "Api-Token s3cret-token"


@pytest.mark.parametrize("answer", [{"result": []}, data(), data([]), data([1.0], []), data([None]), {}])
async def test_no_data_is_no_value(make, server, answer):
    server.answer = answer
    with pytest.raises(NoValues, match="no values found"):
        await make("dynatrace").value("x")


@pytest.mark.parametrize("answer", [{"result": "x"}, data(["1"]), {"result": [{"data": 5}]}])
async def test_another_shape_is_an_error(make, server, answer):
    server.answer = answer
    with pytest.raises(QueryFailed, match="invalid response"):
        await make("dynatrace").value("x")


async def test_the_online_probe_lists_one_metric(make, server):
    await make("dynatrace").is_online()
    assert (server.last.path, server.last.query) == ("/api/v2/metrics", {"pageSize": "1"})


def test_an_address_is_needed(make):
    with pytest.raises(Misconfigured, match="dynatrace address  is not a valid URL"):
        make("dynatrace", address="")
