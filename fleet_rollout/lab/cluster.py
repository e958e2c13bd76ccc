"""One lab cluster's processes: kube-apiserver and kube-controller-manager over a prefix of the shared etcd.

Runs inside the lab's supervisor. RBAC is on, every cluster has its own authority, and the port stays the
same however often the API server is stopped and started. Its proxies lead to the lab's own network.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import signal
from dataclasses import dataclass, field
from pathlib import Path

from fleet_rollout.lab import children
from fleet_rollout.lab.api import Api
from fleet_rollout.lab.certificates import Authority, signing_key, write_private
from fleet_rollout.lab.children import LOCALHOST, Child, ReservedPort
from fleet_rollout.lab.state import LabError

READY_TIMEOUT = 180.0
READY_POLL = 0.1
STOP_GRACE = 5.0
# A lab is short of processors, not of memory: a sixth of what an API server does is collecting garbage.
LESS_COLLECTING = {"GOGC": "400"}
ADMIN = "lab-admin"
SERVICE_RANGE = "10.96.0.0/16"
# Without these nothing collects owned objects, empties namespaces, makes Pods or EndpointSlices, and the
# roles `view`, `edit` and `admin` stay empty.
CONTROLLERS = (
    "garbage-collector-controller",
    "namespace-controller",
    "deployment-controller",
    "replicaset-controller",
    "endpointslice-controller",
    "clusterrole-aggregation-controller",
)
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


@dataclass(frozen=True)
class Programs:
    """Where the programs of a control plane are."""

    etcd: Path
    api_server: Path
    controller_manager: Path


class Etcd:
    """The one etcd of a lab. It never syncs to disk: its content ends with the lab."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._ports = (ReservedPort.pick(), ReservedPort.pick())
        self._child: Child | None = None

    @property
    def url(self) -> str:
        return f"http://{LOCALHOST}:{self._ports[0].number}"

    async def start(self) -> None:
        peer = f"http://{LOCALHOST}:{self._ports[1].number}"
        arguments = {
            "data-dir": self._folder / "etcd",
            "listen-client-urls": self.url,
            "advertise-client-urls": self.url,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
            "socket-reuse-port": "true",
            "unsafe-no-fsync": "true",
            "log-level": "error",
        }
        self._child = await children.start("etcd", _argv(self._program, arguments), log=self._folder / "etcd.log")

    async def end(self) -> None:
        if self._child is not None:
            await self._child.end()
        for port in self._ports:
            port.release()


