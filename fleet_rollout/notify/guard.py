"""An aiohttp session for addresses that users write: every name is resolved once, all its answers are checked, and one
of them is dialled. No redirect leads around it, because the connector asks it for every name.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from fleet_rollout.decide.canary.addresses import AddressRefused, Reach, Url, check_answers
from fleet_rollout.decide.dialling import is_odd_number, literal

Resolve = Callable[[str, int], Awaitable[list[str]]]


async def resolve(host: str, port: int) -> list[str]:
    """Every address of `host`, as the machine's resolver gives them."""
    answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


class Guard(AbstractResolver):
    """Resolves for aiohttp, and lets no name lead to where a user may not dial; aiohttp dials what was checked."""

    def __init__(self, reach: Reach, resolve: Resolve) -> None:
        self._reach = reach
        self._resolve = resolve

    def session(self) -> aiohttp.ClientSession:
        """A session of its own: no cookies, no proxies from the environment, nothing that another zone may see."""
        connector = aiohttp.TCPConnector(resolver=self, use_dns_cache=False, limit_per_host=4)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)

    def check_literal(self, url: Url) -> None:
        """AddressRefused for an address in place of a name, which aiohttp would not ask the resolver about."""
        if is_odd_number(url.host):
            raise AddressRefused(f"host {url.host} is a number that is no plain IPv4 address; write four decimal parts")
        if literal(url.host) is not None:
            check_answers(url, [url.host], self._reach)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The checked addresses of a name."""
        answers = await self._resolve(host, port)
        check_answers(Url("https", host, port, "/"), answers, self._reach)
        return [
            ResolveResult(
                hostname=host,
                host=answer,
                port=port,
                family=socket.AF_INET6 if ":" in answer else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for answer in answers
        ]

    async def close(self) -> None:
        """Nothing is held open."""
