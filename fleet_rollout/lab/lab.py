"""A lab as its users see it: `async with Lab(members=3) as lab:` gives a hub and three members on real API servers.

The programs belong to a supervisor process of their own (supervisor.py); this is its handle. A lab ends with
its last handle, also when the process that holds it is killed, unless `keep` was asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from fleet_rollout import processes
from fleet_rollout.lab import binaries, state, supervisor
from fleet_rollout.lab.api import Api, ApiAnswer
from fleet_rollout.lab.certificates import LIFETIME, Authority
from fleet_rollout.lab.cluster import kubeconfig
from fleet_rollout.lab.repository import GitHost
from fleet_rollout.lab.state import ClusterState, LabError, LabState

HUB = "hub"
KUBECTL_TIMEOUT = 120.0
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
END_TIMEOUT = 60.0


class KubectlFailed(Exception):
    """kubectl ended with an error; `stderr` says why."""

    def __init__(self, arguments: Sequence[str], returncode: int, stderr: str) -> None:
        super().__init__(f"kubectl {' '.join(arguments)}: {stderr.strip()}")
        self.returncode = returncode
        self.stderr = stderr


def _is_established(crd: dict[str, Any]) -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or []
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


class LabCluster:
    """One cluster of a running lab, with the rights of its administrator."""

    def __init__(self, recorded: ClusterState, control: Control) -> None:
        self.name = recorded.name
        self.server = recorded.server
        self.token = recorded.token
        self.folder = Path(recorded.folder)
        self.proxy = recorded.proxy
        self.ca = (self.folder / "ca.crt").read_bytes()
        self.kubeconfig = self.folder / "kubeconfig"
        self.audit_log = self.folder / "audit.log"
        self.api = Api(self.server, self.ca, self.token)
        self._control = control

    async def kubectl(self, *arguments: str, stdin: str | bytes | None = None, timeout: float = KUBECTL_TIMEOUT) -> str:
        """Run kubectl as the administrator; its output. Raises KubectlFailed."""
        program = await asyncio.to_thread(binaries.require, "kubectl")
        environment = {
            "KUBECONFIG": str(self.kubeconfig),
            "HOME": str(self.folder),
            "KUBECACHEDIR": str(self.folder / "kubectl-cache"),
        }
        content = stdin.encode() if isinstance(stdin, str) else stdin
        done = await processes.run([program, *arguments], timeout=timeout, env=environment, stdin=content)
        if done.returncode != 0:
            raise KubectlFailed(arguments, done.returncode, done.stderr)
        return done.stdout.decode()

    async def crds_established(self, timeout: float = 60.0) -> None:
        """Wait until every CRD is served. (`kubectl wait` fails on one that has no conditions yet.)

        An established one may still answer 429: its storage is made at the first request.
        """
        async with asyncio.timeout(timeout):
            while not await self._are_served(await self.api.items(CRDS)):  # noqa: ASYNC110 -- a plain client
                await asyncio.sleep(0.1)

    async def _are_served(self, crds: Sequence[dict[str, Any]]) -> bool:
        if not all(map(_is_established, crds)):
            return False
        try:
            for spec in (crd["spec"] for crd in crds):
                version = next(each["name"] for each in spec["versions"] if each["served"])
                await self.api.get(f"/apis/{spec['group']}/{version}/{spec['names']['plural']}", limit="1")
        except ApiAnswer:
            return False
        return True

    async def delete_crds(self, *names: str, timeout: float = 60.0) -> None:
        """Delete CRDs with their objects, and wait until they are gone; one that is not there is gone.

        A server that fails to list the objects, as when their storage is being made anew after a change of the CRD,
        may look again only minutes later, with its resync: its retry can meet a conflict with the status that it
        wrote itself, and no event follows. Any change of ours makes it look at once.
        """
        for name in names:
            await self.api.delete(f"{CRDS}/{name}")
        async with asyncio.timeout(timeout):
            while not all([await self._is_crd_gone(name) for name in names]):  # noqa: ASYNC110 -- a plain client
                await asyncio.sleep(0.1)

    async def _is_crd_gone(self, name: str) -> bool:
        crd = await self.api.find(path := f"{CRDS}/{name}")
        if crd is None:
            return True
        conditions = (crd.get("status") or {}).get("conditions") or []
        if any(c["type"] == "Terminating" and c["reason"] == "InstanceDeletionFailed" for c in conditions):
            touched = {"metadata": {"annotations": {"fleet-rollout-lab/seen": crd["metadata"]["resourceVersion"]}}}
            with contextlib.suppress(ApiAnswer):  # gone meanwhile
                await self.api.merge(path, touched)
        return False

    def kubeconfig_for(self, user: str, groups: Sequence[str] = (), lifetime: datetime.timedelta = LIFETIME) -> bytes:
        """A kubeconfig of any user and groups, by a client certificate; RBAC alone says what it may do.

        A negative lifetime gives one that has expired.
        """
        pair = Authority.read(self.folder).client(user, groups, lifetime)
        return kubeconfig(self.name, self.server, self.ca, client=(pair.certificate, pair.key))

    async def service_account_kubeconfig(self, namespace: str, name: str) -> bytes:
        """A kubeconfig with a fresh token of an existing service account."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        answer = await self.api.create(path, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"})
        return kubeconfig(self.name, self.server, self.ca, token=answer["status"]["token"])

    async def stop(self) -> None:
        """Stop the API server (SIGTERM); connections are refused until `start`."""
        await self._control.ask("stop", self.name)

    async def kill(self) -> None:
        """Stop the API server at once (SIGKILL)."""
        await self._control.ask("kill", self.name)

    async def start(self) -> None:
        """Start the API server again, on the same port and data; returns when it is ready."""
        await self._control.ask("start", self.name)

    async def pause(self) -> None:
        """Let the API server hang (SIGSTOP): it accepts connections and never answers."""
        await self._control.ask("pause", self.name)

    async def resume(self) -> None:
        await self._control.ask("resume", self.name)


