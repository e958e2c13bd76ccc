"""Cookies that keep visitors on one version: their text, the pattern that finds them, and which are in force.

Meshes and gateways differ in where they put this; what is put there is the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fleet_rollout.decide.canary.subject import Subject, seconds_of
from fleet_rollout.traffic.route_text import quoted

COOKIE = "Cookie"
SET_COOKIE = "Set-Cookie"
DAY = 86400
_REMOVAL = "; Max-Age=-1"
_COOKIE = re.compile(r"[A-Za-z0-9!#$&'*+.^_`|~-]*=[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Cookies:
    """As `name=value`, empty where there is none: of the new version, of the promoted one, and one to take away."""

    canary: str = ""
    primary: str = ""
    previous: str = ""


def affinity_of(subject: Subject) -> Mapping[str, Any] | None:
    """`analysis.sessionAffinity`. A/B rules choose by what the request says, and need no cookie."""
    found: Mapping[str, Any] | None = subject.analysis.get("sessionAffinity")
    return None if subject.match else found


def cookies_after(subject: Subject, canary: int, found: Cookies, token: str, *, both: bool = True) -> Cookies:
    """The cookies that belong to a share of `canary` percent: those in the status, else those `found` in the routes.

    The latter count because a status may be lost between two writes, and visitors hold what the routes gave them.
    `both` says whether the promoted version may have a cookie too.
    """
    affinity, status = subject.analysis["sessionAffinity"], subject.status
    current = _usable(status.get("sessionAffinityCookie")) or found.canary
    if canary == 0:
        return Cookies(previous=current or _usable(status.get("previousSessionAffinityCookie")) or found.previous)
    current = current or f"{affinity['cookieName']}={token}"
    if not both:
        return Cookies(current)
    name = affinity.get("primaryCookieName") or ""
    primary = _usable(status.get("primarySessionAffinityCookie")) or found.primary
    if not primary or (name and primary.startswith("=")):
        # Another value than the canary's: a visitor with an old canary cookie must not match by this one.
        primary = f"{name}={token.swapcase()}"
    return Cookies(current, primary)


def status_after(subject: Subject, cookies: Cookies) -> dict[str, Any]:
    """The status fields that change with these cookies. The promoted version's cookie is never cleared."""
    fields = {"sessionAffinityCookie": cookies.canary}
    if cookies.primary:
        fields["primarySessionAffinityCookie"] = cookies.primary
    if cookies.previous:
        fields["previousSessionAffinityCookie"] = cookies.previous
    return {name: value for name, value in fields.items() if value != (subject.status.get(name) or "")}


def in_force(subject: Subject, canary: int, found: Cookies) -> Cookies:
    """The cookies `found` in the routes; where the routes lost them during a run, those of the status."""
    if affinity_of(subject) is None:
        return Cookies()
    if canary == 0 or found.canary:
        return found
    status = subject.status
    return Cookies(_usable(status.get("sessionAffinityCookie")), _usable(status.get("primarySessionAffinityCookie")))


def canary_cookie(subject: Subject, cookies: Cookies) -> str:
    """What Set-Cookie says to visitors of the new version."""
    return _text(subject, cookies.canary, int(subject.analysis["sessionAffinity"].get("maxAge") or DAY))


def primary_cookie(subject: Subject, cookies: Cookies) -> str | None:
    """What it says to visitors of the promoted one, until the next step; None where they get no cookie."""
    if not subject.analysis["sessionAffinity"].get("primaryCookieName") or not cookies.primary:
        return None
    return _text(subject, cookies.primary, int(seconds_of(subject.analysis.get("interval"), subject.interval)))


def removal(cookie: str) -> str:
    """What takes a cookie away."""
    return cookie + _REMOVAL


def pattern(cookie: str) -> str:
    """An expression for the Cookie header of those who have it; the user's text in it stands for itself."""
    name, _, value = cookie.partition("=")
    return f".*{quoted(name)}.*{quoted(value)}.*"


def cookie_in(header: str | None) -> str:
    """The `name=value` that a Set-Cookie header of ours gives; empty where it gives none."""
    text = header or ""
    return "" if text.endswith(_REMOVAL) else _usable(text.partition(";")[0])


def removed_in(header: str | None) -> str:
    """The `name=value` that a Set-Cookie header of ours takes away."""
    text = header or ""
    return _usable(text.removesuffix(_REMOVAL)) if text.endswith(_REMOVAL) else ""


def _usable(cookie: str | None) -> str:
    return cookie if cookie and _COOKIE.fullmatch(cookie) else ""


def _text(subject: Subject, cookie: str, max_age: int) -> str:
    affinity = subject.analysis["sessionAffinity"]
    parts = [cookie, f"Max-Age={max_age}"]
    for name, key, is_flag in _ATTRIBUTES:
        if affinity.get(key):
            parts.append(name if is_flag else f"{name}={affinity[key]}")
    return "; ".join(parts)


# In the order in which they are written: the attribute, its field, whether it has no value.
_ATTRIBUTES = (
    ("Domain", "domain", False),
    ("HttpOnly", "httpOnly", True),
    ("Partitioned", "partitioned", True),
    ("Path", "path", False),
    ("SameSite", "sameSite", False),
    ("Secure", "secure", True),
)
