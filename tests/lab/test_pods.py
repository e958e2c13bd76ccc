"""Pods played through real Deployments: status, processes, readiness, deletion."""

from __future__ import annotations

import asyncio
import os

import pytest

from fleet_rollout.lab.pods import PlayedPod, PodPlayer

SAMPLE = "ghcr.io/stefanprodan/podinfo:6.1.0"
RUN = "lab.local/run:1"
APPS = "/apis/apps/v1/namespaces/{}/deployments"


@pytest.fixture
def pods(member):
    async def listed(namespace: str) -> list[dict]:
        return await member.api.items(f"/api/v1/namespaces/{namespace}/pods")

    return listed


@pytest.fixture
def ready(member, eventually):
    async def wait(namespace: str, count: int = 1, name: str = "web") -> None:
        async def is_ready() -> bool:
            found = await member.api.get(f"{APPS.format(namespace)}/{name}")
            return found["status"].get("readyReplicas", 0) == count

        await eventually(is_ready)

    return wait


async def test_an_unknown_image_is_ready_without_a_process(member, namespace, deployment, pods, ready):
    name = await namespace(on=[member])
    await member.api.create(APPS.format(name), deployment(name, "example.org/any:1", replicas=3))
    await ready(name, 3)
    found = await pods(name)
    assert {pod["status"]["phase"] for pod in found} == {"Running"}
    assert len({pod["status"]["podIP"] for pod in found}) == 3
    assert all(pod["spec"]["nodeName"] == "lab" for pod in found)


async def test_addresses_of_members_do_not_overlap(members, namespace, deployment, eventually):
    name = await namespace(on=[members["m1"], members["m2"]])
    nets = set()
    for member in (members["m1"], members["m2"]):
        await member.api.create(APPS.format(name), deployment(name, "example.org/any:1"))

        async def address(api=member.api) -> str | None:
            [pod] = await api.items(f"/api/v1/namespaces/{name}/pods") or [{}]
            return pod.get("status", {}).get("podIP")

        await eventually(address)
        nets.add((await address()).rsplit(".", 2)[0])
    assert len(nets) == 2


@pytest.mark.parametrize("image", ["example.org/app:missing", "example.org/broken-app:1"])
async def test_an_image_that_cannot_be_pulled_stays_pending(member, namespace, deployment, pods, eventually, image):
    name = await namespace(on=[member])
    await member.api.create(APPS.format(name), deployment(name, image))

    async def reason() -> bool:
        return [
            container["state"]["waiting"]["reason"]
            for pod in await pods(name)
            for container in pod.get("status", {}).get("containerStatuses", [])
        ] == ["ErrImagePull"]

    await eventually(reason)
    [pod] = await pods(name)
    assert pod["status"]["phase"] == "Pending"


async def test_a_known_image_runs_and_answers_through_the_service_proxy(
    member, namespace, deployment, service, ready, eventually
):
    name = await namespace(on=[member])
    await member.api.create(f"/api/v1/namespaces/{name}/services", service(name))
    await member.api.create(APPS.format(name), deployment(name, SAMPLE))
    await ready(name)
    proxy = f"/api/v1/namespaces/{name}/services/{{}}/proxy/any"

    async def answered() -> bool:
        return await member.api.find(proxy.format("web:http")) is not None

    await eventually(answered)
    for address in ("web:80", "web:http", "http:web:80"):
        assert (await member.api.get(proxy.format(address)))["version"] == "6.1.0"
    [pod] = await member.api.items(f"/api/v1/namespaces/{name}/pods")
    pod_proxy = f"/api/v1/namespaces/{name}/pods/{pod['metadata']['name']}:8080/proxy/"
    assert (await member.api.get(pod_proxy))["host"] == pod["metadata"]["name"]


async def test_environment_and_files_come_from_config_maps_and_secrets(
    member, namespace, deployment, pods, ready, eventually
):
    name = await namespace(on=[member])
    core = f"/api/v1/namespaces/{name}"
    code = """
import http.server, os, pathlib, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(" ".join([os.environ["A"], os.environ["B"], os.environ["POD"], sys.argv[1]]).encode())
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), H).serve_forever()
"""
    env = [
        {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "a"}}},
        {"name": "B", "value": "b-$(A)"},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
    ]
    body = deployment(
        name,
        RUN,
        command=["python3", "-c", code, "$(TOKEN)"],
        env=env,
        envFrom=[{"secretRef": {"name": "keys"}}],
    )
    await member.api.create(APPS.format(name), body)
    await member.api.create(f"{core}/configmaps", {"metadata": {"name": "settings"}, "data": {"a": "1"}})

    async def waits_for_the_secret() -> bool:
        states = [c["state"] for pod in await pods(name) for c in pod.get("status", {}).get("containerStatuses", [])]
        return [state.get("waiting", {}).get("message") for state in states] == ['secret "keys" not found']

    await eventually(waits_for_the_secret)
    await member.api.create(f"{core}/secrets", {"metadata": {"name": "keys"}, "stringData": {"TOKEN": "t0"}})
    await ready(name)
    [pod] = await pods(name)
    answer = await member.api.get(f"{core}/pods/{pod['metadata']['name']}:8080/proxy/")
    assert answer == {"text": f"1 b-1 {name} t0"}


