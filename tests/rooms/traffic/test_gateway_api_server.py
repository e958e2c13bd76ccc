"""HTTPRoutes on a real API server with the Gateway API's own CRDs, which fill in and check more than others do."""

from __future__ import annotations

import pytest

from fleet_rollout.decide.canary.objects import Put, StepFailed
from fleet_rollout.lab.api import ApiAnswer
from fleet_rollout.traffic.gateway_api import GatewayApiRouter
from fleet_rollout.traffic.router import Routes
from tests.rooms.traffic.scene import subject

ROUTERS = [GatewayApiRouter("v1"), GatewayApiRouter("v1beta1")]
BOTH = pytest.mark.parametrize("router", ROUTERS, ids=["v1", "v1beta1"])
TOKEN = "abcdefghij"
PARENTS = {"gatewayRefs": [{"name": "public"}]}
EVERYTHING = {
    "gatewayRefs": [
        {"name": "public", "namespace": "istio-system", "sectionName": "https", "port": 443},
        {"group": "", "kind": "Service", "name": "podinfo"},
    ],
    "hosts": ["app.example.org", "*.example.net"],
    "apex": {"labels": {"team": "a"}, "annotations": {"note": "b"}},
    "match": [
        {
            "uri": {"prefix": "/api"},
            "method": {"exact": "GET"},
            "headers": {"x-b": {"regex": "a|b"}, "x-a": {"exact": "1"}},
        },
        {"uri": {"prefix": "/b"}, "queryParams": {"v": {"exact": "2"}, "u": {"regex": "[0-9]+"}}},
    ],
    "rewrite": {"uri": "/v2", "authority": "b.example.org"},
    "timeout": "15s",
    "backendTimeout": "5s",
    "headers": {
        "request": {"add": {"x-b": "2", "x-a": "1"}, "set": {"x-c": "3"}, "remove": ["x-d"]},
        "response": {"add": {"x-e": "4"}, "set": {"x-f": "5"}, "remove": ["x-g"]},
    },
    "mirror": [{"backendRef": {"name": "copy", "namespace": "elsewhere", "port": 80}}],
    "corsPolicy": {
        "allowOrigin": ["https://example.org"],
        "allowMethods": ["GET", "PUT"],
        "allowHeaders": ["x-a"],
        "exposeHeaders": ["x-b"],
        "maxAge": "24h",
        "allowCredentials": True,
    },
}
X_USER = {"headers": {"x-user": {"exact": "insider"}}}
AFFINITY = {"cookieName": "c.k", "primaryCookieName": "pk", "domain": "example.org", "path": "/", "sameSite": "Lax"}


@BOTH
@pytest.mark.parametrize(
    ("service", "analysis"),
    [
        (PARENTS, {}),
        (PARENTS | {"corsPolicy": {"allowOrigin": ["*"]}}, {"sessionAffinity": {"cookieName": "ck"}}),
        (EVERYTHING, {"stepWeight": 10}),
        (EVERYTHING, {"iterations": 2, "match": [X_USER, {"queryParams": {"v": {"exact": "3"}}}]}),
        (EVERYTHING, {"sessionAffinity": AFFINITY}),
        (PARENTS, {"iterations": 2, "mirror": True, "sessionAffinity": AFFINITY}),
        (EVERYTHING, {"iterations": 2, "mirror": True}),
    ],
)
async def test_what_is_written_is_read_back_and_left_alone(crds, hands, ns, router, service, analysis):
    await crds("gateway-api")
    status = {"phase": "Progressing"}

    def of():
        return subject(namespace=ns, service=service, analysis=analysis, status=status)

    assert await hands.reconcile(router, of()) == []
    assert await hands.routes(router, of()) == Routes(100, 0)
    can_mirror = bool(of().mirror)
    for routes in (Routes(80, 20), Routes(100, 0), Routes(100, 0, can_mirror), Routes(0, 100), Routes(100, 0)):
        moved = router.set_routes(of(), await hands.live(router, of()), routes, token=TOKEN)
        await hands.carry_out(moved.writes)
        assert router.reconcile(of(), await hands.live(router, of())) == []
        status |= moved.status
        assert router.reconcile(of(), await hands.live(router, of())) == []
        assert router.set_routes(of(), await hands.live(router, of()), routes, token=TOKEN) == ([], {})
        assert await hands.routes(router, of()) == routes


