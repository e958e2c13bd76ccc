"""A plain client of one API server for the lab and its tests: JSON in, JSON out, watches as iterators.

It has no cache, no retry and no knowledge of kinds. The service's own client is another one on purpose:
a mistake there must not hide itself here.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp

JSON = "application/json"
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
# An API server that hangs must not hang a test or a lab; watches have their own limit.
TIMEOUT = aiohttp.ClientTimeout(total=60, connect=5)


class ApiAnswer(Exception):
    """The API server answered with an error status."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(f"{status}: {body.get('message', body)}")
        self.status = status
        self.body = body

    @property
    def reason(self) -> str:
        return str(self.body.get("reason", ""))


class Api:
    """Requests to one API server with one identity."""

    def __init__(self, server: str, ca: bytes, token: str) -> None:
        self.server = server
        self._ssl = ssl.create_default_context(cadata=ca.decode())
        self._headers = {"Authorization": f"Bearer {token}"}
        self._session: aiohttp.ClientSession | None = None

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, str] | None = None,
        content_type: str = JSON,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Send one request; the answer's JSON (`{"text": …}` where it is none). Raises ApiAnswer from 400 on."""
        content = None if body is None else json.dumps(body)
        async with self._open().request(
            method,
            self.server + path,
            data=content,
            params=params,
            headers=self._headers | {"Content-Type": content_type} | dict(headers or {}),
            ssl=self._ssl,
        ) as answer:
            parsed = _parse(await answer.text())
            if answer.status >= 400:
                raise ApiAnswer(answer.status, parsed)
            return parsed

    async def get(self, path: str, **params: str) -> dict[str, Any]:
        return await self.request("GET", path, params=params)

    async def find(self, path: str) -> dict[str, Any] | None:
        """Like get; None where there is no such object."""
        try:
            return await self.get(path)
        except ApiAnswer as answer:
            if answer.status == 404:
                return None
            raise

    async def items(self, path: str, **params: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.get(path, **params))["items"]
        return found

    async def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return await self.request("POST", path, body)

    async def apply(self, path: str, body: dict[str, Any], *, manager: str = "lab") -> dict[str, Any]:
        """Server-side apply with force; `path` names the object."""
        params = {"fieldManager": manager, "force": "true"}
        return await self.request("PATCH", path, body, params=params, content_type=APPLY)

    async def merge(self, path: str, patch: dict[str, Any]) -> dict[str, Any]:
        return await self.request("PATCH", path, patch, content_type=MERGE)

    async def delete(self, path: str, body: dict[str, Any] | None = None, **params: str) -> bool:
        """False where it was gone already."""
        try:
            await self.request("DELETE", path, body, params=params)
        except ApiAnswer as answer:
            if answer.status == 404:
                return False
            raise
        return True

    async def is_ready(self) -> bool:
        try:
            return await self.get("/readyz") == {"text": "ok"}
        except (ApiAnswer, aiohttp.ClientError, TimeoutError):
            return False

    async def watch(self, path: str, resource_version: str, **params: str) -> AsyncIterator[dict[str, Any]]:
        """Events from `resource_version` on, until the server ends the watch."""
        query = {"watch": "true", "resourceVersion": resource_version, "allowWatchBookmarks": "true", **params}
        limits = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=None)
        async with self._open().get(
            self.server + path, params=query, headers=self._headers, ssl=self._ssl, timeout=limits
        ) as answer:
            if answer.status >= 400:
                raise ApiAnswer(answer.status, _parse(await answer.text()))
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield json.loads(line)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        # Made on first use: a session belongs to the event loop that runs then.
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=TIMEOUT)
        return self._session


def _parse(text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except ValueError:
        return {"text": text}
    return parsed if isinstance(parsed, dict) else {"text": text}
