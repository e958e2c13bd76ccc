"""CloudWatch's JSON API, signed; the signature is checked the way the service does."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import replace

import orjson
import pytest

from fleet_rollout.metrics import cloudwatch
from fleet_rollout.metrics.cloudwatch import Provider, ambient, spelled
from fleet_rollout.metrics.factory import provider_for
from fleet_rollout.metrics.query import Misconfigured, NoValues, QueryFailed
from tests.rooms.metrics.backends import NOW

QUERY = '[{"id": "e1", "expression": "m1/m2"}, {"Id": "m1", "metricstat": {"Stat": "Sum", "Period": 60}}]'


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    """Ambient credentials, and no others."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret-key")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    ambient.cache_clear()
    yield
    ambient.cache_clear()


@pytest.fixture
def region(server, options, dial):
    return Provider({"type": "cloudwatch", "region": "eu-west-1"}, None, options, dial, endpoint=f"{server.url}/")


def results(*lists):
    return {"MetricDataResults": [{"Id": "e1", "StatusCode": "Complete", "Values": list(found)} for found in lists]}


def signature(seen, secret):
    """Signature version 4 of a request, from its own headers."""
    found = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/(\d{8})/eu-west-1/monitoring/aws4_request, "
        r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})",
        seen.headers["Authorization"],
    )
    day, names, given = found.groups()
    headers = {name.lower(): value for name, value in seen.headers.items()}
    lines = "".join(f"{name}:{headers[name]}\n" for name in names.split(";"))
    body = hashlib.sha256(seen.body).hexdigest()
    request = hashlib.sha256(f"POST\n/\n\n{lines}\n{names}\n{body}".encode()).hexdigest()
    scope = f"{day}/eu-west-1/monitoring/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{headers['x-amz-date']}\n{scope}\n{request}"
    key = f"AWS4{secret}".encode()
    for part in (day, "eu-west-1", "monitoring", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return given, hmac.new(key, text.encode(), hashlib.sha256).hexdigest(), names


async def test_ten_intervals_are_asked_for(region, server):
    server.answer = results([99.5, 98.0], [1.0])
    assert await region.value(QUERY) == 99.5
    seen = server.last
    assert (seen.method, seen.path) == ("POST", "/")
    assert seen.headers["X-Amz-Target"] == "GraniteServiceVersion20100801.GetMetricData"
    assert seen.headers["Content-Type"] == "application/x-amz-json-1.0"
    assert orjson.loads(seen.body) == {
        "StartTime": int(NOW) - 600.0,
        "EndTime": int(NOW),
        "MaxDatapoints": 20,
        "MetricDataQueries": [
            {"Id": "e1", "Expression": "m1/m2"},
            {"Id": "m1", "MetricStat": {"Stat": "Sum", "Period": 60}},
        ],
    }


async def test_a_request_is_signed_with_the_ambient_key(region, server):
    server.answer = results([1.0])
    await region.value("[]")
    given, expected, names = signature(server.last, "s3cret-key")
    assert given == expected
    assert {"host", "x-amz-date", "x-amz-target"} <= set(names.split(";"))
    assert "s3cret" not in str(server.last)


@pytest.mark.parametrize("answer", [results(), results([]), {"MetricDataResults": None}, {}])
async def test_no_values(region, server, answer):
    server.answer = answer
    with pytest.raises(NoValues, match="no values found"):
        await region.value("[]")


@pytest.mark.parametrize(
    ("status", "answer", "fact"),
    [
        (400, {"__type": "ValidationError", "message": "bad query"}, "Status 400 Bad Request: .*bad query"),
        (403, {"__type": "AccessDenied"}, "Status 403 Forbidden"),
        (500, "oops", "Status 500"),
        (200, "<GetMetricDataResponse/>", "not JSON"),
    ],
)
async def test_a_refusal_is_quoted(region, server, status, answer, fact):
    server.status, server.answer = status, answer
    with pytest.raises(QueryFailed, match=f"error requesting cloudwatch: .*{fact}"):
        await region.value("[]")


async def test_a_value_of_another_type(region, server):
    server.answer = results(["a"])
    with pytest.raises(QueryFailed, match="invalid response"):
        await region.value("[]")


async def test_a_query_that_is_not_json(region, server):
    with pytest.raises(QueryFailed, match="error unmarshaling query"):
        await region.value("SELECT 1")
    assert server.seen == []


async def test_a_hang_ends(region, server, monkeypatch):
    monkeypatch.setattr(cloudwatch, "TIMEOUT", 0.3)
    server.hangs = True
    with pytest.raises(QueryFailed, match=r"no answer within 0\.3 s"):
        await region.value("[]")


async def test_without_credentials_nothing_is_sent(region, server, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    ambient.cache_clear()
    with pytest.raises(QueryFailed, match="no AWS credentials"):
        await region.value("[]")
    assert server.seen == []


@pytest.mark.parametrize(("status", "fact"), [(200, None), (400, None), (403, "unexpected status code"), (500, "500")])
async def test_the_online_probe_may_be_a_bad_request(region, server, status, fact):
    server.status = status
    if fact is None:
        await region.is_online()
    else:
        with pytest.raises(QueryFailed, match=fact):
            await region.is_online()
    assert orjson.loads(server.last.body)["MetricDataQueries"] == []


@pytest.mark.parametrize(
    ("region", "host"),
    [("eu-west-1", "monitoring.eu-west-1.amazonaws.com"), ("cn-north-1", "monitoring.cn-north-1.amazonaws.com.cn")],
)
def test_t25_the_region_alone_says_where_our_signature_goes(options, dial, region, host):
    spec = {"type": "cloudwatch", "region": region, "address": "http://evil.example.com"}
    assert provider_for(spec, {"x": b"y"}, options, dial)._url == f"https://{host}/"


@pytest.mark.parametrize("region", ["", "eu-west-1.evil.example.com/", "x", "eu-west-1#", "EU-WEST-1"])
def test_t25_a_region_is_a_name(options, dial, region):
    with pytest.raises(Misconfigured, match="region"):
        provider_for({"type": "cloudwatch", "region": region}, None, options, dial)


def test_t25_the_hubs_own_identity_is_not_a_members(options, dial):
    spec = {"type": "cloudwatch", "region": "eu-west-1"}
    with pytest.raises(Misconfigured) as caught:
        provider_for(spec, None, replace(options, lends_identity=False), dial)
    assert str(caught.value) == (
        "the hub does not ask with its own cloud identity for a member; let an engine in the member run the canary"
        " (mode Agent), or start the controller with --lend-cloud-identity"
    )


def test_keys_are_spelled_as_the_service_has_them():
    assert spelled([{"METRICSTAT": {"metric": {"dimensions": [{"name": "Name", "other": 1}]}}}]) == [
        {"MetricStat": {"Metric": {"Dimensions": [{"Name": "Name", "other": 1}]}}}
    ]
