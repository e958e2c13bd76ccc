"""What a Git host announces: reads the payloads of GitHub, GitLab and Gitea, and a generic one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fleet_rollout.decide.gitrefs import canonical_repository

LONGEST_REF = 1024
MOST_URLS = 32

# Event header -> (where the repository is described, its fields that hold URLs). First header that is present counts;
# Gitea sends GitHub's header, too.
FORMATS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("X-Gitea-Event", ("repository",), ("clone_url", "ssh_url", "html_url")),
    ("X-GitHub-Event", ("repository",), ("clone_url", "ssh_url", "git_url", "html_url")),
    (
        "X-Gitlab-Event",
        ("project", "repository"),
        ("git_http_url", "git_ssh_url", "http_url", "ssh_url", "web_url", "git_http_url", "url", "homepage"),
    ),
)
# A test of the connection, without a repository that changed.
PINGS = {"X-GitHub-Event": frozenset({"ping"})}


class InvalidPayload(ValueError):
    """The body is not what the host's documentation says; the message names the field."""


@dataclass(frozen=True)
class Announcement:
    """`urls` in canonical form (decide.gitrefs), `ref` as the host wrote it (`refs/heads/main`, `main`)."""

    urls: tuple[str, ...]
    ref: str


def read_payload(headers: Mapping[str, str], payload: Any) -> Announcement | None:
    """None for a ping. Raises InvalidPayload."""
    if not isinstance(payload, dict):
        raise InvalidPayload("the body is no JSON object")
    for header, places, fields in FORMATS:
        if header in headers:
            if headers[header] in PINGS.get(header, ()):
                return None
            return Announcement(_host_urls(payload, places, fields), _ref(payload))
    return Announcement(_generic_urls(payload), _ref(payload))


def _host_urls(payload: dict[str, Any], places: tuple[str, ...], fields: tuple[str, ...]) -> tuple[str, ...]:
    found: list[Any] = []
    for place in places:
        described = payload.get(place)
        if isinstance(described, dict):
            found += [described[field] for field in fields if field in described]
        elif described is not None:
            raise InvalidPayload(f"{place} is no object")
    return _canonical(found, places[0])


def _generic_urls(payload: dict[str, Any]) -> tuple[str, ...]:
    urls = payload.get("urls", [payload["url"]] if "url" in payload else None)
    if not isinstance(urls, list):
        raise InvalidPayload('url is missing; send {"url": …, "ref": …}, or urls as a list')
    return _canonical(urls, "url")


def _canonical(urls: list[Any], field: str) -> tuple[str, ...]:
    if not all(isinstance(url, str) for url in urls):
        raise InvalidPayload(f"{field} holds a URL that is no text")
    canonical = {canonical_repository(url) for url in urls[:MOST_URLS] if len(url) <= 2048} - {""}
    if not canonical:
        raise InvalidPayload(f"{field} holds no URL of a repository")
    return tuple(sorted(canonical))


def _ref(payload: dict[str, Any]) -> str:
    ref = payload.get("ref")
    if not isinstance(ref, str) or not ref or len(ref) > LONGEST_REF:
        raise InvalidPayload("ref is missing or no text")
    return ref
