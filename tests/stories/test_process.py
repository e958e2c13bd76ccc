"""`fleet-rollout controller` as a process: pages, logs, settings, refusals to start, and how it ends (part 11)."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fleet_rollout.lab.children import LOCALHOST
from tests.faults.proxy import FaultProxy
from tests.faults.rules import Asked, Faults, Hold
from tests.stories.replicas import Launcher, Replica
from tests.stories.scenario import Run, in_thread, proxied

LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases/fleet-rollout"
DEADLINE = 60.0


@pytest.fixture
async def launcher(tmp_path: Path) -> Any:
    made = Launcher(tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def where(crds: None, hub: Any, namespace: Any, tmp_path: Path) -> dict[str, Any]:
    """Settings of a controller that stays in a namespace of its own."""
    name = await namespace("process", on=[hub])
    return {
        "kubeconfig": hub.kubeconfig,
        "namespace": name,
        "own_namespace": name,
        "data_dir": tmp_path / "data",
    }


@pytest.fixture
def new_run(
    crds: None, hub: Any, member: Any, namespace: Any, git_repo: Any, launcher: Launcher, tmp_path: Path
) -> Any:
    async def make(**settings: Any) -> Run:
        name = await namespace("process", on=[hub])
        return Run(hub, member, name, tmp_path / name, launcher, git_repo, settings=settings)

    return make


def says(replica: Replica, message: str) -> Callable[[], Awaitable[bool]]:
    """A check: has it logged this?"""

    async def has_said() -> bool:
        return any(message in record["message"] for record in replica.words())

    return has_said


def first_member_write(asked: Asked) -> bool:
    """The first write of a sync to the member."""
    return bool(asked.number) and asked.key.cluster == "m1" and asked.key.resource == "namespaces"


async def exit_code(process: asyncio.subprocess.Process) -> int:
    return await asyncio.wait_for(process.wait(), DEADLINE)


async def test_it_answers_health_readiness_and_metrics_and_logs_json(
    launcher: Launcher, where: dict[str, Any], eventually: Any
) -> None:
    async with launcher.program(**where) as (replica, process):
        await eventually(says(replica, "leading"))
        assert await replica.get("/healthz") == (200, "ok")
        assert await replica.get("/readyz") == (200, "ok")
        assert await replica.metric("fleet_rollout_requests_total") > 0
        replica.signal(signal.SIGTERM)
        assert await exit_code(process) == 0
        words = replica.words()
    assert all({"time", "level", "logger", "message"} <= record.keys() for record in words)
    assert [record["epoch"] for record in words if record["message"] == "leading"] == [1]
    assert words[-1]["message"] == "stopped"


async def test_every_setting_may_come_from_the_environment(
    launcher: Launcher, where: dict[str, Any], hub: Any, eventually: Any
) -> None:
    flags, _ = launcher.arguments(**where)
    given = dict(flag.removeprefix("--").split("=", 1) for flag in flags if "=" in flag)
    environment = {f"FLEET_ROLLOUT_{name.replace('-', '_').upper()}": value for name, value in given.items()}
    environment |= {"FLEET_ROLLOUT_ALLOW_LOOPBACK_SOURCES": "true", "FLEET_ROLLOUT_LEASE_NAME": "another"}
    process = await launcher.start(
        ["controller", "--log-format=text"], where["data_dir"].with_name("log"), launcher.environment() | environment
    )

    async def holds_the_lease() -> bool:
        path = LEASES.format(where["namespace"]).replace("fleet-rollout", "another")
        return await hub.api.find(path) is not None

    try:
        await eventually(holds_the_lease)
        process.send_signal(signal.SIGINT)
        assert await exit_code(process) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lines = where["data_dir"].with_name("log").read_text().splitlines()
    assert any("INFO" in line and "stopped" in line for line in lines), "the flag wins over the environment"


async def refused(launcher: Launcher, **settings: Any) -> list[dict[str, Any]]:
    """The log of a controller that must end with 1, without a traceback."""
    async with launcher.program(**settings) as (replica, process):
        assert await exit_code(process) == 1
        words = replica.words()
    assert not any("exception" in record for record in words)
    return words


@pytest.mark.parametrize(
    ("content", "reason", "message"),
    [
        (None, "KubeconfigInvalid", "cannot be read"),
        ("{", "KubeconfigInvalid", "not YAML"),
        ("{}", "KubeconfigInvalid", "current-context is empty"),
    ],
)
async def test_a_bad_kubeconfig_is_told_at_start(
    launcher: Launcher, where: dict[str, Any], tmp_path: Path, content: str | None, reason: str, message: str
) -> None:
    path = tmp_path / "bad"
    if content is not None:
        path.write_text(content)
    (record,) = await refused(launcher, **where | {"kubeconfig": path})
    assert (record["reason"], record["level"]) == (reason, "ERROR")
    assert message in record["message"]


async def test_a_hub_without_our_crds_is_told_at_start(
    launcher: Launcher, where: dict[str, Any], member: Any, namespace: Any
) -> None:
    name = await namespace("process", on=[member])
    settings = {"kubeconfig": member.kubeconfig, "namespace": name, "own_namespace": name}
    words = await refused(launcher, **where | settings)
    assert words[-1]["reason"] == "CRDMissing"
    assert "apply config/crd" in words[-1]["message"]
    lease = await member.api.get(LEASES.format(name))
    assert lease["spec"]["holderIdentity"] == "", "the Lease is given back"


async def test_an_address_in_use_is_told_at_start(launcher: Launcher, where: dict[str, Any]) -> None:
    with socket.socket() as taken:
        taken.bind((LOCALHOST, 0))
        taken.listen()
        address = f"{LOCALHOST}:{taken.getsockname()[1]}"
        for flag in ("telemetry_address", "artifact_address", "receiver_address"):
            words = await refused(launcher, **where | {flag: address})
            assert address in words[-1]["message"]


async def test_a_hub_that_fails_for_a_while_does_not_end_the_process(
    launcher: Launcher, where: dict[str, Any], hub: Any, eventually: Any, tmp_path: Path
) -> None:
    """Bad input: "host down" for the hub itself: at start, and between winning the Lease and reading."""
    faults = Faults()
    down = Hold()
    faults.on(down, verb="list", times=None)
    async with in_thread(FaultProxy("hub", hub.server, hub.ca, faults)) as proxy:
        config = tmp_path / "config"
        config.write_bytes(proxy.kubeconfig(hub.kubeconfig.read_bytes()))
        settings = where | {"kubeconfig": config, "member_request_timeout": 1.0}
        async with launcher.program(**settings) as (replica, process):
            await eventually(says(replica, "trying again"))
            assert (await replica.get("/healthz"))[0] == 200
            faults.clear()
            down.release()
            await eventually(says(replica, "leading"))
            replica.signal(signal.SIGTERM)
            assert await exit_code(process) == 0


async def test_sigterm_lets_work_in_flight_finish_and_gives_the_lease_back(
    new_run: Callable[..., Awaitable[Run]], hub: Any, eventually: Any
) -> None:
    """The write that is under way lands, its ClusterSync records what became of it, and nothing new is begun."""
    run = await new_run(shutdown_timeout=DEADLINE)
    hold = Hold()
    run.faults.when(first_member_write, hold)
    async with proxied(run):
        await run.first_commit()
        assert await asyncio.to_thread(hold.arrived.wait, DEADLINE)
        run.replica.signal(signal.SIGTERM)
        await eventually(says(run.replica, "stopping"))
        hold.release()
        await asyncio.wait_for(run.replica.ended(), DEADLINE)
        (sync,) = await hub.api.items(run.path("clustersyncs"))
        assert sync["status"]["lastAppliedRevision"].endswith(next(iter(run.commits)))
        assert len(await run.live()) == 5
        lease = await hub.api.get(LEASES.format(run.namespace))
        assert lease["spec"]["holderIdentity"] == ""
        assert json.loads((run.folder / run.replica.log.name).read_text().splitlines()[-1])["message"] == "stopped"


async def test_the_shutdown_timeout_holds_also_where_work_hangs(
    new_run: Callable[..., Awaitable[Run]], hub: Any
) -> None:
    run = await new_run(shutdown_timeout=15.0)  # a share of it is left for giving the Lease back
    hold = Hold()
    run.faults.when(first_member_write, hold, times=None)
    async with proxied(run):
        await run.first_commit()
        assert await asyncio.to_thread(hold.arrived.wait, DEADLINE)
        run.replica.signal(signal.SIGTERM)
        await asyncio.wait_for(run.replica.ended(), DEADLINE)  # the write would hang for ever
        lease = await hub.api.get(LEASES.format(run.namespace))
        assert lease["spec"]["holderIdentity"] == ""
        hold.release()
