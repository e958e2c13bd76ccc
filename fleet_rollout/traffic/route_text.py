"""Hosts, headers and cookies of a Canary, before a mesh or gateway reads them; refused where they could say more.

API servers let most of it through, and a proxy that cannot read one route drops those of everybody. Regular
expressions in matches stay the user's; in those that are ours, the user's text is quoted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from fleet_rollout.decide.canary.objects import StepFailed
from fleet_rollout.decide.canary.subject import Subject
from fleet_rollout.traffic.checks import COOKIE, GATEWAY, HEADER, HOST, SHOWN, Rule, checked

# Parts of `service` that end in routing objects; the traffic policy is judged by the API server alone.
_ROUTED = ("hosts", "gateways", "match", "rewrite", "headers", "corsPolicy", "retries", "timeout", "backendTimeout")
_AUTHORITY = Rule(re.compile(r"[A-Za-z0-9_.:\[\]-]+"), "a host", "write <host> or <host>:<port>")
# No %: Envoy takes it for the start of a command.
_ATTRIBUTE = Rule(
    re.compile(r"(?:(?![;,%])[\x21-\x7e])+"),
    "an attribute of a cookie",
    "use printable ASCII without spaces and ;,%",
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_RE2_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")


def quoted(text: str) -> str:
    """The text as an RE2 expression that matches it and nothing else."""
    return _RE2_SPECIAL.sub(r"\\\g<0>", text)


def refuse_odd_text(subject: Subject) -> None:
    """Raises StepFailed, which names the field, for the first text that no router may get."""
    service, analysis = subject.service, subject.analysis
    for name in _ROUTED:
        _on_one_line(service.get(name), f"spec.service.{name}")
    _on_one_line(analysis.get("match"), "spec.analysis.match")
    _check_all(service.get("hosts") or (), "spec.service.hosts", HOST)
    _check_all(service.get("gateways") or (), "spec.service.gateways", GATEWAY)
    if authority := (service.get("rewrite") or {}).get("authority"):
        checked("spec.service.rewrite.authority", str(authority), _AUTHORITY)
    _check_headers(service.get("headers") or {})
    _check_matches(service.get("match") or (), "spec.service.match")
    _check_matches(subject.match, "spec.analysis.match")
    _check_cookies(analysis.get("sessionAffinity") or {}, "spec.analysis.sessionAffinity")


def _check_headers(headers: Mapping[str, Any]) -> None:
    for side, changes in headers.items():
        for operation, names in (changes or {}).items():
            _check_all(names or (), f"spec.service.headers.{side}.{operation}", HEADER)


def _check_matches(matches: Iterable[Mapping[str, Any]], field: str) -> None:
    for index, match in enumerate(matches):
        for part in ("headers", "withoutHeaders"):
            _check_all(match.get(part) or (), f"{field}[{index}].{part}", HEADER)


def _check_cookies(affinity: Mapping[str, Any], field: str) -> None:
    rules = {"cookieName": COOKIE, "primaryCookieName": COOKIE}
    for name in (*rules, "domain", "path", "sameSite"):
        if affinity.get(name):
            checked(f"{field}.{name}", str(affinity[name]), rules.get(name, _ATTRIBUTE))


def _check_all(texts: Iterable[Any], field: str, rule: Rule) -> None:
    for text in texts:
        checked(field, str(text), rule)


def _on_one_line(value: Any, field: str) -> None:
    """No text in it, however deep, has a control character."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            _on_one_line(key, field)
            _on_one_line(each, f"{field}.{key}")
    elif isinstance(value, list):
        for index, each in enumerate(value):
            _on_one_line(each, f"{field}[{index}]")
    elif isinstance(value, str) and _CONTROL.search(value):
        raise StepFailed(f"{field}: {json.dumps(value[:SHOWN])} holds a control character; write it on one line")
