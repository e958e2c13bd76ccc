"""The built-in load generator: stands in for hey where it is not installed.

A program of its own, so that the load it makes delays no gate. Reads its arguments as a JSON list from standard input:
they may hold credentials, and every user of a machine sees the arguments of its processes.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import aiohttp
import uvloop

from fleet_rollout.loadtester.generator_flags import Plan, UsageError, read_plan
from fleet_rollout.loadtester.generator_summary import Report

# Without a rate, what fails at once would be tried again at full speed.
PAUSE_AFTER_ERROR = 0.05
CHUNK = 64 * 1024


async def generate(plan: Plan) -> tuple[Report, float]:
    """Send what the plan says; the answers, and the seconds it took."""
    report, begin = Report(), time.monotonic()
    until = begin + plan.duration if plan.duration else float("inf")
    connector = aiohttp.TCPConnector(limit=plan.workers, force_close=not plan.keep_alive, ssl=False)
    async with (
        aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=plan.timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        ) as session,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(plan.workers):
            group.create_task(_work(plan, session, report, until))
    return report, time.monotonic() - begin


async def _work(plan: Plan, session: aiohttp.ClientSession, report: Report, until: float) -> None:
    """One worker. A slow answer delays its next requests and is not made up for, as in hey."""
    pause = 1 / plan.rate if plan.rate else 0.0
    left, due = plan.per_worker, time.monotonic()
    while (left is None or left > 0) and await _reached(due, until):
        if not await _once(plan, session, report) and not pause:
            await asyncio.sleep(PAUSE_AFTER_ERROR)
        due = max(due + pause, time.monotonic())
        left = None if left is None else left - 1


async def _reached(due: float, until: float) -> bool:
    """Waits for the moment; False where the end comes before it."""
    wait = min(due, until) - time.monotonic()
    await asyncio.sleep(max(0.0, wait))
    return due < until and time.monotonic() < until


async def _once(plan: Plan, session: aiohttp.ClientSession, report: Report) -> bool:
    begin, size = time.perf_counter(), 0
    try:
        async with session.request(
            plan.method,
            plan.url,
            headers=plan.headers,
            data=plan.body,
            proxy=plan.proxy,
            allow_redirects=plan.follows_redirects,
        ) as answer:
            async for chunk in answer.content.iter_chunked(CHUNK):
                size += len(chunk)
    except (aiohttp.ClientError, OSError) as error:
        report.failed(_reason(error, plan))
        return False
    report.answered(answer.status, time.perf_counter() - begin, size)
    return True


def _reason(error: Exception, plan: Plan) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {plan.timeout:g}s"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return (cause.strerror if isinstance(cause, OSError) else None) or type(error).__name__


def main() -> int:
    """The exit code: 0, whatever the answers were, as hey has it."""
    try:
        plan = read_plan(sys.argv[1:] or json.load(sys.stdin))
    except UsageError as error:
        print(f"hey: {error}", file=sys.stderr)
        return 2
    report, seconds = uvloop.run(generate(plan))
    print(report.text(seconds), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
