"""`fleet-rollout agent`: the engine as a program of its own in one cluster, beside the hub and without it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fleet_rollout.control import agent
from fleet_rollout.control.agent import AgentOptions
from fleet_rollout.decide.canary.subject import EngineOptions
from fleet_rollout.faces.cli.agent import LEASE
from fleet_rollout.lab import children
from fleet_rollout.lab.children import LOCALHOST
from fleet_rollout.lab.lab import LabCluster
from fleet_rollout.settings import Settings
from tests.control.engine.test_engine import Place as There
from tests.control.engine.test_engine import canary, deployment
from tests.faults.proxy import FaultProxy
from tests.faults.rules import Faults
from tests.stories.replicas import LEADERSHIP, Launcher, Replica
from tests.stories.rollouts import Place, files, policy, rollout
from tests.stories.rollouts import deployment as manifest

LONG = 120.0
# What only an engine writes: the translation applies Canaries, and changes no workload by replacing it.
ENGINE_VERBS = frozenset({"update"})


@pytest.fixture(scope="session")
async def member(members: dict[str, LabCluster]) -> LabCluster:
    """Not the member in which other tests let Flagger act on every Canary."""
    return members["m2"]


@pytest.fixture
async def canaries_served(member: LabCluster) -> None:
    await member.kubectl("apply", "--server-side", "--force-conflicts", "-k", "config/crd/member")
    await member.crds_established()


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[tuple[Replica, Any]]]]:
    """Starts `fleet-rollout agent` with these flags, as a user would."""
    launcher, running = Launcher(tmp_path), []

    async def begin(**flags: Any) -> tuple[Replica, Any]:
        telemetry = f"{LOCALHOST}:{children.free_port()}"
        given = {"telemetry-address": telemetry, **LEADERSHIP, "shortest-interval": 0.2, **flags}
        log = tmp_path / f"agent-{len(running)}.log"
        arguments = ["agent", *(f"--{name.replace('_', '-')}={value}" for name, value in given.items())]
        process = await launcher.start(arguments, log, launcher.environment())
        running.append((Replica(process.pid, log, telemetry), process))
        return running[-1]

    yield begin
    for replica, process in running:
        replica.kill()
        await process.wait()


async def test_it_drives_the_canaries_of_a_cluster_and_hands_over_when_it_is_stopped(
    canaries_served: None, member: LabCluster, namespace: Any, start: Any, eventually: Any
) -> None:
    """`--kubeconfig FILE --metrics-server URL` is all it needs; Canaries that name nobody are driven then."""
    there = There(member, await namespace("agent", on=[member]))
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{there.namespace}/leases/fleet-rollout-agent"
    flags = {
        "kubeconfig": member.kubeconfig,
        "metrics-server": "http://prometheus.istio-system:9090",
        "mesh-provider": "kubernetes",
        "namespace": there.namespace,
        "own-namespace": there.namespace,
        "cluster-name": "west",
    }
    await there.apply(deployment(there.namespace), "deployments")
    await there.apply(canary(there.namespace), "canaries")
    first, process = await start(**flags)

    def phase_is(phase: str) -> Awaitable[None]:
        async def check() -> Any:
            return (await there.status()).get("phase") == phase or print(first.log.read_text()[-500:])

        return eventually(check, LONG)

    await phase_is("Initialized")
    assert (await first.get("/healthz"))[0] == (await first.get("/readyz"))[0] == 200
    assert 'flagger_canary_status{cluster="west",name="web"' in (await first.get("/metrics"))[1]
    second, _ = await start(**flags)

    async def stands_by() -> bool:
        return (await second.get("/readyz"))[0] == 200

    await eventually(stands_by, LONG)
    assert not await second.leads()
    first.signal(signal.SIGTERM)
    assert await process.wait() == 0
    assert [word["message"] for word in first.words()][-2:] == ["stopping", "stopped"]
    await there.apply(deployment(there.namespace, "example.com/web:2"), "deployments")
    await phase_is("Succeeded")
    assert await second.leads()
    assert (await member.api.get(lease))["spec"]["leaseTransitions"] == 2
    primary = await member.api.get(f"/apis/apps/v1/namespaces/{there.namespace}/deployments/web-primary")
    assert primary["spec"]["template"]["spec"]["containers"][0]["image"] == "example.com/web:2"


@contextlib.asynccontextmanager
async def agent_in(namespace: str, kubeconfig: Path) -> AsyncIterator[None]:
    """An agent that leaves Canaries alone that name nobody, as in a Pod."""
    settings = Settings(
        kubeconfig=kubeconfig,
        namespace=namespace,
        own_namespace=namespace,
        lease_name=LEASE,
        shutdown_timeout=5.0,
    )
    options = AgentOptions(EngineOptions(mesh_provider="kubernetes", shortest_interval=0.5))
    stop = asyncio.Event()
    running = asyncio.create_task(agent.run(settings, options, stop=stop))
    try:
        yield
        assert not running.done(), running
    finally:
        stop.set()
        await running


async def test_a_canary_without_a_spec_stops_nobody_and_is_driven_once_it_has_one(
    canaries_served: None, member: LabCluster, namespace: Any, eventually: Any
) -> None:
    """The API server takes one that is only metadata, as it does with Flagger's schema."""
    there = There(member, await namespace("agent", on=[member]))
    events = f"/api/v1/namespaces/{there.namespace}/events"
    whole = canary(there.namespace)
    whole["metadata"]["annotations"] = {"apps.kurator.dev/engine": "agent"}
    empty = {name: value for name, value in whole.items() if name != "spec"}
    told = f"Canary web.{there.namespace} has no spec; write spec.targetRef, spec.service and spec.analysis"

    async def is_told() -> Any:
        return [event for event in await member.api.items(events) if event["message"] == told]

    async def is_initialized() -> bool:
        return (await there.status()).get("phase") == "Initialized"

    async def is_succeeded() -> bool:
        return (await there.status()).get("phase") == "Succeeded"

    await there.apply(deployment(there.namespace), "deployments")
    await there.apply(empty, "canaries")
    async with agent_in(there.namespace, member.kubeconfig):
        await eventually(is_told, LONG)
        await there.apply(whole, "canaries")
        await eventually(is_initialized, LONG)
        await there.apply(empty, "canaries")
        await there.apply(deployment(there.namespace, "example.com/web:2"), "deployments")
        await asyncio.sleep(2)
        assert await is_initialized()
        await there.apply(whole, "canaries")
        await eventually(is_succeeded, LONG)


