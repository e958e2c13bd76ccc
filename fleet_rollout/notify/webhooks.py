"""Calls one webhook of a Canary, as often as the hook says, and tells why it does not let the analysis go on.

Where the address leads, and whether it may be reached at all, is up to the caller's `dial`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from fleet_rollout.decide.canary.addresses import AddressRefused, Dial, NotReached
from fleet_rollout.decide.canary.hooks import Hook, gave_up, is_success, is_worth_repeating, pause, quoted

Sleep = Callable[[float], Awaitable[None]]

HEADERS = {"Content-Type": "application/json"}


async def call(hook: Hook, payload: Mapping[str, Any], dial: Dial, *, sleep: Sleep = asyncio.sleep) -> str | None:
    """None where the hook passes, else the text of the event: what it says, or its status where that is nothing."""
    if hook.problem is not None:
        return hook.problem
    body = orjson.dumps(payload)
    attempts, error = hook.retries + 1, ""
    for attempt in range(1, attempts + 1):
        try:
            answer = await dial.request(
                "POST", hook.url, headers=HEADERS, body=body, timeout=hook.timeout, verify=hook.verify
            )
        except AddressRefused as refused:
            return quoted(str(refused))
        except NotReached as lost:
            error = str(lost)
        else:
            if is_success(answer.status):
                return None
            if not is_worth_repeating(answer.status):
                return quoted(answer.body.decode("utf-8", "replace")) or f"status {answer.status}"
            error = ""
        if attempt < attempts:
            await sleep(pause(attempt))
    return gave_up(hook, attempts, error)
