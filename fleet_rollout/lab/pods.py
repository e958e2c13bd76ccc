"""Plays scheduler and kubelet for one cluster: binds Pods, runs the programs it knows, writes the Pods' status.

A Pod whose image is in the recipes runs as a local process, and is ready when that answers. Any other Pod is
ready at once, with nothing behind its address; an image that cannot be pulled (pod_spec.py) stays Pending.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp

from fleet_rollout.lab import children
from fleet_rollout.lab.api import Api, ApiAnswer
from fleet_rollout.lab.children import LOCALHOST, Child
from fleet_rollout.lab.pod_spec import ContainerState, Image, NotResolved, Object, Resolver, expand, status
from fleet_rollout.lab.state import LabError

NODE = "lab"
# On every played Pod: {"<container port>": <port on the loopback>}, for whoever wants to reach it directly.
LOCAL_PORTS = "fleet-rollout.lab/local-ports"
RETRY = 0.5
PROBE_WHILE_STARTING = 0.1
PROBE = 1.0
PROBE_TIMEOUT = aiohttp.ClientTimeout(total=2)
FAILURES = 3
LONGEST_RESTART = 10.0
# Between a Pod's removal from its Service and the signal to its process, as a preStop sleep would do.
DRAIN = 1.0
LONGEST_GRACE = 10.0

log = logging.getLogger("lab")


@dataclass
class PodContext:
    """What a recipe may use to say how a container runs."""

    cluster: str
    kubeconfig: Path
    proxy: str  # HTTP proxy that resolves `service.namespace` in this cluster
    folder: Path  # of this container; emptied by nobody
    pod: Object
    container: Object
    arguments: list[str]  # command and args of the container, `$(NAME)` expanded
    environment: Mapping[str, str]
    mounts: Mapping[str, Path]  # mount path in the container -> folder here
    ports: dict[int, int] = field(default_factory=dict)

    @property
    def image(self) -> Image:
        return Image.parse(self.container["image"])

    def port(self, number: int) -> int:
        """The port on the loopback where the program is to listen for container port `number`."""
        if number not in self.ports:
            self.ports[number] = children.free_port()
        return self.ports[number]


@dataclass(frozen=True)
class Program:
    """A container as a process. Without `ready` (an HTTP path) it is ready when its first port takes connections."""

    argv: Sequence[str | Path]
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: str | None = None


# None: no process stands for it, and it is ready at once.
Recipe = Callable[[PodContext], Program | None]


class PodPlayer:
    """All Pods of one cluster. `number` makes the range of their addresses: 10.<200 + number>.0.0/16."""

    def __init__(
        self,
        cluster: str,
        number: int,
        api: Api,
        folder: Path,
        kubeconfig: Path,
        proxy: str,
        recipes: Mapping[str, Recipe],
    ) -> None:
        self.cluster, self.api, self.folder = cluster, api, folder
        self.kubeconfig, self.proxy, self.recipes = kubeconfig, proxy, recipes
        self.resolver = Resolver(api)
        self.kubelet_port = 0  # of the node; set before `run`
        self._number = number
        self._given = 0
        self._addresses: dict[tuple[str, int], int] = {}
        self._played: dict[str, PlayedPod] = {}

    def locate(self, ip: str, port: int) -> tuple[str, int] | None:
        """Where the process behind a Pod's address listens; None where there is none."""
        local = self._addresses.get((ip, port))
        return None if local is None else (LOCALHOST, local)

    def find(self, namespace: str, pod: str, port: int) -> tuple[str, int] | None:
        """Where the process behind a Pod's port listens, by the Pod's name."""
        ips = [played.ip for played in self._played.values() if played.name == f"{namespace}/{pod}"]
        return next(filter(None, (self.locate(ip, port) for ip in ips)), None)

    def recipe(self, image: Image) -> Recipe | None:
        return self.recipes.get(image.repository)

    def new_ip(self) -> str:
        self._given += 1
        return f"10.{200 + self._number % 56}.{self._given // 250 % 250}.{self._given % 250 + 1}"

    def publish(self, ip: str, ports: Mapping[int, int]) -> None:
        self._addresses |= {(ip, port): local for port, local in ports.items()}

    def withdraw(self, ip: str) -> None:
        self._addresses = {key: local for key, local in self._addresses.items() if key[0] != ip}

    async def run(self) -> None:
        """Follow the cluster's Pods until cancelled; processes go on while the API server is away."""
        try:
            while True:
                try:
                    await self._register_node()
                    await self._follow()
                except (ApiAnswer, aiohttp.ClientError, TimeoutError) as error:
                    log.info("%s: watching Pods: %r", self.cluster, error)
                await asyncio.sleep(RETRY)
        finally:
            for played in self._played.values():
                played.cancel()
            await asyncio.gather(*(played.wait() for played in self._played.values()))

    async def _register_node(self) -> None:
        if await self.api.find(f"/api/v1/nodes/{NODE}") is None:
            await self.api.create("/api/v1/nodes", {"metadata": {"name": NODE}})
            ready = {"type": "Ready", "status": "True", "reason": "Played", "lastHeartbeatTime": _now()}
            status = {
                "conditions": [ready],
                "addresses": [{"type": "InternalIP", "address": LOCALHOST}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": self.kubelet_port}},
            }
            await self.api.merge(f"/api/v1/nodes/{NODE}/status", {"status": status})

    async def _follow(self) -> None:
        listing = await self.api.get("/api/v1/pods")
        present = {pod["metadata"]["uid"] for pod in listing["items"]}
        for pod in listing["items"]:
            self._see(pod)
        for uid in self._played.keys() - present:
            self._forget(uid)
        async for event in self.api.watch("/api/v1/pods", listing["metadata"]["resourceVersion"]):
            match event["type"]:
                case "ADDED" | "MODIFIED":
                    self._see(event["object"])
                case "DELETED":
                    self._forget(event["object"]["metadata"]["uid"])
                case "ERROR":
                    return

    def _see(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        if uid not in self._played:
            self._played[uid] = PlayedPod(self, pod)
        if "deletionTimestamp" in pod["metadata"]:
            self._played[uid].terminate(pod)

    def _forget(self, uid: str) -> None:
        played = self._played.pop(uid, None)
        if played is not None:
            played.cancel()


class PlayedPod:
    """One Pod from binding to deletion; a task of its own lives its life, then another its end."""

    def __init__(self, player: PodPlayer, pod: Object) -> None:
        self.player, self.pod = player, pod
        meta = pod["metadata"]
        self.name = f"{meta['namespace']}/{meta['name']}"
        self.path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        self.folder = player.folder / meta["uid"]
        self.ip = pod.get("status", {}).get("podIP") or player.new_ip()
        self._conditions: list[Object] = pod.get("status", {}).get("conditions", [])
        self._states: list[ContainerState] = []
        self._is_ending = False
        self._writing = asyncio.Lock()
        self._life = asyncio.create_task(self._guarded(self._live()))

    def terminate(self, pod: Object) -> None:
        if not self._is_ending:
            self._is_ending = True
            life, grace = self._life, float(pod["metadata"].get("deletionGracePeriodSeconds") or 0)
            self._life = asyncio.create_task(self._guarded(self._end(life, grace)))

    def cancel(self) -> None:
        self._life.cancel()

    async def wait(self) -> None:
        await asyncio.wait([self._life])

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except _Gone:
            log.info("%s: %s has gone", self.player.cluster, self.name)
        except Exception:
            log.exception("%s: playing %s", self.player.cluster, self.name)

    async def _live(self) -> None:
        if not self.pod["spec"].get("nodeName"):
            target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
            with contextlib.suppress(_Gone):  # or bound already, by a request whose answer was lost
                await self._send("POST", "/binding", {"metadata": self._identity(), "target": target})
        containers = self.pod["spec"]["containers"]
        self._states = [ContainerState(c["name"], c["image"], waiting="ContainerCreating") for c in containers]
        programs = [await self._program(index) for index in range(len(containers))]
        try:
            await self._announce_ports(programs)
            async with asyncio.TaskGroup() as group:
                for index, prepared in enumerate(programs):
                    if prepared is not None:
                        group.create_task(self._keep_running(index, *prepared))
        finally:
            self.player.withdraw(self.ip)

    async def _program(self, index: int) -> tuple[PodContext, Program] | None:
        """How a container runs; None where no process does (ready at once, or never where it cannot be pulled)."""
        state, container = self._states[index], self.pod["spec"]["containers"][index]
        image = Image.parse(container["image"])
        if not image.can_be_pulled:
            message = f'failed to pull image "{container["image"]}": not found'
            self._states[index] = replace(state, waiting="ErrImagePull", message=message)
            return None
        if (recipe := self.player.recipe(image)) is not None:
            context = await self._context(index)
            try:
                if (program := recipe(context)) is not None:
                    return context, program
            except LabError as error:
                self._states[index] = replace(state, waiting="CreateContainerError", message=str(error))
                return None
        self._states[index] = replace(state, waiting="", ready=True, started=_now())
        return None

    async def _context(self, index: int) -> PodContext:
        """Waits for the ConfigMaps and Secrets that the container needs."""
        container = self.pod["spec"]["containers"][index]
        folder = self.folder / container["name"]
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                environment = await self.player.resolver.environment(self.pod, container, self.ip)
                mounts = await self.player.resolver.mounts(self.pod, container, self.folder / "volumes")
                break
            except NotResolved as missing:
                await self._report(index, waiting="CreateContainerConfigError", message=str(missing))
            except (ApiAnswer, aiohttp.ClientError, TimeoutError) as error:
                log.info("%s: %s: %r", self.player.cluster, self.name, error)
            await asyncio.sleep(RETRY)
        arguments = [expand(a, environment) for a in (*container.get("command", []), *container.get("args", []))]
        return PodContext(
            self.player.cluster,
            self.player.kubeconfig,
            self.player.proxy,
            folder,
            self.pod,
            container,
            arguments,
            {"HOSTNAME": self.pod["metadata"]["name"]} | environment,
            mounts,
        )

    async def _announce_ports(self, programs: Sequence[tuple[PodContext, Program] | None]) -> None:
        ports: dict[int, int] = {}
        for prepared in programs:
            if prepared is not None:
                ports |= prepared[0].ports
        self.player.publish(self.ip, ports)
        if ports:
            annotations = {LOCAL_PORTS: json.dumps(ports)}
            await self._send("PATCH", "", {"metadata": {**self._identity(), "annotations": annotations}})
        await self._write_status()

    async def _keep_running(self, index: int, context: PodContext, program: Program) -> None:
        pause = RETRY
        while True:
            try:
                async with self._process(context, program) as child:
                    await self._report(index, waiting="", started=_now())
                    await self._follow_health(index, context, program, child)
                message = child.last_words()
            except OSError as error:  # there is no such program
                message = str(error)
            restarts = self._states[index].restarts + 1
            await self._report(index, waiting="CrashLoopBackOff", message=message, ready=False, restarts=restarts)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_RESTART)

    @contextlib.asynccontextmanager
    async def _process(self, context: PodContext, program: Program) -> AsyncIterator[Child]:
        child = await children.start(
            self.name,
            program.argv,
            log=context.folder / "log",
            env={**context.environment, **program.environment},
            cwd=context.folder,
        )
        try:
            yield child
        finally:
            grace = float(self.pod["spec"].get("terminationGracePeriodSeconds", LONGEST_GRACE))
            await asyncio.shield(child.end(min(grace, LONGEST_GRACE) if self._is_ending else 0))

    async def _follow_health(self, index: int, context: PodContext, program: Program, child: Child) -> None:
        """Write readiness as the process shows it; returns when the process has ended."""
        probe = probe_of(context, program)
        failures = 0
        ended = asyncio.create_task(child.process.wait())
        while child.is_running:
            ready = await _answers(probe)
            failures = 0 if ready else failures + 1
            if ready != self._states[index].ready and (ready or failures >= FAILURES):
                await self._report(index, ready=ready)
            pause = PROBE if self._states[index].ready else PROBE_WHILE_STARTING
            await asyncio.wait([ended], timeout=pause)

    async def _report(self, index: int, **changes: Any) -> None:
        new = replace(self._states[index], **changes)
        if new != self._states[index]:
            self._states[index] = new
            await self._write_status()

    async def _write_status(self) -> None:
        async with self._writing:  # containers report at the same time: an older state must not arrive last
            content = status(self.pod, self.ip, self._states, self._conditions, _now())
            self._conditions = content["conditions"]
            await self._send("PATCH", "/status", {"metadata": self._identity(), "status": content})

    async def _end(self, life: asyncio.Task[None], grace: float) -> None:
        """Let requests in flight end, stop the processes, then let the object go."""
        if not life.done() and any(self.player.recipe(Image.parse(state.image)) for state in self._states):
            await asyncio.sleep(min(DRAIN, grace))
        life.cancel()
        await asyncio.wait([life])
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.pod["metadata"]["uid"]}}
        await self._send("DELETE", "", body)

    def _identity(self) -> Object:
        return {"uid": self.pod["metadata"]["uid"], "name": self.pod["metadata"]["name"]}

    async def _send(self, method: str, suffix: str, body: Object) -> None:
        """Send until it is done, through outages of the API server. Raises _Gone where the Pod is another one."""
        content_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
        while True:
            try:
                await self.player.api.request(method, self.path + suffix, body, content_type=content_type)
                return
            except ApiAnswer as answer:
                if answer.status in (404, 409):
                    raise _Gone from None
                log.info("%s: %s: %s", self.player.cluster, self.name, answer)
            except (aiohttp.ClientError, TimeoutError) as error:
                log.info("%s: %s: %r", self.player.cluster, self.name, error)
            await asyncio.sleep(RETRY)


