"""Where the addresses lead that users write for hooks and metrics, and which of them are refused.

`service.namespace` is a Service of the member and is reached through its API server, only in the Canary's own namespace
or where the engine's allowed addresses say so. All else is dialled directly, and not before its answers were checked.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, unquote, urlsplit

from fleet_rollout.decide.dialling import (
    IPNetwork,
    answer_address,
    dialled,
    is_metadata_or_multicast,
    is_odd_number,
    is_own_machine,
    literal,
)

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
LABEL = r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?"
HOST = re.compile(rf"{LABEL}(?:\.{LABEL})*\.?")
SERVICE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
# What parsers drop or read in more than one way.
UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")
# What a path and a query may hold as it is; the rest is written %-encoded.
PLAIN = "/?:@!$&'()*+,;=-._~%[]"
HTTP = ("http", "https")
SOCKETS = ("ws", "wss")
# The only endpoints of a Service that its owner cannot point elsewhere.
BY_SELECTOR = "endpointslice-controller.k8s.io"


class NotReached(Exception):
    """There is no answer. The text is for events, and names no credential."""


class AddressRefused(NotReached):
    """The address may not be dialled."""


class Answer(NamedTuple):
    """What an address has answered."""

    status: int
    body: bytes


class Socket(Protocol):
    """An open websocket."""

    async def send(self, text: str) -> None: ...

    async def receive(self) -> str | bytes | None:
        """The next message; None once the other side has closed."""
        ...


class Dial(Protocol):
    """Reaches the addresses of one Canary. Both raise NotReached; `timeout` (seconds) is for the whole exchange."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        timeout: float,
        verify: bool = True,
    ) -> Answer: ...

    def socket(
        self, url: str, *, headers: Mapping[str, str], timeout: float, verify: bool = True
    ) -> AbstractAsyncContextManager[Socket]: ...


@dataclass(frozen=True)
class Url:
    """An address in its parts; `path` holds the query, `authorization` a header for its user and password."""

    scheme: str
    host: str
    port: int
    path: str
    authorization: str = field(default="", repr=False)

    @property
    def bare_host(self) -> str:
        """Without the final dot of an absolute name, as certificates and Host headers have it."""
        return self.host.removesuffix(".")

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.bare_host, self.port

    @property
    def text(self) -> str:
        """The address without user and password."""
        host = f"[{self.host}]" if ":" in self.host else self.bare_host
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path}"


@dataclass(frozen=True)
class Proxied:
    """A Service of the member, through its API server.

    The API server takes Authorization off what passes its proxy, so that calls with credentials go by port-forward.
    """

    service: str
    namespace: str
    port: int
    scheme: str
    path: str
    by_port_forward: bool = False

    @property
    def proxy_path(self) -> str:
        """On the API server."""
        secure = "https:" if self.scheme == "https" else ""
        return f"/api/v1/namespaces/{self.namespace}/services/{secure}{self.service}:{self.port}/proxy{self.path}"


@dataclass(frozen=True)
class Direct:
    """A host outside the member; what it resolves to has to pass `check_answers`."""

    url: Url


@dataclass(frozen=True)
class Reach:
    """What the Canaries of one engine may reach beside their own namespaces. A port of None is every port.

    `own_ranges` are those of the Services and Pods of the cluster that the engine runs in.
    """

    namespaces: frozenset[str] = frozenset()
    services: frozenset[tuple[str, str, int | None]] = frozenset()
    hosts: frozenset[tuple[str, int | None]] = frozenset()
    networks: tuple[tuple[IPNetwork, int | None], ...] = ()
    own_ranges: tuple[IPNetwork, ...] = ()

    def names_service(self, service: str, namespace: str, port: int) -> bool:
        if namespace in self.namespaces:
            return True
        return not self.services.isdisjoint({(service, namespace, port), (service, namespace, None)})

    def names_host(self, url: Url) -> bool:
        return not self.hosts.isdisjoint({(url.bare_host, url.port), (url.bare_host, None)})

    def names_address(self, address: Any, port: int) -> bool:
        return any(address in network and allowed in (port, None) for network, allowed in self.networks)