class Control:
    """The connection to a supervisor, one question at a time. The lab lives while it is open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._turn = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self) -> None:
        """Raises OSError where nobody listens."""
        self._streams = await asyncio.open_unix_connection(self._folder / supervisor.CONTROL_SOCKET)

    async def ask(self, verb: str, cluster: str = "") -> None:
        """Raises LabError with the supervisor's words."""
        if self._streams is None:
            raise LabError("this lab is closed")
        reader, writer = self._streams
        async with self._turn:
            writer.write(json.dumps({"do": verb, "cluster": cluster}).encode() + b"\n")
            line = await reader.readline()
        answer: dict[str, Any] = json.loads(line or '{"error": "the lab has ended"}')
        if "error" in answer:
            raise LabError(answer["error"])

    async def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            with contextlib.suppress(ConnectionError):
                await self._streams[1].wait_closed()
            self._streams = None


class Lab:
    """A hub and its members. `name` makes it one that others can attach to; the same name twice is the same lab."""

    hub: LabCluster
    git: GitHost

    def __init__(
        self,
        members: int | Sequence[str] = 3,
        *,
        name: str | None = None,
        keep: bool = False,
        audit: bool = False,
    ) -> None:
        names = [f"m{i + 1}" for i in range(members)] if isinstance(members, int) else list(members)
        self._options = supervisor.Options([HUB, *names], keep=keep, audit=audit)
        self._shared = name is not None
        self.folder = state.folder_of(name or f"lab-{secrets.token_hex(4)}")
        self.clusters: dict[str, LabCluster] = {}
        self._control = Control(self.folder)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def members(self) -> dict[str, LabCluster]:
        return {name: cluster for name, cluster in self.clusters.items() if name != HUB}

    async def __aenter__(self) -> Self:
        try:
            async with state.start_lock():
                if not await self._attached():
                    await self._launch()
            await self._control.ask("wait")
        except BaseException:
            await self.close()
            raise
        self._read()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def attach(self) -> Self:
        """Join the running lab of this name; LabError where there is none."""
        if not await self._attached():
            raise LabError(f"no lab {self.name!r} is running: `fleet-rollout lab up` starts one")
        await self._control.ask("wait")
        self._read()
        return self

    async def add(self, name: str) -> LabCluster:
        """A further cluster, or the one that has this name already."""
        await self._control.ask("add", name)
        self._read()
        return self.clusters[name]

    async def close(self) -> None:
        """Let go. Where nobody else holds the lab and it is not to stay, it has ended when this returns."""
        for cluster in self.clusters.values():
            await cluster.api.close()
        await self._control.close()
        if not self._options.keep and not self._shared:
            await self._wait_end()

    async def down(self) -> None:
        """End the lab for everybody."""
        with contextlib.suppress(ConnectionError):
            await self._control.ask("down")
        await self.close()
        await self._wait_end()

    async def _wait_end(self) -> None:
        try:
            async with asyncio.timeout(END_TIMEOUT):
                await state.wait_gone(self.folder)
        except TimeoutError:
            raise LabError(f"lab {self.name} did not end within {END_TIMEOUT:g}s") from None

    async def _attached(self) -> bool:
        if not state.is_alive(self.folder):
            return False
        try:
            await self._control.open()
        except OSError:  # it has just ended, or is about to
            await state.wait_gone(self.folder)
            return False
        return True

    async def _launch(self) -> None:
        state.remove_stale()
        self.folder.mkdir(mode=0o700)
        self._options.write(self.folder)
        argv = [sys.executable, "-m", supervisor.__name__, str(self.folder)]
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await process.communicate()
        if process.returncode != 0:
            raise LabError(f"the lab did not start: {errors.decode(errors='replace').strip()}")
        await self._control.open()

    def _read(self) -> None:
        recorded = LabState.read(self.folder)
        if recorded is None:
            raise LabError(f"lab {self.name} has ended")
        for cluster in recorded.clusters:
            if cluster.name not in self.clusters:
                self.clusters[cluster.name] = LabCluster(cluster, self._control)
        self.hub = self.clusters[HUB]
        self.git = GitHost(self.folder / state.GIT_FOLDER, recorded.git)
