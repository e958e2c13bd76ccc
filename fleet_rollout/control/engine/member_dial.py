"""Reaches the addresses of one Canary: Services of its member through the API server, everything else directly."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fleet_rollout.control.engine.dialing import DirectDial, authorized
from fleet_rollout.decide.canary.addresses import (
    SOCKETS,
    Answer,
    Direct,
    NotReached,
    Proxied,
    Reach,
    Socket,
    check_backing,
    parse_url,
    route_of,
)
from fleet_rollout.errors import FleetRolloutError
from fleet_rollout.kube.client import Cluster, Resource
from fleet_rollout.kube.errors import ApiError, Unreachable
from fleet_rollout.kube.port_forward import forwarded

SERVICES = Resource("", "v1", "Service", "services", True)
SLICES = Resource("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", True)
# How long a Service that was looked at counts as what it was, in seconds: for the calls of one tick, not of the next,
# lest somebody points it elsewhere as soon as it has been looked at.
BACKING_AGE = 5.0
# With so many remembered, those that are older are forgotten.
MOST_CHECKED = 100
# What the API server would take for its own: who asks, and for whom.
NEVER_RELAYED = frozenset({"authorization", "host", "cookie"})
IDENTITIES = ("impersonate-", "x-remote-")


class Backings:
    """The Services of one member that were found to lead to their own Pods."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._checked: dict[tuple[str, str], float] = {}

    async def check(self, service: str, namespace: str) -> None:
        """Raises AddressRefused where somebody else chooses the endpoints."""
        if time.monotonic() - self._checked.get((namespace, service), -BACKING_AGE) >= BACKING_AGE:
            await self.read(service, namespace)

    async def read(self, service: str, namespace: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The Service and its EndpointSlices as they are now, checked."""
        found = await self._cluster.get(SERVICES, service, namespace)
        if found is None:
            raise NotReached(f"Service {namespace}/{service} does not exist")
        label = f"kubernetes.io/service-name={service}"
        slices, _ = await self._cluster.list(SLICES, namespace, label_selector=label)
        check_backing(found, slices)
        self._remember(namespace, service)
        return found, slices

    def _remember(self, namespace: str, service: str) -> None:
        now = time.monotonic()
        if len(self._checked) >= MOST_CHECKED:
            self._checked = {key: at for key, at in self._checked.items() if now - at < BACKING_AGE}
        self._checked[(namespace, service)] = now


class MemberDial:
    """`namespace` is the Canary's. Raises NotReached, and AddressRefused where the address is not for it."""

    def __init__(self, cluster: Cluster, backings: Backings, direct: DirectDial, reach: Reach, namespace: str) -> None:
        self._cluster = cluster
        self._backings = backings
        self._direct = direct
        self._reach = reach
        self._namespace = namespace
        # What an API server that does not answer has said last: that is no answer of what is behind it.
        self.away: str | None = None

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        timeout: float,
        verify: bool = True,
    ) -> Answer:
        self.away = None
        address = parse_url(url)
        route = route_of(address, self._namespace, self._reach, headers)
        if isinstance(route, Direct):
            return await self._direct.request(method, url, headers=headers, body=body, timeout=timeout, verify=verify)
        try:
            if route.by_port_forward:
                return Answer(*await self._forward(route, method, authorized(address, headers), body, timeout))
            await self._backings.check(route.service, route.namespace)
            kept = {name: value for name, value in headers.items() if _is_relayed(name.lower())}
            return Answer(
                *await self._cluster.relay(method, route.proxy_path, headers=kept, body=body, timeout=timeout)
            )
        except Unreachable as error:
            await self._look_for_member(error)
            raise NotReached(error.message) from error
        except FleetRolloutError as error:  # nothing is sent to a member that was found to be away
            self.away = error.message
            raise NotReached(error.message) from error
        except ApiError as error:
            raise NotReached(error.message) from error

    async def _look_for_member(self, lost: Unreachable) -> None:
        """Whose silence it was: that of the API server, or of what is behind it."""
        try:
            await self._cluster.server_version()
        except (Unreachable, FleetRolloutError):
            self.away = lost.message
        except ApiError:
            return

    async def _forward(
        self, route: Proxied, method: str, headers: Mapping[str, str], body: bytes | None, timeout: float
    ) -> tuple[int, bytes]:
        service, slices = await self._backings.read(route.service, route.namespace)
        return await forwarded(self._cluster, route, service, slices, method, headers, body, timeout=timeout)

    def socket(
        self, url: str, *, headers: Mapping[str, str], timeout: float, verify: bool = True
    ) -> AbstractAsyncContextManager[Socket]:
        return self._socket(url, headers, timeout, verify)

    @asynccontextmanager
    async def _socket(
        self, url: str, headers: Mapping[str, str], timeout: float, verify: bool
    ) -> AsyncIterator[Socket]:
        if not isinstance(route_of(parse_url(url, SOCKETS), self._namespace, self._reach, headers), Direct):
            raise NotReached("websockets lead outside of the member only; write an address that is no Service")
        async with self._direct.socket(url, headers=headers, timeout=timeout, verify=verify) as opened:
            yield opened


def _is_relayed(header: str) -> bool:
    return header not in NEVER_RELAYED and not header.startswith(IDENTITIES)