def read_reach(allowed: Iterable[str], *, own_ranges: Iterable[str] = ()) -> Reach:
    """The reach that allowed addresses give; ValueError names one that cannot be read.

    An entry is a namespace, a Service (`prometheus.istio-system:9090`, also as a URL), an IP address or range, or a
    host: one of three or more labels, or with a final dot (`example.com.`).
    """
    kinds: dict[str, set[Any]] = {"namespaces": set(), "services": set(), "hosts": set(), "networks": set()}
    for entry in allowed:
        kind, value = _read_entry(entry.strip().lower())
        kinds[kind].add(value)
    return Reach(
        namespaces=frozenset(kinds["namespaces"]),
        services=frozenset(kinds["services"]),
        hosts=frozenset(kinds["hosts"]),
        networks=tuple(sorted(kinds["networks"], key=str)),
        own_ranges=tuple(ipaddress.ip_network(text) for text in own_ranges),
    )


def _read_entry(entry: str) -> tuple[str, Any]:
    if network := _network(entry):
        return "networks", (network, None)
    if SERVICE.fullmatch(entry) and entry != "localhost" and not is_odd_number(entry):
        return "namespaces", entry
    try:
        url = parse_url(entry if "://" in entry else f"http://{entry}", (*HTTP, *SOCKETS))
        _check_spelling(url.host)
    except AddressRefused as error:
        raise ValueError(f"allowed address {entry!r}: {error}") from None
    port = url.port if "://" in entry or re.search(r":[0-9]+$", entry) else None
    if network := _network(url.host):
        return "networks", (network, port)
    if service := _service_of(url.host):
        return "services", (*service, port)
    return "hosts", (url.bare_host, port)


def _network(text: str) -> IPNetwork | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


@lru_cache(maxsize=4096)  # a Canary asks the same at every tick
def parse_url(text: str, schemes: tuple[str, ...] = HTTP) -> Url:
    """The parts of an address; AddressRefused where it can be read in more than one way."""
    if UNSAFE.search(text) or not text.isascii():
        raise AddressRefused("the address has characters that no URL has; write them %-encoded, hosts in punycode")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise AddressRefused("the address is not a valid URL") from None
    scheme = parts.scheme.lower()
    if scheme not in schemes or not parts.hostname:
        raise AddressRefused(f"the address is not a URL that starts with {' or '.join(f'{s}://' for s in schemes)}")
    host = _without_dot_of_number(parts.hostname.lower())
    if literal(host) is None and not HOST.fullmatch(host):
        raise AddressRefused(f"{host!r} is not a host name")
    if port == 0:
        raise AddressRefused("the address has port 0")
    if "%" in host:
        raise AddressRefused("the address has a zone; a zone means something on one machine only")
    path = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=PLAIN)
    return Url(scheme, host, port or DEFAULT_PORTS[scheme], path, _authorization(parts.username, parts.password))


def _without_dot_of_number(host: str) -> str:
    """A number is dialled as it is, whether a final dot follows or not."""
    bare = host.removesuffix(".")
    return bare if literal(bare) is not None or is_odd_number(bare) else host


def _authorization(user: str | None, password: str | None) -> str:
    if user is None:
        return ""
    pair = f"{unquote(user)}:{unquote(password or '')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def has_credentials(url: Url, headers: Mapping[str, str]) -> bool:
    """Something that an API server's proxy would take off."""
    return bool(url.authorization) or any(name.lower() == "authorization" for name in headers)


