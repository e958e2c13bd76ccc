"""The Dial of a Canary on a real API server: by its proxy, and by port-forward where credentials go along."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest

from fleet_rollout.control.engine import member_dial
from fleet_rollout.control.engine.dialing import DirectDial
from fleet_rollout.control.engine.member_dial import Backings, MemberDial
from fleet_rollout.decide.canary.addresses import AddressRefused, NotReached, Reach, read_reach
from fleet_rollout.kube.access import connection_from_kubeconfig
from fleet_rollout.kube.client import Cluster
from fleet_rollout.lab.certificates import Authority
from fleet_rollout.lab.lab import LabCluster
from fleet_rollout.metrics.bulkheads import Bulkheads
from fleet_rollout.settings import Settings
from tests.control.engine import pod_server

USER = {"Authorization": pod_server.CREDENTIALS}
PORT, SECURE, NOBODY = 8080, 8443, 9


def container(name: str, port: int, *arguments: object) -> dict[str, Any]:
    command = [sys.executable, pod_server.__file__, "$(PORT)", *map(str, arguments)]
    ports = [{"name": name, "containerPort": port}]
    return {"name": name, "image": "lab.local/run:1", "command": command, "ports": ports}


def service(name: str, **spec: Any) -> dict[str, Any]:
    ports = [
        {"name": "web", "port": 80, "targetPort": "plain"},
        {"name": "safe", "port": 443, "targetPort": "secure"},
        {"name": "nobody", "port": 81, "targetPort": NOBODY},
    ]
    return {"metadata": {"name": name}, "spec": {"ports": ports, **spec}}


class There:
    """A namespace with a server that wants credentials behind its Service `guarded`."""

    def __init__(self, member: LabCluster, namespace: str, cluster: Cluster) -> None:
        self.api, self.namespace, self.token = member.api, namespace, member.token
        self._cluster = cluster
        self._direct = DirectDial(Reach(), Bulkheads())

    async def close(self) -> None:
        await self._direct.close()

    def path(self, plural: str) -> str:
        return f"/api/v1/namespaces/{self.namespace}/{plural}"

    def url(
        self, path: str = "/", *, service: str = "guarded", scheme: str = "http", user: str = "", port: str = ""
    ) -> str:
        return f"{scheme}://{user}{service}.{self.namespace}{port}{path}"

    def dial(self, cluster: Cluster | None = None, *, reach: Reach | None = None, namespace: str = "") -> MemberDial:
        """A new one, which has not seen the Service yet."""
        cluster = cluster or self._cluster
        return MemberDial(cluster, Backings(cluster), self._direct, reach or Reach(), namespace or self.namespace)

    async def bring(self, name: str, *containers: dict[str, Any]) -> None:
        """A Service and its only Pod."""
        labels = {"app": name}
        pod = {"metadata": {"name": f"{name}-0", "labels": labels}, "spec": {"containers": list(containers)}}
        await self.api.create(self.path("pods"), pod)
        await self.api.create(self.path("services"), service(name, selector=labels))

    async def address(self) -> str:
        """Of the Pod behind `guarded`."""
        return str((await self.api.get(f"{self.path('pods')}/guarded-0"))["status"]["podIP"])

    async def is_ready(self, name: str) -> bool:
        label = f"kubernetes.io/service-name={name}"
        path = f"/apis/discovery.k8s.io/v1/namespaces/{self.namespace}/endpointslices"
        slices = await self.api.items(path, labelSelector=label)
        return any(e["conditions"].get("ready") for each in slices for e in each.get("endpoints") or [])

    async def describe(self, name: str) -> str:
        """Pod and EndpointSlices of one that does not become ready."""
        slices = f"/apis/discovery.k8s.io/v1/namespaces/{self.namespace}/endpointslices"
        pod = await self.api.get(f"{self.path('pods')}/{name}-0")
        return json.dumps({"pod": pod["status"], "slices": await self.api.items(slices)}, indent=1)

    async def ask(self, url: str, method: str = "GET", **options: Any) -> tuple[int, Any]:
        given = {"headers": USER, "timeout": 20.0} | options
        status, body = await self.dial().request(method, url, **given)
        return status, json.loads(body) if body.startswith(b"{") else body

    async def slice(self, name: str, service: str, address: str, port: int = PORT) -> None:
        """Endpoints that somebody has written by hand."""
        made = {
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
            "ports": [{"name": "web", "port": port, "protocol": "TCP"}],
        }
        await self.api.create(f"/apis/discovery.k8s.io/v1/namespaces/{self.namespace}/endpointslices", made)

    async def told(self, url: str, **options: Any) -> str:
        """What is said where there is no answer."""
        with pytest.raises(NotReached) as caught:
            await self.ask(url, **options)
        return str(caught.value).replace(self.namespace, "NS")


@pytest.fixture(scope="module")
async def there(
    member: LabCluster,
    eventually: Callable[..., Awaitable[None]],
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[There]:
    name = f"dial-{secrets.token_hex(4)}"
    await member.api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    connection = connection_from_kubeconfig("m1", member.kubeconfig.read_bytes(), allow_insecure=False)
    cluster = Cluster(connection, Settings())
    found = There(member, name, cluster)
    pair = Authority.create("unknown").serving(["elsewhere.example.com"]).write(tmp_path_factory.mktemp("tls"), "pod")
    try:
        await found.bring("guarded", container("plain", PORT), container("secure", SECURE, *pair))
        try:
            await eventually(lambda: found.is_ready("guarded"), timeout=120)
        except pytest.fail.Exception:
            pytest.fail(await found.describe("guarded"))
        yield found
    finally:
        await found.close()
        await cluster.close()
        await member.api.delete(f"/api/v1/namespaces/{name}")


async def test_credentials_reach_a_service_that_demands_them(there: There) -> None:
    status, told = await there.ask(there.url("/query?a=b%20c"), "POST", body=b"text", timeout=20)
    assert (status, told["method"], told["path"], told["body"]) == (200, "POST", "/query?a=b%20c", "text")
    assert told["headers"]["Host"] == f"guarded.{there.namespace}"
    assert told["headers"]["Connection"] == "close"
    assert told["headers"]["User-Agent"] == "fleet-rollout"
    assert not any(name.startswith("X-Forwarded-") for name in told["headers"])


async def test_credentials_in_the_address_are_as_good(there: There) -> None:
    assert (await there.ask(there.url(user="rita:s3cret@"), headers={}))[0] == 200
    assert (await there.ask(there.url(user="rita:wrong@"), headers={}))[0] == 401


async def test_without_credentials_the_proxy_of_the_api_server_is_used(there: There) -> None:
    """It leaves traces in the headers, and takes no credential along: the server refuses."""
    status, told = await there.ask(there.url("/open"), headers={"X-Own": "1"})
    assert (status, told["headers"]["X-Own"]) == (200, "1")
    assert any(name.startswith("X-Forwarded-") for name in told["headers"])
    assert await there.ask(there.url(), headers={}) == (401, b"who are you?")


async def test_a_service_with_tls_gets_credentials_too(there: There) -> None:
    status, told = await there.ask(there.url("/x", scheme="https"), "POST", body=bytes(100_000), timeout=20)
    assert (status, len(told["body"])) == (200, 100_000)


async def test_answers_are_taken_as_they_are(there: There) -> None:
    assert await there.ask(there.url("/moved")) == (302, b"")
    assert await there.ask(there.url("/until-the-end")) == (200, b"all of it")


async def test_what_cannot_be_used_is_told(there: There) -> None:
    where = "Pod NS/guarded-0, port 8080: "
    assert await there.told(there.url("/large")) == f"{where}the answer is larger than 8 MiB"
    assert await there.told(there.url("/cut")) == f"{where}the connection was closed before there was an answer"
    assert (await there.told(there.url("/nonsense"))).startswith(f"{where}the answer is not valid HTTP: ")
    assert (await there.told(there.url(port=":443", scheme="http"))).startswith("Pod NS/guarded-0, port 8443: ")
    assert (await there.told(there.url(port=":80", scheme="https"))).startswith(f"{where}TLS failed: ")


async def test_an_answer_that_does_not_come_ends_at_the_time_out(there: There) -> None:
    began = time.monotonic()
    assert await there.told(there.url("/slow"), timeout=1.0) == "Pod NS/guarded-0, port 8080: no answer within 1 s"
    assert time.monotonic() - began < 3


async def test_a_refused_connection_is_told_in_the_kubelets_words(there: There) -> None:
    told = await there.told(there.url(port=":81"))
    assert told.startswith("Pod NS/guarded-0, port 9: error forwarding port 9 to pod guarded-0")
    assert told.endswith("connection refused")


async def test_services_without_endpoints_are_told(there: There) -> None:
    await there.api.create(there.path("services"), service("empty", selector={"app": "none"}))
    assert await there.told(there.url(service="empty")) == "Service NS/empty has no ready endpoint on port 80"
    assert await there.told(there.url(port=":82")) == "Service NS/guarded has no port 82"
    assert await there.told(there.url(service="absent")) == "Service NS/absent does not exist"


# Trust: whose credentials go along, and who chooses where a call ends. With credentials a call goes by port-forward,
# without by the API server's proxy.

BOTH_WAYS = pytest.mark.parametrize("headers", [USER, {}], ids=["port-forward", "proxy"])


@BOTH_WAYS
async def test_t25_nothing_of_the_engines_own_reaches_a_pod(there: There, headers: dict[str, str]) -> None:
    """Its token, which may do everything in the member, goes to the API server and no further."""
    _, told = await there.ask(there.url("/open"), headers={**headers, "Cookie": "a=b"})
    assert told["headers"].get("Authorization") == headers.get("Authorization")
    assert not [text for text in told["headers"].values() if there.token in text]


@pytest.mark.parametrize("name", ["Impersonate-User", "impersonate-group", "X-Remote-User"])
async def test_t25_a_call_is_made_in_nobody_elses_name(there: There, name: str) -> None:
    """Whom the API server took for another would be refused, or let do what the engine may not."""
    answer, told = await there.ask(there.url("/open"), headers={name: "system:anonymous"})
    assert (answer, told["headers"].get(name)) == (200, None)


@BOTH_WAYS
@pytest.mark.parametrize("path", ["/../../../secrets", "/a/%2e%2e/%2E%2e/secrets", "/..%2f..%2fsecrets", "/.."])
async def test_t25_no_path_leads_back_to_the_api_server(there: There, headers: dict[str, str], path: str) -> None:
    """There it would be asked with the engine's rights."""
    with pytest.raises(AddressRefused, match=r"has a part \. or \.\."):
        await there.ask(there.url(path), headers=headers)


