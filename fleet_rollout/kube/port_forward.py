"""HTTP to a Pod through its member's API server by port-forward, for calls that carry credentials.

The API server's own proxy takes Authorization off; a port-forward is a plain stream of bytes to one port of one Pod,
and what passes through it is nobody's business.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp import ClientWebSocketResponse, WSCloseCode, WSMsgType

from fleet_rollout.decide.canary.addresses import DEFAULT_PORTS, NotReached, Proxied
from fleet_rollout.decide.canary.endpoints import Endpoint, ready_endpoints
from fleet_rollout.kube.client import Cluster
from fleet_rollout.kube.errors import ApiError
from fleet_rollout.kube.http_exchange import BrokenAnswer, Call, Stream, Tls, exchange
from fleet_rollout.kube.transport import OBJECT_LIMIT, describe

PROTOCOL = "v4.channel.k8s.io"
DATA, ERROR = 0, 1
# Both channels open with the number of the port.
HEAD = 2
FRAME = 2**15
MOST_WORDS = 200


async def forwarded(
    cluster: Cluster,
    route: Proxied,
    service: Mapping[str, Any],
    slices: Iterable[Mapping[str, Any]],
    method: str,
    headers: Mapping[str, str],
    body: bytes | None,
    *,
    timeout: float,
) -> tuple[int, bytes]:
    """Status and bytes of the answer of one ready Pod of the Service.

    Raises NotReached; and ApiError, Unreachable or FleetRolloutError where the API server itself is the trouble.
    """
    endpoint = random.choice(ready_endpoints(service, slices, route.port))  # noqa: S311
    name = f"Pod {route.namespace}/{endpoint.pod}"
    call = Call(method, _host(route), route.path, headers, body)
    deadline = asyncio.get_running_loop().time() + timeout
    try:
        async with cluster.websocket(_path(route.namespace, endpoint), PROTOCOL, timeout=timeout) as websocket:
            async with asyncio.timeout_at(deadline):
                return await _through(Tunnel(websocket), route, call)
    except ApiError as error:
        raise NotReached(f"{name}: {_refusal(error)}") from error
    except BrokenAnswer as error:
        raise NotReached(f"{name}, port {endpoint.port}: {error}") from None
    except (OSError, aiohttp.ClientError) as error:  # TimeoutError and ssl.SSLError are among them
        raise NotReached(f"{name}, port {endpoint.port}: {describe(error, timeout, timeout)}") from None


class Tunnel:
    """One port of one Pod as a stream."""

    def __init__(self, websocket: ClientWebSocketResponse) -> None:
        self._websocket = websocket
        self._heads = {DATA: HEAD, ERROR: HEAD}

    async def write(self, data: bytes) -> None:
        try:
            for start in range(0, len(data), FRAME):
                await self._websocket.send_bytes(bytes([DATA]) + data[start : start + FRAME])
        except (aiohttp.ClientError, ConnectionError):
            return  # a Pod may answer and close before it has read all; what it said is still to be read

    async def read(self) -> bytes:
        """Some bytes; b"" when the Pod has closed. Raises BrokenAnswer with the kubelet's words."""
        while True:
            message = await self._websocket.receive()
            if message.type is not WSMsgType.BINARY:
                if message.type is WSMsgType.ERROR or self._websocket.close_code == WSCloseCode.ABNORMAL_CLOSURE:
                    raise BrokenAnswer("the connection was cut")
                return b""
            channel, data = self._unpacked(message.data)
            if data and channel == ERROR:
                raise BrokenAnswer(data[:MOST_WORDS].decode(errors="replace"))
            if data and channel == DATA:
                return data

    def _unpacked(self, message: bytes) -> tuple[int, bytes]:
        channel = message[0] if message else -1
        skipped = min(self._heads.get(channel, 0), len(message) - 1)
        if skipped > 0:
            self._heads[channel] -= skipped
        return channel, message[1 + max(skipped, 0) :]


async def _through(tunnel: Tunnel, route: Proxied, call: Call) -> tuple[int, bytes]:
    stream: Stream = tunnel
    if route.scheme == "https":
        # The API server has led us to this very Pod, whose certificate is of an authority that we do not know.
        stream = tls = Tls(tunnel, f"{route.service}.{route.namespace}.svc")
        await tls.shake_hands()
    return await exchange(stream, call, limit=OBJECT_LIMIT)


def _host(route: Proxied) -> str:
    port = "" if route.port == DEFAULT_PORTS[route.scheme] else f":{route.port}"
    return f"{route.service}.{route.namespace}{port}"


def _path(namespace: str, endpoint: Endpoint) -> str:
    pod = quote(endpoint.pod, safe="")
    return f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{pod}/portforward?ports={endpoint.port}"


def _refusal(error: ApiError) -> str:
    if error.is_not_found:
        return "is gone"
    if error.is_forbidden:
        return "may not be reached; grant get and create of pods/portforward"
    return f"port-forward was refused with status {error.status}"