async def test_agent_and_hub_share_a_member_and_no_canary(story: Any, member: LabCluster, tmp_path: Path) -> None:
    """The annotation says whose a Canary is; the agent goes on while the hub is away, and the hub catches up."""
    faults = Faults()

    def driven_by(name: str) -> int:
        return sum(asked.key.cluster == name and asked.key.verb in ENGINE_VERBS for asked in faults.writes)

    with (
        FaultProxy("hub", member.server, member.ca, faults) as hub_way,
        FaultProxy("agent", member.server, member.ca, faults) as agent_way,
    ):
        original = member.kubeconfig.read_bytes()
        kubeconfig = tmp_path / "agent-kubeconfig"
        kubeconfig.write_bytes(agent_way.kubeconfig(original))
        async with agent_in(story.namespace, kubeconfig):
            repository = await story.git_repo(files(image="example.com/web", tag="1"))
            await story.attach("m2")
            await story.kubeconfig("m2", hub_way.kubeconfig(original))
            await story.set_fleet(["m2"], rolloutEngine={"mode": "Agent"})
            await story.start(shortest_interval=0.5)
            rolled_out = rollout(
                story,
                trafficRoutingProvider="kubernetes",
                routing={"canaryStrategy": None, "analysisTimes": 6},
                analysis={"checkIntervalSeconds": 1, "metrics": []},
            )
            await story.application(repository, policy(story, rolled_out))
            place = Place(story, "m2")

            async def phase_is(*phases: str) -> None:
                async def is_there() -> bool:
                    return ((await place.canary() or {}).get("status") or {}).get("phase") in phases

                await story.until(is_there, LONG)

            await phase_is("Initialized")
            assert (await place.appears())["metadata"]["annotations"]["apps.kurator.dev/engine"] == "agent"
            await story.condition("Ready", "True", timeout=LONG)

            # Mid-analysis the hub goes away, and comes back when all is over.
            await repository.commit({"deployment.yaml": manifest("podinfo", tag="2")})
            await story.request("2")
            await phase_is("Progressing")
            await story.stop()
            await phase_is("Succeeded")
            assert driven_by("hub") == 0
            assert driven_by("agent") > 0
            await story.start(shortest_interval=0.5)
            await story.condition("Ready", "True", timeout=LONG)

            # The Fleet decides otherwise: from now on the hub, and nobody else.
            await story.set_fleet(["m2"], rolloutEngine={"mode": "Hub"})

            async def is_hubs() -> bool:
                found = await place.canary()
                return found is not None and found["metadata"]["annotations"]["apps.kurator.dev/engine"] == "hub"

            await story.until(is_hubs, LONG)
            before = driven_by("agent")
            await repository.commit({"deployment.yaml": manifest("podinfo", tag="3")})
            await story.request("3")
            await phase_is("Progressing")
            await phase_is("Succeeded")
            assert driven_by("agent") == before
            assert driven_by("hub") > 0
            await story.stop()