@BOTH
async def test_the_server_stores_every_field_that_is_written(crds, hands, ns, router):
    await crds("gateway-api")
    of = subject(namespace=ns, service=EVERYTHING)
    [write] = router.reconcile(of, await hands.live(router, of))
    assert isinstance(write, Put)
    stored = await hands.create(write.obj)
    assert _within(write.obj["spec"], stored["spec"])


def _within(said, stored):
    """Everything said is stored; the server adds defaults."""
    if isinstance(said, dict):
        return all(key in stored and _within(value, stored[key]) for key, value in said.items())
    if isinstance(said, list):
        return len(said) == len(stored) and all(map(_within, said, stored))
    return bool(said == stored)


@BOTH
async def test_a_route_written_through_the_other_version_is_the_same(crds, hands, ns, router):
    await crds("gateway-api")
    [other] = (each for each in ROUTERS if each is not router)
    service = {
        key: value for key, value in EVERYTHING.items() if key not in ("corsPolicy", "timeout", "backendTimeout")
    }
    of = subject(namespace=ns, service=service)
    await hands.reconcile(router, of)
    await hands.move(router, of, Routes(60, 40))
    assert other.reconcile(of, await hands.live(other, of)) == []
    assert await hands.routes(other, of) == Routes(60, 40)


@BOTH
async def test_weights_and_what_others_wrote_survive(crds, hands, ns, router):
    cluster = await crds("gateway-api")
    service = PARENTS | {"apex": {"labels": {"team": "a"}}}
    of = subject(namespace=ns, service=service, analysis={"sessionAffinity": AFFINITY})
    await hands.reconcile(router, of)
    await hands.move(router, of, Routes(60, 40))
    [ref] = router.reads(of)
    before = await hands.get(ref)
    await hands.mark(ref)
    change = {
        "metadata": {"labels": {"team": None}},
        "spec": {"hostnames": ["x.org"], "rules": before["spec"]["rules"][1:]},
    }
    await cluster.api.merge(await hands.path(ref), change)
    assert await hands.reconcile(router, of) == []
    after = await hands.get(ref)
    assert await hands.is_marked(ref)
    assert after["spec"] == before["spec"]
    assert after["metadata"]["labels"]["team"] == "a"
    assert await hands.routes(router, of) == Routes(60, 40)


async def test_a_gateway_that_lags_behind_stops_the_tick(crds, hands, ns):
    cluster = await crds("gateway-api")
    router = ROUTERS[0]
    of = subject(namespace=ns, service=PARENTS)
    await hands.reconcile(router, of)
    [ref] = router.reads(of)
    path = await hands.path(ref)

    async def accept():
        route = await hands.get(ref)
        condition = {
            "type": "Accepted",
            "status": "True",
            "reason": "Accepted",
            "message": "",
            "observedGeneration": route["metadata"]["generation"],
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        parent = {"parentRef": {"name": "public"}, "controllerName": "example.org/gateway", "conditions": [condition]}
        patch = {"status": {"parents": [parent]}}
        await cluster.api.request("PATCH", f"{path}/status", patch, content_type="application/merge-patch+json")

    await accept()
    assert await hands.routes(router, of) == Routes(100, 0)
    moved = router.set_routes(of, await hands.live(router, of), Routes(80, 20), token=TOKEN)
    await hands.carry_out(moved.writes)
    with pytest.raises(StepFailed, match="public is not ready"):
        await hands.routes(router, of)
    await accept()
    assert await hands.routes(router, of) == Routes(80, 20)


async def test_a_write_made_from_what_is_no_longer_there_is_refused(crds, hands, ns):
    await crds("gateway-api")
    router = ROUTERS[0]
    of = subject(namespace=ns, service=PARENTS)
    await hands.reconcile(router, of)
    stale = router.set_routes(of, await hands.live(router, of), Routes(80, 20), token=TOKEN)
    await hands.move(router, of, Routes(60, 40))
    with pytest.raises(ApiAnswer) as error:
        await hands.carry_out(stale.writes)
    assert error.value.status == 409
