"""Reads the command line of hey, so that commands written for it mean the same to the built-in generator.

Go's rules: one or two dashes, `-n 5` or `-n=5`, and no flag after the address.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from aiohttp import encode_basic_auth
from yarl import URL

from fleet_rollout.decide.intervals import parse_duration

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
SWITCHES = frozenset({"disable-compression", "disable-keepalive", "disable-redirects", "h2"})
VALUES = frozenset({"n", "c", "q", "z", "o", "m", "H", "t", "A", "d", "D", "T", "U", "a", "x", "host", "cpus"})
# What hey has and this generator has not, each with what to do instead.
MISSING = {
    "h2": "HTTP/2 is spoken by hey itself alone; install it",
    "D": "files are not read; give the body with -d",
    "o": "only the summary is printed",
}
HEADER = re.compile(r"([\w-]+):\s*(.+)", re.DOTALL)
USER_AGENT = "hey/fleet-rollout"
MOST_WORKERS = 1000
# hey takes 0 as no limit; every wait has one here.
LONGEST_TIMEOUT = 3600.0


class UsageError(ValueError):
    """The command line cannot be carried out; the text names the flag."""


@dataclass(frozen=True)
class Plan:
    """What to send. `rate` is in requests a second and worker, 0 for no limit; `requests` count where no `duration`."""

    url: URL
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes | None = field(default=None, repr=False)
    workers: int = 50
    requests: int = 200
    duration: float = 0.0
    rate: float = 0.0
    timeout: float = 20.0
    keep_alive: bool = True
    follows_redirects: bool = True
    proxy: str | None = field(default=None, repr=False)

    @property
    def per_worker(self) -> int | None:
        """How many requests each worker sends; None for as many as the duration allows."""
        return None if self.duration else self.requests // self.workers


def read_plan(arguments: Sequence[str]) -> Plan:
    """Raises UsageError."""
    flags, rest = _flags(arguments)
    for name, instead in MISSING.items():
        if name in flags:
            raise UsageError(f"-{name}: {instead}")
    if len(rest) != 1:
        raise UsageError("one address is needed, after all flags" if not rest else f"{rest[1]!r} follows the address")
    url = _url(rest[0])
    workers, requests = _number(flags, "c", 50), _number(flags, "n", 200)
    duration = _duration(flags)
    if not 1 <= workers <= MOST_WORKERS:
        raise UsageError(f"-c must be from 1 to {MOST_WORKERS}")
    if not duration and requests < workers:
        raise UsageError("-n must not be less than -c")
    method = _last(flags, "m", "GET").upper()
    if method not in METHODS:
        raise UsageError(f"-m must be one of {', '.join(METHODS)}")
    return Plan(
        url=url,
        method=method,
        headers=_headers(flags),
        body=_last(flags, "d", "").encode() or None,
        workers=workers,
        requests=requests,
        duration=duration,
        rate=_rate(flags),
        timeout=float(_number(flags, "t", 20)) or LONGEST_TIMEOUT,
        keep_alive="disable-keepalive" not in flags,
        follows_redirects="disable-redirects" not in flags,
        proxy=_proxy(flags),
    )


def _flags(arguments: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    rest, found = list(arguments), dict[str, list[str]]()
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        name, equals, value = word.removeprefix("-").removeprefix("-").partition("=")
        if name in SWITCHES:
            if value in ("false", "0"):
                continue
        elif name not in VALUES:
            raise UsageError(f"flag -{name[:50]} is not known")
        elif not equals:
            if not rest:
                raise UsageError(f"-{name} needs a value")
            value = rest.pop(0)
        found.setdefault(name, []).append(value)
    return found, rest


def _last(flags: dict[str, list[str]], name: str, default: str) -> str:
    return flags[name][-1] if name in flags else default


def _number(flags: dict[str, list[str]], name: str, default: int) -> int:
    try:
        number = int(_last(flags, name, str(default)))
    except ValueError:
        raise UsageError(f"-{name} is not a number") from None
    if number < 0:
        raise UsageError(f"-{name} must not be negative")
    return number


def _rate(flags: dict[str, list[str]]) -> float:
    try:
        rate = float(_last(flags, "q", "0"))
    except ValueError:
        raise UsageError("-q is not a number") from None
    if not 0 <= rate < float("inf"):
        raise UsageError("-q must not be negative")
    return rate


def _duration(flags: dict[str, list[str]]) -> float:
    text = _last(flags, "z", "0")
    try:
        return 0.0 if text == "0" else parse_duration(text)
    except ValueError:
        raise UsageError("-z is not a duration such as 10s or 3m") from None


def _url(text: str) -> URL:
    """hey insists on a scheme; without one this is http, as curl has it."""
    try:
        url = URL(text if "://" in text else f"http://{text}")
    except ValueError:
        raise UsageError("the address is not a URL") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise UsageError("the address is not an http:// or https:// URL")
    return url


def _proxy(flags: dict[str, list[str]]) -> str | None:
    return str(_url(flags["x"][-1])) if "x" in flags else None


def _headers(flags: dict[str, list[str]]) -> tuple[tuple[str, str], ...]:
    headers = {
        "User-Agent": _last(flags, "U", USER_AGENT),
        "Content-Type": _last(flags, "T", "text/html"),
        "Accept-Encoding": "identity" if "disable-compression" in flags else "gzip",
    }
    for text in flags.get("H", ()):
        match = HEADER.fullmatch(text)
        if match is None or not match[2].isprintable():
            raise UsageError("-H is not of the form 'Name: value'")
        headers[match[1]] = match[2]
    if accept := _last(flags, "A", ""):
        headers["Accept"] = accept
    if host := _last(flags, "host", ""):
        headers["Host"] = host
    if "a" in flags:
        user, colon, password = flags["a"][-1].partition(":")
        if not colon:
            raise UsageError("-a is not of the form user:password")
        headers["Authorization"] = encode_basic_auth(user, password)
    if not all(value.isprintable() for value in headers.values()):
        raise UsageError("a header holds characters that none may hold")
    return tuple(headers.items())
