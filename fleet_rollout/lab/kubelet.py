"""The port-forward of the lab's node: where a kubelet has it, in the one protocol that the service speaks.

An API server passes websockets of `v4.channel.k8s.io` on as they are (SPDY, which kubectl speaks, is not played).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from pathlib import Path

from aiohttp import WSMsgType, web

from fleet_rollout.lab.children import LOCALHOST

PROTOCOL = "v4.channel.k8s.io"
DATA, ERROR = b"\0", b"\1"
CHUNK = 2**15

# The local address behind a Pod's port, by namespace and name; None where nothing listens.
Find = Callable[[str, str, int], tuple[str, int] | None]


class Kubelet:
    """Serves `/portForward/<namespace>/<pod>?port=<number>` over TLS on the loopback."""

    def __init__(self, find: Find, certificate: Path, key: Path) -> None:
        self._find = find
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate, key)
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/portForward/{namespace}/{pod}", self._forward)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, LOCALHOST, 0, ssl_context=self._tls).start()
        self.port = self._runner.addresses[0][1]

    async def end(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        websocket = web.WebSocketResponse(protocols=(PROTOCOL,), timeout=0.5)
        number = request.query.get("port", "")
        if not number.isdecimal() or not websocket.can_prepare(request).ok:
            return web.Response(status=400, text=f"one port, by a websocket of {PROTOCOL}")
        namespace, pod, port = request.match_info["namespace"], request.match_info["pod"], int(number)
        await websocket.prepare(request)
        for channel in (DATA, ERROR):
            await websocket.send_bytes(channel + port.to_bytes(2, "little"))
        try:
            await self._pipe(websocket, namespace, pod, port)
        except OSError as error:
            reason = f"error forwarding port {port} to pod {pod}: failed to connect to localhost:{port}: {error}"
            await websocket.send_bytes(ERROR + reason.encode())
        await websocket.close()
        return websocket

    async def _pipe(self, websocket: web.WebSocketResponse, namespace: str, pod: str, port: int) -> None:
        address = self._find(namespace, pod, port)
        if address is None:
            raise ConnectionRefusedError("connection refused")
        reader, writer = await asyncio.open_connection(*address)
        forth = asyncio.create_task(_to_pod(websocket, writer))
        try:
            # A client that goes does not read on; a Pod that closes ends it all.
            back = asyncio.create_task(_from_pod(reader, websocket))
            await asyncio.wait([forth, back], return_when=asyncio.FIRST_COMPLETED)
            back.cancel()
            await asyncio.wait([back])
        finally:
            forth.cancel()
            writer.close()


async def _to_pod(websocket: web.WebSocketResponse, writer: asyncio.StreamWriter) -> None:
    async for message in websocket:
        if message.type is WSMsgType.BINARY and message.data[:1] == DATA:
            with contextlib.suppress(ConnectionError):  # it may have answered without reading to the end
                writer.write(message.data[1:])
                await writer.drain()


async def _from_pod(reader: asyncio.StreamReader, websocket: web.WebSocketResponse) -> None:
    while chunk := await reader.read(CHUNK):
        await websocket.send_bytes(DATA + chunk)
