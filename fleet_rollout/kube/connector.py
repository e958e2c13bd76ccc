"""The connections to one API server: the one used last goes out first, and those of a busy moment end soon after it.

A connection is TLS state and buffers of some 100 KB, and there are as many as members, so what is kept is kept small.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from functools import lru_cache
from typing import Any

import aiohttp

# Of the last idle connection, in seconds: longer than a member check's interval, so that a check costs no TLS
# handshake. The API server closes what is idle for 90 s.
KEEP_ALIVE = 75.0
# Of every further one.
SPARE_KEEP_ALIVE = 10.0
# Buffers on the way grow to what one read finds here: without a limit to 256 KiB, twice, for the connection's lifetime.
RECEIVE_BUFFER = 64 * 1024


class Connector(aiohttp.TCPConnector):
    """aiohttp's own takes turns among idle connections, so that none idles out after a busy moment."""

    def __init__(self, context: ssl.SSLContext) -> None:
        # The slots limit requests; watches must never wait for a connection.
        super().__init__(limit=0, ssl=context, keepalive_timeout=KEEP_ALIVE, socket_factory=_socket)
        self._thinning: asyncio.TimerHandle | None = None

    def _release(self, key: Any, protocol: Any, *, should_close: bool = False) -> None:
        super()._release(key, protocol, should_close=should_close)
        idle = self._conns.get(key)
        if idle and idle[-1][0] is protocol:
            idle.rotate(1)
            if len(idle) > 1 and self._thinning is None:
                self._thinning = self._loop.call_later(SPARE_KEEP_ALIVE, self._thin)

    def _thin(self) -> None:
        """Close what lay idle but the warmest; look again as long as there is more than that."""
        self._thinning = None
        deadline = time.monotonic() - SPARE_KEEP_ALIVE
        for idle in self._conns.values():
            while len(idle) > 1 and idle[-1][1] <= deadline:
                idle.pop()[0].close()
        if any(len(idle) > 1 for idle in self._conns.values()) and not self.closed:
            self._thinning = self._loop.call_later(SPARE_KEEP_ALIVE, self._thin)


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    return made


def new_trust(ca: bytes | None, *, is_checked: bool = True) -> ssl.SSLContext:
    """TLS that trusts `ca`, or the platform's authorities where that is None."""
    context = ssl.create_default_context(cadata=ca.decode("ascii") if ca else None)
    # Go's TLS, which every other Kubernetes client uses, takes authorities without a key identifier.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not is_checked:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


# Members behind one gateway or with public certificates trust the same: the platform's authorities alone are most of a
# megabyte each time. Nobody changes a shared one; an identity is loaded into a new one.
shared_trust = lru_cache(maxsize=64)(new_trust)
