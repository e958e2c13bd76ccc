"""Istio's objects on a real API server with Istio's own CRDs."""

from __future__ import annotations

import json

import pytest

from fleet_rollout.decide.canary.objects import Put, Ref
from fleet_rollout.lab.api import ApiAnswer
from fleet_rollout.traffic.istio import ORIGINAL, IstioRouter
from fleet_rollout.traffic.router import Routes
from tests.rooms.traffic.scene import subject

ROUTER = IstioRouter()
TOKEN = "abcdefghij"
# All that a Canary may say about a route of Istio.
EVERYTHING = {
    "hosts": ["app.example.org", "*.example.net"],
    "gateways": ["istio-system/public", "mesh"],
    "portDiscovery": True,
    "apex": {"labels": {"team": "a"}, "annotations": {"note": "b"}},
    "match": [
        {
            "name": "all",
            "uri": {"prefix": "/api"},
            "scheme": {"exact": "https"},
            "method": {"regex": "GET|PUT"},
            "authority": {"prefix": "app."},
            "headers": {"x-a": {"exact": "1"}, "x-b": {"regex": "^(.*?;)?(a=b)(;.*)?$"}, "x-c": {}},
            "withoutHeaders": {"x-d": {"prefix": "2"}},
            "queryParams": {"v": {"exact": "2"}},
            "port": 80,
            "sourceLabels": {"app": "web"},
            "sourceNamespace": "web",
            "gateways": ["mesh"],
            "ignoreUriCase": True,
        },
        {"port": 443},
    ],
    "rewrite": {"uri": "/v2", "authority": "b.example.org"},
    "timeout": "15s",
    "retries": {"attempts": 3, "perTryTimeout": "1s", "retryOn": "gateway-error,connect-failure"},
    "headers": {
        "request": {"add": {"x-a": "1"}, "set": {"x-b": "2"}, "remove": ["x-c"]},
        "response": {"add": {"x-d": "3"}, "set": {"x-e": "4"}, "remove": ["x-f"]},
    },
    "corsPolicy": {
        "allowOrigin": ["example.org"],
        "allowOrigins": [{"exact": "https://a"}, {"regex": "https://.*"}],
        "allowMethods": ["GET"],
        "allowHeaders": ["x-a"],
        "exposeHeaders": ["x-b"],
        "maxAge": "24h",
        "allowCredentials": False,
    },
    "trafficPolicy": {
        "connectionPool": {
            "http": {
                "h2UpgradePolicy": "UPGRADE",
                "http1MaxPendingRequests": 0,
                "http2MaxRequests": 1,
                "idleTimeout": "10s",
                "maxRequestsPerConnection": 2,
                "maxRetries": 3,
            }
        },
        "loadBalancer": {
            "consistentHash": {"httpCookie": {"name": "c", "path": "/", "ttl": "0s"}, "minimumRingSize": 1},
            "localityLbSetting": {
                "enabled": True,
                "distribute": [{"from": "a/*", "to": {"a/b": 80, "c/*": 20}}],
                "failover": [{"from": "a", "to": "b"}],
            },
            "warmupDurationSecs": "10s",
        },
        "outlierDetection": {
            "baseEjectionTime": "10s",
            "consecutive5xxErrors": 0,
            "consecutiveErrors": 1,
            "consecutiveGatewayErrors": 2,
            "consecutiveLocalOriginFailures": 3,
            "interval": "10s",
            "maxEjectionPercent": 50,
            "minHealthPercent": 0,
            "splitExternalLocalOriginErrors": True,
        },
        "tls": {"mode": "MUTUAL", "caCertificates": "/a", "clientCertificate": "/b", "privateKey": "/c", "sni": "d"},
    },
}
X_USER = {"headers": {"x-user": {"exact": "insider"}, "x-host": {"suffix": ".org"}}, "sourceLabels": {"app": "web"}}
AFFINITY = {"cookieName": "c.k", "primaryCookieName": "pk", "domain": "example.org", "path": "/", "sameSite": "Lax"}


