"""Two replicas, one leader: the ruling "Leadership" of design.md section 7, and trust.md section 2, class 5."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from fleet_rollout.lab.children import LOCALHOST, free_port
from fleet_rollout.sources import Sources
from tests.faults.proxy import FaultProxy
from tests.faults.rules import Asked, Faults, Hold
from tests.stories.plain import changes
from tests.stories.replicas import Launcher, Replica
from tests.stories.scenario import Run, entry_id, in_thread, inventory, proxied

LEASE = "/apis/coordination.k8s.io/v1/namespaces/{}/leases/fleet-rollout"
DEADLINE = 60.0


@pytest.fixture
async def launcher(tmp_path: Path) -> AsyncIterator[Launcher]:
    made = Launcher(tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def run(
    crds: None, hub: Any, member: Any, namespace: Any, git_repo: Any, launcher: Launcher, tmp_path: Path
) -> AsyncIterator[Run]:
    """The scenario with its first replica at work, behind proxies."""
    name = await namespace("lead", on=[hub])
    made = Run(hub, member, name, tmp_path / name, launcher, git_repo, settings=addresses())
    async with proxied(made):
        yield made


@pytest.fixture
async def second(
    run: Run, launcher: Launcher, hub: Any
) -> AsyncIterator[Callable[..., Awaitable[tuple[Replica, Faults]]]]:
    """Starts a further replica behind a proxy of its own before the hub, whose log is returned, too."""
    started: list[Replica] = []
    faults = Faults()
    async with in_thread(FaultProxy("hub", hub.server, hub.ca, faults)) as proxy:

        async def start(**settings: Any) -> tuple[Replica, Faults]:
            config = run.folder / "kubeconfig-2"
            config.write_bytes(proxy.kubeconfig(hub.kubeconfig.read_bytes()))
            replica = await launcher.fork(
                kubeconfig=config,
                namespace=run.namespace,
                own_namespace=run.namespace,
                data_dir=run.folder / "data-2",
                **settings,
            )
            started.append(replica)
            return replica, faults

        yield start
        for replica in started:
            await replica.close()


def addresses() -> dict[str, str]:
    """Where one replica listens, known before it does."""
    return {name: f"{LOCALHOST}:{free_port()}" for name in ("artifact_address", "receiver_address")}


async def lease_of(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = (await run.hub.api.get(LEASE.format(run.namespace)))["spec"]
    return found


def says(replica: Replica, message: str) -> Callable[[], Awaitable[bool]]:
    async def has_said() -> bool:
        return any(message in record["message"] for record in replica.words())

    return has_said


def is_ready(run: Run) -> Callable[[], Awaitable[bool]]:
    async def ready() -> bool:
        return await run.is_done()

    return ready


def is_member_write(asked: Asked) -> bool:
    return bool(asked.number) and asked.key.cluster == "m1"


async def stands_by(replica: Replica) -> bool:
    return (await replica.get("/readyz"))[0] == 200 and not await replica.leads()


async def test_one_leads_and_the_other_takes_over_when_it_is_killed(run: Run, second: Any, eventually: Any) -> None:
    """The Lease is not given back: the other waits until it has expired, and begins a new epoch."""
    await eventually(says(run.replica, "leading"))
    await run.first_commit()
    await eventually(is_ready(run))
    other, seen = await second()

    async def other_stands_by() -> bool:
        return await stands_by(other)

    await eventually(other_stands_by)
    assert await run.replica.leads()
    assert not seen.writes, "a replica that stands by writes nothing"
    before = await lease_of(run)
    run.kill()
    await run.replica.ended()
    await eventually(says(other, "leading"))
    after = await lease_of(run)
    assert after["leaseTransitions"] == before["leaseTransitions"] + 1
    assert after["holderIdentity"] != before["holderIdentity"]
    await run.second_commit()
    await eventually(is_ready(run))
    (sync,) = await run.hub.api.items(run.path("clustersyncs"))
    assert sync["status"]["attempt"]["epoch"] == after["leaseTransitions"]


async def test_a_leader_that_stops_well_hands_over_before_its_lease_expires(
    run: Run, second: Any, eventually: Any
) -> None:
    await eventually(says(run.replica, "leading"))
    other, _ = await second()

    async def other_stands_by() -> bool:
        return await stands_by(other)

    await eventually(other_stands_by)
    run.replica.signal(signal.SIGTERM)
    await asyncio.wait_for(run.replica.ended(), DEADLINE)
    await eventually(says(other, "leading"))
    waited = [a for a in run.faults.log if a.key.resource.startswith("leases") and a.key.verb == "update"]
    given = waited[-1].body["spec"]
    assert (given["holderIdentity"], given["leaseDurationSeconds"]) == ("", 1)


async def test_a_standby_that_is_stopped_leaves_the_leader_alone(run: Run, second: Any, eventually: Any) -> None:
    await eventually(says(run.replica, "leading"))
    other, seen = await second()

    async def other_stands_by() -> bool:
        return await stands_by(other)

    await eventually(other_stands_by)
    before = await lease_of(run)
    other.signal(signal.SIGTERM)
    await asyncio.wait_for(other.ended(), DEADLINE)
    assert other.words()[-1]["message"] == "stopped"
    after = await lease_of(run)
    assert (after["holderIdentity"], after["leaseTransitions"]) == (
        before["holderIdentity"],
        before["leaseTransitions"],
    )
    assert not [a for a in seen.log if a.key.verb in ("update", "create", "patch")]


async def test_a_leader_that_was_suspended_writes_nothing_any_more(run: Run, second: Any, eventually: Any) -> None:
    """SIGSTOP with a write on the wire; the other takes over and finishes; after SIGCONT the first only stands by."""
    hold = Hold()
    run.faults.when(is_member_write, hold)
    await run.first_commit()
    assert await asyncio.to_thread(hold.arrived.wait, DEADLINE)
    other, seen = await second()
    run.replica.signal(signal.SIGSTOP)
    hold.release()  # what was on the wire lands
    await eventually(says(other, "leading"))
    await eventually(is_ready(run))

    async def nothing_pends() -> bool:
        return all(asked.status for asked in [*run.faults.writes, *seen.writes])

    await eventually(nothing_pends)
    on_hub = [a for a in run.faults.writes if a.key.cluster == "hub"]
    on_member = [a for a in run.faults.writes if a.key.cluster == "m1"]
    run.replica.signal(signal.SIGCONT)
    await eventually(says(run.replica, "leadership lost"))

    async def first_stands_by() -> bool:
        return await stands_by(run.replica)

    await eventually(first_stands_by)
    assert [a for a in run.faults.writes if a.key.cluster == "hub"] == on_hub
    assert [a for a in run.faults.writes if a.key.cluster == "m1"] == on_member
    assert await other.leads()
    assert await is_ready(run)()
    # It has not gone for good: when the other ends, it leads again.
    other.signal(signal.SIGTERM)
    await eventually(lambda: run.replica.leads())
    await run.second_commit()
    await eventually(is_ready(run))


async def test_the_intent_with_the_leaders_epoch_precedes_every_write_to_a_member(run: Run, eventually: Any) -> None:
    """ "A ClusterSync status write with epoch and resourceVersion precedes member writes"."""
    await run.first_commit()
    await eventually(is_ready(run))
    await run.second_commit()
    await eventually(is_ready(run))
    await run.removal()

    async def is_gone() -> bool:
        return await run.hub.api.find(run.path("applications", "web")) is None

    await eventually(is_gone)
    run.check()
    intents = [a for a in run.faults.writes if a.key.resource.startswith("clustersyncs") and a.key.subresource]
    for asked in intents:
        (version,) = [op["value"] for op in asked.body if op["path"] == "/metadata/resourceVersion"]
        assert version
    first = next(a for a in run.faults.writes if is_member_write(a))
    (status,) = [op["value"] for op in intents[0].body if op["path"] == "/status"]
    assert intents[0].number < first.number
    assert status["attempt"]["epoch"] == (await lease_of(run))["leaseTransitions"]
    assert entry_id(first.body) in {entry["id"] for entry in inventory({"status": status})}


async def fetched(base: str, path: str) -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as session, session.get(f"http://{base}/{path}") as answer:
        return answer.status, await answer.read()


async def artifact_of(run: Run) -> dict[str, Any]:
    application = await run.hub.api.get(run.path("applications", "web"))
    found: dict[str, Any] = application["status"]["sourceStatus"]["gitRepoStatus"]["artifact"]
    return found


async def announce(run: Run, base: str) -> int:
    """What a Git host sends to a receiver after a push."""
    body = json.dumps({"url": run.repository.url, "ref": "refs/heads/main"}).encode()
    signature = "sha256=" + hmac.new(b"wh-key", body, hashlib.sha256).hexdigest()
    headers = {"Content-Type": "application/json", "X-Signature": signature}
    url = f"http://{base}/hook/{run.namespace}/hook"
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as answer:
        return answer.status


async def test_no_replica_is_ready_before_it_listens(story: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Service leads to who is ready: nothing may be refused there."""
    start, seen = Sources.start, []

    async def noting(self: Sources, *given: Any) -> None:
        seen.append(story.health.leadership)
        await start(self, *given)

    monkeypatch.setattr(Sources, "start", noting)
    await story.start()
    assert seen == [None]
    assert story.health.leadership is not None