def route_of(url: Url, namespace: str, reach: Reach, headers: Mapping[str, str] | None = None) -> Proxied | Direct:
    """How a Canary of `namespace` reaches this address; AddressRefused where it may not."""
    host = url.host
    _check_spelling(host)
    if literal(host) is not None or reach.names_host(url) or host == "localhost":
        return Direct(url)
    service = _service_of(host)
    if service is None:
        _check_outside(host)
        return Direct(url)
    name, where = service
    if where != namespace and not reach.names_service(name, where, url.port):
        raise AddressRefused(
            f"host {host} is a Service of namespace {where}, which this Canary may not reach; "
            f"have {name}.{where} added to allowedAddresses, or write a final dot for a host that is no Service"
        )
    _check_path(url.path)
    return Proxied(name, where, url.port, url.scheme, url.path, has_credentials(url, headers or {}))


def _check_spelling(host: str) -> None:
    if is_odd_number(host):
        raise AddressRefused(f"host {host} is a number that is no plain IPv4 address; write four decimal parts")


def _service_of(host: str) -> tuple[str, str] | None:
    """Service and namespace, where a host has the form `service.namespace[.svc[.cluster.local]]`."""
    name, dot, rest = host.partition(".")
    namespace, _, suffix = rest.partition(".")
    if not dot or not namespace or not SERVICE.fullmatch(name) or not SERVICE.fullmatch(namespace):
        return None
    # A final dot says that a name is absolute, which `service.namespace` by itself is not.
    is_short = not suffix and not host.endswith(".")
    is_full = suffix in ("svc", "svc.cluster.local", "svc.cluster.local.")
    return (name, namespace) if is_short or is_full else None


def _check_outside(host: str) -> None:
    """Names that only a cluster's DNS knows would be looked up in the wrong cluster."""
    name = host.removesuffix(".")
    if "." not in name:
        raise AddressRefused(f"host {host} has no namespace; write {name}.<namespace>")
    if name.endswith((".svc", ".cluster.local")):
        raise AddressRefused(f"host {host} is not a Service; write <service>.<namespace>.svc")


def _check_path(path: str) -> None:
    """A path that climbs would leave the API server's proxy and act with the engine's rights."""
    plain = unquote(path.partition("?")[0])
    if {".", ".."} & set(re.split(r"[/\\]", plain)):
        raise AddressRefused("the path of the address has a part . or ..; write it without")


def check_answers(url: Url, answers: Collection[str], reach: Reach) -> None:
    """AddressRefused unless every address that a direct host resolves to may be dialled.

    Every one: a name that answers with both kinds is an attempt to be dialled at the wrong one.
    """
    if not answers:
        raise NotReached(f"host {url.bare_host} does not resolve")
    if reach.names_host(url):
        return
    for answer in answers:
        address = dialled(answer_address(answer))
        if reach.names_address(address, url.port):
            continue
        if is_own_machine(address) or is_metadata_or_multicast(address):
            raise AddressRefused(f"host {url.bare_host} leads to a loopback, link-local or metadata address")
        if any(address in network for network in reach.own_ranges):
            raise AddressRefused(f"host {url.bare_host} leads into the engine's own cluster")


def check_backing(service: Mapping[str, Any], slices: Iterable[Mapping[str, Any]]) -> None:
    """AddressRefused unless the endpoints of a Service are the Pods that it selects.

    Whoever may write endpoints by hand would choose where the API server's proxy dials.
    """
    spec, metadata = service.get("spec") or {}, service["metadata"]
    name = f"Service {metadata['namespace']}/{metadata['name']}"
    if spec.get("type") == "ExternalName":
        raise AddressRefused(f"{name} is only another name for a host (ExternalName); write that host")
    if not spec.get("selector"):
        raise AddressRefused(f"{name} has no selector; its endpoints are not its own Pods")
    for found in slices:
        labels = found["metadata"].get("labels") or {}
        if labels.get("endpointslice.kubernetes.io/managed-by") != BY_SELECTOR:
            raise AddressRefused(f"{name} has endpoints that were written by hand")
