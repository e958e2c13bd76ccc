"""Tasks that clone a test of an nGrinder server, start it, and look until it has ended."""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import Any

import aiohttp
from yarl import URL

from fleet_rollout.decide.intervals import parse_duration
from fleet_rollout.loadtester.options import Options
from fleet_rollout.loadtester.payload import Payload, Refused
from fleet_rollout.loadtester.runner import Outcome, Task

REQUIRED = ("server", "clone", "username", "passwd")
POLL_INTERVAL, LONGEST_INTERVAL = 1.0, 600.0
REQUEST_TIMEOUT, STOP_TIMEOUT = 60.0, 5.0
FINISHED, ENDED_BADLY = "FINISHED", ("STOP_BY_ERROR", "CANCELED", "UNKNOWN")


def ngrinder(payload: Payload, options: Options) -> Task:
    """A test of nGrinder, in the background."""
    asked = payload.metadata
    if not all(asked.get(field) for field in REQUIRED):
        raise Refused("server, clone, username and passwd are required metadata")
    if not asked["clone"].isdecimal():
        raise Refused("metadata clone must be integer")
    try:
        password = base64.b64decode(asked["passwd"], validate=True).decode()
        server = URL(asked["server"])
    except (binascii.Error, ValueError):
        raise Refused("metadata passwd is no base64, or server is no URL") from None
    if server.scheme not in ("http", "https") or not server.host:
        raise Refused("metadata server is not an http:// or https:// URL")
    test = Test(server, asked["clone"], aiohttp.encode_basic_auth(asked["username"], password), _interval(asked))
    return Task("ngrinder", payload.canary, "ngrinder", f"{server} {asked['clone']}", test.run)


def _interval(asked: Any) -> float:
    """One second where nothing readable is said."""
    try:
        return min(max(parse_duration(asked.get("pollInterval", "")), POLL_INTERVAL), LONGEST_INTERVAL)
    except ValueError:
        return POLL_INTERVAL


class Test:
    """One run of a test; stopped on the server where it is cut off here."""

    __test__ = False  # not one of pytest's

    def __init__(self, server: URL, clone: str, authorization: str, interval: float) -> None:
        self._server = server
        self._clone = clone
        self._headers = {"Authorization": authorization}
        self._interval = interval

    async def run(self) -> Outcome:
        """Return when the test has ended."""
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT)
        async with aiohttp.ClientSession(timeout=timeout, headers=self._headers) as session:
            try:
                started = await self._ask(session, "POST", f"{self._clone}/clone_and_start")
                number = int(started["id"])
            except (aiohttp.ClientError, OSError, ValueError, KeyError, TypeError) as error:
                return Outcome(problem=f"the test was not started: {type(error).__name__}")
            try:
                return await self._ended(session, number)
            except asyncio.CancelledError:
                await asyncio.shield(self._stop(session, number))
                raise

    async def _ended(self, session: aiohttp.ClientSession, number: int) -> Outcome:
        while True:
            await asyncio.sleep(self._interval)
            status = await self._status(session, number)
            if status == FINISHED:
                return Outcome()
            if status in ENDED_BADLY:
                return Outcome(problem=f"the test ended as {status}")

    async def _status(self, session: aiohttp.ClientSession, number: int) -> str | None:
        """None where the server does not say; it is asked again."""
        try:
            found = (await self._ask(session, "GET", f"{number}/status")).get("status") or []
            return str(found[0]["status_id"])
        except (aiohttp.ClientError, OSError, ValueError, LookupError, TypeError):
            return None

    async def _stop(self, session: aiohttp.ClientSession, number: int) -> None:
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await self._ask(session, "PUT", f"{number}?action=stop")
        except (aiohttp.ClientError, OSError, ValueError):
            return

    async def _ask(self, session: aiohttp.ClientSession, method: str, path: str) -> dict[str, Any]:
        url = self._server.join(URL(f"perftest/api/{path}"))
        async with session.request(method, url, allow_redirects=False) as answer:
            answer.raise_for_status()
            document = await answer.json(content_type=None)
        if not isinstance(document, dict) or document.get("success") is False:
            raise ValueError("no success")
        return document