async def test_a_standby_serves_artifacts_and_the_receiver(run: Run, second: Any, eventually: Any) -> None:
    """ "Other replicas stand by and serve the receiver and artifacts": whichever of them a Service leads to."""
    await run.first_commit()
    await eventually(is_ready(run))
    listens = addresses()
    other, seen = await second(**listens)

    async def other_stands_by() -> bool:
        return await stands_by(other)

    await eventually(other_stands_by)
    artifact = await artifact_of(run)
    assert artifact["url"] == f"http://{run.settings['artifact_address']}/{artifact['path']}"
    for base in (run.settings["artifact_address"], listens["artifact_address"]):
        status, content = await fetched(base, artifact["path"])
        assert (status, f"sha256:{hashlib.sha256(content).hexdigest()}") == (200, artifact["digest"]), base
        assert (await fetched(base, artifact["path"].replace("/web/", "/other/")))[0] == 404

    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hook", "namespace": run.namespace}}
    await run.hub.api.apply(run.path("secrets", "hook"), secret | {"stringData": {"token": "wh-key"}}, manager="story")
    run.commits[await run.repository.commit(changes(run.apps))] = "COMMIT-2"
    assert await announce(run, listens["receiver_address"]) == 202
    await eventually(is_ready(run))
    assert [(a.key.verb, a.key.resource, a.key.name) for a in seen.writes] == [
        ("patch", "applications.apps.kurator.dev", "web")
    ]

    run.kill()
    await run.replica.ended()
    await eventually(says(other, "leading"))
    newer = await artifact_of(run)
    assert newer["path"] != artifact["path"]

    async def is_made_again() -> bool:
        return (await fetched(listens["artifact_address"], newer["path"]))[0] == 200

    await eventually(is_made_again)