@pytest.mark.parametrize("host", ["169.254.169.254", "127.0.0.1", "[::ffff:169.254.169.254]", "localhost"])
async def test_t25_what_is_dialled_directly_is_no_machine_of_ours(there: There, host: str) -> None:
    with pytest.raises(AddressRefused, match="loopback, link-local or metadata"):
        await there.ask(f"http://{host}/latest/meta-data/", headers=USER)


@BOTH_WAYS
async def test_t27_a_service_of_another_namespace_is_refused_before_anything_is_asked(
    there: There, headers: dict[str, str]
) -> None:
    dial = there.dial(namespace="elsewhere")
    with pytest.raises(AddressRefused, match=r"which this Canary may not reach; have guarded\..* added to allowedAdd"):
        await dial.request("GET", there.url("/open"), headers=headers, timeout=5)
    allowed = there.dial(namespace="elsewhere", reach=read_reach([f"guarded.{there.namespace}:80"]))
    assert (await allowed.request("GET", there.url("/open"), headers=headers, timeout=20)).status == 200


@BOTH_WAYS
async def test_t27_a_service_that_is_another_name_for_a_host_is_refused(there: There, headers: dict[str, str]) -> None:
    name = f"named-{secrets.token_hex(2)}"
    spec = {"type": "ExternalName", "externalName": f"guarded.{there.namespace}.svc.cluster.local"}
    await there.api.create(there.path("services"), {"metadata": {"name": name}, "spec": spec})
    with pytest.raises(AddressRefused, match=r"is only another name for a host \(ExternalName\); write that host"):
        await there.ask(there.url(service=name), headers=headers)


