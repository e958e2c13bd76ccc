"""Webhooks of a Canary: which are called when, what they are told, and which answers let the analysis go on.

Bodies and checksums are Flagger's to the byte, because receivers compare them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

from fleet_rollout.decide.canary.subject import Subject, seconds_of

CONFIRM_ROLLOUT: Final = "confirm-rollout"
PRE_ROLLOUT: Final = "pre-rollout"
ROLLOUT: Final = "rollout"
CONFIRM_TRAFFIC_INCREASE: Final = "confirm-traffic-increase"
CONFIRM_PROMOTION: Final = "confirm-promotion"
POST_ROLLOUT: Final = "post-rollout"
ROLLBACK: Final = "rollback"
EVENT: Final = "event"

DEFAULT_TIMEOUT = 10.0
# A text of one character is no duration; Flagger takes the default instead of complaining.
SHORTEST_TEXT = 2
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0
LARGEST_EXPONENT = 10

TOO_MANY_REQUESTS, NOT_IMPLEMENTED = 429, 501
QUOTED_LENGTH = 200
# Control and direction characters: an event must not rewrite the terminal it is read on (trust row 42).
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")

FNV_OFFSET, FNV_PRIME, FNV_MASK = 0x811C9DC5, 0x01000193, 0xFFFFFFFF
# What Kubernetes spells generated names with: no vowels, nothing that looks like another character.
ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


@dataclass(frozen=True)
class Hook:
    """One call to make. `problem` says why it cannot be made; `timeout` (seconds) is that of each attempt."""

    name: str
    url: str = field(repr=False)  # it may hold a token
    timeout: float = DEFAULT_TIMEOUT
    retries: int = 0
    verify: bool = True
    mute_alert: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    problem: str | None = None


def hooks_of(subject: Subject, type: str) -> list[Mapping[str, Any]]:
    """The Canary's hooks of that type, in its order and words; a hook without a type is a rollout hook."""
    found = subject.analysis.get("webhooks") or []
    return [raw for raw in found if (raw.get("type") or ROLLOUT) == type]


def event_hooks(subject: Subject) -> list[Hook]:
    """Who hears of every event: the Canary's own hooks, else the engine's."""
    if own := hooks_of(subject, EVENT):
        return [read_hook(raw) for raw in own]
    return [Hook("events", subject.options.event_webhook)] if subject.options.event_webhook else []


def read_hook(raw: Mapping[str, Any]) -> Hook:
    """A hook as a Canary spells it, with defaults applied."""
    text = str(raw.get("timeout") or "")
    timeout = seconds_of(text, -1.0) if len(text) >= SHORTEST_TEXT else DEFAULT_TIMEOUT
    return Hook(
        name=str(raw["name"]),
        url=str(raw["url"]),
        timeout=timeout if timeout > 0 else DEFAULT_TIMEOUT,  # to Go 0s is no limit; here every wait has one
        retries=max(0, int(raw.get("retries") or 0)),
        verify=not raw.get("disableTLS"),
        mute_alert=bool(raw.get("muteAlert")),
        metadata=dict(raw.get("metadata") or {}),
        problem=f"timeout {quoted(text)} is not a duration such as 30s" if timeout < 0 else None,
    )


# What a hook is told


def payload(subject: Subject, hook: Hook, phase: str) -> dict[str, Any]:
    """The body of a call; `phase` is the one that the call is about, which may not be stored yet."""
    return _body(subject, phase, hook.metadata)


def event_payload(
    subject: Subject, hook: Hook, type: str, message: str, *, now: datetime, phase: str | None = None
) -> dict[str, Any]:
    """The body that tells of an event (`type` is Normal or Warning); the hook's own metadata never replaces it."""
    told = {"eventMessage": message, "eventType": type, "timestamp": str(int(now.timestamp() * 1000))}
    return _body(subject, subject.phase if phase is None else phase, {**hook.metadata, **told})


def _body(subject: Subject, phase: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    status = subject.status
    body: dict[str, Any] = {
        "name": subject.name,
        "namespace": subject.namespace,
        "phase": phase,
        "checksum": checksum(status.get("trackedConfigs"), str(status.get("lastAppliedSpec") or "")),
    }
    if metadata:
        body["metadata"] = dict(sorted(metadata.items()))
    return body


def checksum(tracked: Mapping[str, str] | None, applied: str) -> str:
    """Flagger's checksum of a status, over the text that Go prints of the two fields."""
    pairs = " ".join(f"{key}:{value}" for key, value in sorted((tracked or {}).items()))
    configs = "<nil>" if tracked is None else f"map[{pairs}]"
    return safe_hash(
        "(struct { TrackedConfigs *map[string]string; LastAppliedSpec string })"
        f"{{TrackedConfigs:(*map[string]string){configs} LastAppliedSpec:(string){applied}}}"
    )


def safe_hash(text: str) -> str:
    """FNV-1a of 32 bits, as a decimal number in letters that are safe in names."""
    value = FNV_OFFSET
    for byte in text.encode():
        value = (value ^ byte) * FNV_PRIME & FNV_MASK
    return "".join(ALPHABET[ord(digit) % len(ALPHABET)] for digit in str(value))


# What its answer means


def is_success(status: int) -> bool:
    """Any 2xx (Flagger: up to 202, so that 204 failed; Q15)."""
    return 200 <= status < 300


def is_worth_repeating(status: int) -> bool:
    """The server was too busy, or failed; what it does not implement it will not implement a second later."""
    return status == TOO_MANY_REQUESTS or (status >= 500 and status != NOT_IMPLEMENTED)


def pause(failures: int) -> float:
    """Seconds to wait after that many failed attempts: 1, 2, 4 … 30."""
    return min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(failures - 1, LARGEST_EXPONENT))


def gave_up(hook: Hook, attempts: int, error: str = "") -> str:
    """Why no answer could be had; `error` is what the last attempt failed of, where there was no answer at all."""
    text = f"POST {shown(hook.url)} giving up after {attempts} attempt(s)"
    return f"{text}: {quoted(error)}" if error else text


def quoted(text: str) -> str:
    """Somebody else's words, short and harmless enough for an event."""
    escaped = UNPRINTABLE.sub(_escape, text.rstrip()[:QUOTED_LENGTH])
    return escaped[:QUOTED_LENGTH]


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def shown(url: str) -> str:
    """An address without the parts that hold credentials."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an invalid address"
    _, at, host = parts.netloc.rpartition("@")
    query = "***" if parts.query else ""
    return quoted(parts._replace(netloc=f"***@{host}" if at else host, query=query, fragment="").geturl())
