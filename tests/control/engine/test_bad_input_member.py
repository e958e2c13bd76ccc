"""A member that goes away in each phase and comes back, or answers conflicts and refusals for a while: nothing is lost.

An engine runs behind a fault proxy; everything that is asserted is read from the API server itself.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from fleet_rollout.control.engine import sight
from fleet_rollout.control.engine.driven import Driven
from fleet_rollout.control.engine.sight import Sight
from fleet_rollout.decide.canary.addresses import read_reach
from fleet_rollout.lab.lab import LabCluster
from fleet_rollout.settings import Settings
from tests.control.engine.scene import ISTIO, QUICK, Scene, client, driving
from tests.control.engine.scripted import Script
from tests.faults.proxy import FaultProxy
from tests.faults.rules import Asked, CutAfter, CutBefore, Faults, Reply, Rule
from tests.rooms.traffic.conftest import crds as meshes

__all__ = ["meshes"]

Object = dict[str, Any]
GATES = [
    {"name": "start", "type": "confirm-rollout", "url": "http://gate/"},
    {"name": "promote", "type": "confirm-promotion", "url": "http://gate/"},
]
AWAY = 1.0
WEIGHTS = [f"canary weight {weight}" for weight in (20, 40, 60)]
STEPS = ["Starting canary analysis", *WEIGHTS, "Copying web"]


@pytest.fixture
async def there(place: Any, member: LabCluster, meshes: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr(sight, "REWATCH_DELAY", 0.05)
    await meshes("istio")
    made = Scene(member, await place(), options=QUICK)
    yield made
    await made.close()


async def brought(there: Scene, **spec: Any) -> None:
    """With ticks as fast as they can be."""
    steps = {"interval": "0s", "stepWeight": 20, "maxWeight": 60}
    await there.bring(spec={"provider": "istio", **spec}, webhooks=GATES, **steps)


async def picture(there: Scene) -> tuple[Object, Object]:
    """Status and routes."""
    found = await there.api.find(there.path()) or {}
    routes = await there.api.find(ISTIO.format(there.namespace)) or {}
    return found.get("status") or {}, routes.get("spec") or {}


async def image_of(there: Scene, name: str = "web-primary") -> str:
    found = await there.api.get(f"/apis/apps/v1/namespaces/{there.namespace}/deployments/{name}")
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"])


def writes(**said: Any) -> Callable[[Asked], bool]:
    """The writes of a status that says so."""

    def matches(asked: Asked) -> bool:
        status = (asked.body or {}).get("status") or {} if asked.key.verb == "update" else {}
        return asked.key.subresource == "status" and status.items() >= said.items()

    return matches


def step_once(events: list[str], steps: list[str]) -> None:
    """None of these was taken twice, and nothing was rolled back or restarted."""
    for step in steps:
        assert sum(step in text for text in events) <= 1, (step, events)
    assert not [text for text in events if "Restarting" in text or "Rolling back" in text]


# Away


@pytest.mark.parametrize(
    "phase", ["Initializing", "Waiting", "Progressing", "WaitingPromotion", "Promoting", "Finalising"]
)
async def test_a_member_that_goes_away_finds_everything_as_it_left_it(
    there: Scene, member: LabCluster, phase: str
) -> None:
    """From the answer to the write that enters the phase on, nothing gets through; then the rollout goes on."""
    async with driving(member, there.namespace) as engine:
        if phase in ("Waiting", "WaitingPromotion"):
            engine.script.refusals = {"start": "closed", "promote": "closed"}
        if phase == "Initializing":
            engine.faults.when(writes(phase=phase), CutAfter(then=engine.go_away))
            await brought(there)
        else:
            await brought(there)
            await engine.reaches("Initialized")
            if phase == "WaitingPromotion":
                del engine.script.refusals["start"]
            engine.faults.when(writes(phase=phase), CutAfter(then=engine.go_away))
            await there.release()
        await engine.reaches(phase)
        before = await picture(there)
        await asyncio.sleep(AWAY)
        assert await picture(there) == before
        engine.script.refusals.clear()
        engine.come_back()
        if phase == "Initializing":
            await engine.reaches("Initialized")
            await there.release()
        status = await engine.reaches("Succeeded")
    assert status["failedChecks"] == 0
    assert status["lastPromotedSpec"] == status["lastAppliedSpec"]
    assert await image_of(there) == "example.com/web:2"
    step_once(engine.script.events, STEPS)


async def test_a_revision_that_comes_while_the_member_is_away_is_not_credited_with_the_old_one_s_checks(
    there: Scene, member: LabCluster
) -> None:
    async with driving(member, there.namespace) as engine:
        await brought(there)
        await engine.reaches("Initialized")
        engine.faults.when(writes(canaryWeight=40), CutAfter(then=engine.go_away))
        await there.release()
        async with asyncio.timeout(60):
            while (await there.status_of()).get("canaryWeight") != 40:
                await asyncio.sleep(0.05)
        await there.release("example.com/web:3")
        await asyncio.sleep(AWAY)
        said = len(engine.script.events)
        engine.come_back()
        await engine.reaches("Succeeded")
    assert await image_of(there) == "example.com/web:3"
    after = engine.script.events[said:]
    assert [text for text in after if "Restarting analysis" in text] != []
    for weight in (20, 40, 60):
        assert sum(f"canary weight {weight}" in text for text in after) == 1


async def test_a_member_that_goes_away_while_a_canary_gives_back_gets_everything_back_later(
    there: Scene, member: LabCluster
) -> None:
    services = f"/api/v1/namespaces/{there.namespace}/services"
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
    await there.api.create(services, {"metadata": {"name": "web"}, "spec": spec})
    async with driving(member, there.namespace) as engine:
        await brought(there, revertOnDeletion=True)
        await engine.reaches("Initialized")
        engine.faults.when(writes(phase="Terminating"), CutAfter(then=engine.go_away))
        await there.api.delete(there.path())
        await engine.reaches("Terminating")
        before = await picture(there)
        await asyncio.sleep(AWAY)
        assert await picture(there) == before
        engine.come_back()
        await engine.reaches(None)
    target = await there.api.get(f"/apis/apps/v1/namespaces/{there.namespace}/deployments/web")
    assert target["spec"]["replicas"] == 1
    apex = await there.api.get(f"{services}/web")
    assert apex["spec"]["selector"] == {"app": "web"}


async def test_one_lost_answer_does_not_let_a_canary_go_whose_target_is_at_zero(
    there: Scene, member: LabCluster
) -> None:
    """The read of the target fails once, and everything after it works."""
    with FaultProxy("m2", member.server, member.ca, Faults()) as proxy:
        scene = Scene(
            member, there.namespace, options=QUICK, kubeconfig=proxy.kubeconfig(member.kubeconfig.read_bytes())
        )
        await brought(scene, revertOnDeletion=True)
        await scene.until("Initialized")
        await scene.api.delete(scene.path())
        rule = proxy.faults.on(Reply(500, {"message": "etcd is busy"}), verb="get", resource="deployments.apps")
        said = await scene.tick()
        assert rule.done == 1
        assert said[-1] == "Warning etcd is busy"
        assert await scene.api.find(scene.path()) is not None
        async with asyncio.timeout(60):
            while await scene.api.find(scene.path()):
                await scene.tick()
        await scene.close()
    target = await there.api.get(f"/apis/apps/v1/namespaces/{there.namespace}/deployments/web")
    assert target["spec"]["replicas"] == 1


@pytest.mark.parametrize("fault", [Reply(500, {"message": "etcd is busy"}), CutBefore()], ids=["500", "cut"])
async def test_a_status_that_was_not_stored_is_written_by_the_next_tick(
    there: Scene, member: LabCluster, script: Script, fault: Reply | CutBefore
) -> None:
    """The first write of the same tick was stored: the engine must not believe the second was, too, and rest."""
    with FaultProxy("m2", member.server, member.ca, Faults()) as proxy:
        cluster = client(proxy.kubeconfig(member.kubeconfig.read_bytes()))
        await brought(there, skipAnalysis=True)
        sight, raw = Sight(cluster, Settings()), await there.api.get(there.path())
        driven = Driven(cluster, sight, script, lambda: QUICK, raw)
        rule = proxy.faults.when(writes(phase="Initialized"), fault, times=None)
        async with asyncio.timeout(60):
            while not rule.done:
                await driven.tick()
        assert (await there.status_of())["phase"] == "Initializing"
        assert driven.raw["status"]["phase"] == "Initializing"
        proxy.faults.clear()
        await driven.tick()
        assert (await there.status_of())["phase"] == "Initialized"
        await sight.close()
        await cluster.close()


# What is asked through the member


@pytest.mark.parametrize("asked", ["metric", "rollout", "confirm-rollout"])
async def test_what_could_not_be_asked_through_the_member_is_no_failed_check(
    there: Scene, member: LabCluster, asked: str
) -> None:
    """Flagger is in the member and can ask; the hub counts nothing, lets no gate close, and asks again."""
    prometheus = f"http://prometheus.{there.namespace}:9090"
    hooks = [] if asked == "metric" else [{"name": "check", "type": asked, "url": f"{prometheus}/"}]
    metrics = [{"name": "errors", "query": "vector(1)", "interval": "1m"}] if asked == "metric" else []
    await there.api.create(
        f"/api/v1/namespaces/{there.namespace}/services",
        {"metadata": {"name": "prometheus"}, "spec": {"selector": {"app": "none"}, "ports": [{"port": 9090}]}},
    )
    with FaultProxy("m2", member.server, member.ca, Faults()) as proxy:
        kubeconfig = proxy.kubeconfig(member.kubeconfig.read_bytes())
        scene = Scene(member, there.namespace, options=QUICK, kubeconfig=kubeconfig, reach=read_reach([]))
        await scene.bring(spec={"provider": "kubernetes", "metricsServer": prometheus}, iterations=9, threshold=90)
        await scene.until("Initialized")
        await scene.release()
        if asked != "confirm-rollout":
            await scene.until("Progressing")
            async with asyncio.timeout(60):
                while not (await scene.status_of()).get("iterations"):
                    await scene.tick()
        await scene.api.merge(scene.path(), {"spec": {"analysis": {"metrics": metrics, "webhooks": hooks}}})
        before = await scene.status_of()
        rules = [
            proxy.faults.when(lambda asked: "/proxy" in f"/{asked.key.subresource}", CutBefore(), times=None),
            proxy.faults.when(lambda asked: asked.key.resource == "version", CutBefore(), times=None),
        ]
        said = await scene.tick()
        assert all(rule.done for rule in rules)
        assert said == ["Warning m2: the connection was cut"]
        assert await scene.status_of() == before
        proxy.faults.clear()
        if asked == "metric":  # nobody is behind the Service: that is the backend's own failure, and Flagger's count
            assert "no endpoints available" in (await scene.tick())[0]
            assert (await scene.status_of())["failedChecks"] == 1
        await scene.close()


# Storms


def refusals(status: int, reason: str, **headers: str) -> Reply:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": status}
    return Reply(status, {**body, "message": f"a storm: {reason}"}, headers)


def since(is_begun: Callable[[Asked], bool], is_hit: Callable[[Asked], bool]) -> Callable[[Asked], bool]:
    """Whether a request comes after the first one that is `is_begun`, and is `is_hit`."""
    begun = False

    def matches(asked: Asked) -> bool:
        nonlocal begun
        before, begun = begun, begun or is_begun(asked)
        return before and is_hit(asked)

    return matches


async def comes(rule: Rule) -> None:
    """Wait until it has hit something."""
    async with asyncio.timeout(60):
        while not rule.done:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("reply", "is_hit"),
    [
        (refusals(409, "Conflict"), lambda asked: asked.is_write),
        (refusals(429, "TooManyRequests", **{"Retry-After": "1"}), lambda asked: asked.key.verb != "watch"),
        (refusals(503, "ServiceUnavailable"), lambda asked: asked.key.verb != "watch"),
    ],
    ids=["409", "429", "503"],
)
async def test_a_storm_of_refusals_takes_no_step_and_loses_none(
    there: Scene, member: LabCluster, reply: Reply, is_hit: Callable[[Asked], bool]
) -> None:
    """One at the start, one in the analysis and one in the promotion, each as long as several ticks."""
    async with driving(member, there.namespace) as engine:

        def storm(is_begun: Callable[[Asked], bool]) -> Rule:
            """From the write that enters a phase on: who waited for the phase might come when it is over."""
            return engine.faults.when(since(is_begun, is_hit), reply, times=None)

        async def endured(rule: Rule) -> None:
            await comes(rule)
            before = await picture(there)
            await asyncio.sleep(AWAY)
            assert await picture(there) == before
            engine.faults.clear()

        await brought(there)
        await endured(storm(lambda _: True))
        await engine.reaches("Initialized")
        rule = storm(writes(phase="Progressing"))
        await there.release()
        await endured(rule)
        await endured(storm(writes(phase="Promoting")))
        status = await engine.reaches("Succeeded")
    assert status["failedChecks"] == 0
    assert await image_of(there) == "example.com/web:2"
    step_once(engine.script.events, WEIGHTS)  # what precedes a write is said again when that is tried again


async def test_statuses_that_cannot_be_written_move_the_traffic_by_no_step_twice(
    there: Scene, member: LabCluster
) -> None:
    """The routes say where the traffic is: they go on step by step, and so does what is checked before each."""
    async with driving(member, there.namespace) as engine:
        await brought(there)
        await engine.reaches("Initialized")
        is_hit = since(writes(phase="Progressing"), writes())
        rule = engine.faults.when(is_hit, refusals(409, "Conflict"), times=None)
        await there.release()
        await comes(rule)
        await asyncio.sleep(AWAY)
        engine.faults.clear()
        status = await engine.reaches("Succeeded")
    assert (status["failedChecks"], await image_of(there)) == (0, "example.com/web:2")
    shares = [routes.canary for routes in engine.script.routes]
    assert all(late - early in (0, 20, -60) for early, late in itertools.pairwise(shares)), shares
    step_once(engine.script.events, WEIGHTS)