@BOTH_WAYS
async def test_t27_a_service_whose_endpoints_anybody_may_choose_is_refused(
    there: There, headers: dict[str, str]
) -> None:
    name = f"chosen-{secrets.token_hex(2)}"
    await there.api.create(there.path("services"), service(name))
    await there.slice(name, name, await there.address())
    with pytest.raises(AddressRefused, match="has no selector; its endpoints are not its own Pods"):
        await there.ask(there.url(service=name), headers=headers)


@BOTH_WAYS
async def test_t27_endpoints_written_by_hand_beside_the_services_own_are_refused(
    there: There, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the Service was looked at before, once the calls of that tick are over."""
    name = f"mixed-{secrets.token_hex(2)}"
    await there.api.create(there.path("services"), service(name, selector={"app": "guarded"}))
    dial, url = there.dial(), there.url("/open", service=name)
    async with asyncio.timeout(60):
        while not await there.is_ready(name):
            await asyncio.sleep(0.1)
    assert (await dial.request("GET", url, headers=headers, timeout=20)).status == 200
    await there.slice(f"{name}-more", name, "10.9.9.9")
    monkeypatch.setattr(member_dial, "BACKING_AGE", 0.0)
    with pytest.raises(AddressRefused, match="has endpoints that were written by hand"):
        await dial.request("GET", url, headers=headers, timeout=20)


async def test_t27_the_api_server_itself_is_nobodys_pod(there: There) -> None:
    """Not even where its namespace is allowed: its endpoints are written by hand."""
    dial = there.dial(reach=read_reach(["default"]))
    with pytest.raises(AddressRefused, match="Service default/kubernetes has no selector"):
        await dial.request("GET", "https://kubernetes.default/api/v1/secrets", headers={}, timeout=5)


async def test_a_pod_that_has_gone_is_told(
    there: There, eventually: Callable[..., Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slices are a moment old."""
    await there.bring("leaving", container("plain", PORT))
    await eventually(lambda: there.is_ready("leaving"))
    dial = there.dial()
    read = dial._backings.read
    path = f"{there.path('pods')}/leaving-0"

    async def late(*names: str) -> Any:
        found = await read(*names)
        await there.api.request("DELETE", path, {"gracePeriodSeconds": 0})
        while await there.api.find(path):
            await asyncio.sleep(0.1)
        return found

    monkeypatch.setattr(dial._backings, "read", late)
    with pytest.raises(NotReached) as caught:
        await dial.request("GET", there.url(service="leaving"), headers=USER, timeout=10.0)
    assert str(caught.value) == f"Pod {there.namespace}/leaving-0: is gone"


async def test_missing_rights_are_named(there: There, member: LabCluster) -> None:
    rules = [
        {"apiGroups": [""], "resources": ["services"], "verbs": ["get"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list"]},
    ]
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{there.namespace}"
    await member.api.create(f"{rbac}/roles", {"metadata": {"name": "poor"}, "rules": rules})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "poor"}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": f"poor-{there.namespace}"}
    binding = {"metadata": {"name": "poor"}, "roleRef": role, "subjects": [subject]}
    await member.api.create(f"{rbac}/rolebindings", binding)
    kubeconfig = member.kubeconfig_for(f"poor-{there.namespace}")
    poor = Cluster(connection_from_kubeconfig("m1", kubeconfig, allow_insecure=False), Settings())
    try:
        with pytest.raises(NotReached) as caught:
            await there.dial(poor).request("GET", there.url(), headers=USER, timeout=10.0)
    finally:
        await poor.close()
    assert str(caught.value).endswith("may not be reached; grant get and create of pods/portforward")


def test_services_that_were_looked_at_long_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member_dial, "BACKING_AGE", 0.0)
    backings = Backings(cast(Cluster, None))
    for number in range(5 * member_dial.MOST_CHECKED):
        backings._remember("shop", f"hook-{number}")
    assert len(backings._checked) <= member_dial.MOST_CHECKED
