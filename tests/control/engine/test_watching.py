"""What the hub is told of a member's Canaries drives and mirrors them, also after member or Fleet have changed."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from fleet_rollout.control.canaries import Canaries, Place
from fleet_rollout.control.engine.engines import Engines
from fleet_rollout.control.loop import Key
from fleet_rollout.decide.names import ENGINE_ANNOTATION
from fleet_rollout.kube.member import Members
from fleet_rollout.lab.lab import LabCluster
from fleet_rollout.settings import Settings
from tests.control.engine import test_engine
from tests.control.engine.test_engine import canary, deployment
from tests.control.engine.test_engines import SCOPE, OneFleet, Recorded

Eventually = Callable[..., Awaitable[None]]
HUB, MEMBER = SCOPE


class Watching:
    """The hub's watch of one member, with the engine that it feeds; `fleet.say` edits the Fleet."""

    def __init__(self, member: LabCluster, namespaces: list[str]) -> None:
        self._member = member
        self.namespaces = namespaces
        self.fleet = OneFleet()
        self.say()
        settings = Settings(shortest_interval=0.2)
        self.members = Members(settings)
        queues = SimpleNamespace(syncs=set())
        world = SimpleNamespace(
            settings=settings, store=self.fleet, recorder=Recorded(), members=self.members, queues=queues, hub=None
        )
        self.engines = Engines(world)  # type: ignore[arg-type]
        self.canaries = Canaries(world, self.engines)  # type: ignore[arg-type]

    def say(self, **engine: Any) -> None:
        """What the Fleet says of its engine from now on."""
        self.fleet.say({"meshProvider": "kubernetes", **engine})

    async def connect(self) -> None:
        """The cluster object is there, and was looked at."""
        kubeconfig = base64.b64encode(self._member.kubeconfig.read_bytes()).decode()
        secret = {"metadata": {"name": "m2", "namespace": HUB}, "data": {"value": kubeconfig}}
        await self.members.update(MEMBER.kind, MEMBER.name, HUB, secret, "value")
        self.look()

    def look(self) -> None:
        """What every check of the member ends with."""
        self.canaries.look_around(SCOPE)

    async def disconnect(self) -> None:
        """The cluster object is deleted."""
        self.canaries.look_away(SCOPE)
        await self.members.drop(MEMBER.kind, MEMBER.name, HUB)

    def follow(self, number: int = 0) -> None:
        """A ClusterSync of its own mirrors the Canary of each namespace."""
        namespace = self.namespaces[number]
        self.canaries.follow(Key(HUB, f"sync-{namespace}"), Place(HUB, MEMBER, namespace, "web"))

    def forget(self, number: int) -> None:
        """That ClusterSync is gone."""
        self.canaries.forget(Key(HUB, f"sync-{self.namespaces[number]}"))

    def seen(self, number: int = 0) -> str | None:
        """The phase that is mirrored."""
        found = self.canaries.canary(Key(HUB, f"sync-{self.namespaces[number]}"))
        return found["status"].get("phase") if found else None

    @property
    def driven(self) -> set[str]:
        """The namespaces whose Canaries are driven."""
        site = self.engines._sites.get(SCOPE)
        return site.engine.namespaces if site else set()

    def there(self, number: int = 0) -> test_engine.Place:
        return test_engine.Place(self._member, self.namespaces[number])

    async def bring(self, number: int = 0, *, engine: str | None = None, **analysis: Any) -> None:
        """A Deployment and its Canary, which names `engine`, or none and is plain."""
        there = self.there(number)
        await there.apply(deployment(there.namespace), "deployments")
        made = canary(there.namespace, **analysis)
        if engine is not None:
            made["metadata"]["annotations"] = {ENGINE_ANNOTATION: engine}
        await there.apply(made, "canaries")

    async def release(self, image: str, number: int = 0) -> None:
        there = self.there(number)
        await there.apply(deployment(there.namespace, image), "deployments")


@pytest.fixture
async def watching(spare: LabCluster, namespace: Callable[..., Awaitable[str]]) -> AsyncIterator[Watching]:
    """Of a member of its own: an engine that adopts plain Canaries would drive those of other tests, and see theirs."""
    await spare.kubectl("apply", "--server-side", "--force-conflicts", "-k", "config/crd/member")
    await spare.crds_established()
    made = Watching(spare, [await namespace("engine", on=[spare]) for _ in range(4)])
    running = asyncio.create_task(made.engines.run())
    try:
        yield made
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await made.members.close()


