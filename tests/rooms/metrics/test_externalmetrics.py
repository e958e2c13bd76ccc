"""The external metrics API, of the member and of an address."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet_rollout.decide.canary.addresses import NotReached
from fleet_rollout.metrics.externalmetrics import quantity, read_query
from fleet_rollout.metrics.query import Misconfigured, NoValues, QueryFailed, Reply

ROOT = "/apis/external.metrics.k8s.io/v1beta1/namespaces"


def items(*values):
    return {"kind": "ExternalMetricValueList", "items": [{"metricName": "x", "value": value} for value in values]}


class Api:
    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    async def get(self, path):
        self.asked.append(path)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("latency", ("default", "latency", "")),
        ("/latency", ("default", "latency", "")),
        ("web/latency", ("web", "latency", "")),
        ("web/latency?labelSelector=app%3Dcart%2Ctier%21%3Ddb", ("web", "latency", "app=cart,tier!=db")),
    ],
)
def test_a_query_names_a_metric(text, asked):
    assert read_query(text) == asked


@pytest.mark.parametrize("text", ["", "web/", "a/b/c", "Web/x", "../x", "web/..", "?labelSelector=a"])
def test_a_query_of_another_form_is_refused(text):
    with pytest.raises(QueryFailed, match="error parsing metric query"):
        read_query(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5", 5.0),
        ("-1500m", -1.5),
        ("2k", 2000.0),
        ("1Gi", 1024.0**3),
        ("1Ei", 1024.0**6),
        ("3E", 3e18),
        ("1e3", 1000.0),
        ("1E3", 1000.0),
        ("1.5e-3", 0.0015),
        ("500u", 0.0005),
        (".5", 0.5),
        ("7n", 7e-9),
    ],
)
def test_quantities(text, number):
    assert quantity(text, Reply(None, "")) == pytest.approx(number)


@pytest.mark.parametrize("value", ["", "x", "1x", "1 k", "NaN", 5, None, "1e9999"])
def test_what_is_no_quantity(value):
    with pytest.raises(QueryFailed, match="invalid response"):
        quantity(value, Reply(None, "x"))


async def test_the_members_own_api_is_asked(make, options):
    api = Api(items("1500m", "9"))
    provider = make("externalmetrics", None, address="", options=replace(options, api=api))
    assert await provider.value("web/a b?labelSelector=app%3Dx") == 1.5
    assert api.asked == [f"{ROOT}/web/a%20b?labelSelector=app%3Dx"]


async def test_t25_an_address_gets_the_templates_token_and_nothing_else(make, server, options):
    server.answer = items("2")
    api = Api(items("9"))
    assert await make("externalmetrics", options=replace(options, api=api)).value("web/x") == 2.0
    assert server.last.path == f"{ROOT}/web/x"
    assert server.last.headers["Authorization"] == "Bearer s3cret-token"
    await make("externalmetrics", None, options=replace(options, api=api)).value("web/x")
    assert "Authorization" not in server.last.headers
    assert api.asked == []


@pytest.mark.parametrize("answer", [items(), {"items": None}, {}])
async def test_no_items_are_no_values(make, server, answer):
    server.answer = answer
    with pytest.raises(NoValues, match="no external metrics found: no values found"):
        await make("externalmetrics").value("x")


async def test_an_api_that_refuses_is_quoted(make, options):
    provider = make("externalmetrics", None, address="", options=replace(options, api=Api(NotReached("forbidden"))))
    with pytest.raises(QueryFailed, match="error querying external metrics API: forbidden"):
        await provider.value("web/x")
    with pytest.raises(QueryFailed, match="external metrics service unavailable"):
        await provider.is_online()


async def test_the_online_probe_asks_for_a_metric_that_need_not_be_there(make, server):
    server.answer = items()
    await make("externalmetrics").is_online()
    assert server.last.path == f"{ROOT}/kube-system/dummy-metric"


async def test_another_namespace_may_be_forbidden(make, server, options):
    provider = make("externalmetrics", options=replace(options, only_namespace="shop"))
    with pytest.raises(QueryFailed, match="namespace web is not that of the template"):
        await provider.value("web/x")
    assert server.seen == []


@pytest.mark.parametrize(
    ("secret", "fact"), [(None, "needs the API server"), ({"token": b"t"}, "a token but no address")]
)
def test_it_needs_somebody_to_ask(make, secret, fact):
    with pytest.raises(Misconfigured, match=fact):
        make("externalmetrics", secret, address="")