@pytest.mark.parametrize(
    ("service", "analysis", "can_mirror"),
    [
        ({}, {}, True),
        (EVERYTHING, {"mirrorWeight": 10}, True),
        (EVERYTHING, {"iterations": 2, "match": [X_USER, {"queryParams": {"v": {"exact": "3"}}}]}, True),
        (EVERYTHING, {"sessionAffinity": AFFINITY}, True),
        ({"delegation": True, "portDiscovery": True}, {"sessionAffinity": {"cookieName": "ck"}}, True),
        (EVERYTHING | {"appProtocol": "tcp"}, {}, False),
        ({"appProtocol": "tcp", "match": [{"uri": {"prefix": "/"}}]}, {}, False),
    ],
)
async def test_what_is_written_is_read_back_and_left_alone(crds, hands, ns, service, analysis, can_mirror):
    await crds("istio")
    status = {}

    def of():
        return subject(namespace=ns, service=service, analysis=analysis, status=status)

    assert await hands.reconcile(ROUTER, of()) == []
    assert await hands.routes(ROUTER, of()) == Routes(100, 0)
    for routes in (Routes(100, 0, can_mirror), Routes(80, 20), Routes(0, 100), Routes(100, 0)):
        moved = ROUTER.set_routes(of(), await hands.live(ROUTER, of()), routes, token=TOKEN)
        await hands.carry_out(moved.writes)
        assert ROUTER.reconcile(of(), await hands.live(ROUTER, of())) == []
        status |= moved.status
        assert ROUTER.reconcile(of(), await hands.live(ROUTER, of())) == []
        assert ROUTER.set_routes(of(), await hands.live(ROUTER, of()), routes, token=TOKEN) == ([], {})
        assert await hands.routes(ROUTER, of()) == routes


async def test_the_server_stores_every_field_that_is_written(crds, hands, ns):
    await crds("istio")
    of = subject(namespace=ns, service=EVERYTHING)
    for write in ROUTER.reconcile(of, await hands.live(ROUTER, of)):
        assert isinstance(write, Put)
        assert (await hands.create(write.obj))["spec"] == write.obj["spec"]


async def test_weights_and_what_others_wrote_survive(crds, hands, ns):
    cluster = await crds("istio")
    of = subject(namespace=ns, service={"apex": {"labels": {"team": "a"}}}, analysis={"sessionAffinity": AFFINITY})
    await hands.reconcile(ROUTER, of)
    await hands.move(ROUTER, of, Routes(60, 40))
    ref = ROUTER.reads(of)[-1]
    before = await hands.get(ref)
    await hands.mark(ref)
    path = await hands.path(ref)
    await cluster.api.merge(path, {"metadata": {"labels": {"team": None}}, "spec": {"exportTo": ["."], "hosts": ["x"]}})
    assert await hands.reconcile(ROUTER, of) == []
    after = await hands.get(ref)
    assert await hands.is_marked(ref)
    assert after["spec"] == before["spec"] | {"exportTo": ["."]}
    assert after["metadata"]["labels"]["team"] == "a"
    assert await hands.routes(ROUTER, of) == Routes(60, 40)


@pytest.mark.parametrize("by_kubectl", [False, True])
async def test_a_foreign_virtual_service_is_taken_over_and_given_back(crds, hands, ns, by_kubectl):
    cluster = await crds("istio")
    of = subject(namespace=ns, service={"hosts": ["app.example.org"]})
    spec = {"hosts": ["podinfo"], "http": [{"name": "all", "route": [{"destination": {"host": "podinfo"}}]}]}
    theirs = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "podinfo", "namespace": ns, "annotations": {"note": "x"}},
        "spec": spec,
    }
    if by_kubectl:
        theirs["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = json.dumps(theirs)
    path = await hands.path(Put(theirs).ref)
    await cluster.api.apply(path, theirs, manager="them")
    annotations = (await hands.get(Put(theirs).ref))["metadata"]["annotations"]

    assert await hands.reconcile(ROUTER, of) == []
    await hands.move(ROUTER, of, Routes(60, 40))
    await cluster.api.merge(path, {"spec": {"hosts": ["x"]}})
    assert await hands.reconcile(ROUTER, of) == []
    taken = await hands.get(ROUTER.reads(of)[-1])
    assert "ownerReferences" not in taken["metadata"]
    kept = taken["metadata"]["annotations"].get(ORIGINAL)
    assert kept is None if by_kubectl else json.loads(kept) == spec

    await hands.carry_out(ROUTER.finalize(of, await hands.live(ROUTER, of)))
    given_back = await hands.get(ROUTER.reads(of)[-1])
    assert (given_back["spec"], given_back["metadata"]["annotations"]) == (spec, annotations)
    assert ROUTER.finalize(of, await hands.live(ROUTER, of)) == []


async def test_a_write_made_from_what_is_no_longer_there_is_refused(crds, hands, ns):
    await crds("istio")
    of = subject(namespace=ns)
    await hands.reconcile(ROUTER, of)
    stale = ROUTER.set_routes(of, await hands.live(ROUTER, of), Routes(80, 20), token=TOKEN)
    await hands.move(ROUTER, of, Routes(60, 40))
    with pytest.raises(ApiAnswer) as error:
        await hands.carry_out(stale.writes)
    assert error.value.status == 409
    assert await hands.routes(ROUTER, of) == Routes(60, 40)


async def test_the_names_are_those_of_the_served_version(crds, hands, ns):
    await crds("istio")
    of = subject(namespace=ns)
    await hands.reconcile(ROUTER, of)
    assert await hands.get(Ref("networking.istio.io/v1", "VirtualService", ns, "podinfo"))
