"""Durations as Kubernetes objects spell them, and when something is due again.

Time and chance are arguments: `now` is a datetime, `random01` a number from 0 up to 1.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
TERM = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")

# Flux: an attempt may take the interval less this, and never less than this.
TIMEOUT_MARGIN = 30.0
SHORTEST_TIMEOUT = 30.0

# The share by which back-offs of the same step differ, so that what failed together is not retried together.
BACKOFF_SPREAD = 0.2
LARGEST_EXPONENT = 32


def parse_duration(text: str) -> float:
    """Seconds in a duration such as `1m30s`; ValueError where it is none."""
    seconds, end = 0.0, 0
    for term in TERM.finditer(text):
        if term.start() != end:
            break
        seconds, end = seconds + float(term[1]) * UNITS[term[2]], term.end()
    if end == 0 or end != len(text):
        raise ValueError(f"not a duration such as 30s, 5m or 1h30m: {text!r}")
    return seconds


def format_duration(seconds: float) -> str:
    """The way Go prints it (`10m0s`, `1.5s`, `250ms`), to the millisecond."""
    milliseconds = round(seconds * 1000)
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    small = f"{rest // 1000}.{rest % 1000:03d}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{small}"
    return f"{minutes}m{small}" if minutes else small


def jittered(seconds: float, share: float, random01: float) -> float:
    """`seconds`, moved by at most `share` of it either way."""
    return seconds * (1.0 + share * (2.0 * random01 - 1.0))


def backoff(failures: int, first: float, longest: float, random01: float) -> float:
    """The pause after `failures` failures in a row: doubles, spread, never outside [first, longest]."""
    doubled = first * 2.0 ** min(max(failures, 1) - 1, LARGEST_EXPONENT)
    low = max(first, min(doubled, longest * (1.0 - BACKOFF_SPREAD)))
    high = max(low, min(longest, low / (1.0 - BACKOFF_SPREAD)))
    return low + (high - low) * random01


def timeout_of(interval: str, timeout: str | None) -> float:
    """Seconds one attempt may take, as Flux derives it from a policy's `interval` and `timeout`."""
    seconds = parse_duration(timeout) if timeout is not None else parse_duration(interval) - TIMEOUT_MARGIN
    return max(seconds, SHORTEST_TIMEOUT)


def rfc3339(moment: datetime) -> str:
    """As Kubernetes stores times: UTC, truncated to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """The moment an RFC 3339 text names, in UTC; ValueError where it is none or says no offset."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"a time without offset: {text!r}")
    return moment.astimezone(UTC)
