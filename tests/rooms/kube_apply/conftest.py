"""One member of the lab through the service's own client, with every request written down."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from fleet_rollout.errors import Transient
from fleet_rollout.kube.apply import Applier, Owner
from fleet_rollout.kube.client import Cluster, Connection
from fleet_rollout.kube.transport import Request, Transport
from fleet_rollout.settings import Settings


class Recorder:
    """Passes requests on and remembers them."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.sent: list[Request] = []

    async def send(self, request: Request) -> tuple[int, Any]:
        self.sent.append(request)
        return await self._transport.send(request)

    async def send_sized(self, request: Request) -> tuple[int, Any, int]:
        self.sent.append(request)
        return await self._transport.send_sized(request)

    async def close(self) -> None:
        await self._transport.close()

    @property
    def verbs(self) -> Counter[str]:
        """How often what was sent, without discovery."""
        return Counter(_verb(request) for request in self.sent if "apidiscovery" not in request.accept)

    def forget(self) -> None:
        self.sent.clear()


def _verb(request: Request) -> str:
    if request.params.get("dryRun"):
        return "dry run"
    if request.method == "GET":
        return "list" if "limit" in request.params else "get"
    if request.method == "PATCH":
        return "apply" if "apply-patch" in request.content_type else "patch"
    return request.method.lower()


@pytest.fixture(scope="session")
def settings() -> Settings:
    return Settings(stage_wait=20.0)


@pytest.fixture
async def cluster(member: Any, settings: Settings) -> AsyncIterator[Cluster]:
    headers = {"Authorization": f"Bearer {member.token}"}
    cluster = Cluster(Connection(member.name, member.server, member.ca, headers), settings)
    cluster._transport = Recorder(cluster._transport)  # type: ignore[assignment]
    yield cluster
    await cluster.close()


@pytest.fixture
def requests(cluster: Cluster) -> Recorder:
    return cluster._transport  # type: ignore[return-value]


@pytest.fixture
async def ns(namespace: Callable[..., Awaitable[str]], member: Any) -> str:
    """A namespace of the test's own, on the member alone."""
    return await namespace("apply", on=[member])


@pytest.fixture
def owner(ns: str) -> Owner:
    return Owner(name=f"web-0-{ns}", namespace=ns, application=f"web-{ns}", hub_uid="5c2f1d0e-hub")


@pytest.fixture
def applier(cluster: Cluster, owner: Owner, settings: Settings) -> Applier:
    return Applier(cluster, owner, settings)


class Manifests:
    """Small manifests in one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def config_map(self, name: str, data: dict[str, str] | None = None, **metadata: Any) -> dict[str, Any]:
        metadata = {"name": name, "namespace": self.namespace, **metadata}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data or {"a": "1"}}

    def deployment(self, name: str, *, app: str | None = None, **spec: Any) -> dict[str, Any]:
        """Without Pods, so that nothing but the spec is at stake."""
        labels = {"app": app or name}
        container = {"name": "web", "image": "registry.example/web:1"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template, **spec},
        }

    def service(self, name: str) -> dict[str, Any]:
        metadata = {"name": name, "namespace": self.namespace}
        return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}}


@pytest.fixture
def make(ns: str) -> Manifests:
    return Manifests(ns)


class Recorded:
    """What `before_write` was called with."""

    def __init__(self) -> None:
        self.inventories: list[list[str]] = []

    async def __call__(self, entries: Any) -> None:
        self.inventories.append([entry.id for entry in entries])


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


@pytest.fixture
def apply(applier: Applier, recorded: Recorded) -> Callable[..., Awaitable[list[str]]]:
    """`await apply(*manifests)`: the lines of the change log."""

    async def apply(*objects: Any, force: bool = False, replicas: Any = None, by: Applier = applier) -> list[str]:
        changes = await by.plan_and_apply(objects, force=force, before_write=recorded, replicas=replicas)
        return [str(change) for change in changes]

    return apply


@pytest.fixture
def refusal(apply: Callable[..., Awaitable[list[str]]]) -> Callable[..., Awaitable[str]]:
    """`await refusal(*manifests)`: the message of the error that applying them ends with."""

    async def refusal(*objects: Any, reason: str = "ReconciliationFailed", **arguments: Any) -> str:
        with pytest.raises(Transient) as caught:
            await apply(*objects, **arguments)
        assert caught.value.reason == reason
        return caught.value.message

    return refusal


@pytest.fixture
def live(member: Any, ns: str) -> Callable[..., Awaitable[Any]]:
    """`await live("configmaps", "c")`: the object as the administrator sees it, or None."""

    async def live(plural: str, name: str, group: str = "") -> Any:
        root = f"/apis/{group}/v1" if group else "/api/v1"
        return await member.api.find(f"{root}/namespaces/{ns}/{plural}/{name}")

    return live


@pytest.fixture
def settled(live: Callable[..., Awaitable[Any]], eventually: Callable[..., Awaitable[None]]) -> Callable[..., Any]:
    """`await settled("web")`: the Deployment's controller has written what it writes to a new one."""

    async def settled(name: str) -> None:
        async def is_seen() -> bool:
            found = await live("deployments", name, "apps")
            seen = found.get("status", {}).get("observedGeneration")
            return bool(seen == found["metadata"]["generation"] and found["metadata"].get("annotations"))

        await eventually(is_seen)

    return settled


@pytest.fixture
def account(member: Any, ns: str, eventually: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[str]]:
    """`await account("x", ("", "configmaps", ["get"]))`: the user name of a service account with these rights."""

    async def account(name: str, *rights: tuple[str, str, list[str]]) -> str:
        user = f"system:serviceaccount:{ns}:{name}"
        rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{ns}"
        rules = [{"apiGroups": [group], "resources": [plural], "verbs": verbs} for group, plural, verbs in rights]
        await member.api.create(f"{rbac}/roles", {"metadata": {"name": name}, "rules": rules})
        binding = {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": ns}],
        }
        await member.api.create(f"{rbac}/rolebindings", binding)
        group, plural, verbs = rights[-1]
        asked = {"group": group, "resource": plural, "verb": verbs[-1], "namespace": ns}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
        review |= {"metadata": {}, "spec": {"user": user, "resourceAttributes": asked}}

        async def is_allowed() -> bool:
            answer = await member.api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
            return bool(answer["status"]["allowed"])

        await eventually(is_allowed)
        return user

    return account