async def test_a_cluster_that_is_deleted_and_made_again_is_watched_and_driven_again(
    watching: Watching, eventually: Eventually
) -> None:
    """`kubectl replace --force` of an AttachedCluster, whose ClusterSyncs stay and go on following."""
    await watching.bring(engine="hub")
    watching.follow()
    await watching.connect()

    async def is_initialized() -> bool:
        return watching.seen() == "Initialized"

    await eventually(is_initialized)
    await watching.disconnect()
    assert watching.driven == set(), "an engine whose client is closed"
    assert watching.seen() is None
    await watching.connect()
    watching.follow()
    await eventually(is_initialized)
    await watching.release("example.com/web:2")

    async def is_promoted() -> bool:
        return watching.seen() == "Succeeded"

    await eventually(is_promoted)


async def are_ready(watching: Watching, eventually: Eventually, *numbers: int) -> None:
    """These Canaries are initialised, and nothing else is driven."""

    async def check() -> bool:
        phases = [(await watching.there(number).status()).get("phase") for number in numbers]
        return phases == ["Initialized"] * len(numbers) and watching.driven == at(watching, *numbers)

    await eventually(check)


def at(watching: Watching, *numbers: int) -> set[str]:
    return {watching.namespaces[number] for number in numbers}


def look_until(watching: Watching, *numbers: int) -> Callable[[], Awaitable[bool]]:
    """Checks of the member until these Canaries are driven: a tick that is under way is waited for."""

    async def check() -> bool:
        watching.look()
        return watching.driven == at(watching, *numbers)

    return check


@pytest.fixture
async def mixed(watching: Watching, eventually: Eventually) -> Watching:
    """Canaries of two Applications, and between them a plain one that nobody is to drive."""
    for number, engine in enumerate(("hub", "hub", None)):
        await watching.bring(number, engine=engine)
    await watching.connect()
    for number in (0, 1):
        watching.follow(number)
    await are_ready(watching, eventually, 0, 1)
    return watching


async def test_plain_canaries_that_were_told_of_before_are_adopted(mixed: Watching, eventually: Eventually) -> None:
    """The watch of the whole cluster is there already, for rollouts in two namespaces."""
    mixed.say(plainCanaries="Adopt")
    mixed.look()
    await are_ready(mixed, eventually, 0, 1, 2)


async def test_what_vanishes_while_plain_canaries_are_adopted_is_driven_no_longer(
    mixed: Watching, eventually: Eventually
) -> None:
    await mixed.there(1).api.delete(f"/apis/flagger.app/v1beta1/namespaces/{mixed.namespaces[1]}/canaries/web")
    mixed.say(plainCanaries="Adopt")
    mixed.look()
    await are_ready(mixed, eventually, 0, 2)
    assert mixed.seen(1) is None


@pytest.mark.parametrize("said", [{"plainCanaries": "Ignore"}, {"mode": "Agent", "plainCanaries": "Adopt"}])
async def test_plain_canaries_are_let_go_when_the_fleet_says_so(
    mixed: Watching, eventually: Eventually, said: dict[str, str]
) -> None:
    mixed.say(plainCanaries="Adopt")
    mixed.look()
    await are_ready(mixed, eventually, 0, 1, 2)
    mixed.say(**said)
    await eventually(look_until(mixed, 0, 1))
    await mixed.release("example.com/web:2", 2)
    await mixed.release("example.com/web:2", 0)

    async def is_promoted() -> bool:
        return (await mixed.there(0).status()).get("phase") == "Succeeded"

    await eventually(is_promoted)
    assert (await mixed.there(2).status())["phase"] == "Initialized"


async def test_what_is_under_way_is_finished_and_the_rest_adopted_once_more(
    mixed: Watching, eventually: Eventually
) -> None:
    """Adopt, Ignore and Adopt while one plain Canary is in its analysis: the whole cluster is watched all along."""
    await mixed.bring(3, iterations=1000)
    mixed.say(plainCanaries="Adopt")
    mixed.look()
    await are_ready(mixed, eventually, 0, 1, 2, 3)
    await mixed.release("example.com/web:2", 3)

    async def is_under_way() -> bool:
        return mixed.engines.is_finishing(SCOPE)

    await eventually(is_under_way)
    mixed.say(plainCanaries="Ignore")
    await eventually(look_until(mixed, 0, 1, 3))
    mixed.say(plainCanaries="Adopt")
    await eventually(look_until(mixed, 0, 1, 2, 3))


async def test_nothing_is_driven_that_is_watched_no_longer(mixed: Watching, eventually: Eventually) -> None:
    """Somebody has named us in a Canary of his own: without an Application it is seen only while all are watched."""
    await mixed.bring(3, engine="hub")
    await are_ready(mixed, eventually, 0, 1, 3)
    mixed.forget(1)
    assert mixed.driven == at(mixed, 0)
    mixed.follow(1)
    await are_ready(mixed, eventually, 0, 1, 3)
