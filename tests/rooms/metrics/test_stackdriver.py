"""Google Cloud Monitoring's query API, and how a token is had for it."""

from __future__ import annotations

import uuid
from dataclasses import replace

import orjson
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from fleet_rollout.control.engine.dialing import DirectDial
from fleet_rollout.decide.canary.addresses import read_reach
from fleet_rollout.metrics import stackdriver
from fleet_rollout.metrics.query import Misconfigured, NoValues, QueryFailed
from fleet_rollout.metrics.stackdriver import API, Provider, ambient


@pytest.fixture(scope="module")
def private_key():
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.fixture
def key(private_key, server):
    """A service account's key, whose tokens come from the server."""
    # One for each test: a later server may get the port of an earlier one, whose token would still be known.
    own = uuid.uuid4().hex

    def made(**changes):
        info = {
            "type": "service_account",
            "project_id": "own-project",
            "client_email": "fleet@own-project.iam.gserviceaccount.com",
            "private_key_id": own,
            "private_key": private_key,
            "token_uri": f"{server.url}/token",
        }
        return orjson.dumps({**info, **changes})

    return made


@pytest.fixture
def google(server):
    """Gives tokens, and answers queries with `google.answer`."""

    async def handle(request):
        if request.path == "/token":
            return web.json_response({"access_token": "t0ken", "expires_in": 3600, "token_type": "Bearer"})
        return web.json_response(server.answer, status=server.status)

    server.handler = handle
    return server


@pytest.fixture
def project(google, key, options, dial):
    secret = {"project": b"my-project\n", "serviceAccountKey": key()}
    return Provider({"type": "stackdriver"}, secret, options, dial, api=google.url)


def point(value):
    return {"timeSeriesData": [{"labelValues": [], "pointData": [{"values": [value], "timeInterval": {}}]}]}


@pytest.mark.parametrize("secret", [None, {"project": b"somebodys-project"}])
def test_t25_the_hubs_own_identity_is_not_a_members(options, dial, key, secret):
    options = replace(options, lends_identity=False)
    with pytest.raises(Misconfigured, match=r"does not ask with its own cloud identity.*put a `serviceAccountKey`"):
        Provider({"type": "stackdriver"}, secret, options, dial)
    assert Provider({"type": "stackdriver"}, {"project": b"my-project", "serviceAccountKey": key()}, options, dial)


async def test_a_query_is_sent_with_a_token_of_the_key(project, server):
    server.answer = point({"doubleValue": 99.5})
    assert await project.value("fetch k8s_service") == 99.5
    token, query = server.seen
    assert (token.method, token.path) == ("POST", "/token")
    assert b"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=" in b"&".join(
        sorted(token.body.split(b"&"), reverse=True)
    )
    assert (query.method, query.path) == ("POST", "/v3/projects/my-project/timeSeries:query")
    assert query.headers["Authorization"] == "Bearer t0ken"
    assert orjson.loads(query.body) == {"query": "fetch k8s_service"}


async def test_a_token_is_used_until_it_expires(project, server):
    server.answer = point({"doubleValue": 1})
    await project.value("x")
    await project.value("x")
    assert [seen.path for seen in server.seen].count("/token") == 1


@pytest.mark.parametrize(("value", "number"), [({"int64Value": "7"}, 7.0), ({"doubleValue": 1.5}, 1.5)])
async def test_whole_numbers_count_too(project, server, value, number):
    server.answer = point(value)
    assert await project.value("x") == number


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"timeSeriesData": []},
        {"timeSeriesData": [{"pointData": []}]},
        {"timeSeriesData": [{"pointData": [{"values": []}]}]},
        point({"stringValue": "x"}),
    ],
)
async def test_no_point_is_no_value(project, server, answer):
    server.answer = answer
    with pytest.raises(NoValues, match="no values found"):
        await project.value("x")


@pytest.mark.parametrize("answer", [point(5), point({"doubleValue": "x"}), {"timeSeriesData": 5}])
async def test_another_shape_is_an_error(project, server, answer):
    server.answer = answer
    with pytest.raises(QueryFailed, match="invalid response"):
        await project.value("x")