@pytest.mark.parametrize("command", [["python3", "-c", "raise SystemExit('no luck')"], ["/no/luck"]])
async def test_a_crashing_program_is_restarted_and_not_ready(member, namespace, deployment, pods, eventually, command):
    name = await namespace(on=[member])
    body = deployment(name, RUN, command=command)
    await member.api.create(APPS.format(name), body)

    async def restarted() -> bool:
        states = [c for pod in await pods(name) for c in pod.get("status", {}).get("containerStatuses", [])]
        return any(c["restartCount"] >= 2 and not c["ready"] for c in states)

    await eventually(restarted)
    [pod] = await pods(name)
    assert pod["status"]["phase"] == "Running"
    assert "no" in pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"]


async def test_readiness_follows_the_probe(member, namespace, deployment, ready, tmp_path):
    name = await namespace(on=[member])
    probe = {"httpGet": {"path": "/switch", "port": 8080}}
    command = ["python3", "-m", "http.server", "$(PORT)", "--bind", "127.0.0.1", "-d", str(tmp_path)]
    await member.api.create(APPS.format(name), deployment(name, RUN, command=command, readinessProbe=probe))
    (tmp_path / "switch").touch()
    await ready(name, 1)
    (tmp_path / "switch").unlink()
    await ready(name, 0)


async def test_deleting_a_pod_ends_its_process(member, namespace, deployment, pods, ready, eventually, tmp_path):
    name = await namespace(on=[member])
    code = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(600)"
    pid_file = tmp_path / "pid"
    body = deployment(name, RUN, command=["python3", "-c", code, str(pid_file)])
    body["spec"]["template"]["spec"]["containers"][0] |= {"ports": [], "readinessProbe": {"exec": {"command": ["x"]}}}
    await member.api.create(APPS.format(name), body)

    async def started() -> bool:
        return pid_file.exists() and pid_file.read_text() != ""

    await eventually(started)
    pid = int(pid_file.read_text())
    assert os.path.exists(f"/proc/{pid}")
    await member.api.delete(f"{APPS.format(name)}/web")

    async def gone() -> bool:
        return not await pods(name) and not os.path.exists(f"/proc/{pid}")

    await eventually(gone)


async def test_processes_outlive_their_api_server(spare, namespace, deployment, eventually):
    name = await namespace(on=[spare])
    await spare.api.create(APPS.format(name), deployment(name, SAMPLE))

    async def ready_pods() -> list[str]:
        found = await spare.api.items(f"/api/v1/namespaces/{name}/pods")
        return [
            pod["metadata"]["uid"]
            for pod in found
            for condition in pod.get("status", {}).get("conditions", [])
            if condition["type"] == "Ready" and condition["status"] == "True"
        ]

    await eventually(ready_pods)
    before = await ready_pods()
    await spare.kill()
    await spare.start()
    assert await ready_pods() == before
    await spare.api.delete(f"{APPS.format(name)}/web")

    async def gone() -> bool:
        return not await spare.api.items(f"/api/v1/namespaces/{name}/pods")

    await eventually(gone)


class Late:
    """An API server that takes longer for every second write."""

    def __init__(self) -> None:
        self.statuses: list[dict] = []
        self._seen = 0

    async def request(self, method: str, path: str, body: dict, *, content_type: str) -> dict:
        self._seen += 1
        for _ in range(10 * (self._seen % 2 == 0)):
            await asyncio.sleep(0)
        if path.endswith("/status"):
            self.statuses.append(body["status"])
        return {}


async def test_what_containers_report_at_the_same_time_arrives_in_order(tmp_path):
    api = Late()
    player = PodPlayer("m", 1, api, tmp_path, tmp_path, "", {})
    containers = [{"name": name, "image": "example.org/any:1"} for name in ("a", "b")]
    meta = {"namespace": "n", "name": "p", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    pod = PlayedPod(player, {"metadata": meta, "spec": {"nodeName": "lab", "containers": containers}})
    await pod.wait()
    await asyncio.gather(pod._report(0, restarts=1), pod._report(1, restarts=1))
    assert [state["restartCount"] for state in api.statuses[-1]["containerStatuses"]] == [1, 1]
