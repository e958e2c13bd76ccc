"""InfluxDB 2's query API, as it answers: annotated CSV."""

from __future__ import annotations

import orjson
import pytest

from fleet_rollout.metrics.query import Misconfigured, NoValues, QueryFailed

HEAD = "#datatype,string,long,dateTime:RFC3339,{type},string\r\n#group,false,false,false,false,true\r\n"
NAMES = ",result,table,_time,_value,host\r\n"


def table(*values, type="double", default=""):
    rows = "".join(f",,0,2026-01-01T00:00:00Z,{value},a\r\n" for value in values)
    return f"{HEAD.format(type=type)}#default,_result,,,{default},\r\n{NAMES}{rows}\r\n"


async def test_a_query_is_sent_as_flux(make, server):
    server.answer = table("1.5", "2.5")
    assert await make("influxdb").value('from(bucket: "x")') == 1.5
    seen = server.last
    assert (seen.method, seen.path, seen.query) == ("POST", "/api/v2/query", {"org": "my org"})
    assert seen.headers["Authorization"] == "Token s3cret-token"
    assert (seen.headers["Content-Type"], seen.headers["Accept"]) == ("application/json", "application/csv")
    assert orjson.loads(seen.body) == {
        "query": 'from(bucket: "x")',
        "type": "flux",
        "dialect": {"annotations": ["datatype", "group", "default"], "delimiter": ",", "header": True},
    }


async def test_without_a_secret_nothing_is_sent(make, server):
    server.answer = table("1.5")
    await make("influxdb", None).value("x")
    assert "Authorization" not in server.last.headers
    assert server.last.query == {"org": ""}


@pytest.mark.parametrize("answer", ["", "\r\n", table()])
async def test_no_record_is_zero_as_for_flagger(make, server, answer):
    server.answer = answer
    assert await make("influxdb").value("x") == 0.0


async def test_the_first_table_counts_and_defaults_fill_gaps(make, server):
    server.answer = table("", default="7.5") + table("9")
    assert await make("influxdb").value("x") == 7.5
    server.answer = table("+Inf")
    assert await make("influxdb").value("x") == float("inf")


@pytest.mark.parametrize("answer", [table(""), table("NaN")])
async def test_a_record_without_value_is_none(make, server, answer):
    server.answer = answer
    with pytest.raises(NoValues, match="no values found"):
        await make("influxdb").value("x")


@pytest.mark.parametrize(
    ("answer", "fact"),
    [
        (table("7", type="long"), "the value is a long; use toFloat()"),
        (table("x", type="string"), "the value is a string"),
        (table("x"), "'x' is not a number"),
        ("#datatype,string,long\r\n#default,,\r\n,error,reference\r\n,broken query,897\r\n", "query error: broken"),
        ("error,reference\r\nbroken query,897\r\n", "query error: broken query"),
        (",result,_value\r\n,,5\r\n", "not annotated CSV"),
        (f"{table()}x,y\r\n", "not annotated CSV"),
    ],
)
async def test_what_is_no_float_is_an_error(make, server, answer, fact):
    server.answer = answer
    with pytest.raises(QueryFailed, match=fact.replace("(", r"\(").replace(")", r"\)")):
        await make("influxdb").value("x")


async def test_a_refusal_names_the_api(make, server):
    server.status, server.answer = 401, {"code": "unauthorized", "message": "unauthorized access"}
    with pytest.raises(QueryFailed, match="error accessing influxdb query api: error response: Status 401"):
        await make("influxdb").value("x")


async def test_the_online_probe_reads_the_default_bucket(make, server):
    server.answer = table("1")
    await make("influxdb").is_online()
    assert orjson.loads(server.last.body)["query"] == 'from(bucket: "default") |> range(start: -2h)'
    server.answer = ""
    await make("influxdb").is_online()


@pytest.mark.parametrize(("secret", "fact"), [({}, "an authentication token"), ({"token": b"t"}, "an organisation")])
def test_the_secret_holds_token_and_organisation(make, secret, fact):
    with pytest.raises(Misconfigured, match=f"influxdb credentials does not contain {fact}"):
        make("influxdb", secret)


@pytest.mark.parametrize(
    "answer", ["#datatype,a\r\n" + "x" * 140_000 + "\r\n", "#datatype,a\r\nb\rc,d\r\n"], ids=["long", "bare CR"]
)
async def test_what_is_no_csv_is_an_error(make, server, answer):
    server.answer = answer
    with pytest.raises(QueryFailed, match="invalid response: not CSV: "):
        await make("influxdb").value("x")