async def test_a_refusal_is_quoted(project, server):
    server.status, server.answer = 403, {"error": {"status": "PERMISSION_DENIED"}}
    with pytest.raises(QueryFailed, match=r"403 Forbidden: .*PERMISSION_DENIED"):
        await project.value("x")


async def test_a_token_that_is_refused(google, project):
    async def refuse(request):
        return web.json_response({"error": "invalid_grant"}, status=400)

    google.handler = refuse
    with pytest.raises(QueryFailed, match=r"no token: .*invalid_grant"):
        await project.value("x")


async def test_t26_the_address_for_tokens_is_the_users_too(key, server, options, bulkheads):
    nothing_allowed = DirectDial(read_reach([]), bulkheads)
    secret = {"project": b"p", "serviceAccountKey": key(private_key_id="t26")}
    with pytest.raises(QueryFailed, match=r"no token: host 127.0.0.1 leads to a loopback"):
        await Provider({"type": "stackdriver"}, secret, options, nothing_allowed).value("x")
    assert server.seen == []
    await nothing_allowed.close()


@pytest.mark.parametrize(("status", "fact"), [(200, None), (400, None), (403, "unexpected status code"), (404, "404")])
async def test_the_online_probe_may_be_a_bad_request(project, server, status, fact):
    server.status = status
    if fact is None:
        await project.is_online()
    else:
        with pytest.raises(QueryFailed, match=fact):
            await project.is_online()
    assert orjson.loads(server.last.body) == {}


async def test_a_hang_ends(google, project, monkeypatch):
    monkeypatch.setattr(stackdriver, "TIMEOUT", 0.3)
    google.handler, google.hangs = None, True
    with pytest.raises(QueryFailed, match="no token"):
        await project.value("x")


@pytest.fixture
def own_account(monkeypatch, tmp_path, key):
    """The account that the engine runs as."""
    path = tmp_path / "key.json"
    path.write_bytes(key(private_key_id="own"))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    ambient.cache_clear()
    yield
    ambient.cache_clear()


@pytest.mark.parametrize(("secret", "project"), [(None, "own-project"), ({"project": b"other"}, "other")])
async def test_without_a_key_the_engines_own_account_asks(own_account, google, options, dial, secret, project):
    google.answer = point({"doubleValue": 1})
    await Provider({"type": "stackdriver"}, secret, options, dial, api=google.url).value("x")
    assert google.last.path == f"/v3/projects/{project}/timeSeries:query"
    assert google.last.headers["Authorization"] == "Bearer t0ken"


def test_t25_our_token_goes_to_google_alone(options, dial):
    spec = {"type": "stackdriver", "address": "http://evil.example.com"}
    assert Provider(spec, None, options, dial)._api == API


@pytest.mark.parametrize(
    ("secret", "fact"),
    [
        ({}, "does not contain a project id"),
        ({"project": b"a/../b"}, "is not a project id"),
        ({"project": b"p", "serviceAccountKey": b"{"}, "not the JSON key"),
        ({"project": b"p", "serviceAccountKey": b"[]"}, "not the JSON key"),
        ({"project": b"p", "serviceAccountKey": b'{"type": "service_account"}'}, "not the JSON key"),
        ({"project": b"p", "serviceAccountKey": b'{"type": "external_account"}'}, "not the key of a service account"),
    ],
)
def test_what_is_wrong_with_a_secret_is_said(options, dial, secret, fact):
    with pytest.raises(Misconfigured, match=fact):
        Provider({"type": "stackdriver"}, secret, options, dial)


def test_keys_are_forgotten_in_turn(key, monkeypatch):
    monkeypatch.setattr(stackdriver, "MOST_KEYS", 2)
    monkeypatch.setattr(stackdriver, "_known", type(stackdriver._known)())
    found = [stackdriver.key_credentials(key(private_key_id=str(n))) for n in range(3)]
    assert len(stackdriver._known) == 2
    assert stackdriver.key_credentials(key(private_key_id="2")) is found[2]