class _Gone(Exception):
    """The Pod was deleted, or its name belongs to another one now."""


def probe_of(context: PodContext, program: Program) -> tuple[int, str | None]:
    """Port on the loopback and HTTP path that tell whether a container is ready; without a path, a connection does."""
    probe = context.container.get("readinessProbe", {})
    for kind in ("httpGet", "tcpSocket"):
        if kind in probe:
            local = context.ports.get(_port_number(context.container, probe[kind]["port"]))
            if local is not None:
                return local, probe[kind].get("path", "/") if kind == "httpGet" else None
    first = next(iter(context.ports.values()), 0)
    return first, program.ready


def _port_number(container: Object, port: int | str) -> int:
    named = {entry.get("name"): entry["containerPort"] for entry in container.get("ports", [])}
    return int(named.get(port, port if isinstance(port, int) else 0))


async def _answers(probe: tuple[int, str | None]) -> bool:
    port, path = probe
    if not port:
        return True
    try:
        if path is None:
            _, writer = await asyncio.open_connection(LOCALHOST, port)
            writer.close()
            return True
        async with (
            aiohttp.ClientSession(timeout=PROBE_TIMEOUT) as session,
            session.get(f"http://{LOCALHOST}:{port}{path}", allow_redirects=False) as answer,
        ):
            return answer.status < 400
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
