"""Keptn's objects in the member's API."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet_rollout.decide.canary.addresses import NotReached
from fleet_rollout.metrics import keptn
from fleet_rollout.metrics.keptn import Query, read_query
from fleet_rollout.metrics.query import Misconfigured, NoValues, QueryFailed

METRIC = "/apis/metrics.keptn.sh/v1beta1/namespaces/web/keptnmetrics/latency"
ANALYSES = "/apis/metrics.keptn.sh/v1beta1/namespaces/web/analyses"


class Api:
    """An API server that holds objects by path; a list is given one at a time, an error is raised."""

    def __init__(self, **fails):
        self.objects = {}
        self.log = []
        self.fails = fails

    async def get(self, path):
        self._act("get", path)
        found = self.objects.get(path)
        if found is None:
            found = self.objects.get("*", {})
        return (
            found.pop(0)
            if isinstance(found, list) and len(found) > 1
            else found[0]
            if isinstance(found, list)
            else found
        )

    async def create(self, path, obj):
        self._act("create", path)
        self.made = obj
        return obj

    async def delete(self, path):
        self._act("delete", path)

    def _act(self, verb, path):
        self.log.append((verb, path))
        if verb in self.fails:
            raise NotReached(self.fails[verb])


@pytest.fixture
def ask(make, options, monkeypatch):
    monkeypatch.setattr(keptn, "PAUSE", 0.001)

    async def value(api, query, **changes):
        from fleet_rollout.metrics.factory import provider_for

        return await provider_for({"type": "keptn"}, None, replace(options, api=api, **changes), None).value(query)

    return value


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("keptnmetric/web/latency", Query(False, "web", "latency")),
        ("KeptnMetrics/Web/Latency\n", Query(False, "web", "latency")),
        ("analysis/web/check", Query(True, "web", "check", "1m")),
        ("analyses/web/check/10m", Query(True, "web", "check", "10m")),
        ("analysis/web/check/5m/a=1;b=2;broken", Query(True, "web", "check", "5m", {"a": "1", "b": "2"})),
    ],
)
def test_a_query_names_an_object(text, query):
    assert read_query(text) == query


@pytest.mark.parametrize(
    "text", ["", "keptnmetric/web", "pod/web/x", "keptnmetric/../x", "keptnmetric/web/..", "analysis/a/b%2f"]
)
def test_a_query_of_another_form_is_refused(text):
    with pytest.raises(QueryFailed, match="has to be"):
        read_query(text)


async def test_a_metric_is_read_from_its_status(ask):
    api = Api()
    api.objects[METRIC] = {"status": {"value": "99.5"}}
    assert await ask(api, "keptnmetric/web/latency") == 99.5
    assert api.log == [("get", METRIC)]


@pytest.mark.parametrize(
    ("found", "error", "fact"),
    [
        ({"status": {"value": "many"}}, QueryFailed, "could not parse value of KeptnMetric web/latency"),
        ({"status": {"value": ""}}, QueryFailed, "no value found"),
        ({"status": {"value": 5}}, QueryFailed, "no value found"),
        ({}, QueryFailed, "no value found"),
        ({"status": {"value": "NaN"}}, NoValues, "no values found"),
    ],
)
async def test_a_metric_without_number(ask, found, error, fact):
    api = Api()
    api.objects[METRIC] = found
    with pytest.raises(error, match=fact):
        await ask(api, "keptnmetric/web/latency")


@pytest.mark.parametrize(("passes", "value"), [(True, 1.0), (False, 0.0)])
async def test_an_analysis_is_made_awaited_and_removed(ask, passes, value):
    api = Api()
    api.objects["*"] = [{}, {"status": {"state": "Progressing"}}, {"status": {"state": "Completed", "pass": passes}}]
    assert await ask(api, "analysis/web/check/5m/a=1") == value
    name = api.made["metadata"]["name"]
    assert name.startswith("check-")
    assert len(name) == len("check-") + 6
    assert api.made == {
        "apiVersion": "metrics.keptn.sh/v1beta1",
        "kind": "Analysis",
        "metadata": {"name": name, "namespace": "web"},
        "spec": {"analysisDefinition": {"name": "check"}, "timeframe": {"recent": "5m"}, "args": {"a": "1"}},
    }
    assert api.log[0] == ("create", ANALYSES)
    assert api.log[-1] == ("delete", f"{ANALYSES}/{name}")


async def test_an_analysis_has_a_limit_and_is_removed_all_the_same(ask, monkeypatch):
    monkeypatch.setattr(keptn, "LIMIT", 0.05)
    api = Api()
    with pytest.raises(QueryFailed, match="was not finished within"):
        await ask(api, "analysis/web/check")
    assert api.log[-1][0] == "delete"


@pytest.mark.parametrize(
    ("verb", "fact"), [("create", "could not create Analysis"), ("get", "could not check Analysis web/check: gone")]
)
async def test_an_api_that_refuses_is_named(ask, verb, fact):
    with pytest.raises(QueryFailed, match=fact):
        await ask(Api(**{verb: "gone"}), "analysis/web/check")


async def test_a_metric_that_is_not_there_is_named(ask):
    with pytest.raises(QueryFailed, match="could not retrieve KeptnMetric web/latency: not found"):
        await ask(Api(get="not found"), "keptnmetric/web/latency")


async def test_an_analysis_that_cannot_be_removed_has_its_result(ask):
    api = Api(delete="no")
    api.objects["*"] = {"status": {"state": "Completed", "pass": True}}
    assert await ask(api, "analysis/web/check") == 1.0


async def test_another_namespace_may_be_forbidden(ask):
    api = Api()
    with pytest.raises(QueryFailed, match="namespace web is not that of the template, shop"):
        await ask(api, "keptnmetric/web/latency", only_namespace="shop")
    assert api.log == []


async def test_it_is_online_without_being_asked(make, options):
    provider = make("keptn", None, options=replace(options, api=Api()))
    await provider.is_online()


def test_it_needs_the_members_api(make):
    with pytest.raises(Misconfigured, match="API server"):
        make("keptn", None)
