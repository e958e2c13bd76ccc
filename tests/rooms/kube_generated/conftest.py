"""What the engine generates, on a real API server: accepted as it is, and left alone once it is there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet_rollout.decide.canary import targets
from fleet_rollout.decide.canary.objects import Live, Object, Ref, Write
from fleet_rollout.decide.canary.subject import EngineOptions, Subject
from fleet_rollout.lab.api import ApiAnswer
from fleet_rollout.lab.lab import CRDS, LabCluster
from tests.rooms.traffic.conftest import Hands, Install, crds, hands, member

__all__ = ["crds", "hands", "member"]

CANARY = "flagger.app/v1beta1"
FOLDER = Path(__file__).with_name("crds")
Verb = Callable[[Subject, Live], list[Write]]


class Stage:
    """A Canary and its target in a namespace of their own."""

    def __init__(self, member: LabCluster, hands: Hands, namespace: str, canary: Object) -> None:
        self._member = member
        self.hands = hands
        self.namespace = namespace
        self.canary = Ref(CANARY, "Canary", namespace, canary["metadata"]["name"])

    async def about(self) -> Subject:
        """As a tick begins."""
        raw = await self.find(self.canary)
        ref = targets.target_ref(Subject(raw))
        return targets.inspect(raw, EngineOptions(), {ref: await self.hands.get(ref)})

    async def live(self, about: Subject) -> Live:
        first = await self.find(targets.target_ref(about))
        return {ref: await self.hands.get(ref) for ref in targets.reads(about, first)}

    async def do(self, verb: Verb) -> list[str]:
        """Carry out a verb, again where a controller was quicker; then it has to have nothing left to write."""
        done: list[str] = []
        while writes := verb(about := await self.about(), await self.live(about)):
            assert len(done) < 50, done
            done += await self._carry_out(writes)
        return done

    async def _carry_out(self, writes: list[Write]) -> list[str]:
        done = []
        for write in writes:
            try:
                await self.hands.carry_out([write])
            except ApiAnswer as answer:
                if answer.reason != "Conflict":
                    raise
                return done
            done.append(f"{type(write).__name__} {write.ref.kind} {write.ref.name}")
        return done

    async def find(self, ref: Ref) -> Object:
        found = await self.hands.get(ref)
        assert found is not None, ref
        return found

    async def get(self, api_version: str, kind: str, name: str) -> Object:
        return await self.find(Ref(api_version, kind, self.namespace, name))

    async def merge(self, ref: Ref, patch: Object) -> None:
        await self._member.api.merge(await self.hands.path(ref), patch)

    async def add(self, obj: Object) -> Object:
        return await self.hands.create({**obj, "metadata": {"namespace": self.namespace, **obj["metadata"]}})


@pytest.fixture
async def ns(namespace: Callable[..., Awaitable[str]], member: LabCluster) -> str:
    """A namespace of the test's own, on the member alone."""
    return await namespace("generated", on=[member])


@pytest.fixture
async def stage(crds: Install, hands: Hands, member: LabCluster, ns: str) -> Callable[..., Awaitable[Stage]]:
    """`await stage(target, *objects, service={...}, …)`: they exist, and a Canary with that spec."""
    await crds("flagger")

    async def make(target: Object, *objects: Object, name: str = "podinfo", **spec: Any) -> Stage:
        service = {"port": 9898, **spec.pop("service", {})}
        analysis = {"interval": "10s", "threshold": 2, "stepWeight": 20}
        reference = {"apiVersion": target["apiVersion"], "kind": target["kind"], "name": target["metadata"]["name"]}
        canary = {
            "apiVersion": CANARY,
            "kind": "Canary",
            "metadata": {"name": name},
            "spec": {"targetRef": reference, "service": service, "analysis": analysis, **spec},
        }
        made = Stage(member, hands, ns, canary)
        for obj in (*objects, target, canary):
            await made.add(obj)
        return made

    return make


@pytest.fixture(scope="session")
async def keda(member: LabCluster, hands: Hands) -> None:
    """KEDA's ScaledObject is served."""
    for item in yaml.safe_load_all((FOLDER / "keda.yaml").read_text()):
        await member.api.apply(f"{CRDS}/{item['metadata']['name']}", item)
    await member.crds_established()