@dataclass
class ControlPlane:
    """The API server and the controller manager of one cluster."""

    name: str
    folder: Path
    programs: Programs
    etcd: Etcd
    audit: bool = False
    port: ReservedPort = field(default_factory=ReservedPort.pick)
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    _api_server: Child | None = None
    _controllers: Child | None = None
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        authority = Authority.create(f"{self.name}-ca")
        authority.pair.write(self.folder, "ca")
        names = ["kubernetes.default.svc", "localhost", LOCALHOST]
        authority.serving(names).write(self.folder, "serving")
        write_private(self.folder / "sa.key", signing_key())
        write_private(self.folder / "tokens.csv", f'{self.token},{ADMIN},{ADMIN},"system:masters"\n'.encode())
        write_private(self.kubeconfig, kubeconfig(self.name, self.server, self.ca, token=self.token))
        (self.folder / "egress.yaml").write_text(json.dumps(_egress(self.egress_socket)))
        (self.folder / "audit.yaml").write_text(json.dumps(AUDIT_POLICY))
        self.api = Api(self.server, self.ca, self.token)

    @property
    def server(self) -> str:
        return f"https://{LOCALHOST}:{self.port.number}"

    @property
    def ca(self) -> bytes:
        return (self.folder / "ca.crt").read_bytes()

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def serving_pair(self) -> tuple[Path, Path]:
        """Certificate and key of whatever this cluster serves on the loopback."""
        return self.folder / "serving.crt", self.folder / "serving.key"

    @property
    def egress_socket(self) -> Path:
        return self.folder / "egress.sock"

    @property
    def state(self) -> str:
        if self._api_server is None or not self._api_server.is_running:
            return "stopped"
        return "running"

    async def start(self) -> None:
        """Start what does not run and wait until the API server is ready. Port and data are as before."""
        async with self._turn:
            if self.state == "stopped":
                log = self.folder / "kube-apiserver.log"
                argv = self._api_server_argv()
                self._api_server = await children.start("kube-apiserver", argv, log=log, env=LESS_COLLECTING)
            await self._wait_ready(self._api_server)
            if self._controllers is None or not self._controllers.is_running:
                log = self.folder / "kube-controller-manager.log"
                self._controllers = await children.start("kube-controller-manager", self._controllers_argv(), log=log)

    async def stop(self, grace: float = STOP_GRACE) -> None:
        """Stop both; with grace 0 as if the machine had lost power. The port stays ours, so connections are refused.

        The controllers go too: after an outage theirs would wait up to half a minute before they look again.
        """
        async with self._turn:
            for child in (self._controllers, self._api_server):
                if child is not None:
                    child.signal(signal.SIGCONT)
            if self._controllers is not None:
                await self._controllers.end()
            if self._api_server is not None:
                await self._api_server.end(grace)

    def pause(self) -> None:
        """The API server accepts connections and never answers."""
        if self._api_server is not None:
            self._api_server.signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self._api_server is not None:
            self._api_server.signal(signal.SIGCONT)

    async def end(self) -> None:
        await self.stop(grace=0)
        await self.api.close()
        self.port.release()

    async def _wait_ready(self, child: Child | None) -> None:
        assert child is not None
        try:
            async with asyncio.timeout(READY_TIMEOUT):
                while not await self.api.is_ready():
                    if not child.is_running:
                        raise LabError(f"kube-apiserver of {self.name} ended:\n{child.last_words()}")
                    await asyncio.sleep(READY_POLL)
        except TimeoutError:
            raise LabError(
                f"kube-apiserver of {self.name} was not ready within {READY_TIMEOUT:g}s:\n{child.last_words()}"
            ) from None

    def _api_server_argv(self) -> list[str | Path]:
        folder = self.folder
        certificate, key = self.serving_pair
        arguments = {
            "etcd-servers": self.etcd.url,
            "etcd-prefix": f"/{self.name}",
            "secure-port": self.port.number,
            "permit-port-sharing": "true",
            "bind-address": LOCALHOST,
            "advertise-address": LOCALHOST,
            "endpoint-reconciler-type": "none",  # the default one refuses a loopback address
            "tls-cert-file": certificate,
            "tls-private-key-file": key,
            "client-ca-file": folder / "ca.crt",
            "kubelet-certificate-authority": folder / "ca.crt",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": folder / "sa.key",
            "service-account-signing-key-file": folder / "sa.key",
            "token-auth-file": folder / "tokens.csv",
            "authorization-mode": "RBAC",
            "service-cluster-ip-range": SERVICE_RANGE,
            "disable-admission-plugins": "ServiceAccount",
            "egress-selector-config-file": folder / "egress.yaml",
            "profiling": "false",
        }
        if self.audit:
            arguments |= {"audit-policy-file": folder / "audit.yaml", "audit-log-path": folder / "audit.log"}
        return _argv(self.programs.api_server, arguments)

    def _controllers_argv(self) -> list[str | Path]:
        arguments = {
            "kubeconfig": self.kubeconfig,
            "controllers": ",".join(CONTROLLERS),
            "leader-elect": "false",
            "secure-port": 0,
            "profiling": "false",
            "kube-api-qps": 200,
            "kube-api-burst": 400,
        }
        return _argv(self.programs.controller_manager, arguments)


def kubeconfig(
    name: str, server: str, ca: bytes, *, token: str | None = None, client: tuple[bytes, bytes] | None = None
) -> bytes:
    """A kubeconfig that needs no file beside itself, with a token or a client certificate and its key."""
    user: dict[str, str] = {}
    if token is not None:
        user["token"] = token
    if client is not None:
        user["client-certificate-data"], user["client-key-data"] = _base64(client[0]), _base64(client[1])
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": _base64(ca)}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "users": [{"name": name, "user": user}],
    }
    return json.dumps(content, indent=1).encode()


def _argv(program: Path, arguments: dict[str, object]) -> list[str | Path]:
    return [program, *(f"--{name}={value}" for name, value in arguments.items())]


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _egress(socket: Path) -> dict[str, object]:
    # A Unix socket: over TCP with a plain URL kube-apiserver 1.37 ends at start (no TLS configuration).
    connection = {"proxyProtocol": "HTTPConnect", "transport": {"uds": {"udsName": str(socket)}}}
    return {
        "apiVersion": "apiserver.k8s.io/v1beta1",
        "kind": "EgressSelectorConfiguration",
        "egressSelections": [{"name": "cluster", "connection": connection}],
    }
