"""Tasks that start a process of Concord (a workflow server) and wait for its end.

The API key is a file of the Pod, and only one below the folder that the operator names: any other could be sent away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from fleet_rollout.loadtester.options import Options
from fleet_rollout.loadtester.payload import Payload, Refused
from fleet_rollout.loadtester.runner import Outcome, Task

PATH = "/api/v1/process"
REQUIRED = ("server", "org", "project", "repo", "entrypoint", "apiKeyPath", "endpoint")
ARGUMENT = "arguments."
POLL_INTERVAL, POLL_TIMEOUT, REQUEST_TIMEOUT = 5, 30, 60.0
FINISHED, FAILED = "FINISHED", ("FAILED", "CANCELLED", "TIMED_OUT")


def concord(payload: Payload, options: Options) -> Task:
    """A process of Concord, awaited by the caller."""
    asked = payload.metadata
    for field in REQUIRED:
        if not asked.get(field):
            raise Refused(f"`{field}` is required with type concord")
    if f"{ARGUMENT}endpoint" in asked:
        raise Refused("arguments.endpoint cannot be given; write endpoint")
    key = _key(Path(asked["apiKeyPath"]), options)
    interval, patience = _seconds(asked, "pollInterval", POLL_INTERVAL), _seconds(asked, "pollTimeout", POLL_TIMEOUT)
    process = Process(_server(asked["server"]), key, interval, patience)
    what = " ".join(asked[field] for field in ("org", "project", "repo", "entrypoint"))

    async def work() -> Outcome:
        return await process.run(_form(asked))

    return Task("concord", payload.canary, "concord", what, work, is_awaited=True)


def _key(path: Path, options: Options) -> str:
    folder = options.concord_keys
    if folder is None or not path.resolve().is_relative_to(folder.resolve()):
        raise Refused("`apiKeyPath` is not below the folder that --concord-keys names")
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise Refused("`apiKeyPath` cannot be read") from None


def _seconds(asked: Mapping[str, str], field: str, default: int) -> int:
    text = asked.get(field, str(default))
    if not text.isdecimal() or not 0 < int(text) <= 3600:
        raise Refused(f"`{field}` is not a number of seconds from 1 to 3600")
    return int(text)


def _server(text: str) -> URL:
    try:
        url = URL(text)
    except ValueError:
        raise Refused("`server` is not a URL") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise Refused("`server` is not an http:// or https:// URL")
    return url


def _form(asked: Mapping[str, str]) -> dict[str, str]:
    arguments = {field: value for field, value in asked.items() if field.startswith(ARGUMENT)}
    return {
        "org": asked["org"],
        "project": asked["project"],
        "repo": asked["repo"],
        "entryPoint": asked["entrypoint"],
        "arguments.endpoint": asked["endpoint"],
        **arguments,
    }


class Process:
    """One process: started by `run`, which returns when it has ended."""

    def __init__(self, server: URL, key: str, interval: float, patience: float) -> None:
        self._server = server
        self._key = key
        self._interval = interval
        self._patience = patience

    async def run(self, form: Mapping[str, str]) -> Outcome:
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT)
        async with aiohttp.ClientSession(timeout=timeout, headers={"Authorization": self._key}) as session:
            try:
                return await self._to_its_end(session, form)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                return Outcome(problem=f"concord does not answer as expected: {type(error).__name__}")

    async def _to_its_end(self, session: aiohttp.ClientSession, form: Mapping[str, str]) -> Outcome:
        writer = aiohttp.MultipartWriter("form-data")
        for field, value in form.items():
            writer.append(value).set_content_disposition("form-data", name=field)
        instance = (await self._ask(session, "POST", PATH, writer)).get("instanceId")
        if not isinstance(instance, str):
            return Outcome(problem="concord started no process")
        loop = asyncio.get_running_loop()
        until = loop.time() + self._patience
        while loop.time() < until:
            await asyncio.sleep(self._interval)
            status = (await self._ask(session, "GET", f"{PATH}/{instance}")).get("status")
            if status == FINISHED:
                return Outcome()
            if status in FAILED:
                return Outcome(problem=f"concord instanceID: {instance[:100]} failed")
        return Outcome(problem=f"concord process timed out, after {self._patience:g} seconds")

    async def _ask(
        self, session: aiohttp.ClientSession, method: str, path: str, body: aiohttp.MultipartWriter | None = None
    ) -> dict[str, Any]:
        # No redirect: the key would go along.
        async with session.request(method, self._server.join(URL(path)), data=body, allow_redirects=False) as answer:
            answer.raise_for_status()
            document = await answer.json()
            return document if isinstance(document, dict) else {}
